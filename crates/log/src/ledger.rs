//! What the data path needs of the replicated state, as a port: read it, wait for it, and put bundles into its
//! order. The broker implements it over the journal and the fold; this crate knows neither's drivers.

use async_trait::async_trait;
use kafscale_metadata::{CommitBundle, ObjectId, ObjectKind, State, Verdict};
use parking_lot::RwLockReadGuard;

/// Why a commit has no verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The bundle is not in the journal and never will be: the journal refused it (a full disk). Retriable.
    #[error("the journal refused the bundle")]
    Refused,
    /// The bundle may be in the journal, and its verdicts will never be known here.
    #[error("the outcome of the commit is unknown")]
    Unknown,
}

/// The broker is ending: its session is over or its journal has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker is shutting down")]
pub struct Stopped;

/// The replicated state, from the data path's side.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// The state as this broker's fold has it now. Hold the guard for a moment only, never across an await.
    fn state(&self) -> RwLockReadGuard<'_, State>;

    /// The next object number of this session, once an entry that reserves it is known committed.
    async fn next_object(&self, kind: ObjectKind) -> Result<ObjectId, Stopped>;

    /// Says that the object will be referenced by no further entry and that no PUT of it is on its way: `low` may
    /// pass it. Call once for each object that [`Ledger::next_object`] gave, after its last commit or after its
    /// PUT definitely failed; never while a PUT's outcome is unknown.
    fn settle(&self, object: ObjectId);

    /// Appends the commit of a bundle of this session and returns the fold's verdicts, after this broker's own
    /// fold of that entry. Commits enter the journal in the order in which this method was called (first polled).
    async fn commit(&self, bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError>;

    /// Returns once the local fold has reached the journal's end as it was after this call began (linearizable
    /// read). One barrier in flight serves all who wait.
    async fn barrier(&self) -> Result<(), Stopped>;
}
