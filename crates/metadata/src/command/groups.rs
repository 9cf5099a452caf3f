//! What a journal entry says of consumer groups: generations in two commands, the offsets they commit, and the end of
//! both. What a member sends is opaque here: subscriptions and assignments are bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::TopicPartition;

/// A member's id, as clients know it.
pub type MemberId = Arc<str>;

/// Which part of a generation a command carries. A generation too large for one entry comes in parts, and is visible
/// with the last. All parts are of one session, one after the other, and no other command of the group is between
/// them: else those that came are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u32,
    /// No part follows.
    pub last: bool,
}

impl Part {
    /// A generation in one command.
    pub const WHOLE: Part = Part { index: 0, last: true };
}

/// See [`super::Command::CompleteJoin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteJoin {
    /// Which group.
    pub group: String,
    /// The new generation: one more than the stored one, 1 for a new group.
    pub generation: i32,
    /// The members' protocol type. Of parts, the first one's counts, and so it is with `protocol` and `leader`.
    pub protocol_type: String,
    /// The chosen protocol; empty if there is none.
    pub protocol: String,
    /// The leader, one of the members; empty if there are none.
    pub leader: MemberId,
    /// The members, all parts together. With none the group is empty now.
    pub members: Vec<GroupMember>,
    /// Which part this is.
    pub part: Part,
}

/// A member as it joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id, not empty.
    pub id: MemberId,
    /// The instance of a static member (KIP-345).
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// Without a heartbeat for so long it is removed; milliseconds.
    pub session_timeout_ms: i32,
    /// How long the others wait for it in a rebalance; milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What it subscribes to, in the chosen protocol.
    pub subscription: Bytes,
}

/// See [`super::Command::CompleteSync`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteSync {
    /// Which group.
    pub group: String,
    /// The stored generation.
    pub generation: i32,
    /// Members and what the leader gave them, all parts together. A member that is not named gets nothing.
    pub assignments: Vec<(MemberId, Bytes)>,
    /// Which part this is.
    pub part: Part,
}

/// See [`super::Command::ReplaceMember`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplaceMember {
    /// Which group.
    pub group: String,
    /// The stored generation.
    pub generation: i32,
    /// The id that the member had.
    pub old: MemberId,
    /// The member under its new id; of the same instance.
    pub new: GroupMember,
}

/// See [`super::Command::CommitOffsets`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// Which group.
    pub group: String,
    /// The member's generation; −1 if it is none.
    pub generation: i32,
    /// Who commits; empty if it is no member.
    pub member: String,
    /// What it commits.
    pub offsets: Vec<OffsetCommit>,
}

/// The committed offset of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record that was read; −1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client adds to it.
    pub metadata: String,
}
