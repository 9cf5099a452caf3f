//! What the broker counts, as one value that is made once and passed. Owns names, help texts and the text format;
//! whoever does a thing counts it.
//!
//! [`TABLE`] lists every metric: the documentation is made from it, and a metric that is not in it cannot be
//! registered. Labels take few values, never ones that a client chooses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafscale_wire::{Api, ErrorCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

/// One metric, for documentation.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name as it is scraped, without the suffixes of a histogram.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels it has.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind, labels, help }
}

/// Every metric there is.
#[rustfmt::skip]
pub const TABLE: &[Description] = &[
    row("kafscale_connections_open", "gauge", &[], "Kafka connections that are open"),
    row("kafscale_connections_accepted_total", "counter", &[], "Kafka connections accepted"),
    row("kafscale_connections_refused_total", "counter", &[], "Kafka connections closed at once because too many were open"),
    row("kafscale_connections_closed_total", "counter", &["cause"], "Kafka connections ended, by cause"),
    row("kafscale_accept_errors_total", "counter", &[], "Attempts to accept a connection that failed"),
    row("kafscale_requests_total", "counter", &["api", "outcome"], "Requests that came to an end: answered, failed (an error code is in the answer), unacknowledged (acks=0), closed (the connection was, instead of an answer), panicked"),
    row("kafscale_answer_errors_total", "counter", &["api", "error"], "Error codes in answers, by Kafka's names; an answer about many partitions can have many"),
    row("kafscale_slow_requests_total", "counter", &["api"], "Requests that took longer than --slow-request-ms beyond the waiting that they asked for"),
    row("kafscale_request_seconds", "histogram", &["api"], "Time from a request's last byte to the last byte of its answer"),
    row("kafscale_request_bytes_total", "counter", &[], "Bytes of requests received whole, with length prefixes"),
    row("kafscale_response_bytes_total", "counter", &[], "Bytes of answers written, with length prefixes"),
    row("kafscale_memory_budget_bytes", "gauge", &[], "The budget for requests and answers under way"),
    row("kafscale_memory_used_bytes", "gauge", &[], "The part of the budget that is reserved"),
    row("kafscale_flushes_total", "counter", &["cause"], "Bundles sealed, by cause"),
    row("kafscale_put_seconds", "histogram", &[], "Time to store one object"),
    row("kafscale_commit_seconds", "histogram", &[], "Time from asking for a commit to its verdicts"),
    row("kafscale_journal_ordinal", "gauge", &[], "The ordinal of the last journal entry that was folded"),
    row("kafscale_snapshots_total", "counter", &[], "Snapshots of the state written"),
    row("kafscale_cache_hits_total", "counter", &[], "Reads of objects answered from the cache"),
    row("kafscale_cache_misses_total", "counter", &[], "Reads of objects that went to the store"),
];

/// Kafka's name of an API key; every key that the codec does not know is `other`, so that a client cannot make labels.
pub(crate) fn api_name(key: i16) -> &'static str {
    Api::of(key).map_or("other", |api| api.name)
}

/// All metrics of one broker.
pub struct Metrics {
    registry: Registry,
    /// Kafka connections.
    pub connections: ConnectionMetrics,
    /// Kafka requests.
    pub requests: RequestMetrics,
    /// Memory, sampled at each scrape.
    pub memory: MemoryMetrics,
    /// The path of a record.
    pub data: DataMetrics,
    /// The journal and the state.
    pub journal: JournalMetrics,
}

impl Metrics {
    /// Metrics that are all zero.
    pub fn new() -> Self {
        let mut registration = Registration(Registry::default());
        let r = &mut registration;
        let connections = ConnectionMetrics::new(r);
        let requests = RequestMetrics::new(r);
        let memory = MemoryMetrics {
            budget_bytes: r.add("kafscale_memory_budget_bytes", Gauge::default()),
            used_bytes: r.add("kafscale_memory_used_bytes", Gauge::default()),
        };
        let data = DataMetrics::new(r);
        let journal = JournalMetrics {
            ordinal: r.add("kafscale_journal_ordinal", Gauge::default()),
            snapshots: r.add("kafscale_snapshots_total", Counter::default()),
        };
        Self { registry: registration.0, connections, requests, memory, data, journal }
    }

    /// All of them in the OpenMetrics text format.
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

/// Kafka connections.
pub struct ConnectionMetrics {
    open: Gauge,
    /// Accepted.
    pub accepted: Counter,
    /// Closed at once because too many were open.
    pub refused: Counter,
    /// Failed attempts to accept.
    pub accept_errors: Counter,
    closed: Family<CauseLabel, Counter>,
}

impl ConnectionMetrics {
    fn new(r: &mut Registration) -> Self {
        Self {
            open: r.add("kafscale_connections_open", Gauge::default()),
            accepted: r.add("kafscale_connections_accepted_total", Counter::default()),
            refused: r.add("kafscale_connections_refused_total", Counter::default()),
            accept_errors: r.add("kafscale_accept_errors_total", Counter::default()),
            closed: r.add("kafscale_connections_closed_total", Family::default()),
        }
    }

    /// Counts one open connection until the returned value is dropped.
    pub fn count_open(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// Counts the end of a connection.
    pub fn closed(&self, cause: &'static str) {
        self.closed.get_or_create(&CauseLabel { cause }).inc();
    }
}

/// One open connection.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Kafka requests.
pub struct RequestMetrics {
    finished: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    slow: Family<ApiLabel, Counter>,
    seconds: Family<ApiLabel, Histogram>,
    /// Bytes of requests received whole.
    pub received_bytes: Counter,
    /// Bytes of answers written.
    pub sent_bytes: Counter,
}

impl RequestMetrics {
    fn new(r: &mut Registration) -> Self {
        Self {
            finished: r.add("kafscale_requests_total", Family::default()),
            errors: r.add("kafscale_answer_errors_total", Family::default()),
            slow: r.add("kafscale_slow_requests_total", Family::default()),
            seconds: r.add("kafscale_request_seconds", Family::new_with_constructor(seconds)),
            received_bytes: r.add("kafscale_request_bytes_total", Counter::default()),
            sent_bytes: r.add("kafscale_response_bytes_total", Counter::default()),
        }
    }

    /// Counts a request's end.
    pub fn finished(&self, api_key: i16, outcome: &'static str) {
        self.finished.get_or_create(&RequestLabels { api: api_name(api_key), outcome }).inc();
    }

    /// Counts an error code in an answer.
    pub fn error(&self, api_key: i16, code: i16) {
        let error = ErrorCode::of(code).map_or("other", ErrorCode::name);
        self.errors.get_or_create(&ErrorLabels { api: api_name(api_key), error }).inc();
    }

    /// Counts a slow request.
    pub fn slow(&self, api_key: i16) {
        self.slow.get_or_create(&ApiLabel { api: api_name(api_key) }).inc();
    }

    /// Records the time a request took.
    pub fn took(&self, api_key: i16, time: Duration) {
        self.seconds.get_or_create(&ApiLabel { api: api_name(api_key) }).observe(time.as_secs_f64());
    }
}

/// Memory, as it was at the last scrape.
pub struct MemoryMetrics {
    /// The whole budget.
    pub budget_bytes: Gauge,
    /// What of it is reserved.
    pub used_bytes: Gauge,
}

/// The path of a record: bundles, objects, commits, cache.
pub struct DataMetrics {
    flushes: Family<CauseLabel, Counter>,
    put_seconds: Histogram,
    commit_seconds: Histogram,
    /// Reads answered from the cache; a cache that counts for itself is mirrored at each scrape.
    pub cache_hits: Counter<u64, AtomicU64>,
    /// Reads that went to the store.
    pub cache_misses: Counter<u64, AtomicU64>,
}

impl DataMetrics {
    fn new(r: &mut Registration) -> Self {
        Self {
            flushes: r.add("kafscale_flushes_total", Family::default()),
            put_seconds: r.add("kafscale_put_seconds", seconds()),
            commit_seconds: r.add("kafscale_commit_seconds", seconds()),
            cache_hits: r.add("kafscale_cache_hits_total", Counter::default()),
            cache_misses: r.add("kafscale_cache_misses_total", Counter::default()),
        }
    }

    /// Sets how many bundles were sealed for a cause; the write path counts them.
    pub fn flushed(&self, cause: &'static str, total: u64) {
        mirror(&self.flushes.get_or_create(&CauseLabel { cause }), total);
    }

    /// Records the time one object took to be stored.
    pub fn put(&self, time: Duration) {
        self.put_seconds.observe(time.as_secs_f64());
    }

    /// Records the time one commit took.
    pub fn committed(&self, time: Duration) {
        self.commit_seconds.observe(time.as_secs_f64());
    }
}

/// The journal and the state.
pub struct JournalMetrics {
    /// The last entry folded.
    pub ordinal: Gauge,
    /// Snapshots written.
    pub snapshots: Counter,
}

/// Sets a counter to a total that is counted elsewhere; it never goes back.
pub fn mirror(counter: &Counter<u64, AtomicU64>, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    api: &'static str,
    error: &'static str,
}

/// Buckets from half a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
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
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_is_scraped() {
        let metrics = Metrics::new();
        // Families are written once they have a member.
        metrics.connections.closed("idle");
        metrics.requests.finished(0, "answered");
        metrics.requests.took(0, Duration::ZERO);
        metrics.requests.error(0, 1);
        metrics.requests.slow(0);
        metrics.data.flushed("full", 1);
        let text = metrics.render();
        for row in TABLE {
            let family = row.name.strip_suffix("_total").unwrap_or(row.name);
            assert!(text.contains(&format!("# HELP {family} {}.\n", row.help)), "{} is not registered", row.name);
            assert!(text.contains(&format!("# TYPE {family} {}\n", row.kind)), "{} is of another kind", row.name);
        }
        assert_eq!(text.matches("# HELP ").count(), TABLE.len());
    }

    #[test]
    fn a_client_cannot_make_labels() {
        let metrics = Metrics::new();
        for key in i16::MIN..=i16::MAX {
            metrics.requests.finished(key, "answered");
            metrics.requests.error(0, key);
        }
        let text = metrics.render();
        assert_eq!(text.matches("kafscale_requests_total{").count(), kafscale_wire::APIS.len() + 1);
        assert_eq!(text.matches("kafscale_answer_errors_total{").count(), ErrorCode::ALL.len() + 1);
    }

    #[test]
    fn connections_are_open_until_dropped() {
        let metrics = Metrics::new();
        let open = metrics.connections.count_open();
        assert!(metrics.render().contains("kafscale_connections_open 1\n"));
        drop(open);
        assert!(metrics.render().contains("kafscale_connections_open 0\n"));
    }
}
