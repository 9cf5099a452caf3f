//! The journal in etcd, shared by the brokers of a cluster. Owns the port's contract over the store of [`kv`].
//!
//! ```text
//!  append, open, leave, publish, end, expel          read              end
//!        │ plan: txns                                 ▲                 ▲
//!        ▼                                            │ recent, keys    │ look
//!       Kv ──── etcd, or its model ── watch, pages ─▶ tail ◀── look at the head, once a second
//! ```
//!
//! Decisions are pure: transactions and their answers in `txns`, the order of entries in `tail`, truncation in
//! `truncate`. What does I/O is thin: `append` (one call and what it means), `follow` (two tasks that keep the tail
//! going), `lease` (one task for each session of ours). Keys stand in `keys`, their values in `stored`.
//!
//! Ordinals are base + the version of H, so etcd itself counts the entries. The pointer P says which life the journal is
//! in (incarnation and base); it is made when a journal is first started, before there is any entry, so that whoever
//! starts knows the incarnation, and an opening can be refused that belongs to another one.
//!
//! A journal whose store went back in time, or is damaged, stops for good: reads say so, appends are dead.

mod append;
pub mod client;
pub mod cluster;
mod follow;
mod keys;
pub mod kv;
mod lease;
mod limited;
pub mod model;
pub mod quota;
#[cfg(test)]
mod rig;
mod roster;
mod shared;
mod stored;
mod tail;
mod truncate;
mod txns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Env;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use self::append::MAX_ENTRY_BYTES;
use self::append::What;
use self::keys::Names;
use self::kv::{Compare, Is, Keys, Kv, Op, Target, Txn};
use self::limited::Limited;
use self::shared::{Inside, Plan, Shared, failed};
use self::stored::StoredPointer;
use self::tail::{Halt, Tail};
use self::txns::Life;
use crate::sessions::{LiveSession, Sessions, Victim};
use crate::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};

/// What can be set. The default is what ships; tests make sizes small to meet their edges often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Under which keys the journal lives, one root for each cluster.
    pub root: String,
    /// A session lives so long without being renewed; whole seconds, at least 2. How long the others wait before they
    /// take the groups of a broker that is gone.
    pub lease: Duration,
    /// A call to etcd takes so long at most.
    pub call_timeout: Duration,
    /// Recent entries are kept in memory up to about this size.
    pub recent_bytes: usize,
    /// One read returns about this much at most.
    pub read_bytes: usize,
    /// Keys that are read at once: at most 100, since each entry may have 256 KiB and an answer 64 MiB.
    pub page_entries: usize,
}

impl Settings {
    /// For the journal under these keys.
    pub fn new(root: &str) -> Self {
        Self {
            root: root.to_owned(),
            lease: Duration::from_secs(6),
            call_timeout: Duration::from_secs(3),
            recent_bytes: 8 << 20,
            read_bytes: 4 << 20,
            page_entries: 100,
        }
    }
}

/// The journal in etcd. Dropping it ends its tasks.
pub struct EtcdJournal {
    shared: Arc<Shared>,
    /// The tasks go on for as long as this is there.
    _open: watch::Sender<()>,
}

impl EtcdJournal {
    /// Starts on a store. A journal that was never there begins as `incarnation` (random).
    ///
    /// Snapshots and archives must have been listed before: what they hold is then at or below this journal's end, or
    /// the store went back in time.
    pub async fn start(kv: Arc<dyn Kv>, env: Env, settings: Settings, incarnation: u128) -> Result<Self, ReadError> {
        let kv = Limited::new(kv, settings.call_timeout);
        let names = Names::new(&settings.root);
        let first = StoredPointer::first(incarnation, 0);
        let life = Life { incarnation: settle(&kv, &names, &first).await?, names };
        let view = follow::load(&kv, &life, settings.page_entries).await?;
        let (tail, records) = Tail::start(life.clone(), &view).map_err(|halt| match halt {
            Halt::Stop(detail) => ReadError::Damaged { detail },
            Halt::Gap | Halt::Truncated => ReadError::Damaged { detail: "the journal's entries have gaps".to_owned() },
        })?;
        let inside = Inside::new(tail, records, &settings, env.clock.now());
        let shared = Arc::new(Shared {
            kv,
            env,
            settings,
            life,
            inside: Mutex::new(inside),
            changed: watch::Sender::new(()),
            read_all: Notify::new(),
        });
        let open = watch::Sender::new(());
        let tasks = &shared.env.tasks;
        let following = follow::follow(Arc::clone(&shared), view.revision + 1, open.subscribe());
        tasks.spawn("journal follower", Box::pin(following));
        tasks.spawn("journal looks", Box::pin(follow::look(Arc::clone(&shared), open.subscribe())));
        Ok(Self { shared, _open: open })
    }

    /// Begins a new life of the journal, whose first entry will have ordinal `base + 1`: for `recover`, on keys that
    /// hold no journal.
    pub async fn establish(
        kv: Arc<dyn Kv>,
        settings: &Settings,
        incarnation: u128,
        base: u64,
    ) -> Result<(), ReadError> {
        let kv = Limited::new(kv, settings.call_timeout);
        let settled = settle(&kv, &Names::new(&settings.root), &StoredPointer::first(incarnation, base)).await?;
        if settled == incarnation {
            return Ok(());
        }
        Err(ReadError::Damaged { detail: format!("there is a journal under {} already", settings.root) })
    }

    /// The id of this journal's life: part of the names of snapshots.
    pub fn incarnation(&self) -> u128 {
        self.shared.life.incarnation
    }
}

/// Makes the pointer of a journal that is not there yet. Returns the incarnation of the one that is.
async fn settle(kv: &Limited, names: &Names, first: &StoredPointer) -> Result<u128, ReadError> {
    let absent = |key| Compare { keys: Keys::One(key), is: Is::Equal, target: Target::Create(0) };
    let txn = Txn {
        when: vec![absent(names.pointer()), absent(names.head())],
        then: vec![Op::Put { key: names.pointer(), value: first.encode(), lease: 0 }],
        otherwise: vec![Op::Get(kv::Get::one(names.pointer()))],
    };
    let reply = kv.txn(txn).await.map_err(failed)?;
    if reply.succeeded {
        return Ok(first.incarnation);
    }
    let Some(kv) = txns::all(reply.results.first()).first() else {
        let detail = "the journal has a head and no pointer; run `kafscale recover`".to_owned();
        return Err(ReadError::Damaged { detail });
    };
    let stored = StoredPointer::decode(&kv.value).map_err(|why| ReadError::Damaged { detail: why.to_string() })?;
    Ok(stored.incarnation)
}

#[async_trait]
impl Journal for EtcdJournal {
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        self.shared.open(identity, nonce, entry).await
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.shared.append(nonce, n, entry, What::Nothing).await
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.shared.append(nonce, n, entry, What::Leave).await
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let plan = self.shared.inside.lock().plan(after, &self.shared.settings)?;
            match plan {
                Plan::Ready(records) => return Ok(records),
                Plan::Get(first, marks) => {
                    if let Some(records) = self.shared.fetch(first, &marks).await? {
                        return Ok(records);
                    }
                    continue;
                }
                Plan::Wait => {}
                Plan::Ahead => {
                    let end = self.shared.look().await?.end.ordinal;
                    if end < after {
                        let detail = format!("entry {after} was seen, and the journal ends at {end}");
                        return Err(ReadError::Damaged { detail });
                    }
                }
            }
            changed.changed().await.map_err(|gone| ReadError::Failed(std::io::Error::other(gone)))?;
        }
    }

    async fn end(&self) -> Result<Position, ReadError> {
        let seen = self.shared.look().await?;
        if seen.anchor_lost {
            return Err(ReadError::Failed(std::io::Error::other("the journal is being read anew; try again")));
        }
        Ok(seen.end)
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        Ok(self.shared.stored_pointer().await?.1.published())
    }

    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        assert!(pointer.truncatable <= pointer.ordinal, "a snapshot cannot need what is newer than itself");
        self.shared.append(nonce, n, entry, What::Publish(pointer)).await
    }

    async fn truncate(&self) -> Result<(), ReadError> {
        self.shared.truncate().await
    }
}

#[async_trait]
impl Sessions for EtcdJournal {
    async fn live(&self) -> Result<Vec<LiveSession>, ReadError> {
        self.shared.read_sessions().await?;
        Ok(self.shared.inside.lock().roster.sessions())
    }

    async fn changed(&self, known: &[LiveSession]) -> Result<Vec<LiveSession>, ReadError> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            let now = {
                let inside = self.shared.inside.lock();
                inside.check()?;
                (!inside.sessions_moved).then(|| inside.roster.sessions())
            };
            if let Some(now) = now.filter(|now| now != known) {
                return Ok(now);
            }
            changed.changed().await.map_err(|gone| ReadError::Failed(std::io::Error::other(gone)))?;
        }
    }

    async fn end_other(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError> {
        self.shared.append(nonce, n, entry, What::End(victim)).await
    }

    async fn expel(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError> {
        self.shared.append(nonce, n, entry, What::Expel(victim)).await
    }

    fn is_known_live(&self, nonce: u64, at: Instant) -> bool {
        self.shared.inside.lock().live_until(nonce).is_some_and(|until| at < until)
    }
}
