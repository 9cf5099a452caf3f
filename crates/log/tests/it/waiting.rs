//! When a fetch is answered: long polls, barriers, deletion, objects that moved, memory under pressure. And what
//! it costs: one GET for many readers, none for the idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use kafscale_log::Ledger;
use kafscale_log::read::{FetchError, FetchLimits, FetchPartition, FetchRequest, Reader};
use kafscale_log::store::GetFault;
use kafscale_metadata::Command;
use kafscale_ports::{Clock, Env};
use kafscale_wire::records::{BatchBuilder, Codec};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::world::{Memory, PLENTY, Sent, TOPIC, World, create_topic, on_paused_clock, one, partition};

fn sent(index: u32, value_bytes: usize) -> Sent {
    let batch = BatchBuilder::new(Codec::None).record(1, None, Some(&vec![7; value_bytes])).build();
    Sent { partition: partition(index), batch, append_time: None }
}

fn waiting(index: u32, offset: i64, min_bytes: u64) -> FetchRequest {
    let FetchRequest { partitions, limits } = one(partition(index), offset, 1 << 20);
    FetchRequest { partitions, limits: FetchLimits { min_bytes, max_wait: Duration::from_secs(10), ..limits } }
}

#[expect(clippy::disallowed_methods, reason = "tests measure the paused clock")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_long_poll_sleeps_until_its_partition_advances() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        let reader = Arc::clone(&world.reader);
        let begun = now();
        let poll = tokio::join!(reader.fetch(waiting(0, 0, 1)), async {
            sleep(Duration::from_millis(300)).await;
            world.write(&[sent(1, 10)], true).await;
            sleep(Duration::from_millis(300)).await;
            world.write(&[sent(0, 10)], true).await;
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(600));
        assert!(poll.0.partitions[0].bytes > 0);
        assert_eq!(poll.0.partitions[0].bounds.high_watermark, 1);
        assert!(world.waiters.is_empty(), "a registration ends with its fetch");
    });
}

#[test]
fn an_idle_fetch_answers_nothing_at_the_end_and_costs_nothing() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        world.write(&[sent(0, 10)], false).await;
        let begun = now();
        let answer = world.fetch(waiting(0, 1, 1)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!((answer.partitions[0].bytes, answer.partitions[0].error), (0, None));
        assert_eq!((world.store.gets(), world.ledger.barriers.load(Ordering::SeqCst)), (0, 0));
        assert!(answer.reservation.is_none());
    });
}

#[test]
fn min_bytes_are_waited_for_and_what_there_is_is_answered_at_the_end() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        let reader = Arc::clone(&world.reader);
        let begun = now();
        let poll = tokio::join!(reader.fetch(waiting(0, 0, 400)), async {
            for _ in 0..4 {
                sleep(Duration::from_millis(100)).await;
                world.write(&[sent(0, 100)], true).await;
            }
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(400));
        assert!(poll.0.partitions[0].bytes >= 400 && world.end(partition(0)) >= 3);
        let answer = world.fetch(waiting(0, 1, 100_000)).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(10_400));
        assert!(answer.partitions[0].bytes > 0 && answer.partitions[0].bytes < 100_000);
        // More than the client's own limit is not waited for.
        let mut limited = waiting(0, 0, 100_000);
        limited.limits.max_bytes = 300;
        assert!(world.fetch(limited).await.partitions[0].bytes > 0);
        assert_eq!(begun.elapsed(), Duration::from_millis(10_400));
    });
}

#[test]
fn a_deleted_topic_ends_the_wait() {
    on_paused_clock(async {
        let world = World::new(PLENTY);
        let begun = now();
        let (answer, ()) = tokio::join!(world.fetch(waiting(0, 0, 1)), async {
            sleep(Duration::from_millis(50)).await;
            world.ledger.fold(Command::DeleteTopic { topic: TOPIC });
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(50));
        assert_eq!(answer.partitions[0].error, Some(FetchError::UnknownTopicOrPartition));
    });
}

#[test]
fn unknown_and_out_of_range_are_said_only_after_a_barrier() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        // Beyond this broker's fold, within the journal.
        let (_, commit) = world.upload(&[sent(0, 10), sent(0, 10)], true).await;
        world.ledger.fold_later(Command::CommitBundle(commit));
        let answer = world.fetch(waiting(0, 1, 1)).await;
        assert_eq!(answer.partitions[0].error, None);
        assert!(answer.partitions[0].bytes > 0);
        assert_eq!(world.ledger.barriers.load(Ordering::SeqCst), 1);
        for offset in [-1, 3, i64::MAX] {
            let got = world.fetch(waiting(0, offset, 1)).await.partitions.remove(0);
            assert_eq!(got.error, Some(FetchError::OffsetOutOfRange));
            assert_eq!((got.bounds.log_start, got.bounds.high_watermark), (0, 2));
        }
        assert_eq!(world.fetch(waiting(8, 0, 1)).await.partitions[0].error, Some(FetchError::UnknownTopicOrPartition));

        // A topic that this broker has not heard of yet.
        let world = World::new(PLENTY);
        world.ledger.fold(Command::DeleteTopic { topic: TOPIC });
        world.ledger.fold_later(create_topic());
        let answer = world.fetch(one(partition(0), 0, 100)).await;
        assert_eq!(answer.partitions[0].error, None);
    });
}

#[test]
fn an_object_that_is_not_there_is_never_out_of_range() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        let name = world.write(&[sent(0, 10)], false).await;
        world.store.plan_gets([GetFault::NotFound]);
        let got = world.read_from(partition(0), 0).await;
        assert!(got.error.is_none() && got.bytes > 0, "the second attempt finds it");
        assert_eq!(world.ledger.barriers.load(Ordering::SeqCst), 1);

        let mut world = World::new(PLENTY);
        let other = world.write(&[sent(0, 10)], false).await;
        assert_eq!(name, other);
        world.store.remove(&other);
        assert_eq!(world.read_from(partition(0), 0).await.error, Some(FetchError::StoreFailed));
        world.write(&[sent(0, 10)], true).await;
        world.store.plan_gets([GetFault::Failed]);
        assert_eq!(world.read_from(partition(0), 0).await.error, Some(FetchError::StoreFailed));
        assert!(world.read_from(partition(0), 1).await.bytes > 0);
    });
}

#[test]
fn many_readers_of_a_cold_bundle_cost_one_get() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        world.write(&[sent(0, 10), sent(1, 10)], false).await;
        world.store.set_latency(Duration::from_millis(20));
        let reads = (0..50).map(|i| world.read_from(partition(i % 2), 0));
        assert!(join_all(reads).await.iter().all(|got| got.bytes > 0));
        assert_eq!((world.store.gets(), world.cache.counters().loads.load(Ordering::SeqCst)), (1, 1));
        // A reader that gives up while it loads leaves the load to the next one.
        let mut world = World::new(PLENTY);
        world.write(&[sent(0, 10)], false).await;
        world.store.set_latency(Duration::from_millis(20));
        let mut first = Box::pin(world.read_from(partition(0), 0));
        assert!(first.as_mut().now_or_never().is_none());
        let (second, ()) = tokio::join!(world.read_from(partition(0), 0), async {
            sleep(Duration::from_millis(5)).await;
            drop(first);
        });
        assert!(second.bytes > 0);
        assert_eq!(world.store.gets(), 2);
    });
}

#[test]
fn reading_the_past_does_not_evict_the_tail() {
    on_paused_clock(async {
        let mut world = World::new(Memory { tail: 100_000, fetched: 50_000, ..PLENTY });
        for _ in 0..20 {
            world.write(&[sent(0, 20_000)], false).await;
        }
        for _ in 0..10 {
            world.write(&[sent(1, 20_000)], true).await;
        }
        let (tail, _) = world.cache.held_bytes();
        assert!(tail > 60_000 && tail <= 100_000, "{tail}");
        for offset in 0..20 {
            assert!(world.read_from(partition(0), offset).await.bytes > 0);
            assert!(world.cache.held_bytes().1 <= 50_000);
        }
        assert_eq!(world.cache.held_bytes().0, tail);
        let gets = world.store.gets();
        assert!(world.read_from(partition(1), 7).await.bytes > 0);
        assert_eq!(world.store.gets(), gets, "the newest three are where they were");
        world.read_from(partition(1), 0).await;
        assert!(world.store.gets() > gets, "the oldest are not");
    });
}

#[test]
fn what_is_being_sent_counts_until_it_is_sent() {
    on_paused_clock(async {
        let mut world = World::new(Memory { tail: 0, fetched: 30_000, ..PLENTY });
        world.write(&[sent(0, 20_000)], false).await;
        world.write(&[sent(1, 20_000)], false).await;
        let slow = world.read_from(partition(0), 0).await;
        let mut blocked = Box::pin(world.read_from(partition(1), 0));
        assert!(blocked.as_mut().now_or_never().is_none(), "its bundle has no room beside the one being sent");
        assert!(slow.bytes > 20_000);
        drop(slow);
        assert!(blocked.await.bytes > 20_000);
    });
}

#[test]
fn under_pressure_an_answer_has_less_but_never_less_than_a_batch() {
    on_paused_clock(async {
        let mut world = World::new(Memory { answers: 64 << 10, ..PLENTY });
        let bundle: Vec<Sent> = (0..40).map(|_| sent(0, 1_000)).collect();
        world.write(&bundle, true).await;
        let first = world.fetch(one(partition(0), 0, 1 << 20)).await;
        assert!(first.partitions[0].bytes > 40_000, "all of it");
        let reader = Arc::clone(&world.reader);
        let mut second = Box::pin(reader.fetch(one(partition(0), 0, 1 << 20)));
        assert!(second.as_mut().now_or_never().is_none(), "the first answer still holds its memory");
        drop(first);
        assert!(second.await.partitions[0].bytes >= 1_000);
        // A batch that exceeds all budgets and limits is answered.
        world.write(&[sent(1, 100 << 10)], true).await;
        assert!(world.fetch(one(partition(1), 0, 1)).await.partitions[0].bytes > 100 << 10);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Readers and a writer, interleaved at random: each reader gets every record as soon as it is folded, so a lost
    /// wake-up shows as time that passed.
    #[test]
    fn no_wake_up_is_lost(
        delays in prop::collection::vec((0u64..3, 0u32..3), 1..40),
        pauses in prop::collection::vec(0u64..3, 3),
    ) {
        on_paused_clock(async {
            let mut world = World::new(PLENTY);
            let last = delays.iter().map(|(pause, _)| pause).sum::<u64>();
            let expected: Vec<i64> =
                (0..3).map(|p| delays.iter().filter(|(_, index)| *index == p).count() as i64).collect();
            let begun = now();
            let readers: Vec<_> = (0..3).map(|index| {
                let (reader, until) = (Arc::clone(&world.reader), expected[index as usize]);
                let pause = Duration::from_millis(pauses[index as usize]);
                async move {
                    let mut offset = 0;
                    while offset < until {
                        let answer = reader.fetch(waiting(index, offset, 1)).await;
                        assert!(answer.partitions[0].bytes > 0, "a wake-up was lost");
                        offset = answer.partitions[0].bounds.high_watermark;
                        sleep(pause).await;
                    }
                }
            }).collect();
            let writer = async {
                for (pause, index) in &delays {
                    sleep(Duration::from_millis(*pause)).await;
                    world.write(&[sent(*index, 10)], true).await;
                }
            };
            tokio::join!(join_all(readers), writer);
            assert!(begun.elapsed() <= Duration::from_millis(last + 10), "time passed: a wake-up was lost");
        });
    }
}

type Action = Box<dyn FnOnce() + Send>;

/// A clock that does something at its n-th reading. A fetch reads it between its look at the state and its sleep.
struct TrippingClock {
    readings: AtomicU32,
    trip: Mutex<Option<(u32, Action)>>,
}

impl Clock for TrippingClock {
    fn now(&self) -> Instant {
        let reading = self.readings.fetch_add(1, Ordering::SeqCst);
        let tripped = self.trip.lock().take_if(|(at, _)| *at == reading);
        if let Some((_, action)) = tripped {
            action();
        }
        now()
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

#[test]
fn a_record_that_comes_between_the_look_and_the_sleep_is_seen() {
    let mut tripped = 0;
    for at in 0..6 {
        on_paused_clock(async {
            let mut world = World::new(PLENTY);
            let (_, commit) = world.upload(&[sent(0, 10)], true).await;
            let ledger = Arc::clone(&world.ledger);
            let fold = move || drop(ledger.fold(Command::CommitBundle(commit)));
            let clock =
                Arc::new(TrippingClock { readings: AtomicU32::new(0), trip: Mutex::new(Some((at, Box::new(fold)))) });
            let env = Env { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Env::real() };
            let ledger = Arc::clone(&world.ledger) as Arc<dyn Ledger>;
            let reader =
                Reader::new(&env, ledger, Arc::clone(&world.cache), world.waiters.clone(), world.answers.clone());
            let begun = now();
            let answer = reader.fetch(waiting(0, 0, 1)).await;
            if clock.trip.lock().is_none() && begun.elapsed() == Duration::ZERO {
                assert!(answer.partitions[0].bytes > 0);
                tripped += 1;
            } else {
                // The fetch slept before it read the clock as often: the record came at its end or never.
                assert!(at > 2, "a record that came at reading {at} was slept over");
            }
        });
    }
    assert!(tripped >= 3, "before the look, before the registration, and before the sleep");
}

#[test]
fn threads_that_race_lose_no_wake_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(PLENTY);
        let reader = Arc::clone(&world.reader);
        let env = Env::real();
        let (done, finished) = tokio::sync::oneshot::channel();
        env.tasks.spawn(
            "reader",
            async move {
                let mut offset = 0;
                while offset < 2_000 {
                    let answer = reader.fetch(waiting(0, offset, 1)).await;
                    assert!(answer.partitions[0].bytes > 0, "a wake-up was lost at {offset}");
                    offset = answer.partitions[0].bounds.high_watermark;
                }
                done.send(()).unwrap();
            }
            .boxed(),
        );
        for _ in 0..2_000 {
            world.write(&[sent(0, 10)], true).await;
        }
        finished.await.unwrap();
    });
}

#[test]
fn a_fetch_of_nothing_is_answered_at_once() {
    on_paused_clock(async {
        let world = World::new(PLENTY);
        let none = FetchRequest { partitions: Vec::<FetchPartition>::new(), ..waiting(0, 0, 1) };
        assert!(world.fetch(none).await.partitions.is_empty());
    });
}
