//! The write path as its callers see it: order, fairness, the flush budget, acknowledgements, room, closing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use kafscale_log::write::{Dropped, Settings, Written, validate};
use kafscale_ports::{Env, Spawn};
use parking_lot::Mutex;
use tokio::time::{Duration as Span, Instant, sleep};

use crate::write_world::{Batch, World, any_time, partition, settings};

fn offset(outcome: Written) -> i64 {
    match outcome {
        Written::Appended { first_offset, .. } => first_offset,
        other @ (Written::Refused(_) | Written::Dropped(_) | Written::Unknown) => panic!("not appended: {other:?}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn an_idle_writer_flushes_at_once() {
    let world = World::new(Settings::directory(9));
    for tag in 0..5 {
        let before = now();
        assert_eq!(offset(world.submit_one(1, 0, &Batch::new(tag)).await), tag);
        assert!(before.elapsed() <= Span::from_millis(2), "{:?}", before.elapsed());
        sleep(Span::from_secs(60)).await;
    }
    assert_eq!(world.writer.metrics().flushes_budget.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_busy_writer_flushes_at_the_budget() {
    let world = World::new(Settings { flushes_per_second: 10, flush_burst: 2, ..settings() });
    let mut receipts = Vec::new();
    for tag in 0..1000 {
        receipts.push(world.submit_one(1, 0, &Batch::new(tag)));
        sleep(Span::from_millis(1)).await;
    }
    let puts = world.store.objects.puts();
    assert!((11..=12).contains(&puts), "10 a second and a burst of 2, not {puts}");
    for (tag, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(offset(receipt.await), tag as i64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_bundle_does_not_wait_for_the_budget() {
    let world = World::new(Settings { flushes_per_second: 1, flush_burst: 1, bundle_bytes: 10_000, ..settings() });
    offset(world.submit_one(1, 0, &Batch::new(0)).await);
    let before = now();
    join_all((1..31).map(|tag| world.submit_one(1, 0, &Batch::new(tag).payload(900)))).await;
    assert!(before.elapsed() < Span::from_millis(1100), "{:?}", before.elapsed());
    assert_eq!(world.writer.metrics().flushes_full.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn batches_of_a_connection_keep_their_order_whatever_uploads_do() {
    let world = World::new(Settings { bundle_batches: 3, ..settings() });
    world.store.plan((0..200_u64).map(|i| (i * 7919 % 90, crate::write_world::PutFault::None)));
    world.ledger.set_latency(Duration::from_millis(5));
    let mut receipts = Vec::new();
    for tag in 0..300 {
        let connection = tag % 3;
        receipts.push((connection, world.submit_one(connection as u64, 0, &Batch::new(tag))));
        if tag % 4 == 0 {
            sleep(Span::from_millis(3)).await;
        }
    }
    let mut last = [-1; 3];
    for (connection, receipt) in receipts {
        let offset = offset(receipt.await);
        assert!(offset > last[connection as usize], "connection {connection}");
        last[connection as usize] = offset;
    }
    let numbers: Vec<u32> = world.ledger.commits().iter().map(|commit| commit.number).collect();
    assert!(numbers.is_sorted(), "commits leave in seal order: {numbers:?}");
    assert!(world.ledger.unsettled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn commits_do_not_wait_for_each_others_verdicts() {
    let world = World::new(Settings { bundle_batches: 1, ..settings() });
    world.ledger.set_latency(Duration::from_secs(1));
    let before = now();
    join_all((0..8).map(|tag| world.submit_one(1, 0, &Batch::new(tag)))).await;
    assert!(before.elapsed() < Span::from_secs(2), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_before_the_verdict() {
    let world = World::new(settings());
    world.ledger.set_latency(Duration::from_millis(100));
    let mut receipt = world.submit_one(1, 0, &Batch::new(0));
    sleep(Span::from_millis(90)).await;
    assert_eq!(world.store.objects.names().len(), 1, "it is uploaded, and in commit");
    assert!((&mut receipt).now_or_never().is_none());
    assert_eq!(offset(receipt.await), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hog_does_not_delay_a_small_client() {
    let world = World::new(Settings { bundle_bytes: 1 << 20, ..settings() });
    let hog: Vec<_> = (0..200).map(|tag| world.submit_one(1, 0, &Batch::new(tag).payload(100_000))).collect();
    let small = world.submit_one(2, 1, &Batch::new(1000));
    offset(small.await);
    join_all(hog).await;
    let commits = world.ledger.commits();
    let first = commits.iter().position(|commit| commit.runs.iter().any(|run| run.partition == partition(1)));
    assert_eq!(first, Some(0), "of {} bundles", commits.len());
}

#[tokio::test(start_paused = true)]
async fn room_is_shared_by_bytes() {
    let world = World::new(Settings { bundle_bytes: 1 << 20, ..settings() });
    let mut receipts = Vec::new();
    for tag in 0..100 {
        receipts.push(world.submit_one(1, 0, &Batch::new(tag).payload(100_000)));
    }
    for tag in 0..1000 {
        receipts.push(world.submit_one(2, 1, &Batch::new(tag).payload(10_000)));
    }
    join_all(receipts).await;
    let first = &world.ledger.commits()[0];
    for run in &first.runs {
        let bytes: u32 = run.batches.iter().map(|batch| batch.bytes).sum();
        assert!((400_000..650_000).contains(&bytes), "{:?} has {bytes}", run.partition);
    }
    assert_eq!(first.runs.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_nearly_full_store_refuses_and_comes_back_by_itself() {
    let world = World::new(Settings { free_reserve: 1000, ..settings() });
    world.store.free.store(999, Ordering::Relaxed);
    assert_eq!(world.submit_one(1, 0, &Batch::new(0)).await, Written::Dropped(Dropped::StoreFull));
    assert_eq!(world.submit_one(1, 0, &Batch::new(1)).await, Written::Dropped(Dropped::StoreFull));
    assert_eq!(world.store.objects.puts(), 0);
    assert_eq!(world.store.asked.load(Ordering::Relaxed), 1, "an answer is believed for a second");
    world.store.free.store(u64::MAX, Ordering::Relaxed);
    sleep(Span::from_secs(1)).await;
    assert_eq!(offset(world.submit_one(1, 0, &Batch::new(2)).await), 0);
    sleep(Span::from_secs(3600)).await;
    assert_eq!(world.store.asked.load(Ordering::Relaxed), 2, "an idle writer asks nothing");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_full_is_not_asked_to_store_for_a_while() {
    let world = World::new(settings());
    world.store.plan([(0, crate::write_world::PutFault::Full)]);
    assert_eq!(world.submit_one(1, 0, &Batch::new(0)).await, Written::Dropped(Dropped::StoreFull));
    assert_eq!(world.submit_one(1, 0, &Batch::new(1)).await, Written::Dropped(Dropped::StoreFull));
    assert!(world.ledger.unsettled().is_empty(), "a definite refusal settles the name");
    sleep(Span::from_secs(1)).await;
    assert_eq!(offset(world.submit_one(1, 0, &Batch::new(2)).await), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_bytes_are_bounded() {
    let world = World::new(Settings { max_waiting_bytes: 10_000, ..settings() });
    world.ledger.set_latency(Duration::from_secs(1));
    let receipts: Vec<_> = (0..100).map(|tag| world.submit_one(1, 0, &Batch::new(tag).payload(939))).collect();
    sleep(Span::from_millis(10)).await;
    let later = world.submit_one(1, 0, &Batch::new(100));
    assert_eq!(later.await, Written::Dropped(Dropped::Overloaded), "what is in commit counts too");
    let outcomes = join_all(receipts).await;
    let written = outcomes.iter().filter(|outcome| matches!(outcome, Written::Appended { .. })).count();
    assert_eq!(written, 10);
    assert_eq!(outcomes[10], Written::Dropped(Dropped::Overloaded));
    assert_eq!(offset(world.submit_one(1, 0, &Batch::new(101)).await), 10, "room again");
}

/// A frame that says when its memory is free.
struct Frame(Vec<u8>, #[expect(dead_code, reason = "counted by its strong references")] Arc<()>);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_batch_does_not_pin_a_large_frame() {
    for (padding, pinned) in [(10, true), (10_000, false)] {
        let world = World::new(settings());
        world.ledger.set_latency(Duration::from_secs(1));
        let (batch, alive) = (Batch::new(0).encode(), Arc::new(()));
        let mut content = batch.to_vec();
        content.resize(batch.len() + padding, 0);
        let frame = Bytes::from_owner(Frame(content, Arc::clone(&alive)));
        let valid = validate(frame.slice(..batch.len()), 9, &any_time(), 0).unwrap();
        let hold = Arc::new(());
        let receipt = world.writer.submit(1, frame.len(), vec![(partition(0), valid)], Arc::clone(&hold)).remove(0);
        drop(frame);
        assert_eq!(Arc::strong_count(&alive) == 2, pinned, "padding {padding}");
        sleep(Span::from_millis(500)).await;
        assert_eq!(Arc::strong_count(&hold), 2, "the reservation is held until the answer");
        assert_eq!(offset(receipt.await), 0);
        assert_eq!(Arc::strong_count(&hold), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_waits_and_lets_nothing_in() {
    let world = World::new(Settings { flushes_per_second: 1, flush_burst: 1, ..settings() });
    world.ledger.set_latency(Duration::from_millis(30));
    let receipts: Vec<_> = (0..10).map(|tag| world.submit_one(1, 0, &Batch::new(tag))).collect();
    sleep(Span::from_millis(1)).await;
    let more = world.submit_one(1, 0, &Batch::new(10));
    let before = now();
    let (writer, late) = (Arc::clone(&world.writer), world);
    let close = async {
        writer.close().await;
        assert!(before.elapsed() < Span::from_millis(100), "{:?}", before.elapsed());
    };
    let submit = async {
        sleep(Span::from_millis(1)).await;
        late.submit_one(1, 0, &Batch::new(11)).await
    };
    let ((), refused) = futures::join!(close, submit);
    assert_eq!(refused, Written::Dropped(Dropped::Stopping));
    for receipt in receipts.into_iter().chain([more]) {
        assert!(matches!(receipt.now_or_never(), Some(Written::Appended { .. })), "told before close returned");
    }
    assert_eq!(late.writer.metrics().flushes_closing.get(), 1);
    late.writer.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_tells_everybody() {
    let world = World::new(Settings { bundle_batches: 1, ..settings() });
    world.ledger.set_latency(Duration::from_millis(100));
    let committing = world.submit_one(1, 0, &Batch::new(0));
    sleep(Span::from_millis(10)).await;
    world.ledger.stop();
    let buffered = world.submit_one(1, 0, &Batch::new(1));
    assert_eq!(buffered.await, Written::Dropped(Dropped::Stopping));
    assert_eq!(offset(committing.await), 0, "what was in commit has its verdict");
    world.writer.close().await;
    assert_eq!(world.submit_one(1, 0, &Batch::new(2)).await, Written::Dropped(Dropped::Stopping));
}

/// Tasks that can be killed.
#[derive(Default)]
struct Killable(Mutex<Vec<tokio::task::AbortHandle>>);

impl Spawn for Killable {
    #[expect(clippy::disallowed_methods, reason = "a spawn port of the test's own")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        self.0.lock().push(tokio::spawn(task).abort_handle());
    }
}

#[tokio::test(start_paused = true)]
async fn the_death_of_the_driver_tells_everybody() {
    let tasks = Arc::new(Killable::default());
    let env = Env { tasks: tasks.clone(), ..Env::real() };
    let world = World::with_env(env, Settings { flushes_per_second: 1, flush_burst: 1, ..settings() });
    world.ledger.set_latency(Duration::from_secs(100));
    let committing = world.submit_one(1, 0, &Batch::new(0));
    sleep(Span::from_millis(10)).await;
    let buffered = world.submit_one(1, 0, &Batch::new(1));
    tasks.0.lock().iter().for_each(tokio::task::AbortHandle::abort);
    let told = tokio::time::timeout(Span::from_secs(1), join_all([committing, buffered])).await;
    assert_eq!(told, Ok(vec![Written::Unknown, Written::Dropped(Dropped::Stopping)]));
    assert_eq!(world.submit_one(1, 0, &Batch::new(2)).await, Written::Dropped(Dropped::Stopping));
    world.writer.close().await;
}
