//! The gate drops and pauses tasks between two polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafscale_ports::Spawn;
use kafscale_sim::tasks::Gate;
use tokio::time::sleep;

/// Adds one when it is dropped.
struct Dropped(Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn ticker(gate: &Gate) -> (Arc<AtomicU64>, Arc<AtomicU64>) {
    let (ticks, drops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, guard) = (Arc::clone(&ticks), Dropped(Arc::clone(&drops)));
    gate.spawn(
        "ticker",
        Box::pin(async move {
            let _guard = guard;
            loop {
                sleep(Duration::from_secs(1)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        }),
    );
    (ticks, drops)
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_crash_drops_all_tasks_at_once() {
    let gate = Gate::new();
    let (ticks, drops) = ticker(&gate);
    sleep(Duration::from_millis(3500)).await;
    assert_eq!((get(&ticks), get(&drops), gate.tasks()), (3, 0, 1));
    gate.crash();
    assert_eq!((get(&drops), gate.tasks()), (1, 0));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(get(&ticks), 3);
    let (_, drops) = ticker(&gate);
    assert_eq!(get(&drops), 1, "a crashed broker starts nothing");
}

#[tokio::test(start_paused = true)]
async fn a_paused_broker_stands_still_and_goes_on() {
    let (gate, other) = (Gate::new(), Gate::new());
    let ((ticks, drops), (others, _)) = (ticker(&gate), ticker(&other));
    sleep(Duration::from_millis(2500)).await;
    gate.pause();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((get(&ticks), get(&others)), (2, 12));
    gate.resume();
    sleep(Duration::from_secs(3)).await;
    assert!(get(&ticks) >= 5, "{}", get(&ticks));
    gate.pause();
    gate.crash();
    assert_eq!(get(&drops), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_may_crash_its_own_gate_and_start_others() {
    let gate = Gate::new();
    let (_, drops) = ticker(&gate);
    let inner = gate.clone();
    let own = Arc::new(AtomicU64::new(0));
    let guard = Dropped(Arc::clone(&own));
    gate.spawn(
        "suicide",
        Box::pin(async move {
            let _guard = guard;
            let (_, nested) = ticker(&inner);
            sleep(Duration::from_secs(1)).await;
            inner.crash();
            assert_eq!(get(&nested), 1);
            sleep(Duration::from_secs(1)).await;
            unreachable!("a crashed task is not polled again");
        }),
    );
    sleep(Duration::from_secs(5)).await;
    assert_eq!((get(&drops), get(&own), gate.tasks()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_end_leave_the_gate() {
    let gate = Gate::new();
    gate.spawn("short", Box::pin(async {}));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(gate.tasks(), 0);
}
