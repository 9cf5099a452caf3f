//! What the cluster knows, and how a journal entry changes it. Pure: no I/O, no clock, no randomness, no floats.
//!
//! Every broker folds the same entries, in the journal's order, into the same [`State`]; offsets, duplicates, fencing
//! and the life of topics and producer ids are decided here and nowhere else. The crate owns the meaning of entries
//! ([`command`]), the state and its read API ([`state`]), the fold ([`apply`]), and the bytes of entries ([`encode`])
//! and of snapshots ([`snapshot`]). It does not own the journal, objects or any answer to a client.
//!
//! ```text
//! entry bytes ─ Entry::decode ─▶ Entry ─ apply(&mut State, ordinal, &Entry) ─▶ outcomes, partitions that advanced
//!                                                    State ─ snapshot::encode ─▶ bytes ─ snapshot::decode ─▶ State
//! ```

pub mod command;
pub mod encode;
pub mod fold;
pub mod limits;
#[cfg(any(test, feature = "reference"))]
pub mod reference;
pub mod snapshot;
pub mod state;
mod subscription;

pub use command::{
    BatchMeta, Command, CommitBundle, CommitOffsets, CompleteJoin, CompleteSync, CreateTopic, Entry, GroupMember,
    Listener, MemberId, Nonce, ObjectId, ObjectKind, OffsetCommit, OpenSession, Outcome, Part, ProducerBatch, Refusal,
    ReplaceMember, Reservation, Run, TopicId, TopicPartition, Verdict,
};
pub use encode::DecodeError;
pub use fold::{Applied, Stop, apply};
pub use snapshot::SnapshotError;
pub use state::{
    CommittedOffset, Expired, ExpiredOffsets, Extent, ExtentKind, Extents, Group, GroupStage, Leaders, Member,
    Partition, Producer, ProducerState, Session, SnapshotRef, Standing, State, Topic,
};
pub use subscription::subscribed_topics;
