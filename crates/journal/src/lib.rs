//! The journal: one totally ordered list of opaque entries, and the fence that keeps a dead broker's entries out.
//!
//! This crate owns the port ([`Journal`]), its contract, and its backends: [`file`] (one broker, a directory), [`etcd`]
//! (the brokers of a cluster) and [`memory`] (tests, with every fault). Journals of several brokers have a second port,
//! [`sessions`], by which the others end a session whose broker is gone. It does not know what an entry means: the fold
//! (`kafscale-metadata`) does. The contract, checked for every backend by one conformance suite ([`conformance`]):
//!
//! 1. Entries have ordinals 1, 2, 3, … without gaps; a reader never goes on past a gap.
//! 2. A session opens and ends by entries; its entries are numbered n = 0 (the opening), 1, 2, … without gaps.
//! 3. After a session was ended or taken over, no entry of it follows.
//! 4. [`Journal::append`] says Committed, Fenced, Refused or Unknown; an Unknown is repeated with the same `n` and
//!    the same bytes until it is known, and lands once.
//! 5. A reader that fell behind a truncation is told so.

pub mod conformance;
pub mod etcd;
pub mod file;
pub mod memory;
pub mod sessions;

use async_trait::async_trait;
use bytes::Bytes;

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The entry's number in the journal, from 1; 0 is the place before the first entry.
    pub ordinal: u64,
    /// The backend's own order (etcd's revision); the file and memory backends repeat the ordinal.
    pub revision: u64,
}

/// One life of one broker process, as the journal sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The broker's id in Kafka's sense.
    pub broker_id: i32,
    /// What proves that a restarted process is the same broker (pod UID, directory UUID).
    pub token: u128,
}

/// An entry as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// The session that appended it.
    pub nonce: u64,
    /// Its number in that session, 0 for the opening.
    pub n: u64,
    /// What was appended.
    pub entry: Bytes,
}

/// Where a starting broker begins: set by [`Journal::publish`], only ever upward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The newest snapshot holds the state after this ordinal.
    pub ordinal: u64,
    /// Entries up to this ordinal are no longer needed by anyone: the older kept snapshot holds them.
    pub truncatable: u64,
    /// The publisher's own words: which objects hold the snapshots.
    pub value: Bytes,
}

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another live session has this broker id and another identity.
    #[error(
        "broker id {broker_id} is in use by a live broker with another identity; give this broker another id or stop the other one"
    )]
    InUse {
        /// The contested id.
        broker_id: i32,
    },
    /// The store failed; nothing or the whole opening may have happened. Try again with a new nonce.
    #[error("the journal could not be opened")]
    Failed(#[source] std::io::Error),
}

/// What became of an append that is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The session has ended: the entry is not in the journal and never will be, unless an earlier attempt was
    /// Unknown (then only the fold past the session's end knows).
    #[error("the session was ended by the journal")]
    Fenced,
    /// This attempt did not put the entry into the journal, and a later one may (a full disk). If an earlier attempt was
    /// Unknown it is Unknown still.
    #[error("the journal refused the entry")]
    Refused(#[source] std::io::Error),
    /// The entry may be in the journal. Repeat it, same `n` and same bytes, until it is known.
    #[error("the journal did not say whether the entry was written")]
    Unknown(#[source] std::io::Error),
    /// The backend has failed for good (a failed fsync): the entry may be in the journal and nobody can know until
    /// the next start. The broker must end.
    #[error("the journal has failed; restart the broker")]
    Dead(#[source] std::io::Error),
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The entries after the asked one are gone; begin again from the snapshot.
    #[error("entries up to ordinal {first} were truncated; start from a snapshot")]
    Truncated {
        /// The first ordinal that can still be read.
        first: u64,
    },
    /// The journal is not the one it was: it went back in time, or it is damaged. Stop.
    #[error("the journal is damaged or went back in time: {detail}")]
    Damaged {
        /// What does not fit, and where.
        detail: String,
    },
    /// The store failed; try again.
    #[error("the journal could not be read")]
    Failed(#[source] std::io::Error),
}

/// The journal port. One value is one journal; nothing about it is global.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Opens a session: appends `entry` as its entry 0. A live session of the same identity is taken over (it can
    /// append nothing afterwards); one of the same broker id and another identity makes this fail. Returns where
    /// the opening is.
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError>;

    /// Appends the session's entry `n`. The caller has one append in flight and numbers without gaps. Repeating a
    /// committed append returns its position again.
    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError>;

    /// Ends the session by its last entry: as [`Journal::append`], and nothing of the session follows it.
    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError>;

    /// The entries after ordinal `after`, in order and without gaps: at least one (waits until there is one), at
    /// most about 4 MiB of them.
    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError>;

    /// The newest entry's place, linearizably: every append that was acknowledged before this call is at or below.
    async fn end(&self) -> Result<Position, ReadError>;

    /// The pointer, if a snapshot was ever published.
    async fn pointer(&self) -> Result<Option<Pointer>, ReadError>;

    /// Appends `entry` as [`Journal::append`] does and moves the pointer up to `pointer`. A pointer at or below the
    /// stored one leaves the stored one alone. When this returns, the pointer is durable.
    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError>;

    /// Removes entries that the pointer says nobody needs; may keep more than it must.
    async fn truncate(&self) -> Result<(), ReadError>;
}
