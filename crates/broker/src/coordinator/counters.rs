//! What the coordinator counts, for metrics to mirror.

use std::sync::atomic::{AtomicU64, Ordering};

use kafscale_groups::Error;
use kafscale_metadata::Outcome;

use super::proposer::Verdict;

/// Since the start of the broker.
#[derive(Debug, Default)]
pub struct Counters {
    generations: AtomicU64,
    stored: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// Generations with members that the journal has: rebalances that were completed.
    pub fn generations(&self) -> u64 {
        self.generations.load(Ordering::Relaxed)
    }

    /// Commits by outcome: every offset is stored; one or all are refused, and the client has to do something about
    /// it; not written, or not known to be, and the client sends it again.
    pub fn commits(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("stored", read(&self.stored)), ("refused", read(&self.refused)), ("failed", read(&self.failed))]
    }

    /// A proposal that completes a generation, or not, has its verdict.
    pub(super) fn decided(&self, completes: bool, verdict: &Verdict) {
        let done = |outcomes: &Vec<Outcome>| outcomes.iter().all(|outcome| *outcome == Outcome::Done);
        if completes && verdict.as_ref().is_ok_and(done) {
            self.generations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A commit is answered.
    pub(super) fn committed(&self, answer: &Result<Vec<Result<(), Error>>, Error>) {
        let counter = match answer {
            Ok(offsets) if offsets.iter().all(Result::is_ok) => &self.stored,
            Err(Error::Retry | Error::NotCoordinator) => &self.failed,
            Ok(_) | Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
