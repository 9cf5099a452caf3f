//! How long a watch may be silent. A watch that says nothing may have nothing to say, or be dead without knowing it;
//! only the head tells which. Once a second somebody looks at the head; entries up to it must arrive within a second.
//!
//! The first time they do not, the watch is opened anew; if that did not help, everything is read without a watch.

use std::time::Duration;

use tokio::time::Instant;

/// How often the head is looked at, if nobody else did.
pub(in super::super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long entries may be on their way.
pub(in super::super) const PATIENCE: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Verdict {
    /// Wait, at most until then.
    Wait(Option<Instant>),
    /// Open the watch anew.
    Reopen,
    /// Read everything.
    ReadAll,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Patience {
    /// The ordinal that must arrive, and until when.
    due: Option<(u64, Instant)>,
    /// How often it did not, in a row.
    strikes: u32,
}

impl Patience {
    /// The journal was seen to end at ordinal `end`.
    pub(in super::super) fn seen(&mut self, end: u64, applied: u64, now: Instant) {
        if end > applied && self.due.is_none() {
            self.due = Some((end, now + PATIENCE));
        }
    }

    /// Everything up to ordinal `applied` has arrived.
    pub(in super::super) fn applied(&mut self, applied: u64) {
        if self.due.is_some_and(|(ordinal, _)| ordinal <= applied) {
            *self = Self::default();
        }
    }

    pub(in super::super) fn judge(&mut self, now: Instant) -> Verdict {
        match self.due {
            Some((_, until)) if until <= now => {
                self.due = None;
                self.strikes += 1;
                if self.strikes % 2 == 1 { Verdict::Reopen } else { Verdict::ReadAll }
            }
            due => Verdict::Wait(due.map(|(_, until)| until)),
        }
    }
}
