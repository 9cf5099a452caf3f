//! Clients that speak the wire protocol and behave as Kafka's do. What they ask, are told and see goes into the
//! world's [`History`]; they judge nothing. Reading order: [`link`] (a connection), [`batch`] (record batches),
//! [`lookup`] (topics and ends), [`queue`] and [`producer`], [`consumer`], [`admin`].

pub mod admin;
pub mod batch;
pub mod consumer;
pub mod link;
pub mod lookup;
pub mod producer;
pub mod queue;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::SimClock;
use crate::history::History;
use crate::net::SimNet;
use crate::trace::Trace;

/// What the clients of a world are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work, while faults happen.
    Faults,
    /// No new faults: work on, but delete nothing any more.
    Healing,
    /// The faults are over: finish what was begun, do one thing more, and return.
    Quiet,
}

/// What all clients of a world share.
pub struct Shared {
    /// The network.
    pub net: Arc<SimNet>,
    /// The clock.
    pub clock: SimClock,
    /// The trace.
    pub trace: Trace,
    /// The evidence.
    pub history: Mutex<History>,
    /// What to do.
    pub phase: watch::Sender<Phase>,
}

impl Shared {
    /// What to do now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the faults are over.
    pub fn is_quiet(&self) -> bool {
        self.phase() == Phase::Quiet
    }
}
