//! Barriers: "the local fold has reached the journal's end as it was after I asked". One is in flight at a time and
//! serves all who asked before it began; whoever asks while one is in flight needs the next one, since the end that
//! the running one learned may be older than the question.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use kafscale_log::Stopped;
use tokio::sync::Mutex;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    /// How many barriers have begun.
    begun: AtomicU64,
    /// The number of the last one that was reached. Its lock is held while one is in flight.
    reached: Mutex<u64>,
}

impl Barrier {
    /// Returns once a barrier that began after this call was reached; runs it by `reach` unless another caller did.
    pub(crate) async fn pass<F>(&self, reach: impl FnOnce() -> F) -> Result<(), Stopped>
    where
        F: Future<Output = Result<(), Stopped>>,
    {
        let before = self.begun.load(Ordering::SeqCst);
        let mut reached = self.reached.lock().await;
        if *reached > before {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        reach().await?;
        *reached = number;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use tokio::time::{Duration, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_barrier_serves_all_who_asked_before_it_began() {
        let barrier = Arc::new(Barrier::default());
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            Ok(())
        };
        let results = join_all((0..100).map(|_| barrier.pass(reach))).await;
        assert!(results.iter().all(Result::is_ok));
        // The first caller's began before the others asked, so it serves nobody else; the second's serves the rest.
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_barrier_serves_nobody() {
        let barrier = Barrier::default();
        assert_eq!(barrier.pass(|| async { Err(Stopped) }).await, Err(Stopped));
        let runs = AtomicU64::new(0);
        let reach = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        assert_eq!(barrier.pass(reach).await, Ok(()));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}
