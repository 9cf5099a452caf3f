//! What was asked of the disk: counts of operations, and a line for each once somebody wants lines. Owns no fault.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use super::Op;

/// How an operation ended.
pub(super) struct Done {
    pub(super) lied: bool,
    /// It said "ok".
    pub(super) ok: bool,
    /// What all files have together after it.
    pub(super) used: u64,
}

/// The operations so far.
#[derive(Default)]
pub(super) struct OpLog {
    asked: u64,
    counts: BTreeMap<Op, u64>,
    /// The lines that nobody took yet; `None` before [`OpLog::start_trace`].
    lines: Option<Vec<u8>>,
}

impl OpLog {
    /// Operations that were asked for.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// The same by kind.
    pub(super) fn counts(&self) -> &BTreeMap<Op, u64> {
        &self.counts
    }

    /// An operation is asked for.
    pub(super) fn count(&mut self, op: Op) {
        self.asked += 1;
        *self.counts.entry(op).or_default() += 1;
    }

    /// Begins to keep lines.
    pub(super) fn start_trace(&mut self) {
        self.lines.get_or_insert_default();
    }

    /// The lines since the last time.
    pub(super) fn take_trace(&mut self) -> Vec<u8> {
        self.lines.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// An operation is done.
    pub(super) fn note(&mut self, op: Op, path: &Path, done: Done) {
        let Some(lines) = &mut self.lines else { return };
        let Done { lied, ok, used } = done;
        let lie = if lied { " lie" } else { "" };
        writeln!(lines, "{} {op:?} {}{lie} {ok} {used}", self.asked, path.display()).expect("memory takes everything");
    }
}
