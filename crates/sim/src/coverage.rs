//! What happened in the runs: which fault, at which stage of the broker, with which outcome for the batches that were
//! on their way. What never happened was never tested.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by fault, stage and outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<(String, String), BTreeMap<&'static str, u64>>,
    /// Other things that are counted: lives, snapshots, answers.
    pub totals: BTreeMap<String, u64>,
}

/// The columns, in order.
const OUTCOMES: [&str; 5] = ["times", "acked", "refused", "unknown", "idle"];

impl Coverage {
    /// Counts something of one fault.
    pub fn count(&mut self, fault: &str, stage: &str, outcome: &'static str) {
        let row = self.counts.entry((fault.to_owned(), stage.to_owned())).or_default();
        *row.entry(outcome).or_default() += 1;
    }

    /// Counts something else.
    pub fn add(&mut self, what: &str, n: u64) {
        if n > 0 {
            *self.totals.entry(what.to_owned()).or_default() += n;
        }
    }

    /// Adds another run's counts.
    pub fn merge(&mut self, other: Coverage) {
        for (row, outcomes) in other.counts {
            let mine = self.counts.entry(row).or_default();
            for (outcome, n) in outcomes {
                *mine.entry(outcome).or_default() += n;
            }
        }
        for (what, n) in other.totals {
            *self.totals.entry(what).or_default() += n;
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<22} {:<30}", "fault", "stage")?;
        for outcome in OUTCOMES {
            write!(f, " {outcome:>8}")?;
        }
        writeln!(f)?;
        for ((fault, stage), outcomes) in &self.counts {
            write!(f, "{fault:<22} {stage:<30}")?;
            for outcome in OUTCOMES {
                write!(f, " {:>8}", outcomes.get(outcome).copied().unwrap_or(0))?;
            }
            writeln!(f)?;
        }
        for (what, n) in &self.totals {
            writeln!(f, "{what:<53} {n:>8}")?;
        }
        Ok(())
    }
}
