//! What comes in: one client's request about one group, in the words of the coordinator rather than of the wire. The
//! broker's API files translate; differences between versions are fields here, never version numbers.

use bytes::Bytes;
use kafscale_metadata::{OffsetCommit, TopicPartition};

/// One request. Each is answered exactly once, by the [`Answer`](crate::Answer) of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// JoinGroup.
    Join(Join),
    /// SyncGroup.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup: who leaves. Versions below 3 name one member and no instance.
    Leave(Vec<Leaver>),
    /// OffsetCommit.
    Commit(Commit),
    /// DeleteGroups, for one of its groups.
    DeleteGroup,
    /// OffsetDelete. The answer has a verdict for each partition, in this order.
    DeleteOffsets(Vec<TopicPartition>),
}

/// JoinGroup, versions 0 to 9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Empty when the client has no member id yet.
    pub member_id: String,
    /// The static instance id (KIP-345, version 5).
    pub instance: Option<String>,
    /// The client's `client.id`.
    pub client_id: String,
    /// The client's address, as DescribeGroups shows it ("/10.0.0.7").
    pub client_host: String,
    /// "consumer", "connect", …
    pub protocol_type: String,
    /// The protocols (assignors) that the member supports, the preferred one first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// How long the member may be silent.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member. The session timeout in version 0, which does not have it.
    pub rebalance_timeout_ms: i32,
    /// A member without an id is given one and has to join again with it (KIP-394, version 4).
    pub requires_known_id: bool,
    /// The client understands `skip_assignment` (KIP-814, version 9).
    pub can_skip_assignment: bool,
    /// The id for a member that has none: "{instance, or else client id}-{random}". Not used for others.
    pub new_id: String,
}

/// SyncGroup, versions 0 to 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Who asks.
    pub member_id: String,
    /// The static instance id (version 3).
    pub instance: Option<String>,
    /// The generation that the member joined.
    pub generation: i32,
    /// What the member takes the group's protocol type to be (version 5).
    pub protocol_type: Option<String>,
    /// What the member takes the chosen protocol to be (version 5).
    pub protocol: Option<String>,
    /// The leader's assignment; empty from everybody else.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat, versions 0 to 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who is alive.
    pub member_id: String,
    /// The static instance id (version 3).
    pub instance: Option<String>,
    /// The member's generation.
    pub generation: i32,
}

/// One of those who leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// Empty when an administrator removes a static member by its instance.
    pub member_id: String,
    /// The static instance id (version 3).
    pub instance: Option<String>,
}

/// OffsetCommit, versions 2 to 9.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Empty for a client that is no member.
    pub member_id: String,
    /// The static instance id (version 7).
    pub instance: Option<String>,
    /// The member's generation; −1 for a client that is no member.
    pub generation: i32,
    /// The offsets. The answer has a verdict for each, in this order.
    pub offsets: Vec<OffsetCommit>,
    /// The caller's wall clock, milliseconds since the epoch, if its fold is fresh: then offsets that equal the stored
    /// ones need not be written again while those are young. `None` writes everything.
    pub fresh_at_ms: Option<i64>,
}
