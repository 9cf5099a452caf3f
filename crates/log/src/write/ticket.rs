//! What becomes of one batch, and who is told. Owns the outcome and the rule that every waiter is told exactly
//! once: a [`Ticket`] is bound to its own batch (never to "a flush finished"), and is consumed by telling. One that
//! is dropped untold, because a driver died, tells [`Written::Unknown`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kafscale_metadata::Refusal;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What became of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is durable and has its place in the order (a duplicate: it has had it already).
    Appended {
        /// The offset of its first record.
        first_offset: i64,
        /// The partition's log start offset.
        log_start: i64,
        /// The time that replaced its records' timestamps, in milliseconds, where the topic has LogAppendTime.
        append_time: Option<i64>,
    },
    /// The fold refused it; it is not in the log.
    Refused(Refusal),
    /// It never reached the journal and never will: the client may send it again.
    Dropped(Dropped),
    /// It may be in the log, whole, or not at all. Never to be answered by an error that says "not written":
    /// clients renumber after those, and a batch that had landed would appear twice (JOURNAL.md).
    Unknown,
}

/// Why a batch never reached the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// The store is nearly full.
    #[error("the object store is full")]
    StoreFull,
    /// The store failed repeatedly.
    #[error("the object store failed")]
    StoreFailed,
    /// The journal refused the bundle.
    #[error("the journal refused the bundle")]
    JournalFull,
    /// An earlier batch of the same producer and partition was not committed, so this one cannot be either.
    #[error("an earlier batch of this producer was not written")]
    Predecessor,
    /// More bytes are waiting than this broker lets wait.
    #[error("too many bytes are waiting to be written")]
    Overloaded,
    /// The broker is ending.
    #[error("the broker is shutting down")]
    Stopping,
}

/// The duty to tell one batch's waiter.
#[derive(Debug)]
pub(crate) struct Ticket {
    waiter: oneshot::Sender<Written>,
    _hold: Hold,
}

/// Whatever must live until all batches of a request are told: its share of the memory budget.
#[derive(Clone)]
pub(crate) struct Hold(#[expect(dead_code, reason = "held for its drop")] Arc<dyn Send + Sync>);

/// The outcome of one batch, when it is known.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Written>);

impl Hold {
    pub(crate) fn new(held: impl Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(held)))
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

impl Ticket {
    /// A ticket and the receipt at its other end.
    pub(crate) fn new(hold: Hold) -> (Self, Receipt) {
        let (waiter, receipt) = oneshot::channel();
        (Self { waiter, _hold: hold }, Receipt(receipt))
    }

    pub(crate) fn tell(self, outcome: Written) {
        // A waiter that has gone (acks=0, a closed connection) is no failure.
        let _ = self.waiter.send(outcome);
    }
}

impl Future for Receipt {
    type Output = Written;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Written> {
        Pin::new(&mut self.0).poll(context).map(|told| told.unwrap_or(Written::Unknown))
    }
}
