//! What the journal's callers and its tasks share: the tail, recent entries, and this broker's own sessions. Owns the
//! lock, and what a reader gets; the decisions about etcd's answers are the tail's.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use kafscale_ports::Env;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Settings;
use super::kv::{Failure, Get, Kv, LeaseId, Op, Range, Revision, Txn};
use super::limited::Limited;
use super::roster::Roster;
use super::stored::StoredPointer;
use super::tail::patience::Patience;
use super::tail::{Anchor, Halt, Mark, Seen, Tail, look_txn, read_look};
use super::truncate::Ages;
use super::txns::{Fenced, Life, all};
use crate::{AppendError, Position, ReadError, Record};

/// A journal that is open.
pub(super) struct Shared {
    pub(super) kv: Limited,
    pub(super) env: Env,
    pub(super) settings: Settings,
    pub(super) life: Life,
    pub(super) inside: Mutex<Inside>,
    /// Changes with `inside`; carries nothing, so that there is one truth.
    pub(super) changed: watch::Sender<()>,
    /// Somebody found out that the watch alone does not do.
    pub(super) read_all: Notify,
}

pub(super) struct Inside {
    pub(super) tail: Tail,
    pub(super) patience: Patience,
    pub(super) roster: Roster,
    pub(super) own: BTreeMap<u64, Own>,
    recent: Recent,
    pub(super) ages: Ages,
    /// The live sessions are others than the roster says.
    pub(super) sessions_moved: bool,
    /// The pointer is another than the tail knows.
    pub(super) pointer_moved: bool,
    /// When the last look at the head began that was answered.
    pub(super) looked: Instant,
    /// Why nothing goes on any more.
    stopped: Option<String>,
}

/// A session that this process has opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) fenced: Fenced,
    pub(super) lease: LeaseId,
    /// It was known live within its lease until then. `None`: it is over.
    pub(super) live_until: Option<Instant>,
}

/// The newest entries, as many as fit.
struct Recent {
    records: VecDeque<Record>,
    bytes: usize,
    most: usize,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// These.
    Ready(Vec<Record>),
    /// What stands under these keys; the first has this ordinal.
    Get(u64, Vec<Mark>),
    /// Nothing yet.
    Wait,
    /// It asks for entries after one that the tail does not know yet.
    Ahead,
}

pub(super) fn weight(record: &Record) -> usize {
    record.entry.len() + 64
}

impl Recent {
    fn push(&mut self, records: Vec<Record>) {
        for record in records {
            self.bytes += weight(&record);
            self.records.push_back(record);
        }
        while self.bytes > self.most
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= weight(&oldest);
        }
    }

    /// Those after ordinal `after`, up to about `bytes` of them. `None`: the first is not here.
    fn after(&self, after: u64, bytes: usize) -> Option<Vec<Record>> {
        let first = self.records.front()?.position.ordinal;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let mut left = bytes;
        let fits = |record: &&Record| {
            let fits = left == bytes || weight(record) <= left;
            left = left.saturating_sub(weight(record));
            fits
        };
        let records: Vec<Record> = self.records.iter().skip(skip).take_while(fits).cloned().collect();
        Some(records).filter(|records| !records.is_empty())
    }
}

impl Inside {
    pub(super) fn new(tail: Tail, records: Vec<Record>, settings: &Settings, now: Instant) -> Self {
        let mut recent = Recent { records: VecDeque::new(), bytes: 0, most: settings.recent_bytes };
        recent.push(records);
        let (patience, roster, own) = (Patience::default(), Roster::default(), BTreeMap::new());
        let (ages, sessions_moved, pointer_moved) = (Ages::default(), true, false);
        let (looked, stopped) = (now, None);
        Self { tail, patience, roster, own, recent, ages, sessions_moved, pointer_moved, looked, stopped }
    }

    pub(super) fn check(&self) -> Result<(), ReadError> {
        self.stopped.as_ref().map_or(Ok(()), |detail| Err(ReadError::Damaged { detail: detail.clone() }))
    }

    /// Entries have come.
    pub(super) fn push(&mut self, records: Vec<Record>) {
        self.recent.push(records);
        self.patience.applied(self.tail.applied().ordinal);
    }

    /// The tail begins again, behind a truncation.
    pub(super) fn restart(&mut self, tail: Tail, records: Vec<Record>) {
        self.tail = tail;
        self.recent.records.clear();
        self.recent.bytes = 0;
        self.push(records);
    }

    pub(super) fn plan(&self, after: u64, settings: &Settings) -> Result<Plan, ReadError> {
        self.check()?;
        let (applied, marks) = (self.tail.applied().ordinal, self.tail.marks());
        if after > applied {
            return Ok(Plan::Ahead);
        }
        if let Some(records) = self.recent.after(after, settings.read_bytes) {
            return Ok(Plan::Ready(records));
        }
        if after + 1 < marks.first() {
            return Err(ReadError::Truncated { first: marks.first() });
        }
        if after == applied {
            return Ok(Plan::Wait);
        }
        let mut left = settings.read_bytes;
        let fits = |mark: &&Mark| {
            let fits = left == settings.read_bytes || mark.bytes <= left;
            left = left.saturating_sub(mark.bytes);
            fits
        };
        let marks = marks.between(after, applied).take(settings.page_entries).take_while(fits).copied().collect();
        Ok(Plan::Get(after + 1, marks))
    }

    pub(super) fn live_until(&self, nonce: u64) -> Option<Instant> {
        self.own.get(&nonce).and_then(|own| own.live_until)
    }

    /// The session is over, as far as this process is concerned. Returns its lease, the first time.
    pub(super) fn over(&mut self, nonce: u64) -> Option<LeaseId> {
        let own = self.own.get_mut(&nonce)?;
        own.live_until.take().map(|_| own.lease)
    }

    /// The live sessions were seen to have these fences: whichever of ours is not among them is over.
    pub(super) fn own_seen(&mut self, sessions: &[(i32, Revision)], at: Revision) {
        for own in self.own.values_mut() {
            let is_there = sessions.contains(&(own.fenced.broker_id, own.fenced.fence));
            if own.fenced.fence <= at && !is_there {
                own.live_until = None;
            }
        }
    }
}

impl Shared {
    /// Looks at what is shared, or changes it; whoever waits is told.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Inside) -> T) -> T {
        let result = act(&mut self.inside.lock());
        self.changed.send_replace(());
        result
    }

    /// Nothing goes on from here.
    pub(super) fn stop(&self, detail: &str) {
        tracing::error!(%detail, "the journal has stopped; the broker must end");
        self.change(|inside| {
            inside.stopped.get_or_insert_with(|| detail.to_owned());
            inside.own.values_mut().for_each(|own| own.live_until = None);
        });
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.inside.lock().stopped.is_some()
    }

    /// What a halt of the tail means to a reader.
    pub(super) fn halted(&self, halt: Halt) -> ReadError {
        match halt {
            Halt::Stop(detail) => {
                self.stop(&detail);
                ReadError::Damaged { detail }
            }
            Halt::Gap | Halt::Truncated => {
                self.read_all.notify_one();
                ReadError::Failed(io::Error::other("the journal's tail is read anew; try again"))
            }
        }
    }

    /// What it means to whoever appends that nothing goes on.
    pub(super) fn dead(&self, detail: &str) -> AppendError {
        self.stop(detail);
        AppendError::Dead(io::Error::other(detail.to_owned()))
    }

    pub(super) fn anchor(&self) -> Result<Anchor, ReadError> {
        let inside = self.inside.lock();
        inside.check()?;
        Ok(inside.tail.anchor())
    }
}

impl Shared {
    /// Looks at the journal's head, linearizably, and at what else may have changed.
    pub(super) async fn look(&self) -> Result<Seen, ReadError> {
        let asked = self.anchor()?;
        let began = self.env.clock.now();
        let reply = self.kv.txn(look_txn(&self.life.names, &asked)).await.map_err(failed)?;
        let look = read_look(&self.life.names, reply).ok_or_else(nonsense)?;
        let now = self.env.clock.now();
        let judged = self.change(|inside| {
            let seen = inside.tail.look(&look, &asked)?;
            inside.looked = inside.looked.max(began);
            inside.ages.note(began, look.revision);
            inside.patience.seen(seen.end.ordinal, inside.tail.applied().ordinal, now);
            inside.own_seen(&look.sessions, look.revision);
            inside.sessions_moved |= inside.roster.differs(&look.sessions, look.revision);
            inside.pointer_moved |= seen.pointer_moved;
            Ok(seen)
        });
        let seen = judged.map_err(|halt| self.halted(halt))?;
        if seen.anchor_lost {
            self.read_all.notify_one();
        }
        Ok(seen)
    }

    /// Reads the live sessions, linearizably.
    pub(super) async fn read_sessions(&self) -> Result<(), ReadError> {
        self.inside.lock().check()?;
        let get = Get { keys: self.life.names.sessions(), keys_only: false, limit: 0 };
        let reply = self.kv.range(Range { get, revision: 0, serializable: false }).await.map_err(failed)?;
        self.change(|inside| {
            if inside.roster.read(&self.life.names, &reply.found.kvs, reply.revision) {
                inside.sessions_moved = false;
            }
        });
        Ok(())
    }

    /// Reads the pointer, linearizably, for the tail too.
    pub(super) async fn read_pointer(&self) -> Result<StoredPointer, ReadError> {
        let (revision, stored) = self.stored_pointer().await?;
        self.change(|inside| {
            inside.tail.raise(&stored, revision);
            inside.pointer_moved = false;
        });
        Ok(stored)
    }

    /// Reads old entries by their keys. `None`: the first of them has been truncated since.
    pub(super) async fn fetch(&self, first: u64, marks: &[Mark]) -> Result<Option<Vec<Record>>, ReadError> {
        let names = &self.life.names;
        let then = marks.iter().map(|mark| Op::Get(Get::one(names.entry(mark.nonce, mark.n)))).collect();
        let reply = self.kv.txn(Txn { then, ..Txn::default() }).await.map_err(failed)?;
        let found = marks.iter().zip(first..).zip(&reply.results).map_while(|((mark, ordinal), result)| {
            let kv = all(Some(result)).first().filter(|kv| kv.mod_revision == mark.revision)?;
            let position = Position { ordinal, revision: mark.revision };
            Some(Record { position, nonce: mark.nonce, n: mark.n, entry: kv.value.clone() })
        });
        let records: Vec<Record> = found.collect();
        if !records.is_empty() {
            return Ok(Some(records));
        }
        if self.read_pointer().await?.floor.ordinal >= first {
            return Ok(None);
        }
        let detail = format!("entry {first} of the journal is gone; stop all brokers and run `kafscale recover`");
        self.stop(&detail);
        Err(ReadError::Damaged { detail })
    }
}

fn nonsense() -> ReadError {
    ReadError::Failed(io::Error::new(io::ErrorKind::InvalidData, "etcd gave an answer that fits no state of it"))
}

/// A read that failed in the store.
pub(super) fn failed(failure: Failure) -> ReadError {
    ReadError::Failed(match failure {
        Failure::Unknown(why) => why,
        Failure::Refused(refusal) => io::Error::other(refusal),
    })
}
