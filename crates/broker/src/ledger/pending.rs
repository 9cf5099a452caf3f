//! Who waits for the outcome of which entry: bound to the entry's number in this session, never to a position
//! (positions are learned late, numbers are known before the append). Each waiter is told once; one that is dropped
//! untold reads "unknown".

use std::collections::BTreeMap;

use kafscale_log::CommitError;
use kafscale_metadata::Outcome;
use tokio::sync::oneshot;

/// Where one command's outcome goes.
pub(crate) type Reply = oneshot::Sender<Result<Outcome, CommitError>>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<u64, Vec<Reply>>,
}

impl Pending {
    /// Registers the waiters of entry `n`, in the order of its commands, before it is appended.
    pub(crate) fn register(&mut self, n: u64, replies: Vec<Reply>) {
        self.entries.insert(n, replies);
    }

    /// The fold has decided entry `n`.
    pub(crate) fn resolve(&mut self, n: u64, outcomes: Vec<Outcome>) {
        for (reply, outcome) in self.entries.remove(&n).into_iter().flatten().zip(outcomes) {
            // Whoever asked may have gone: the commit stands all the same.
            let _gone = reply.send(Ok(outcome));
        }
    }

    /// Entry `n` is not in the journal and never will be.
    pub(crate) fn refuse(&mut self, n: u64) {
        for reply in self.entries.remove(&n).into_iter().flatten() {
            let _gone = reply.send(Err(CommitError::Refused));
        }
    }

    /// Nothing will be decided any more: all who wait read "unknown".
    pub(crate) fn abandon(&mut self) {
        self.entries.clear();
    }
}
