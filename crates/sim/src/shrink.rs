//! Makes a failing seed's scenario smaller while it still breaks the same rule: fewer faults, fewer clients, shorter.

use crate::clients::group::plan::GroupPlan;
use crate::plant::Bug;
use crate::scenario::{Limits, Scenario};
use crate::world::{Report, run};

/// Worlds that are played at most.
const ATTEMPTS: usize = 60;

/// The smallest limits that were found, and what happens under them.
pub fn shrink(seed: u64, bug: Option<Bug>, check: &'static str) -> (Limits, Report) {
    let full = Scenario::draw(seed, Limits::NONE);
    let mut best = Limits {
        producers: full.producers.len(),
        consumers: full.consumers.len(),
        groups: full.groups.len(),
        members: full.groups.iter().map(|group| group.members.len()).max().unwrap_or(0),
        episodes: full.groups.iter().map(GroupPlan::longest).max().unwrap_or(0),
        faults: full.faults.len() + full.later.len(),
        batches: full.producers.iter().map(|plan| plan.batches).max().unwrap_or(0),
    };
    let mut report = run(&full, bug, true);
    let mut attempts = 0;
    let mut smaller = true;
    while smaller {
        smaller = false;
        for next in steps(best) {
            attempts += 1;
            if attempts > ATTEMPTS {
                return (best, report);
            }
            let tried = run(&Scenario::draw(seed, next), bug, true);
            if tried.violations.iter().any(|violation| violation.check == check) {
                (best, report, smaller) = (next, tried, true);
                break;
            }
        }
    }
    (best, report)
}

/// Smaller limits, the boldest first.
fn steps(limits: Limits) -> Vec<Limits> {
    let mut steps = Vec::new();
    for faults in [limits.faults / 2, limits.faults.saturating_sub(1)] {
        steps.push(Limits { faults, ..limits });
    }
    for batches in [limits.batches / 4, limits.batches / 2, limits.batches.saturating_sub(1)] {
        steps.push(Limits { batches, ..limits });
    }
    steps.push(Limits { producers: limits.producers / 2, ..limits });
    steps.push(Limits { producers: limits.producers.saturating_sub(1), ..limits });
    steps.push(Limits { consumers: limits.consumers.saturating_sub(1), ..limits });
    steps.push(Limits { groups: limits.groups.saturating_sub(1), ..limits });
    steps.push(Limits { members: limits.members / 2, ..limits });
    steps.push(Limits { members: limits.members.saturating_sub(1), ..limits });
    steps.push(Limits { episodes: limits.episodes / 2, ..limits });
    steps.push(Limits { episodes: limits.episodes.saturating_sub(1), ..limits });
    steps.retain(|step| *step != limits);
    steps
}
