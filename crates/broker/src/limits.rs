//! Every limit of the broker's outside in one place, with the relations among them asserted at compile time.
//!
//! Owns constants only. What an operator may change is in `config`; what is here nobody needs to change.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The longest request, without its length prefix: Kafka's default `socket.request.max.bytes`.
pub const MAX_FRAME_BYTES: usize = 100 * MIB;
/// The longest request that is not a Produce. A Fetch of 100,000 partitions fits several times; nothing else than
/// records is ever as long as a Produce may be.
pub const MAX_PLAIN_FRAME_BYTES: usize = 16 * MIB;
/// The shortest request: API key, version, correlation id.
pub const MIN_FRAME_BYTES: usize = 8;

/// Reserved beside every frame, for the request's future, its answer's header and small structures.
pub const FRAME_OVERHEAD_BYTES: usize = 4 * KIB;
/// What a Produce may take for one byte of its frame: itself, and as much again for the list of its partitions.
pub const PRODUCE_FACTOR: usize = 2;
/// What decoded structures may take for one byte of a frame that is not a Produce (arrays of small structs).
pub const DECODED_FACTOR: usize = 8;
/// The most that is reserved for one frame that is not a Produce.
pub const MAX_PLAIN_ALLOWANCE_BYTES: usize = 64 * MIB;

/// From this length on a frame first takes its place among the large ones, which together hold at most half of the
/// budget while they arrive: peers that announce a lot and send nothing cannot take the room of ordinary requests.
pub const LARGE_FRAME_BYTES: usize = 2 * MIB;
/// The smallest memory budget with which a broker starts: room for a few of the largest ordinary requests.
pub const MIN_MEMORY_BYTES: usize = 32 * MIB;

/// Requests of one connection that are read but not answered yet; at the bound its socket is not read. (Java has 5
/// in flight; Kafka itself takes one at a time.)
pub const MAX_UNANSWERED: usize = 128;
/// Answers that are ready are gathered into one write up to about this many bytes.
pub const GATHER_BYTES: usize = 256 * KIB;
/// Slices in one vectored write; far below IOV_MAX (1024) so that the array fits on the stack.
pub const WRITE_SLICES: usize = 128;

/// A connection on which nothing happens: Kafka's default `connections.max.idle.ms`.
pub const IDLE: Duration = Duration::from_secs(600);
/// From a frame's first byte to its last (time spent waiting for memory not counted), and one second more for each
/// MiB. Java's `request.timeout.ms` is 30 s: a client that takes longer has given the request up itself. The
/// allowance for large frames asks for 1 MiB/s, since what is half-sent holds its memory.
pub const HALF_SENT: Duration = Duration::from_secs(30);
/// Within a frame, the longest silence. Six retransmissions in a row fit.
pub const HALF_SENT_SILENCE: Duration = Duration::from_secs(10);
/// An answer that is not read within this time (and one second for each MiB) costs its connection when memory is
/// short. While memory is not short the peer has [`IDLE`]: a consumer without a group may well process for minutes
/// between two reads of its socket.
pub const UNREAD_ANSWER: Duration = Duration::from_secs(10);
/// A stopping connection's time for the answers that it still owes.
pub const DRAIN: Duration = Duration::from_secs(10);
/// After the last answer a stopping connection discards what the peer still sends, so that the close is no reset
/// that overtakes the answer.
pub const LINGER: Duration = Duration::from_secs(1);

/// A start waits so long for a bucket that does not answer, and asks so often: servers that start together come up in any
/// order.
pub const STORE_PATIENCE: Duration = Duration::from_secs(60);
/// See [`STORE_PATIENCE`].
pub const STORE_RETRY: Duration = Duration::from_secs(2);

/// The shortest and the longest pause after a failed accept (no free descriptor); it doubles in between.
pub const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Open Kafka connections of a broker.
pub const MAX_CONNECTIONS: usize = 20_000;

/// Requests that wait for the coordinator of a group: one for each connection, and as many again whose connections have
/// gone.
pub const MAX_GROUP_REQUESTS: usize = 2 * MAX_CONNECTIONS;
/// How much of a client's id is in the member id that it is given.
pub const MEMBER_ID_PREFIX_BYTES: usize = 256;

/// Lines of groups' lag in `/metrics`: about a megabyte. The rest is counted.
pub const MAX_LAG_SERIES: usize = 10_000;
/// Open HTTP connections.
pub const HTTP_MAX_CONNECTIONS: usize = 64;
/// An HTTP request's line and headers.
pub const HTTP_MAX_HEADER_BYTES: usize = 16 * KIB;
/// Headers of an HTTP request.
pub const HTTP_MAX_HEADERS: usize = 64;
/// From an HTTP connection's readiness for a request to the end of the request's headers.
pub const HTTP_HEADER_TIME: Duration = Duration::from_secs(10);
/// The life of an HTTP connection; a scraper opens the next one.
pub const HTTP_CONNECTION_TIME: Duration = Duration::from_secs(300);

/// Fetch sessions that are remembered: Kafka's default `max.incremental.fetch.session.cache.slots`.
pub const MAX_FETCH_SESSIONS: usize = 1000;
/// What all of them may take: 131,072 partitions, at 512 bytes each.
pub const MAX_FETCH_SESSION_BYTES: u64 = 64 * MIB as u64;

/// The time between the request and the last byte of a frame of `len` bytes, or of an answer of that length.
pub const fn scaled(base: Duration, len: usize) -> Duration {
    Duration::from_secs(base.as_secs() + (len / MIB) as u64)
}

const _: () = {
    assert!(MAX_PLAIN_FRAME_BYTES <= MAX_FRAME_BYTES);
    assert!(MAX_FRAME_BYTES <= i32::MAX as usize, "a frame's length is an i32");
    assert!(MIN_FRAME_BYTES < LARGE_FRAME_BYTES && LARGE_FRAME_BYTES < MAX_PLAIN_FRAME_BYTES);
    assert!(MAX_PLAIN_FRAME_BYTES + FRAME_OVERHEAD_BYTES <= MAX_PLAIN_ALLOWANCE_BYTES, "the frame itself is in it");
    assert!(LARGE_FRAME_BYTES * DECODED_FACTOR <= MIN_MEMORY_BYTES / 2, "an ordinary frame always fits the budget");
    assert!(WRITE_SLICES <= 1024, "IOV_MAX");
    assert!(HALF_SENT_SILENCE.as_secs() < HALF_SENT.as_secs() && HALF_SENT.as_secs() < IDLE.as_secs());
    assert!(UNREAD_ANSWER.as_secs() < IDLE.as_secs());
    assert!(HTTP_HEADER_TIME.as_secs() < HTTP_CONNECTION_TIME.as_secs());
};
