//! The sessions of a shared journal, seen by the other brokers: who is alive in the store's eyes, and how one that is not
//! is ended in the journal. A port beside [`Journal`](crate::Journal), for journals of several brokers.
//!
//! A session lives in the store for as long as its process renews it. When it is not renewed it can append nothing any
//! more; but the fold knows only entries, so somebody who lives must append one that says so. That is an entry of the
//! session which appends it, with that session's next number.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{AppendError, Identity, Position, ReadError};

/// A session that may append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Whose.
    pub identity: Identity,
    /// Its nonce.
    pub nonce: u64,
    /// The entry that it was opened with: listeners and rack are in it.
    pub opening: Bytes,
}

/// A session to be ended, as the fold knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Its broker's id.
    pub broker_id: i32,
    /// Its nonce.
    pub nonce: u64,
}

/// See the module's documentation.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The live sessions, by broker id, linearizably.
    async fn live(&self) -> Result<Vec<LiveSession>, ReadError>;

    /// Returns when the live sessions are others than `known`, with them. Takes about a second to notice.
    async fn changed(&self, known: &[LiveSession]) -> Result<Vec<LiveSession>, ReadError>;

    /// Appends `entry` as [`Journal::append`](crate::Journal::append) does, if the victim is not alive any more; if it
    /// is, the entry is refused. The caller has seen it missing in [`Sessions::live`].
    async fn end_other(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError>;

    /// Appends `entry` as [`Journal::append`](crate::Journal::append) does, and takes the victim's right to append in
    /// the same step. One that has none any more is no reason to refuse.
    async fn expel(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError>;

    /// Whether this process's own session is known to be alive at `at`. What must not happen after the session's end is
    /// not begun unless this says so: it is false as soon as the session may be over, long before anybody ends it.
    fn is_known_live(&self, nonce: u64, at: Instant) -> bool;
}
