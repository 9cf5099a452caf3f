//! The journal as the simulator saw it: every entry that any life of the broker read, folded once from the first entry
//! on, by the product's fold and by the naive reference. What a broker's fold has passed must never change, whatever
//! crashes; what an append acknowledged must be read.
//!
//! Judges while it listens (checks `journal`, `verdicts`, `numbers`, `pointer`); what it has placed where is the truth
//! that the other checks compare answers with.

pub mod groups;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_groups::Commit;
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};
use kafscale_metadata::reference::Reference;
use kafscale_metadata::{
    Applied, Command, CommitBundle, Entry, Nonce, ObjectId, Outcome, State, TopicId, TopicPartition, Verdict, apply,
};
use parking_lot::Mutex;
use tokio::time::{Duration, sleep};

use self::groups::{Entered, Timeline};
use crate::clock::SimClock;
use crate::trace::{Trace, fnv};

/// A batch to which the fold gave offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Its first record's offset.
    pub first_offset: i64,
    /// How many offsets it takes.
    pub records: u32,
    /// Where it is stored.
    pub object: ObjectId,
    /// Where it begins in the object.
    pub position: u32,
    /// How long it is.
    pub bytes: u32,
}

/// See the module's documentation.
pub struct Chronicle {
    clock: SimClock,
    trace: Trace,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    records: Vec<Record>,
    /// The rolling hash after each entry.
    hashes: Vec<u64>,
    state: State,
    reference: Reference,
    /// What appends were told: ordinal to (session, n).
    promised: BTreeMap<u64, (u64, u64)>,
    pointer: u64,
    names: BTreeMap<TopicId, String>,
    placed: Vec<Placed>,
    timeline: Timeline,
    odd: Vec<(&'static str, String)>,
}

impl Chronicle {
    /// Nothing was read.
    pub fn new(clock: SimClock, trace: Trace) -> Arc<Self> {
        Arc::new(Self { clock, trace, inner: Mutex::default() })
    }

    /// The journal, listened to.
    pub fn tap(self: &Arc<Self>, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        Arc::new(Tap { journal, chronicle: Arc::clone(self) })
    }

    /// All batches that have offsets, in the order in which they got them.
    pub fn placed(&self) -> Vec<Placed> {
        self.inner.lock().placed.clone()
    }

    /// The names of all topics that there ever were.
    pub fn names(&self) -> BTreeMap<TopicId, String> {
        self.inner.lock().names.clone()
    }

    /// The story of the groups.
    pub fn timeline(&self) -> Timeline {
        self.inner.lock().timeline.clone()
    }

    /// A machine takes a commit; its place in the story.
    pub fn commit_enters(&self, session: Nonce, group: &str, commit: &Commit) -> usize {
        let parts = commit.offsets.iter().map(|part| (part.partition, part.offset, part.metadata.clone()));
        let entered = Entered {
            session,
            group: group.to_owned(),
            generation: commit.generation,
            member: commit.member_id.clone(),
            parts: parts.collect(),
            asked_ms: self.clock.ms(),
            answer: None,
        };
        let mut inner = self.inner.lock();
        inner.timeline.entered.push(entered);
        inner.timeline.entered.len() - 1
    }

    /// It answers, and says which parts are stored.
    pub fn commit_leaves(&self, place: usize, stored: Vec<bool>) {
        let now_ms = self.clock.ms();
        self.inner.lock().timeline.entered[place].answer = Some((now_ms, stored));
    }

    /// The state after all entries.
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// What was wrong so far; empties the list.
    pub fn take_odd(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.inner.lock().odd)
    }

    /// Compares a broker's state with the fold of the whole journal. (Check `same-state`.)
    pub fn compare(&self, state: &State, whose: &str) {
        let mut inner = self.inner.lock();
        let ordinal = state.ordinal();
        let mine = if ordinal == 0 { Some(0) } else { inner.hashes.get(index(ordinal)).copied() };
        if mine.is_some_and(|mine| ordinal > 0 && mine != state.hash()) {
            inner
                .odd
                .push(("same-state", format!("{whose} at entry {ordinal} has another hash than the journal's fold")));
        } else if mine.is_none() {
            inner.odd.push(("same-state", format!("{whose} is at entry {ordinal}, which nobody read")));
        } else if inner.state.ordinal() == ordinal && inner.state != *state {
            inner.odd.push(("same-state", format!("{whose} at entry {ordinal} differs from the journal's fold")));
        }
    }

    /// Folds the entries after a snapshot's ordinal to the last one.
    pub fn catch_up(&self, mut state: State) -> Result<State, String> {
        let inner = self.inner.lock();
        let from = usize::try_from(state.ordinal()).unwrap_or(usize::MAX);
        for record in inner.records.get(from..).unwrap_or_default() {
            let entry = Entry::decode(&record.entry).map_err(|why| why.to_string())?;
            apply(&mut state, record.position.ordinal, &entry).map_err(|why| why.to_string())?;
        }
        Ok(state)
    }

    /// The reference's last word, at the end of a world: its whole state against the fold's, and every promise.
    pub fn conclude(&self) {
        let mut inner = self.inner.lock();
        if let Err(why) = inner.reference.check(&inner.state) {
            inner.odd.push(("verdicts", format!("the reference fold has another state: {why}")));
        }
        let unread: Vec<u64> = inner.promised.keys().copied().filter(|o| *o > inner.records.len() as u64).collect();
        if !unread.is_empty() {
            inner.odd.push(("journal", format!("entries {unread:?} were acknowledged, and nobody can read them")));
        }
    }

    fn read(&self, record: &Record) {
        let mut inner = self.inner.lock();
        let (ordinal, known) = (record.position.ordinal, inner.records.len() as u64);
        if ordinal <= known {
            if inner.records[index(ordinal)] != *record {
                inner.odd.push(("journal", format!("entry {ordinal} is not what it was")));
            }
            return;
        }
        if ordinal != known + 1 {
            inner.odd.push(("journal", format!("entry {ordinal} follows entry {known}")));
            return;
        }
        self.trace.line(format_args!(
            "journal {ordinal}: {:016x} n={} {} bytes {:016x}",
            record.nonce,
            record.n,
            record.entry.len(),
            fnv(0, &record.entry)
        ));
        inner.records.push(record.clone());
        inner.apply(record, self.clock.ms());
    }

    fn promise(&self, position: Position, nonce: u64, n: u64) {
        let mut inner = self.inner.lock();
        let before = inner.promised.insert(position.ordinal, (nonce, n));
        if before.is_some_and(|before| before != (nonce, n)) {
            let what = format!("entry {} was acknowledged to {before:?} and to {:?}", position.ordinal, (nonce, n));
            inner.odd.push(("journal", what));
        }
    }

    fn point(&self, ordinal: u64) {
        let mut inner = self.inner.lock();
        if ordinal < inner.pointer {
            let what = format!("the pointer went back from {} to {ordinal}", inner.pointer);
            inner.odd.push(("pointer", what));
        }
        inner.pointer = inner.pointer.max(ordinal);
    }
}

fn index(ordinal: u64) -> usize {
    usize::try_from(ordinal - 1).unwrap_or(usize::MAX)
}

impl Inner {
    fn apply(&mut self, record: &Record, now_ms: u64) {
        let ordinal = record.position.ordinal;
        if self.promised.get(&ordinal).is_some_and(|promised| *promised != (record.nonce, record.n)) {
            self.odd.push(("journal", format!("entry {ordinal} is not the one that was acknowledged")));
        }
        let entry = match Entry::decode(&record.entry) {
            Ok(entry) => entry,
            Err(why) => return self.odd.push(("journal", format!("entry {ordinal} cannot be read: {why}"))),
        };
        self.judge_numbers(ordinal, &entry);
        let folded = apply(&mut self.state, ordinal, &entry);
        let reference = self.reference.apply(ordinal, &entry);
        if folded != reference {
            let what = format!("entry {ordinal}: the fold says {folded:?}, the reference {reference:?}");
            self.odd.push(("verdicts", what));
        }
        self.hashes.push(self.state.hash());
        self.timeline.push(&entry, folded.as_ref().ok(), &self.state, now_ms);
        match folded {
            Ok(applied) => self.place(ordinal, &entry, &applied),
            Err(why) => self.odd.push(("journal", format!("entry {ordinal} cannot be applied: {why}"))),
        }
    }

    /// Numbers are reserved before they are used, ranges follow each other, `low` never goes back.
    fn judge_numbers(&mut self, ordinal: u64, entry: &Entry) {
        let (reserved, low) = (self.state.reserved(entry.nonce), self.state.low(entry.nonce));
        let mut bad = Vec::new();
        let mut end = reserved;
        for reservation in &entry.reserved {
            if reservation.end <= end {
                bad.push(format!("reserves up to {} after {end}", reservation.end));
            }
            end = reservation.end;
        }
        if entry.low < low || entry.low > end {
            bad.push(format!("moves low from {low} to {} where {end} are reserved", entry.low));
        }
        for command in &entry.commands {
            let object = if let Command::CommitBundle(bundle) = command {
                ObjectId { nonce: entry.nonce, number: bundle.number }
            } else if let Command::PublishSnapshot { object, .. } = command {
                *object
            } else {
                continue;
            };
            if object.nonce != entry.nonce || !(low..reserved).contains(&object.number) {
                bad.push(format!("refers to {object:?}, allowed are its own {low}..{reserved}"));
            }
        }
        self.odd.extend(bad.into_iter().map(|what| ("numbers", format!("entry {ordinal} {what}"))));
    }

    fn place(&mut self, ordinal: u64, entry: &Entry, applied: &Applied) {
        for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
            match (command, outcome) {
                (Command::CreateTopic(create), Outcome::Done) => {
                    self.names.insert(create.topic, create.name.clone());
                }
                (Command::CommitBundle(bundle), Outcome::Bundle(verdicts)) => {
                    self.place_bundle(entry.nonce, bundle, verdicts);
                }
                (Command::CommitBundle(_) | Command::PublishSnapshot { .. }, other) if *other != Outcome::Done => {
                    self.odd.push(("numbers", format!("entry {ordinal}: {other:?} for {command:?}")));
                }
                _ => {}
            }
        }
    }

    fn place_bundle(&mut self, nonce: u64, bundle: &CommitBundle, verdicts: &[Vec<Verdict>]) {
        let object = ObjectId { nonce, number: bundle.number };
        for (run, verdicts) in bundle.runs.iter().zip(verdicts) {
            let mut position = run.position;
            for (batch, verdict) in run.batches.iter().zip(verdicts) {
                if let Verdict::Accepted { first_offset, .. } = *verdict {
                    let (partition, records, bytes) = (run.partition, batch.records, batch.bytes);
                    self.placed.push(Placed { partition, first_offset, records, object, position, bytes });
                }
                position += batch.bytes;
            }
        }
    }
}

struct Tap {
    journal: Arc<dyn Journal>,
    chronicle: Arc<Chronicle>,
}

#[async_trait]
impl Journal for Tap {
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        let position = self.journal.open(identity, nonce, entry).await?;
        self.chronicle.promise(position, nonce, 0);
        Ok(position)
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        let position = self.journal.append(nonce, n, entry).await?;
        self.chronicle.promise(position, nonce, n);
        Ok(position)
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        let position = self.journal.leave(nonce, n, entry).await?;
        self.chronicle.promise(position, nonce, n);
        Ok(position)
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        let records = self.journal.read(after).await?;
        records.iter().for_each(|record| self.chronicle.read(record));
        Ok(records)
    }

    async fn end(&self) -> Result<Position, ReadError> {
        let end = self.journal.end().await?;
        // The answer is on its way for a while, and the fold goes on meanwhile: also on one machine, between two threads.
        if end.ordinal.is_multiple_of(3) {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(end)
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        let pointer = self.journal.pointer().await?;
        self.chronicle.point(pointer.as_ref().map_or(0, |pointer| pointer.ordinal));
        Ok(pointer)
    }

    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        let ordinal = pointer.ordinal;
        let position = self.journal.publish(nonce, n, entry, pointer).await?;
        self.chronicle.promise(position, nonce, n);
        self.chronicle.point(ordinal);
        Ok(position)
    }

    async fn truncate(&self) -> Result<(), ReadError> {
        self.journal.truncate().await
    }
}
