//! What the write path counts. Owns the counters, not their names outside: the broker reads them when it is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::flush::Cause;

/// Counters since the start, each for itself: a reader may see one bundle counted here and not yet there.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Bundles sealed because they were full.
    pub flushes_full: Counter,
    /// Bundles sealed because the flush budget allowed it.
    pub flushes_budget: Counter,
    /// Bundles sealed because the broker was ending.
    pub flushes_closing: Counter,
    /// Batches in sealed bundles.
    pub batches: Counter,
    /// Bytes of records in sealed bundles.
    pub bytes: Counter,
    /// Objects stored.
    pub uploads: Counter,
    /// Bundles that were uploaded once more, under a new name.
    pub retries: Counter,
    /// Bundles that were given up.
    pub given_up: Counter,
    /// Batches that were dropped before they reached the journal, for whatever reason.
    pub dropped: Counter,
}

/// A number that only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn sealed(&self, cause: Cause, batches: usize, bytes: usize) {
        match cause {
            Cause::Full => self.flushes_full.add(1),
            Cause::Budget => self.flushes_budget.add(1),
            Cause::Closing => self.flushes_closing.add(1),
        }
        self.batches.add(batches);
        self.bytes.add(bytes);
    }
}
