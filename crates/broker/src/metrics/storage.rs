//! The path of a record: bundles, objects, cache; and the memory that all of it is bounded by.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{CauseLabel, OutcomeLabel, Registration, seconds};

/// A counter that is kept elsewhere and mirrored at each scrape, see [`super::mirror`].
type Mirror = Counter<u64, AtomicU64>;

/// Memory, as it was at the last scrape.
pub struct MemoryMetrics {
    budget_bytes: Family<ForLabel, Gauge>,
    used_bytes: Family<ForLabel, Gauge>,
    /// Fetch sessions.
    pub fetch_sessions: Gauge,
    /// Their bytes.
    pub fetch_session_bytes: Gauge,
}

impl MemoryMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            fetch_sessions: r.add("kafscale_fetch_sessions", Gauge::default()),
            fetch_session_bytes: r.add("kafscale_fetch_session_bytes", Gauge::default()),
            budget_bytes: r.add("kafscale_memory_budget_bytes", Family::default()),
            used_bytes: r.add("kafscale_memory_used_bytes", Family::default()),
        }
    }

    /// Sets a budget and what of it is reserved.
    pub fn budget(&self, r#for: &'static str, total: i64, used: i64) {
        self.budget_bytes.get_or_create(&ForLabel { r#for }).set(total);
        self.used_bytes.get_or_create(&ForLabel { r#for }).set(used);
    }
}

/// What the write path has done, mirrored.
pub struct WriteMetrics {
    /// Batches in sealed bundles.
    pub batches: Mirror,
    /// Their bytes.
    pub batch_bytes: Mirror,
    /// Batches that were dropped.
    pub dropped: Mirror,
    flushes: Family<CauseLabel, Mirror>,
    uploads: Family<OutcomeLabel, Mirror>,
}

impl WriteMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            batches: r.add("kafscale_batches_total", Counter::default()),
            batch_bytes: r.add("kafscale_batch_bytes_total", Counter::default()),
            dropped: r.add("kafscale_batches_dropped_total", Counter::default()),
            flushes: r.add("kafscale_flushes_total", Family::default()),
            uploads: r.add("kafscale_uploads_total", Family::default()),
        }
    }

    /// Sets how many bundles were sealed for a cause.
    pub fn flushed(&self, cause: &'static str, total: u64) {
        super::mirror(&self.flushes.get_or_create(&CauseLabel { cause }), total);
    }

    /// Sets how many uploads ended so.
    pub fn uploaded(&self, outcome: &'static str, total: u64) {
        super::mirror(&self.uploads.get_or_create(&OutcomeLabel { outcome }), total);
    }
}

/// The object store, as it is measured from outside.
pub struct StoreMetrics {
    put_seconds: Histogram,
    put_bytes: Counter,
    get_seconds: Histogram,
    get_bytes: Counter,
    errors: Family<OperationLabel, Counter>,
}

impl StoreMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            put_seconds: r.add("kafscale_put_seconds", seconds()),
            put_bytes: r.add("kafscale_put_bytes_total", Counter::default()),
            get_seconds: r.add("kafscale_get_seconds", seconds()),
            get_bytes: r.add("kafscale_get_bytes_total", Counter::default()),
            errors: r.add("kafscale_store_errors_total", Family::default()),
        }
    }

    /// One object was stored.
    pub fn put(&self, time: Duration, bytes: usize) {
        self.put_seconds.observe(time.as_secs_f64());
        self.put_bytes.inc_by(bytes as u64);
    }

    /// An object, or a part of one, was read.
    pub fn got(&self, time: Duration, bytes: usize) {
        self.get_seconds.observe(time.as_secs_f64());
        self.get_bytes.inc_by(bytes as u64);
    }

    /// An operation failed.
    pub fn failed(&self, operation: &'static str) {
        self.errors.get_or_create(&OperationLabel { operation }).inc();
    }
}

/// The cache of objects, mirrored.
pub struct CacheMetrics {
    /// Reads answered from the cache.
    pub hits: Mirror,
    /// Reads that went to the store.
    pub misses: Mirror,
    /// Objects that came damaged.
    pub damaged: Mirror,
    bytes: Family<PartLabel, Gauge>,
}

impl CacheMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            hits: r.add("kafscale_cache_hits_total", Counter::default()),
            misses: r.add("kafscale_cache_misses_total", Counter::default()),
            bytes: r.add("kafscale_cache_bytes", Family::default()),
            damaged: r.add("kafscale_damaged_objects_total", Counter::default()),
        }
    }

    /// Sets the memory of one part.
    pub fn bytes(&self, part: &'static str, bytes: i64) {
        self.bytes.get_or_create(&PartLabel { part }).set(bytes);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForLabel {
    r#for: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}
