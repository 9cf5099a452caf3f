//! The timer: one task sleeps until the earliest deadline of all groups. It is woken when that moves to an earlier
//! time; when it moves to a later one it wakes for nothing, once.

use std::sync::Arc;
use std::time::Duration;

use kafscale_groups::Now;
use tokio::time::sleep_until;

use super::{Coordinator, Stage};

pub(super) async fn run(coordinator: Arc<Coordinator>) {
    while let Some(deadline) = coordinator.arm() {
        tokio::select! {
            biased;
            () = coordinator.earlier.notified() => {}
            () = coordinator.reached(deadline) => coordinator.tick(),
        }
    }
}

/// What there is to sleep for.
enum Deadline {
    At(Now),
    Never,
}

impl Coordinator {
    /// Notes what the timer sleeps for from now on; none once there are to be no timers.
    fn arm(&self) -> Option<Deadline> {
        let mut table = self.table.lock();
        if table.stage == Stage::Stopping {
            return None;
        }
        table.armed = table.groups.next_deadline();
        Some(table.armed.map_or(Deadline::Never, Deadline::At))
    }

    async fn reached(&self, deadline: Deadline) {
        match deadline {
            Deadline::At(now) => sleep_until(self.origin + Duration::from_millis(now.ms)).await,
            Deadline::Never => futures::future::pending().await,
        }
    }

    fn tick(&self) {
        let mut table = self.table.lock();
        if table.stage == Stage::Serving {
            self.step(&mut table, |groups, view| groups.tick(view));
        }
    }
}
