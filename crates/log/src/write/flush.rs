//! When to seal. Owns the flush budget, a token bucket of PUTs; does not own what goes into a bundle. Pure: takes
//! `now`, and says "seal" or "wake me then".
//!
//! An idle broker has tokens saved and flushes what comes at once, so latency is one PUT and one commit. A busy one
//! flushes at the budget, so PUTs have a ceiling. A full bundle never waits (waiting would only hold memory), but
//! takes a token if there is one: when traffic fills bundles, nothing is flushed half-full between them.

use std::time::Duration;

use tokio::time::Instant;

/// Why a bundle was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It holds all that a bundle may.
    Full,
    /// The budget allowed a PUT.
    Budget,
    /// The broker is ending.
    Closing,
}

/// What waits to be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Nothing.
    Nothing,
    /// Less than a bundle.
    Some,
    /// A bundle or more.
    Bundle,
    /// Something, and nothing will be added: the broker is ending.
    Last,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, until something arrives.
    Sleep,
    /// Nothing, until this time or until something arrives.
    WakeAt(Instant),
    /// Seal a bundle.
    Seal(Cause),
}

/// A token bucket, kept as the time at which it will be full.
#[derive(Debug)]
pub(crate) struct FlushBudget {
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl FlushBudget {
    /// A full bucket of `burst` tokens, one of which comes back each 1/`per_second` seconds.
    ///
    /// # Panics
    /// If either is zero: nothing would ever be flushed.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        assert!(per_second > 0 && burst > 0, "a flush budget of nothing");
        Self { interval: Duration::from_secs(1) / per_second, burst, full_at: now }
    }

    /// Decides, and takes a token if it says "seal".
    pub(crate) fn decide(&mut self, now: Instant, waiting: Waiting) -> Decision {
        let cause = match waiting {
            Waiting::Nothing => return Decision::Sleep,
            Waiting::Bundle => Cause::Full,
            Waiting::Last => Cause::Closing,
            Waiting::Some => match self.next_token(now) {
                Some(later) => return Decision::WakeAt(later),
                None => Cause::Budget,
            },
        };
        self.spend(now);
        Decision::Seal(cause)
    }

    /// Takes a token; an empty bucket stays empty.
    fn spend(&mut self, now: Instant) {
        let empty = now + self.interval * self.burst;
        self.full_at = (self.full_at.max(now) + self.interval).min(empty);
    }

    /// When there will be a whole token; `None` if there is one.
    fn next_token(&self, now: Instant) -> Option<Instant> {
        // Full in (burst - 1) intervals is one token. Never `full_at` minus those: there may be no such Instant.
        let one_token = now + self.interval * (self.burst - 1);
        (self.full_at > one_token).then(|| now + (self.full_at - one_token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        kafscale_ports::clock::Clock::now(&kafscale_ports::clock::SystemClock)
    }

    #[test]
    fn an_idle_system_flushes_at_once_and_a_busy_one_at_the_budget() {
        let now = start();
        let mut budget = FlushBudget::new(10, 2, now);
        assert_eq!(budget.decide(now, Waiting::Some), Decision::Seal(Cause::Budget));
        assert_eq!(budget.decide(now, Waiting::Some), Decision::Seal(Cause::Budget), "the burst");
        let next = now + Duration::from_millis(100);
        assert_eq!(budget.decide(now, Waiting::Some), Decision::WakeAt(next));
        assert_eq!(budget.decide(next, Waiting::Some), Decision::Seal(Cause::Budget));
        assert_eq!(budget.decide(next, Waiting::Some), Decision::WakeAt(next + Duration::from_millis(100)));
    }

    #[test]
    fn idleness_saves_no_more_than_the_burst() {
        let now = start();
        let mut budget = FlushBudget::new(10, 3, now);
        let later = now + Duration::from_secs(3600);
        let flushed = (0..10).filter(|_| budget.decide(later, Waiting::Some) == Decision::Seal(Cause::Budget)).count();
        assert_eq!(flushed, 3);
    }

    #[test]
    fn full_bundles_never_wait_and_leave_no_debt() {
        let now = start();
        let mut budget = FlushBudget::new(10, 2, now);
        for _ in 0..100 {
            assert_eq!(budget.decide(now, Waiting::Bundle), Decision::Seal(Cause::Full));
        }
        let next = now + Duration::from_millis(100);
        assert_eq!(budget.decide(now, Waiting::Some), Decision::WakeAt(next), "full ones took the tokens");
        assert_eq!(budget.decide(next, Waiting::Some), Decision::Seal(Cause::Budget));
    }

    #[test]
    fn nothing_waits_for_nothing() {
        let now = start();
        assert_eq!(FlushBudget::new(1, 1, now).decide(now, Waiting::Nothing), Decision::Sleep);
    }
}
