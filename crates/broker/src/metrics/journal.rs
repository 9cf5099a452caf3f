//! The journal, the fold of it, its snapshots, and what the state holds.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{Registration, seconds};

/// The journal, as this broker appends to it.
pub struct JournalMetrics {
    commit_seconds: Histogram,
    append_seconds: Histogram,
    appended_entries: Counter,
    appended_bytes: Counter,
    /// Its files, sampled.
    pub files: Gauge,
    /// Entries that it holds, sampled.
    pub entries: Gauge,
    /// The size of its files, sampled.
    pub bytes: Gauge,
}

impl JournalMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            commit_seconds: r.add("kafscale_commit_seconds", seconds()),
            append_seconds: r.add("kafscale_append_seconds", seconds()),
            appended_entries: r.add("kafscale_appended_entries_total", Counter::default()),
            appended_bytes: r.add("kafscale_appended_bytes_total", Counter::default()),
            files: r.add("kafscale_journal_files", Gauge::default()),
            entries: r.add("kafscale_journal_entries", Gauge::default()),
            bytes: r.add("kafscale_journal_bytes", Gauge::default()),
        }
    }

    /// An entry was appended durably.
    pub fn appended(&self, time: Duration, bytes: usize) {
        self.append_seconds.observe(time.as_secs_f64());
        self.appended_entries.inc();
        self.appended_bytes.inc_by(bytes as u64);
    }

    /// A bundle's commit came to its end.
    pub fn committed(&self, time: Duration) {
        self.commit_seconds.observe(time.as_secs_f64());
    }
}

/// The fold.
pub struct FoldMetrics {
    seconds: Histogram,
    entries: Counter,
    bytes: Counter,
    /// The last entry that was applied.
    pub ordinal: Gauge,
    /// The time in it, seconds since 1970.
    pub time: Gauge,
    /// Topics, sampled.
    pub topics: Gauge,
    /// Partitions, sampled.
    pub partitions: Gauge,
    /// Producers, sampled.
    pub producers: Gauge,
}

impl FoldMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            // Microseconds: an entry is small.
            seconds: r.add("kafscale_fold_seconds", super::short()),
            entries: r.add("kafscale_folded_entries_total", Counter::default()),
            bytes: r.add("kafscale_folded_bytes_total", Counter::default()),
            ordinal: r.add("kafscale_journal_ordinal", Gauge::default()),
            time: r.add("kafscale_fold_time_seconds", Gauge::default()),
            topics: r.add("kafscale_topics", Gauge::default()),
            partitions: r.add("kafscale_partitions", Gauge::default()),
            producers: r.add("kafscale_producers", Gauge::default()),
        }
    }

    /// An entry was applied.
    pub fn applied(&self, time: Duration, bytes: usize, entry_time_ms: i64) {
        self.seconds.observe(time.as_secs_f64());
        self.entries.inc();
        self.bytes.inc_by(bytes as u64);
        self.time.set(entry_time_ms / 1000);
    }
}

/// Snapshots.
pub struct SnapshotMetrics {
    published: Counter,
    failures: Counter,
    seconds: Histogram,
    bytes: Gauge,
    time: Gauge,
    /// The entry after which the newest one was taken, sampled.
    pub ordinal: Gauge,
}

impl SnapshotMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            published: r.add("kafscale_snapshots_total", Counter::default()),
            failures: r.add("kafscale_snapshot_failures_total", Counter::default()),
            seconds: r.add("kafscale_snapshot_seconds", seconds()),
            bytes: r.add("kafscale_snapshot_bytes", Gauge::default()),
            time: r.add("kafscale_snapshot_time_seconds", Gauge::default()),
            ordinal: r.add("kafscale_snapshot_ordinal", Gauge::default()),
        }
    }

    /// One was published, at this time in milliseconds since 1970.
    pub fn published(&self, time: Duration, bytes: u64, wall_ms: i64) {
        self.published.inc();
        self.seconds.observe(time.as_secs_f64());
        self.bytes.set(super::signed(bytes));
        self.time.set(wall_ms / 1000);
    }

    /// An attempt failed.
    pub fn failed(&self) {
        self.failures.inc();
    }
}
