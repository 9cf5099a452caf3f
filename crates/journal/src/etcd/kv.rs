//! The narrow port over etcd: what the journal asks of a key-value store with revisions, and nothing more.
//!
//! Owns the requests and answers as values, and the two ways in which a call fails. The real client
//! ([`client`](super::client)) and the model of etcd ([`model`](super::model)) implement it; the journal's decisions
//! are made above it, on these values alone. Upkeep of single members (sizes, defragmentation) is a port of its own
//! ([`quota`](super::quota)).
//!
//! Revisions are etcd's: each transaction that changes something is one revision, all its puts share it.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;

/// A revision of the store. 0 is none; an empty store is at 1.
pub type Revision = u64;

/// A lease's id, as the store gave it.
pub type LeaseId = i64;

/// etcd's default limit for the comparisons, and for the operations of each branch, of a transaction.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// Why a call failed. The difference decides whether it must be repeated as it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It certainly had no effect.
    #[error("etcd refused the request: {0}")]
    Refused(Refusal),
    /// It may have had its effect, now or later.
    #[error("etcd did not answer")]
    Unknown(#[source] io::Error),
}

/// Why the store refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The asked revision is older than the last compaction.
    #[error("the revision has been compacted")]
    Compacted,
    /// The asked revision has not been reached: the store may have gone back in time.
    #[error("the revision is in the future")]
    Future,
    /// The store has reached its quota.
    #[error("the database space is exceeded")]
    NoSpace,
    /// There is no such lease (any more).
    #[error("there is no such lease")]
    NoLease,
    /// User, password or permissions.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The request itself is wrong: too large, too many operations, a key twice.
    #[error("{0}")]
    Invalid(String),
}

/// A key with its value and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value; empty where only keys were asked for.
    pub value: Bytes,
    /// The revision of the put that brought the key to life.
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
    /// The number of puts since it came to life.
    pub version: u64,
    /// The lease it lives on; 0 is none.
    pub lease: LeaseId,
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// One key.
    One(Bytes),
    /// From the first (included) to the second (not included).
    Between(Bytes, Bytes),
}

impl Keys {
    /// All keys that begin with `prefix`, which must not be empty nor end with 0xff.
    pub fn prefix(prefix: Bytes) -> Self {
        let mut end = prefix.to_vec();
        let last = end.last_mut().expect("a prefix is not empty");
        *last = last.checked_add(1).expect("a prefix does not end with 0xff");
        Self::Between(prefix, end.into())
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(first, end) => first <= key && key < &end[..],
        }
    }
}

/// What a comparison looks at, and what it is compared with. A key that is not there has 0 in every number, and no
/// value: every comparison of its value fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// [`KeyValue::mod_revision`].
    Mod(Revision),
    /// [`KeyValue::create_revision`].
    Create(Revision),
    /// [`KeyValue::version`].
    Version(u64),
    /// [`KeyValue::value`].
    Value(Bytes),
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// The key's is equal.
    Equal,
    /// The key's differs.
    NotEqual,
    /// The key's is less.
    Less,
    /// The key's is greater.
    Greater,
}

/// One condition of a transaction; over a range it must hold for every key in it, and an empty range is compared as a
/// key that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Whose.
    pub keys: Keys,
    /// How.
    pub is: Is,
    /// With what.
    pub target: Target,
}

/// A read of keys in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Which keys.
    pub keys: Keys,
    /// Leave the values out.
    pub keys_only: bool,
    /// At most this many; 0 is no limit.
    pub limit: u64,
}

impl Get {
    /// One key with its value.
    pub fn one(key: Bytes) -> Self {
        Self { keys: Keys::One(key), keys_only: false, limit: 0 }
    }
}

/// One operation of a transaction. Operations are applied in order; a read sees the puts before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// The lease it is to live on; 0 is none.
        lease: LeaseId,
    },
    /// Removes keys.
    Delete(Keys),
    /// Reads keys.
    Get(Get),
}

/// A transaction: if all conditions hold the first list of operations is applied, else the second, as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions.
    pub when: Vec<Compare>,
    /// What to do if they hold.
    pub then: Vec<Op>,
    /// What to do if one does not.
    pub otherwise: Vec<Op>,
}

/// The keys that a read found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// In the order of keys.
    pub kvs: Vec<KeyValue>,
    /// There are more than the limit allowed.
    pub more: bool,
    /// How many there are in all.
    pub count: u64,
}

/// The result of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// It was put.
    Put,
    /// So many keys were there and are gone.
    Deleted(u64),
    /// What was read.
    Got(Found),
}

/// The answer to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnReply {
    /// The store's revision after it: the transaction's own if it changed something.
    pub revision: Revision,
    /// Whether the conditions held.
    pub succeeded: bool,
    /// One for each operation of the branch that was taken.
    pub results: Vec<OpResult>,
}

/// A read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// What.
    pub get: Get,
    /// At which revision; 0 is the newest.
    pub revision: Revision,
    /// Whether the answer may come from a member that lags behind.
    pub serializable: bool,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeReply {
    /// The store's revision when it was read.
    pub revision: Revision,
    /// The keys.
    pub found: Found,
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Which keys.
    pub keys: Keys,
    /// From which revision on, this one included; at least 1.
    pub from: Revision,
    /// Whether removals are told too.
    pub deletes: bool,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key as it is now; of a removed one only the key and the revision of the removal.
    pub kv: KeyValue,
    /// It was removed.
    pub deleted: bool,
}

/// Part of what a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReply {
    /// The store's revision when it was sent.
    pub revision: Revision,
    /// In order. None: nothing happened up to `revision`.
    pub events: Vec<Event>,
    /// The next reply goes on with the same revisions.
    pub fragment: bool,
}

/// A lease as it was granted or kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// It lives for so many seconds from when the store dealt with the request.
    pub ttl_s: u64,
}

/// An open watch.
#[async_trait]
pub trait WatchStream: Send {
    /// The next part. [`Refusal::Compacted`]: what was asked for is gone. After any failure the stream is over.
    /// Dropping the future loses nothing.
    async fn next(&mut self) -> Result<WatchReply, Failure>;
}

/// The port. All calls are linearizable but for serializable reads. A call may take for ever: the caller limits it.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Applies a transaction.
    async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure>;
    /// Reads keys.
    async fn range(&self, range: Range) -> Result<RangeReply, Failure>;
    /// Opens a watch.
    async fn watch(&self, watch: Watch) -> Result<Box<dyn WatchStream>, Failure>;
    /// Makes a lease of about `ttl_s` seconds; the store may give more.
    async fn lease_grant(&self, ttl_s: u64) -> Result<Lease, Failure>;
    /// Renews a lease once.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Failure>;
    /// Ends a lease, and with it the keys that live on it.
    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Failure>;
    /// Forgets what was replaced before `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), Failure>;
}
