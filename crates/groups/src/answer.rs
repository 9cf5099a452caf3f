//! What comes out: answers to clients, and commands for the journal.

use bytes::Bytes;
use kafscale_metadata::{Command, MemberId};

use crate::{ProposalId, Token};

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer the request that waits under this token. There is exactly one for each request.
    Answer(Token, Answer),
    /// Append these commands, and report with [`Groups::decided`](crate::Groups::decided). Proposals enter the journal
    /// in the order in which they came out, and no other command of the same group between the commands of one.
    Propose(ProposalId, Vec<Command>),
}

/// The answer to the [`Request`](crate::Request) of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a join.
    Join(Result<Joined, Error>),
    /// To a sync.
    Sync(Result<Synced, Error>),
    /// To a heartbeat.
    Heartbeat(Result<(), Error>),
    /// To a leave: for each leaver, in the request's order, or one error for all.
    Leave(Result<Vec<Result<(), Error>>, Error>),
    /// To a commit: for each offset, in the request's order, or one error for all.
    Commit(Result<Vec<Result<(), Error>>, Error>),
    /// To the deletion of a group.
    DeleteGroup(Result<(), Error>),
    /// To the deletion of offsets: for each partition, in the request's order, or one error for all.
    DeleteOffsets(Result<Vec<Result<(), Error>>, Error>),
}

/// A member is in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member's id, from now on.
    pub member_id: MemberId,
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol that was chosen.
    pub protocol: String,
    /// The leader's member id. (The one before, for a static leader that came back and cannot skip the assignment: so
    /// that it does not take itself for the leader of a stable group.)
    pub leader: MemberId,
    /// The leader shall not assign: the group is stable (KIP-814).
    pub skip_assignment: bool,
    /// All members by id, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

/// One member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: MemberId,
    /// Its static instance id.
    pub instance: Option<String>,
    /// Its metadata for the chosen protocol, untouched.
    pub subscription: Bytes,
}

/// A member has its assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol that was chosen.
    pub protocol: String,
    /// What the leader assigned, untouched; empty if nothing.
    pub assignment: Bytes,
}

/// Why not. The broker's API files give each the Kafka error of the doc comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// UNKNOWN_MEMBER_ID: the group has no such member. Join anew, without an id.
    #[error("unknown member")]
    UnknownMember,
    /// ILLEGAL_GENERATION: the member's generation is not the group's.
    #[error("illegal generation")]
    IllegalGeneration,
    /// REBALANCE_IN_PROGRESS: join again. Also for a parked request that a later one of the same member replaced.
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// FENCED_INSTANCE_ID: another member has this instance id now.
    #[error("fenced by another member with the same instance id")]
    FencedInstance,
    /// INCONSISTENT_GROUP_PROTOCOL: another protocol type, or no protocol that all members support.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// INVALID_SESSION_TIMEOUT: outside of the bounds in the settings.
    #[error("invalid session timeout")]
    InvalidSessionTimeout,
    /// GROUP_MAX_SIZE_REACHED: too many members or bytes, of this group or of all.
    #[error("the group is full")]
    GroupFull,
    /// MEMBER_ID_REQUIRED: join again under this id (KIP-394). Only to a join.
    #[error("join again as {0}")]
    MemberIdRequired(MemberId),
    /// INVALID_GROUP_ID: an empty or overlong group id.
    #[error("invalid group id")]
    InvalidGroup,
    /// NON_EMPTY_GROUP: the group has members.
    #[error("the group is not empty")]
    NotEmpty,
    /// GROUP_ID_NOT_FOUND. To a commit below version 9: ILLEGAL_GENERATION.
    #[error("no such group")]
    NotFound,
    /// GROUP_SUBSCRIBED_TO_TOPIC: members use the topic. Only for a partition of an offset deletion.
    #[error("the group is subscribed to the topic")]
    Subscribed,
    /// UNKNOWN_TOPIC_OR_PARTITION. Only for an offset of a commit.
    #[error("unknown topic or partition")]
    UnknownPartition,
    /// OFFSET_METADATA_TOO_LARGE. Only for an offset of a commit.
    #[error("offset metadata too large")]
    MetadataTooLarge,
    /// UNKNOWN_SERVER_ERROR, as Kafka says it of what its log cannot take: an assignment beyond the bounds, or offsets
    /// beyond those of all groups. To repeat it does not help.
    #[error("too large")]
    TooLarge,
    /// COORDINATOR_NOT_AVAILABLE: not written; nothing of the request happened. Repeat it.
    #[error("not written")]
    Retry,
    /// NOT_COORDINATOR: this broker's session is over, or the outcome is not known. Find the coordinator.
    #[error("not the coordinator")]
    NotCoordinator,
}
