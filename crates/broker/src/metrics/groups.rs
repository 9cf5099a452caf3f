//! Consumer groups: how many are in which state, what they do, and how far each is behind.
//!
//! Lag has labels whose values clients choose: at most [`MAX_LAG_SERIES`] lines are written, those of the groups that
//! come first by id, and a metric says how many offsets were left out.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{OutcomeLabel, Registration, mirror, signed};
use crate::limits::MAX_LAG_SERIES;

/// Consumer groups, as they were at the last scrape.
pub struct GroupMetrics {
    groups: Family<StateLabel, Gauge>,
    /// Members of all groups.
    pub members: Gauge,
    /// Generations that began since the start.
    pub generations: Counter<u64, AtomicU64>,
    commits: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
    lag: Family<LagLabels, Gauge>,
    lag_left_out: Gauge,
}

impl GroupMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            groups: r.add("kafscale_groups", Family::default()),
            members: r.add("kafscale_group_members", Gauge::default()),
            generations: r.add("kafscale_group_generations_total", Counter::default()),
            commits: r.add("kafscale_offset_commits_total", Family::default()),
            lag: r.add("kafscale_group_lag", Family::default()),
            lag_left_out: r.add("kafscale_group_lag_left_out", Gauge::default()),
        }
    }

    /// Sets how many groups are in a state.
    pub fn in_state(&self, state: &'static str, count: usize) {
        self.groups.get_or_create(&StateLabel { state }).set(signed(count as u64));
    }

    /// Sets how many commits had an outcome.
    pub fn commits(&self, outcome: &'static str, total: u64) {
        mirror(&self.commits.get_or_create(&OutcomeLabel { outcome }), total);
    }

    /// Sets the lag of all groups anew.
    pub fn lag(&self, lag: LagSeries) {
        self.lag.clear();
        for (label, records) in lag.lines {
            self.lag.get_or_create(&label).set(records);
        }
        self.lag_left_out.set(lag.left_out);
    }
}

/// The lag of groups, gathered apart from the metrics: the state it is read from is locked meanwhile.
#[derive(Default)]
pub struct LagSeries {
    lines: Vec<(LagLabels, i64)>,
    left_out: i64,
}

impl LagSeries {
    /// The records between a committed offset and the end of its partition. An offset beyond the end is no lag.
    pub fn add(&mut self, group: &str, topic: &str, partition: u32, lag: i64) {
        if self.lines.len() == MAX_LAG_SERIES {
            self.left_out += 1;
            return;
        }
        let label = LagLabels { group: group.to_owned(), topic: topic.to_owned(), partition };
        self.lines.push((label, lag.max(0)));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LagLabels {
    group: String,
    topic: String,
    partition: u32,
}
