//! What every broker knows at one position of the journal, and how it is read.
//!
//! Only `fold` changes a state, and only by applying the next entry. A clone is cheap: topics, partitions, groups
//! and pages of producers are behind `Arc` and copied on write, so a snapshot is a clone that is serialised elsewhere.
//! Nothing here depends on a hash map's order, and nothing reads a clock.

mod extents;
mod groups;
mod partition;
mod producers;
pub(crate) mod remembered;
mod rendezvous;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use extents::{Extent, ExtentKind, Extents};
pub use groups::{CommittedOffset, Expired, ExpiredOffsets, Group, GroupStage, Member};
pub use partition::{Partition, ProducerState};
pub use producers::Producer;
pub use rendezvous::Leaders;
pub use sessions::{Session, Standing};

pub(crate) use groups::{Gathered, Groups, Membership, Unfinished};
pub(crate) use partition::KeptBatch;
pub(crate) use producers::Producers;
pub(crate) use remembered::{Pairs, Remembered};
pub(crate) use sessions::Sessions;

use crate::command::{Nonce, ObjectId, TopicId, TopicPartition};
use crate::limits::IDLE_BATCH;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    pub(crate) configs: BTreeMap<String, String>,
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// Producers that may start anywhere in a partition, since they wrote to it in a deleted topic of this name.
    pub(crate) lenient: Pairs,
}

impl Topic {
    /// Partitions are copied on write: all empty ones can be one.
    pub(crate) fn empty_partitions(count: u32) -> Vec<Arc<Partition>> {
        let empty = Arc::new(Partition::default());
        (0..count).map(|_| empty.clone()).collect()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Settings that differ from the defaults.
    #[must_use]
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// Its partitions, by index.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = &Partition> {
        self.partitions.iter().map(Arc::as_ref)
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// One of its partitions.
    #[must_use]
    pub fn partition(&self, index: u32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?).map(Arc::as_ref)
    }
}

/// A published snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The object that holds it.
    pub object: ObjectId,
    /// It is the state after this ordinal.
    pub ordinal: u64,
}

/// The whole state after one ordinal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) ordinal: u64,
    pub(crate) hash: u64,
    pub(crate) sessions: Sessions,
    pub(crate) topics: BTreeMap<TopicId, Arc<Topic>>,
    pub(crate) names: BTreeMap<Arc<str>, TopicId>,
    pub(crate) partition_count: u64,
    pub(crate) producers: Producers,
    pub(crate) next_producer_id: i64,
    pub(crate) remembered: Remembered,
    /// The newest published snapshot and the one before it.
    pub(crate) snapshots: [Option<SnapshotRef>; 2],
    pub(crate) groups: Groups,
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> State {
        State::default()
    }

    /// The ordinal of the last entry that was applied; 0 before the first.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// The rolling hash over all entries and their outcomes. Two brokers at one ordinal have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The hash of the state itself, however it came to be: equal states have equal ones. Reads the whole state.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        crate::snapshot::content_hash(self)
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(Arc::as_ref)
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.topic(*self.names.get(name)?)
    }

    /// All topics, ordered by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.names.values().map(|id| self.topic(*id).expect("every name is of a topic in the table"))
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// How many partitions all topics have together.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partition_count
    }

    /// A session, live or ended.
    #[must_use]
    pub fn session(&self, nonce: Nonce) -> Option<&Session> {
        self.sessions.get(nonce)
    }

    /// The live sessions, by broker id.
    pub fn live_sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.live.values().filter_map(|nonce| self.sessions.get(*nonce))
    }

    /// How often it has changed which sessions live and which are ready, since entries of level 3. While it stays the
    /// same no group moves; after one change a group that is where it was has not been elsewhere in between.
    #[must_use]
    pub fn session_changes(&self) -> u64 {
        self.sessions.changes
    }

    /// One past the last object number that a session may use; 0 for a session that was never opened.
    #[must_use]
    pub fn reserved(&self, nonce: Nonce) -> u32 {
        self.session(nonce).map_or(0, Session::reserved)
    }

    /// No object number of the session below it will be referenced any more.
    #[must_use]
    pub fn low(&self, nonce: Nonce) -> u32 {
        self.session(nonce).map_or(0, Session::low)
    }

    /// A living producer id.
    #[must_use]
    pub fn producer(&self, id: i64) -> Option<&Producer> {
        self.producers.get(id)
    }

    /// How many producer ids live.
    #[must_use]
    pub fn living_producers(&self) -> usize {
        self.producers.len()
    }

    /// Ids with no activity since `before_ms`, each with its last activity, smallest ids first and only so many as fit
    /// one entry: what a proposer puts into `ExpireProducers`.
    #[must_use]
    pub fn idle_producers(&self, before_ms: i64) -> Vec<(i64, i64)> {
        let idle = self.producers.iter().filter(|p| p.last_activity < before_ms);
        idle.map(|p| (p.id, p.last_activity)).take(IDLE_BATCH).collect()
    }

    /// A consumer group.
    #[must_use]
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&str, &Group)> {
        self.groups.iter()
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.iter().len()
    }

    /// What all groups weigh, with their offsets; bytes.
    #[must_use]
    pub fn groups_bytes(&self) -> u64 {
        self.groups.bytes()
    }

    /// The newest published snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotRef> {
        self.snapshots[0]
    }

    /// The published snapshot before the newest.
    #[must_use]
    pub fn previous_snapshot(&self) -> Option<SnapshotRef> {
        self.snapshots[1]
    }
}
