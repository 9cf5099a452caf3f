//! The few numbers that a deployment may choose, and the bounds of memory.

use kafscale_metadata::limits;

/// How long a member's very first JoinGroup may wait. Its session timeout does not count then (it has no id to send
/// heartbeats with), but a client that gave up and came back as another must not be waited for in every rebalance.
pub(crate) const FIRST_JOIN_MS: u64 = 5 * 60 * 1000;
/// Where a list is cut into the commands of one proposal, in bytes: with the largest single member it stays below an
/// entry.
pub(crate) const PART_BYTES: usize = 96 << 10;
/// The largest metadata or assignment of one member.
pub(crate) const MEMBER_BYTES: usize = 96 << 10;
/// What a member's names take, at most: its id, instance, client id and host, protocol type and protocols.
pub(crate) const NAME_BYTES: usize = 8 << 10;
/// The members of a group in memory; as much again is left in the state for their assignments.
const GROUP_BYTES: usize = (limits::GROUP_BYTES / 2) as usize;
/// Partitions in one command that deletes offsets.
pub(crate) const PARTITIONS_PER_PART: usize = 4096;

/// See the fields; `Default` is what Kafka has.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the first generation of an empty group waits for more members; each one that comes extends it by as
    /// much, up to the rebalance timeout. Kafka's `group.initial.rebalance.delay.ms`.
    pub initial_delay_ms: u64,
    /// The shortest session timeout. Kafka's `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// The longest. Kafka's `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// Members of one group; also how many ids may be given away that have not joined yet. Kafka's `group.max.size`.
    pub max_members: usize,
    /// Bytes that the members of one group take in memory: ids, and metadata for all their protocols. Also of their
    /// assignments.
    pub max_group_bytes: usize,
    /// Bytes that the members of all groups take in memory.
    pub max_bytes: usize,
    /// A commit that changes nothing is written all the same when the stored one is this old, so that it does not
    /// expire. Well below the retention of offsets.
    pub commit_refresh_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60 * 1000,
            max_members: limits::MEMBERS_PER_GROUP,
            max_group_bytes: GROUP_BYTES,
            max_bytes: 256 << 20,
            commit_refresh_ms: 60 * 60 * 1000,
        }
    }
}
