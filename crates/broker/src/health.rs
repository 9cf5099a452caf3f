//! What the broker says of itself over HTTP: whether clients may be sent here, and the figures that are sampled at a
//! scrape and not counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kafscale_log::read::Cache;
use kafscale_log::write::Writer;
use parking_lot::Mutex;

use crate::broker::Budgets;
use crate::http::Status;
use crate::ledger::Replica;
use crate::metrics::{Metrics, mirror};

/// What is sampled.
pub(crate) struct Serving {
    pub(crate) replica: Arc<Replica>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) budgets: Budgets,
}

/// The life of a broker, as `/readyz` tells it.
enum Stage {
    Starting,
    Serving(Serving),
    Stopping,
}

/// See the module's documentation.
pub(crate) struct Health(Mutex<Stage>);

impl Health {
    pub(crate) fn starting() -> Self {
        Self(Mutex::new(Stage::Starting))
    }

    pub(crate) fn serving(&self, serving: Serving) {
        *self.0.lock() = Stage::Serving(serving);
    }

    pub(crate) fn stopping(&self) {
        *self.0.lock() = Stage::Stopping;
    }
}

impl Status for Health {
    fn readiness(&self) -> Result<(), String> {
        match &*self.0.lock() {
            Stage::Starting => Err("starting: loading the state".to_owned()),
            Stage::Serving(serving) => serving.replica.over().map_or(Ok(()), |end| Err(format!("failed: {end}"))),
            Stage::Stopping => Err("stopping".to_owned()),
        }
    }

    fn sample(&self, metrics: &Metrics) {
        if let Stage::Serving(serving) = &*self.0.lock() {
            serving.sample(metrics);
        }
    }
}

impl Serving {
    fn sample(&self, metrics: &Metrics) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.memory.budget_bytes.set(signed(self.budgets.total_bytes()));
        metrics.memory.used_bytes.set(signed(self.budgets.used_bytes()));
        metrics.journal.ordinal.set(signed(self.replica.progress().borrow().ordinal));
        let written = self.writer.metrics();
        metrics.data.flushed("full", written.flushes_full.get());
        metrics.data.flushed("budget", written.flushes_budget.get());
        metrics.data.flushed("closing", written.flushes_closing.get());
        let read = self.cache.counters();
        mirror(&metrics.data.cache_hits, read.hits.load(Ordering::Relaxed));
        mirror(&metrics.data.cache_misses, read.loads.load(Ordering::Relaxed));
    }
}
