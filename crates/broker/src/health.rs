//! What the broker says of itself over HTTP: whether clients may be sent here, and the figures that are sampled at a
//! scrape and not counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kafscale_journal::file::FileJournal;
use kafscale_log::Ledger;
use kafscale_log::read::Cache;
use kafscale_metadata::{Nonce, State};
use parking_lot::Mutex;

use crate::api::Context;
use crate::broker::Budgets;
use crate::http::Status;
use crate::metrics::{LagSeries, Metrics, mirror, signed};

/// What is sampled.
pub(crate) struct Serving {
    pub(crate) context: Arc<Context>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) budgets: Budgets,
    /// Of a journal on this machine.
    pub(crate) files: Option<Arc<FileJournal>>,
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
            Stage::Serving(serving) => {
                serving.context.replica.over().map_or(Ok(()), |end| Err(format!("failed: {end}")))
            }
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
        for (name, budget) in self.budgets.named() {
            let (total, free) = (budget.total_bytes(), budget.free_bytes());
            metrics.memory.budget(name, signed(total), signed(total - free));
        }
        let (sessions, bytes) = self.context.fetch_sessions.len_and_bytes();
        metrics.memory.fetch_sessions.set(signed(sessions as u64));
        metrics.memory.fetch_session_bytes.set(signed(bytes));
        self.sample_records(metrics);
        self.sample_state(metrics);
        self.sample_groups(metrics);
    }

    fn sample_records(&self, metrics: &Metrics) {
        let (written, to) = (self.context.writer.metrics(), &metrics.write);
        mirror(&to.batches, written.batches.get());
        mirror(&to.batch_bytes, written.bytes.get());
        mirror(&to.dropped, written.dropped.get());
        to.flushed("full", written.flushes_full.get());
        to.flushed("budget", written.flushes_budget.get());
        to.flushed("closing", written.flushes_closing.get());
        to.uploaded("stored", written.uploads.get());
        to.uploaded("retried", written.retries.get());
        to.uploaded("given_up", written.given_up.get());
        let (read, to) = (self.cache.counters(), &metrics.cache);
        mirror(&to.hits, read.hits.load(Ordering::Relaxed));
        mirror(&to.misses, read.loads.load(Ordering::Relaxed));
        mirror(&to.damaged, read.damaged.load(Ordering::Relaxed));
        let (written, fetched) = self.cache.held_bytes();
        to.bytes("written", signed(written));
        to.bytes("fetched", signed(fetched));
    }

    fn sample_state(&self, metrics: &Metrics) {
        if let Some(held) = self.files.as_ref().map(|files| files.held()) {
            metrics.journal.files.set(signed(held.files as u64));
            metrics.journal.entries.set(signed(held.entries));
            metrics.journal.bytes.set(signed(held.bytes));
        }
        let state = self.context.replica.state();
        metrics.fold.ordinal.set(signed(state.ordinal()));
        metrics.fold.topics.set(signed(state.topics().len() as u64));
        metrics.fold.partitions.set(signed(state.partition_count()));
        metrics.fold.producers.set(signed(state.living_producers() as u64));
        metrics.snapshots.ordinal.set(signed(state.snapshot().map_or(0, |snapshot| snapshot.ordinal)));
        let lag = lag(&state, self.context.replica.nonce());
        drop(state);
        metrics.groups.lag(lag);
    }

    fn sample_groups(&self, metrics: &Metrics) {
        let (groups, to) = (&self.context.groups, &metrics.groups);
        let stages = groups.stages();
        stages.groups.iter().for_each(|(stage, count)| to.in_state(stage.as_str(), *count));
        to.members.set(signed(stages.members as u64));
        mirror(&to.generations, groups.counters().generations());
        groups.counters().commits().iter().for_each(|(outcome, total)| to.commits(outcome, *total));
    }
}

/// How far the groups that this broker coordinates are behind: each group is told by one broker.
fn lag(state: &State, session: Nonce) -> LagSeries {
    let mut lag = LagSeries::default();
    for (id, group) in state.groups().filter(|(id, _)| state.coordinates(session, id)) {
        for (at, committed) in group.offsets() {
            let Some(topic) = state.topic(at.topic) else { continue };
            let Some(partition) = topic.partition(at.partition) else { continue };
            lag.add(id, topic.name(), at.partition, partition.high_watermark() - committed.offset);
        }
    }
    lag
}
