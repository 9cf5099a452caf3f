//! What the clients of a world are to do now. Not tokio's `watch`, which wakes those who wait in a random order.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work, while faults happen.
    Faults,
    /// No new faults: work on, but delete nothing any more.
    Healing,
    /// The faults are over: finish what was begun, do one thing more, and return.
    Quiet,
}

/// The phase, and who waits for the next one.
pub struct Phases {
    now: Mutex<Phase>,
    changed: Notify,
}

impl Phases {
    /// Begins with a phase.
    pub fn new(first: Phase) -> Self {
        Self { now: Mutex::new(first), changed: Notify::new() }
    }

    /// The present one.
    pub fn now(&self) -> Phase {
        *self.now.lock()
    }

    /// Begins another.
    pub fn begin(&self, next: Phase) {
        *self.now.lock() = next;
        self.changed.notify_waiters();
    }

    /// Returns once this phase or a later one has begun.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.changed.notified();
            if self.now() >= phase {
                return;
            }
            changed.await;
        }
    }
}
