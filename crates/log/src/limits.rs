//! Every limit of the data path, with its unit in its name. What one limit must be to another is asserted here, at
//! compile time. These are constants and not settings: nobody needs to change them (STYLE: few options).

/// A bundle is sealed when it has this many bytes of records.
pub const MAX_BUNDLE_BYTES: u32 = 8 << 20;
/// A bundle is sealed when it has this many batches, so that its commit fits one journal entry.
pub const MAX_BUNDLE_BATCHES: usize = 4096;
/// The largest record batch that is accepted by default (Kafka's `message.max.bytes`).
pub const DEFAULT_MAX_BATCH_BYTES: u32 = 1_048_588;
/// The largest record batch that any topic may be set to accept: it must fit a bundle of its own.
pub const MAX_BATCH_BYTES: u32 = MAX_BUNDLE_BYTES;
/// A journal entry is smaller than this (JOURNAL.md, etcd's request limit).
pub const MAX_JOURNAL_ENTRY_BYTES: usize = 256 << 10;
/// What a batch takes in an entry at most: 16 on average when columns compress; this is when nothing does.
pub const MAX_COMMIT_BYTES_PER_BATCH: usize = 56;
/// Distance of the sparse entries in an object's footer.
pub const SPARSE_INDEX_INTERVAL_BYTES: u32 = 64 << 10;
/// A Kafka v2 batch header.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The first bytes of a batch that are rewritten while serving: base offset, length, leader epoch.
pub const BATCH_PREFIX_BYTES: usize = 16;
/// A batch that inflates to more is not looked into for timestamps.
pub const MAX_INFLATED_BATCH_BYTES: usize = 64 << 20;
/// An answer to Fetch holds at most this many bytes of records, whatever the client asks for.
pub const MAX_FETCH_BYTES: usize = 55 << 20;
/// No answer takes more than this part of the memory for answers, so that no client can hold all of it by not reading.
pub const ANSWER_SHARE: u64 = 16;
/// A fetch sleeps at most this long, whatever the client asks for.
pub const MAX_FETCH_WAIT_MS: u64 = 60_000;
/// Partitions in one fetch, waiting at the same time, of all connections together.
pub const MAX_WAITING_PARTITIONS: usize = 4 << 20;
/// A fetch that finds no object locates again at most this often before it gives up with a retriable error.
pub const MAX_LOCATE_ATTEMPTS: u32 = 3;
/// Objects that one answer loads ahead of its turn, and how many of them at a time.
pub const MAX_OBJECTS_AHEAD: usize = 16;
/// See [`MAX_OBJECTS_AHEAD`].
pub const MAX_LOADS_PER_FETCH: usize = 4;
/// Extents that one partition's part of one answer is gathered from.
pub const MAX_EXTENTS_PER_READ: usize = 4096;
/// Uploads of bundles that run at a time.
pub const UPLOAD_WINDOW: usize = 8;
/// Bundles that are sealed and have no verdict yet: when so many wait, none is sealed.
pub const MAX_BUNDLES_IN_FLIGHT: usize = 64;
/// How often a bundle's upload is tried.
pub const MAX_UPLOAD_ATTEMPTS: u32 = 4;
/// A bundle that is not stored when it is this old is given up.
pub const UPLOAD_GIVE_UP_MS: u64 = 20_000;
/// Kafka's `request.timeout.ms`: a client that has waited so long gives up the connection.
pub const CLIENT_REQUEST_TIMEOUT_MS: u64 = 30_000;
/// Bytes of records that wait to be written, from the buffer to the verdict.
pub const MAX_WAITING_BYTES: usize = 256 << 20;
/// Produce is refused while a store with an end has less room than this, bytes.
pub const FREE_RESERVE_BYTES: u64 = 128 << 20;
/// A connection to an object store is up, TLS and all, after so long.
pub const STORE_CONNECT_MS: u64 = 3_000;
/// A request to an object store has its answer after so long, and a second for each of its [`STORE_SLOWEST_BYTES`]: 6 s for
/// a small PUT, 14 s for a full bundle. S3 takes a hundredth of it; what takes longer hangs, and another try is better.
pub const STORE_ANSWER_MS: u64 = 6_000;
/// The slowest way to an object store that is waited for, bytes a second.
pub const STORE_SLOWEST_BYTES: u64 = 1 << 20;
/// No request to an object store lasts longer, however large: what deletes orphans relies on it.
pub const MAX_STORE_REQUEST_MS: u64 = 300_000;
/// PUTs and DELETEs on their way to an object store at a time, and so their connections.
pub const MAX_STORE_WRITES: usize = 32;
/// The same for GETs and listings.
pub const MAX_STORE_READS: usize = 64;
/// An unused connection is closed after so long, before the store does so (which may take a request with it).
pub const STORE_IDLE_MS: u64 = 10_000;
/// The largest object that is read whole into memory.
pub const MAX_STORE_OBJECT_BYTES: u64 = 2 << 30;
/// What is read of a store's words on an error.
pub const MAX_STORE_ERROR_BYTES: usize = 16 << 10;

const _: () = assert!(MAX_BATCH_BYTES <= MAX_BUNDLE_BYTES, "each batch fits a bundle");
const _: () = assert!(DEFAULT_MAX_BATCH_BYTES <= MAX_BATCH_BYTES, "the default is allowed");
const _: () = assert!(
    MAX_BUNDLE_BATCHES * MAX_COMMIT_BYTES_PER_BATCH < MAX_JOURNAL_ENTRY_BYTES,
    "a bundle's commit fits one journal entry, even if nothing compresses"
);
const _: () = assert!(SPARSE_INDEX_INTERVAL_BYTES < MAX_BUNDLE_BYTES, "a full section is indexed");
const _: () = assert!(BATCH_PREFIX_BYTES < BATCH_HEADER_BYTES, "the prefix is inside of the header");
const _: () = assert!(MAX_FETCH_BYTES >= MAX_BATCH_BYTES as usize, "one batch always fits an answer");
const _: () = assert!(MAX_LOADS_PER_FETCH <= MAX_OBJECTS_AHEAD, "loads are of objects ahead");
const _: () = assert!(UPLOAD_GIVE_UP_MS < CLIENT_REQUEST_TIMEOUT_MS, "clients hear of a bundle that is given up");
const _: () = assert!(UPLOAD_WINDOW <= MAX_BUNDLES_IN_FLIGHT, "the whole window can be used");
const _: () =
    assert!(MAX_WAITING_BYTES / 2 >= UPLOAD_WINDOW * MAX_BUNDLE_BYTES as usize, "bundles fill beside uploads");
const _: () = assert!(
    FREE_RESERVE_BYTES >= 2 * UPLOAD_WINDOW as u64 * MAX_BUNDLE_BYTES as u64,
    "uploads that the store had not counted when it was asked take half of the reserve at most"
);
const _: () = assert!(
    STORE_ANSWER_MS + MAX_BUNDLE_BYTES as u64 * 1000 / STORE_SLOWEST_BYTES < UPLOAD_GIVE_UP_MS,
    "a full bundle whose first PUT hangs has another try"
);
const _: () = assert!(2 * STORE_ANSWER_MS < UPLOAD_GIVE_UP_MS, "a small one has two");
const _: () = assert!(
    STORE_CONNECT_MS < STORE_ANSWER_MS,
    "a connection that is not made is told from an answer that is not given"
);
const _: () = assert!(MAX_STORE_REQUEST_MS <= 5 * 60 * 1000, "no PUT runs past five minutes");
const _: () = assert!(MAX_STORE_WRITES >= 2 * UPLOAD_WINDOW, "uploads never wait for each other's connections");
