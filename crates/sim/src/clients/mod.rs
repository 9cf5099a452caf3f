//! Clients that speak the wire protocol and behave as Kafka's do. What they ask, are told and see goes into the
//! world's [`History`]; they judge nothing. Reading order: [`link`] (a connection), [`batch`] (record batches),
//! [`lookup`] (topics and ends), [`queue`] and [`producer`], [`consumer`] (with its `fetch_session`), [`admin`],
//! [`group`].

pub mod admin;
pub mod batch;
pub mod consumer;
mod fetch_session;
pub mod group;
pub mod link;
pub mod lookup;
pub mod producer;
pub mod queue;

use std::sync::Arc;

use parking_lot::Mutex;

use self::group::Board;
use crate::clock::SimClock;
use crate::history::History;
use crate::net::SimNet;
use crate::phase::{Phase, Phases};
use crate::trace::Trace;

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
    /// What members of groups know of each other.
    pub board: Mutex<Board>,
    /// What to do.
    pub phase: Phases,
}

impl Shared {
    /// What to do now.
    pub fn phase(&self) -> Phase {
        self.phase.now()
    }

    /// Whether the faults are over.
    pub fn is_quiet(&self) -> bool {
        self.phase() == Phase::Quiet
    }
}
