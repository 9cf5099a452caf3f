//! The simulated clocks: monotonic time is the paused runtime's, wall time is a fixed date plus the virtual time that
//! has passed. One value belongs to one world, which begins at virtual time 0.

use kafscale_ports::Clock;
use tokio::time::{Duration, Instant};

/// What the wall clock shows when a world begins: 2023-11-14.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    began: Instant,
}

impl SimClock {
    /// A clock that shows 0 now. Call inside of the paused runtime.
    pub fn start() -> Self {
        Self { began: instant() }
    }

    /// Virtual time since the world began.
    pub fn elapsed(&self) -> Duration {
        instant().duration_since(self.began)
    }

    /// Virtual milliseconds since the world began.
    pub fn ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the simulator's clock port, over the paused runtime's clock")]
fn instant() -> Instant {
    Instant::now()
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        instant()
    }

    fn wall_ms(&self) -> i64 {
        EPOCH_MS.saturating_add_unsigned(self.ms())
    }
}
