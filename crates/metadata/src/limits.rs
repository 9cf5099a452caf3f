//! Every bound of the fold. They are part of its meaning: a broker with another value would reach another state, so
//! a change of one needs a new feature level.

/// The feature level that this release understands. An entry above it stops the fold.
pub const FEATURE_LEVEL: u32 = 3;
/// Since this feature level the commands of a group are refused of any session but its coordinator. Entries below it
/// are of times when there was one broker, or are golden; they fold as they did.
pub const COORDINATORS_SINCE: u32 = 3;

/// Topics in the cluster.
pub const TOPICS: usize = 100_000;
/// Partitions in the cluster.
pub const PARTITIONS: u64 = 1_000_000;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC: u32 = 100_000;
/// Bytes of a topic's name (Kafka's rule).
pub const TOPIC_NAME_BYTES: usize = 249;
/// Settings of one topic.
pub const CONFIGS_PER_TOPIC: usize = 64;
/// Bytes of a setting's name.
pub const CONFIG_NAME_BYTES: usize = 255;
/// Bytes of a setting's value.
pub const CONFIG_VALUE_BYTES: usize = 8 * 1024;

/// Living sessions.
pub const LIVE_SESSIONS: usize = 10_000;
/// Listeners of one session.
pub const LISTENERS: usize = 16;
/// Bytes of a listener's name, of its host, and of a rack.
pub const ADDRESS_BYTES: usize = 255;
/// Ranges of object numbers, by kind, that one session may have reserved.
pub const RESERVATIONS: usize = 1_000_000;

/// Living producer ids, allocated and foreign ones together.
pub const LIVING_PRODUCERS: usize = 1_000_000;
/// Living ids that were not allocated here, or expired and came back. Any client can invent them, so they must not be
/// able to fill the table.
pub const FOREIGN_PRODUCERS: usize = 100_000;
/// Producer ids that one command may allocate.
pub const PRODUCER_IDS_PER_COMMAND: u32 = 10_000;
/// Ids that [`crate::State::idle_producers`] names at once: together they fit an entry.
pub const IDLE_BATCH: usize = 8_192;
/// (producer, partition) pairs of deleted topics that are remembered, so that producers may go on in a topic that is
/// created again under the same name. Beyond it the longest deleted topic's are forgotten: its producers must then
/// start at 0, which is safe.
pub const REMEMBERED_PAIRS: usize = 1_000_000;
/// Batches that are remembered of each producer on each partition (KIP-98): clients have at most five in flight.
pub const BATCHES_PER_PRODUCER: usize = 5;

/// Consumer groups in the cluster.
pub const GROUPS: usize = 100_000;
/// Bytes of a group's id.
pub const GROUP_ID_BYTES: usize = 1024;
/// Members of one group.
pub const MEMBERS_PER_GROUP: usize = 10_000;
/// Bytes of one group's members: their ids, names, subscriptions and assignments, as they are weighed in the state.
pub const GROUP_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of all groups with their offsets, as they are weighed in the state.
pub const GROUPS_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes of what a client may add to an offset (Kafka's `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES: usize = 4096;
/// What a group weighs beside its members, its id and its offsets; bytes.
pub const GROUP_WEIGHT: u64 = 512;
/// What a member weighs beside its texts, its subscription and its assignment; bytes.
pub const MEMBER_WEIGHT: u64 = 256;
/// What a committed offset weighs beside its metadata; bytes.
pub const OFFSET_WEIGHT: u64 = 128;
/// Bytes that the commands of one call of [`crate::State::expired_offsets`] take at most, about: they fit an entry.
pub const EXPIRED_BYTES: usize = 128 * 1024;
/// Offsets that one call of [`crate::State::expired_offsets`] looks at: the state is locked meanwhile.
pub const EXPIRED_LOOKS: usize = 65_536;

/// The largest sequence number; the next one is 0.
pub const MAX_SEQUENCE: i32 = i32::MAX;

const _: () = assert!(PARTITIONS_PER_TOPIC as u64 <= PARTITIONS);
const _: () = assert!(TOPICS as u64 <= PARTITIONS);
const _: () = assert!(FOREIGN_PRODUCERS < LIVING_PRODUCERS);
const _: () = assert!(PRODUCER_IDS_PER_COMMAND as usize <= LIVING_PRODUCERS - FOREIGN_PRODUCERS);
const _: () = assert!(IDLE_BATCH * 20 < 256 * 1024, "two varints an id must fit an entry");
const _: () = assert!(GROUP_BYTES < GROUPS_BYTES);
