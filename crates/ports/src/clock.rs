//! Time as an argument. Owns the only calls of `now` in the product.
//!
//! Monotonic time is tokio's, so that a paused runtime pauses it; wall time is what goes into journal entries and
//! LogAppendTime. Nothing that must be correct compares wall clocks of two machines.

use tokio::time::Instant;

/// A monotonic clock and a wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;
    /// Milliseconds since the Unix epoch, as Kafka timestamps are.
    fn wall_ms(&self) -> i64;
}

/// The system's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the clock port")]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_ms(&self) -> i64 {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }
}
