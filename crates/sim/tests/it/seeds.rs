//! Whole worlds: the same seed writes the same trace, and no seed breaks a rule.

use kafscale_sim::scenario::{Limits, Scenario};
use kafscale_sim::world::run;

#[test]
fn two_runs_of_one_seed_write_the_same_trace() {
    for seed in 1..=200 {
        let scenario = Scenario::draw(seed, Limits::NONE);
        let (first, second) = (run(&scenario, None, true), run(&scenario, None, true));
        let pair = first.trace.lines().zip(second.trace.lines());
        let differs = pair.enumerate().find(|(_, (first, second))| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.coverage, second.coverage, "seed {seed}");
    }
}

#[test]
fn other_seeds_write_other_traces() {
    let hash = |seed| run(&Scenario::draw(seed, Limits::NONE), None, false).trace_hash;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn no_rule_is_broken() {
    for seed in 10_001..=10_300 {
        let report = run(&Scenario::draw(seed, Limits::NONE), None, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}
