//! Barriers: "the local fold has reached the journal's end as it was after I asked". One is in flight at a time and
//! serves all who asked before it began; whoever asks while one is in flight needs the next one, since the end that
//! the running one learned may be older than the question. Who is content with a fold that was fresh a moment ago asks
//! none at all if one has just been reached.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafscale_log::Stopped;
use kafscale_ports::Clock;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    /// How many barriers have begun.
    begun: AtomicU64,
    /// The number of the last one that was reached. Its lock is held while one is in flight.
    reached: Mutex<u64>,
    /// When the last one that was reached had begun.
    reached_from: parking_lot::Mutex<Option<Instant>>,
}

impl Barrier {
    /// Returns once a barrier that began after this call was reached; runs it by `reach` unless another caller did.
    pub(crate) async fn pass<F>(&self, clock: &dyn Clock, reach: impl FnOnce() -> F) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), Stopped>>,
    {
        let before = self.begun.load(Ordering::SeqCst);
        let mut reached = self.reached.lock().await;
        if *reached > before {
            return Ok(());
        }
        self.run(clock, &mut reached, reach).await
    }

    /// Returns once a barrier was reached that began at most `max_age` before this call: at once if there was one.
    pub(crate) async fn fresh<F>(
        &self,
        clock: &dyn Clock,
        max_age: Duration,
        reach: impl FnOnce() -> F,
    ) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), Stopped>>,
    {
        let asked = clock.now();
        // By the question's time, not by the time when it is this caller's turn: else a barrier that takes longer than
        // `max_age` would serve nobody but its own caller, and all others would run theirs one after the other.
        let serves = |from: Instant| asked.saturating_duration_since(from) <= max_age;
        if self.reached_from.lock().is_some_and(serves) {
            return Ok(());
        }
        let mut reached = self.reached.lock().await;
        if self.reached_from.lock().is_some_and(serves) {
            return Ok(());
        }
        self.run(clock, &mut reached, reach).await
    }

    async fn run<F>(&self, clock: &dyn Clock, reached: &mut u64, reach: impl FnOnce() -> F) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), Stopped>>,
    {
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let from = clock.now();
        reach().await?;
        *reached = number;
        *self.reached_from.lock() = Some(from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use kafscale_ports::Env;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_barrier_serves_all_who_asked_before_it_began() {
        let clock = Env::real().clock;
        let barrier = Arc::new(Barrier::default());
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            Ok(())
        };
        let results = join_all((0..100).map(|_| barrier.pass(&*clock, reach))).await;
        assert!(results.iter().all(Result::is_ok));
        // The first caller's began before the others asked, so it serves nobody else; the second's serves the rest.
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_barrier_serves_nobody() {
        let clock = Env::real().clock;
        let barrier = Barrier::default();
        assert_eq!(barrier.pass(&*clock, || async { Err(Stopped) }).await, Err(Stopped));
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        assert_eq!(barrier.pass(&*clock, reach).await, Ok(()));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_barrier_of_a_moment_ago_is_fresh_enough() {
        let clock = Env::real().clock;
        let barrier = Barrier::default();
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            Ok(())
        };
        let fresh = |max_age| barrier.fresh(&*clock, Duration::from_millis(max_age), reach);
        let ran = || runs.load(Ordering::SeqCst);
        assert_eq!((fresh(100).await, ran()), (Ok(()), 1), "there was none");
        assert_eq!((fresh(10).await, ran()), (Ok(()), 1), "its age counts from its beginning");
        assert_eq!((fresh(9).await, ran()), (Ok(()), 2));
        assert_eq!((barrier.pass(&*clock, reach).await, ran()), (Ok(()), 3), "a barrier wants its own");
        sleep(Duration::from_millis(90)).await;
        assert_eq!((fresh(100).await, ran()), (Ok(()), 3));
        sleep(Duration::from_millis(1)).await;
        assert_eq!((fresh(100).await, ran()), (Ok(()), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_flight_serves_all_who_are_content_with_its_age() {
        let clock = Env::real().clock;
        let barrier = Barrier::default();
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(500)).await;
            Ok(())
        };
        let ask = |after| {
            let (barrier, clock) = (&barrier, &clock);
            async move {
                sleep(Duration::from_millis(after)).await;
                barrier.fresh(&**clock, Duration::from_millis(100), reach).await
            }
        };
        // All but the last asked at most 100 ms after the first barrier began, which takes 500.
        let results = join_all([0, 0, 50, 100, 101].map(ask)).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_barrier_is_not_fresh() {
        let clock = Env::real().clock;
        let barrier = Barrier::default();
        let second = Duration::from_secs(1);
        assert_eq!(barrier.fresh(&*clock, second, || async { Err(Stopped) }).await, Err(Stopped));
        assert_eq!(barrier.fresh(&*clock, second, || async { Err(Stopped) }).await, Err(Stopped));
        assert_eq!(barrier.fresh(&*clock, second, || async { Ok(()) }).await, Ok(()));
        assert_eq!(barrier.fresh(&*clock, second, || async { Err(Stopped) }).await, Ok(()));
    }
}
