//! What the broker counts, as one value that is made once and passed. Owns names, help texts and the text format;
//! whoever does a thing counts it.
//!
//! [`TABLE`] lists every metric: the documentation is made from it, and a metric that is not in it cannot be
//! registered. Labels take few values. Those that a client chooses (the lag of groups) are bounded in number, with a
//! metric that says how many were left out.
//!
//! What others count for themselves is mirrored at a scrape, and so are gauges: one scrape at a time, so that no
//! scrape sees half of another one's figures.

mod connections;
mod groups;
mod journal;
mod requests;
mod storage;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub use connections::{ConnectionMetrics, ListenerMetrics, OpenConnection};
pub use groups::{GroupMetrics, LagSeries};
pub use journal::{FoldMetrics, JournalMetrics, SnapshotMetrics};
pub use requests::RequestMetrics;
pub(crate) use requests::api_name;
pub use storage::{CacheMetrics, MemoryMetrics, StoreMetrics, WriteMetrics};
pub use table::{Description, TABLE};

/// All metrics of one broker.
pub struct Metrics {
    registry: Registry,
    scraping: Mutex<()>,
    /// Kafka connections.
    pub connections: ConnectionMetrics,
    /// Kafka requests.
    pub requests: RequestMetrics,
    /// Memory.
    pub memory: MemoryMetrics,
    /// The write path.
    pub write: WriteMetrics,
    /// The object store.
    pub store: StoreMetrics,
    /// The cache.
    pub cache: CacheMetrics,
    /// The journal.
    pub journal: JournalMetrics,
    /// The fold and the state.
    pub fold: FoldMetrics,
    /// Snapshots.
    pub snapshots: SnapshotMetrics,
    /// Consumer groups.
    pub groups: GroupMetrics,
}

impl Metrics {
    /// Metrics that are all zero.
    pub fn new() -> Self {
        let mut registration = Registration(Registry::default());
        let r = &mut registration;
        let (connections, requests) = (ConnectionMetrics::new(r), RequestMetrics::new(r));
        let (memory, write) = (MemoryMetrics::new(r), WriteMetrics::new(r));
        let (store, cache) = (StoreMetrics::new(r), CacheMetrics::new(r));
        let (journal, fold, snapshots) = (JournalMetrics::new(r), FoldMetrics::new(r), SnapshotMetrics::new(r));
        let groups = GroupMetrics::new(r);
        let (registry, scraping) = (registration.0, Mutex::new(()));
        Self {
            registry,
            scraping,
            connections,
            requests,
            memory,
            write,
            store,
            cache,
            journal,
            fold,
            snapshots,
            groups,
        }
    }

    /// Samples what is sampled, and writes all of it in the OpenMetrics text format.
    pub fn scrape(&self, sample: impl FnOnce(&Self)) -> String {
        let _alone = self.scraping.lock();
        sample(self);
        self.render()
    }

    /// All of them in the OpenMetrics text format, as they are.
    pub fn render(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a String takes every write");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Sets a counter to a total that is counted elsewhere; it never goes back.
pub fn mirror(counter: &Counter<u64, AtomicU64>, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

/// A gauge's value.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Buckets from half a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

/// Buckets from four microseconds to a second.
fn short() -> Histogram {
    Histogram::new(exponential_buckets(0.000_004, 4.0, 10))
}

struct Registration(Registry);

impl Registration {
    fn add<M: Metric + Clone>(&mut self, name: &'static str, metric: M) -> M {
        let row = TABLE.iter().find(|row| row.name == name).expect("every metric is in the table");
        // The text format adds the suffix of counters and the full stop itself.
        self.0.register(name.strip_suffix("_total").unwrap_or(name), row.help, metric.clone());
        metric
    }
}

#[cfg(test)]
mod tests;
