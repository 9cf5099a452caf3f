//! What a journal entry says: the commands, and what the fold answers to each. Domain types only; their bytes are in
//! `encode`. Everything the fold needs is in here: time, ids and randomness were put in by the broker that
//! appended the entry.

mod groups;

use std::collections::BTreeMap;
use std::fmt;

pub use groups::{CommitOffsets, CompleteJoin, CompleteSync, GroupMember, MemberId, OffsetCommit, Part, ReplaceMember};

/// A session's nonce: one life of one broker process. Part of the names of all objects it writes.
pub type Nonce = u64;

/// A topic's id, random, chosen by the broker that proposes the topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u128);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({:032x})", self.0)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index, from 0.
    pub partition: u32,
}

/// The name of an object that holds records: which session wrote it, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The session.
    pub nonce: Nonce,
    /// Its number in the session, from 0; each number is used for one object at most.
    pub number: u32,
}

/// What a reserved range of object numbers is for: orphans are found by name, and the name has the kind in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Many partitions, straight from the write path.
    Bundle,
    /// The whole state.
    Snapshot,
}

/// The numbers up to (not including) `end` that follow the previous reservation are for objects of `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// What the numbers are for.
    pub kind: ObjectKind,
    /// One past the last reserved number.
    pub end: u32,
}

/// One journal entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What a broker must understand to apply this entry.
    pub feature_level: u32,
    /// The session that appended it.
    pub nonce: Nonce,
    /// Its number in the session, 0 for the opening.
    pub n: u64,
    /// The appending broker's wall clock, milliseconds since the epoch.
    pub time_ms: i64,
    /// Object numbers that may be used from now on; in order.
    pub reserved: Vec<Reservation>,
    /// No object number below this will be referenced by an entry after this one.
    pub low: u32,
    /// What to do, in order.
    pub commands: Vec<Command>,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Opens the entry's session; ends any older session of the same broker id.
    OpenSession(OpenSession),
    /// Ends a session.
    EndSession {
        /// Which one.
        nonce: Nonce,
    },
    /// The entry's session is ready to coordinate groups, or is so no longer.
    SetReady {
        /// Which of both.
        ready: bool,
    },
    /// Creates a topic.
    CreateTopic(CreateTopic),
    /// Deletes a topic and all its records.
    DeleteTopic {
        /// Which one.
        topic: TopicId,
    },
    /// Gives offsets to the batches of an uploaded bundle.
    CommitBundle(CommitBundle),
    /// Allocates `count` producer ids.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Forgets producer ids that were idle on all partitions.
    ExpireProducers {
        /// Each id with the last activity (entry time) that the proposer saw; a later activity keeps the id alive.
        idle: Vec<(i64, i64)>,
    },
    /// Names a snapshot object as published.
    PublishSnapshot {
        /// The object.
        object: ObjectId,
        /// The state after this ordinal is in it.
        ordinal: u64,
    },
    /// Raises the number of partitions of a topic.
    AddPartitions {
        /// Which one.
        topic: TopicId,
        /// How many it has then.
        count: u32,
    },
    /// A join is complete: a new generation of a group.
    CompleteJoin(CompleteJoin),
    /// The leader's assignment of a group's generation.
    CompleteSync(CompleteSync),
    /// A static member came back under a new id (KIP-345): same instance, same place, same assignment.
    ReplaceMember(ReplaceMember),
    /// Stores the offsets of a group that one request commits.
    CommitOffsets(CommitOffsets),
    /// Forgets offsets of a group, because a client said so.
    DeleteOffsets {
        /// Which group.
        group: String,
        /// Which offsets.
        partitions: Vec<TopicPartition>,
    },
    /// Forgets offsets that were not committed for the retention time, and the group if nothing of it is left.
    ExpireOffsets {
        /// Which group.
        group: String,
        /// Its generation as the proposer saw it; in another the command does nothing.
        generation: i32,
        /// Each partition with the commit time that the proposer saw; a later commit keeps the offset.
        offsets: Vec<(TopicPartition, i64)>,
    },
    /// Deletes a group without members, and its offsets.
    DeleteGroup {
        /// Which group.
        group: String,
    },
}

impl Command {
    /// The group that the command is of, if it is of one: then it must come from the group's coordinator.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Command::CompleteJoin(join) => Some(&join.group),
            Command::CompleteSync(sync) => Some(&sync.group),
            Command::ReplaceMember(replace) => Some(&replace.group),
            Command::CommitOffsets(commit) => Some(&commit.group),
            Command::DeleteOffsets { group, .. }
            | Command::ExpireOffsets { group, .. }
            | Command::DeleteGroup { group } => Some(group),
            Command::OpenSession(_)
            | Command::EndSession { .. }
            | Command::SetReady { .. }
            | Command::CreateTopic(_)
            | Command::DeleteTopic { .. }
            | Command::CommitBundle(_)
            | Command::AllocateProducerIds { .. }
            | Command::ExpireProducers { .. }
            | Command::PublishSnapshot { .. }
            | Command::AddPartitions { .. } => None,
        }
    }
}

/// See [`Command::OpenSession`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The broker's id in Kafka's sense.
    pub broker_id: i32,
    /// What proves that a restarted process is the same broker.
    pub identity: u128,
    /// Where clients reach it: (listener name, host, port).
    pub listeners: Vec<Listener>,
    /// The broker's zone, if it has one.
    pub rack: Option<String>,
}

/// An address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name.
    pub name: String,
    /// What clients are told to connect to.
    pub host: String,
    /// See `host`.
    pub port: u16,
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// The new topic's id.
    pub topic: TopicId,
    /// Its name, already checked by Kafka's rules (the fold checks again).
    pub name: String,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// Settings that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// See [`Command::CommitBundle`]. A bundle may be committed in several commands, each batch whole in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitBundle {
    /// The object's number in the entry's session.
    pub number: u32,
    /// Its runs. A partition may appear in more than one.
    pub runs: Vec<Run>,
}

/// The batches of one partition that lie one after the other in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whose batches.
    pub partition: TopicPartition,
    /// Where the first batch begins in the object, in bytes.
    pub position: u32,
    /// The batches.
    pub batches: Vec<BatchMeta>,
}

/// What the fold needs to know of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    /// Its length in the object, in bytes.
    pub bytes: u32,
    /// How many offsets it takes (last offset delta + 1), at least 1.
    pub records: u32,
    /// The largest record timestamp in it, milliseconds.
    pub max_timestamp: i64,
    /// The idempotent producer's numbering, if it has one.
    pub producer: Option<ProducerBatch>,
    /// The batch belongs to a transaction.
    pub transactional: bool,
}

/// An idempotent producer's numbering of a batch (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence of the first record; wraps at 2^31 − 1.
    pub first_sequence: i32,
}

/// What the fold decided about one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; nothing to say.
    Done,
    /// The command was refused.
    Refused(Refusal),
    /// The verdicts of [`Command::CommitBundle`]: for each run, for each batch.
    Bundle(Vec<Vec<Verdict>>),
    /// The first of the allocated producer ids; the others follow it.
    ProducerIds {
        /// The first id.
        first: i64,
    },
    /// The verdicts of [`Command::CommitOffsets`]: for each offset why it was not stored, if it was not.
    Offsets(Vec<Option<Refusal>>),
}

/// What the fold decided about one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has offsets.
    Accepted {
        /// Of its first record.
        first_offset: i64,
        /// The partition's log start offset.
        log_start: i64,
    },
    /// It had offsets already: the answer is the first one's, and no error.
    Duplicate {
        /// Of its first record, as it was answered then.
        first_offset: i64,
        /// The partition's log start offset.
        log_start: i64,
    },
    /// It is not in the log.
    Refused(Refusal),
}

/// Why the fold refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such topic or partition (any more).
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    /// A topic of this name, or with this id, exists.
    #[error("topic exists")]
    TopicExists,
    /// The name breaks Kafka's rules.
    #[error("invalid topic name")]
    InvalidTopicName,
    /// Zero partitions, or more than a topic may have.
    #[error("invalid number of partitions")]
    InvalidPartitions,
    /// A bound of the whole cluster is reached: topics, partitions or producer ids.
    #[error("a limit of the cluster is reached")]
    LimitReached,
    /// The sequence is not the next one of this producer on this partition.
    #[error("out of order sequence number")]
    OutOfOrderSequence,
    /// The epoch is lower than the partition has seen of this producer.
    #[error("invalid producer epoch")]
    FencedEpoch,
    /// A batch of an older numbering that was seen, but is no longer among the last five.
    #[error("duplicate sequence number")]
    DuplicateSequence,
    /// The entry is not allowed to say this: a session that is not live, an object number outside of
    /// [low, reserved), a number of the wrong kind, a transactional batch (there are no transactions yet), or a
    /// malformed command.
    #[error("not allowed")]
    NotAllowed,
    /// No such group.
    #[error("unknown group")]
    UnknownGroup,
    /// The group has no such member.
    #[error("unknown member")]
    UnknownMember,
    /// The group is in another generation.
    #[error("illegal generation")]
    IllegalGeneration,
    /// The generation has no assignment yet.
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// The group has members.
    #[error("the group is not empty")]
    GroupNotEmpty,
    /// Another session coordinates the group. The command changed nothing.
    #[error("not the coordinator")]
    NotCoordinator,
}
