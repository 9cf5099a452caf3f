//! What a fetch tells when it is not the first one for its partitions (KIP-227): what has changed, all of it, and
//! nothing else. And that an idle partition costs nothing, however many there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_log::read::{Bounds, FetchAnswer, FetchLimits, FetchPartition, Interest, SlotId};
use kafscale_metadata::{Command, TopicId, TopicPartition};
use kafscale_wire::records::{BatchBuilder, Codec};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::world::{PLENTY, Sent, TOPIC, World, on_paused_clock, partition};

const AT_ONCE: FetchLimits = FetchLimits { max_bytes: 1 << 30, min_bytes: 1, max_wait: Duration::ZERO };
const PATIENT: FetchLimits = FetchLimits { max_wait: Duration::from_secs(5), ..AT_ONCE };

fn wanted(partition: TopicPartition, offset: i64) -> FetchPartition {
    FetchPartition { partition, offset, max_bytes: 1 << 20 }
}

fn sent(index: u32, value_bytes: usize) -> Sent {
    let batch = BatchBuilder::new(Codec::None).record(1, None, Some(&vec![7; value_bytes])).build();
    Sent { partition: partition(index), batch, append_time: None }
}

fn told(answer: &FetchAnswer) -> Vec<(u32, u64, i64)> {
    answer.partitions.iter().map(|data| (data.partition.partition, data.bytes, data.bounds.high_watermark)).collect()
}

#[expect(clippy::disallowed_methods, reason = "tests measure the paused clock")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn the_first_answer_tells_everything_and_the_next_what_changed() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        let mut interest = Interest::new();
        let slots: Vec<SlotId> = (0..4).map(|index| interest.add(wanted(partition(index), 0))).collect();
        let reader = Arc::clone(&world.reader);
        assert_eq!(
            told(&reader.fetch_news(&mut interest, AT_ONCE).await),
            [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)]
        );

        let begun = now();
        assert!(told(&reader.fetch_news(&mut interest, PATIENT).await).is_empty());
        assert_eq!(begun.elapsed(), PATIENT.max_wait, "nothing to tell is told at the end");

        let begun = now();
        let (answer, ()) = tokio::join!(reader.fetch_news(&mut interest, PATIENT), async {
            sleep(Duration::from_millis(300)).await;
            world.write(&[sent(2, 10)], true).await;
        });
        assert_eq!(begun.elapsed(), Duration::from_millis(300));
        let bytes = answer.partitions[0].bytes;
        assert_eq!(told(&answer), [(2, bytes, 1)]);

        // Between two fetches; and as long as the client does not go on it is told again.
        world.write(&[sent(1, 10), sent(3, 10)], true).await;
        let answer = reader.fetch_news(&mut interest, AT_ONCE).await;
        assert_eq!(told(&answer), [(1, bytes, 1), (3, bytes, 1), (2, bytes, 1)]);
        for (slot, index) in slots.iter().zip(0..).skip(1) {
            interest.update(*slot, wanted(partition(index), 1));
        }
        assert!(told(&reader.fetch_news(&mut interest, AT_ONCE).await).is_empty());

        // Bounds alone are news too, but no reason to answer early.
        world.write(&[sent(0, 10)], true).await;
        interest.update(slots[0], wanted(partition(0), 1));
        let begun = now();
        let answer = reader.fetch_news(&mut interest, PATIENT).await;
        assert_eq!(begun.elapsed(), PATIENT.max_wait);
        assert_eq!(told(&answer), [(0, 0, 1)]);

        drop(interest);
        assert!(world.waiters.is_empty());
    });
}

#[test]
fn an_error_is_told_each_time_and_its_end_once() {
    on_paused_clock(async {
        let world = World::new(PLENTY);
        let reader = &world.reader;
        let mut interest = Interest::new();
        let nowhere = TopicPartition { topic: TopicId(99), partition: 0 };
        let slot = interest.add(wanted(nowhere, 0));
        interest.add(wanted(partition(0), 0));
        for expected in [2, 1, 1] {
            let answer = reader.fetch_news(&mut interest, PATIENT).await;
            assert_eq!(answer.partitions.len(), expected);
            assert!(answer.partitions[0].error.is_some());
        }
        interest.update(slot, wanted(partition(1), 0));
        assert_eq!(told(&reader.fetch_news(&mut interest, AT_ONCE).await), [(1, 0, 0)]);
        assert!(told(&reader.fetch_news(&mut interest, AT_ONCE).await).is_empty());
        world.ledger.fold(Command::DeleteTopic { topic: TOPIC });
        assert_eq!(reader.fetch_news(&mut interest, PATIENT).await.partitions.len(), 2, "a deletion wakes");
    });
}

#[test]
fn who_gave_records_goes_to_the_end() {
    on_paused_clock(async {
        let mut world = World::new(PLENTY);
        let mut interest = Interest::new();
        let sizes: Vec<Sent> = (0..3).map(|index| sent(index, 100)).collect();
        world.write(&sizes, true).await;
        for index in 0..3 {
            interest.add(wanted(partition(index), 0));
        }
        let small = FetchLimits { max_bytes: 1, ..AT_ONCE };
        let mut order = Vec::new();
        for _ in 0..6 {
            let answer = world.reader.fetch_news(&mut interest, small).await;
            order.extend(answer.partitions.iter().filter(|data| data.bytes > 0).map(|data| data.partition.partition));
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2], "though no offset went on");
    });
}

/// What a client does between two fetches.
#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    GoOn(u32),
    Seek(u32, i64),
    Forget(u32),
    Add(u32),
    Fetch { waits: bool, while_writing: Option<u32> },
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..6u32;
    prop_oneof![
        2 => index.clone().prop_map(Step::Write),
        3 => index.clone().prop_map(Step::GoOn),
        1 => (index.clone(), 0..3i64).prop_map(|(index, offset)| Step::Seek(index, offset)),
        1 => index.clone().prop_map(Step::Forget),
        2 => index.clone().prop_map(Step::Add),
        4 => (any::<bool>(), proptest::option::of(index))
            .prop_map(|(waits, while_writing)| Step::Fetch { waits, while_writing }),
    ]
}

/// What a client knows of one partition.
struct Known {
    slot: SlotId,
    offset: i64,
    bounds: Option<Bounds>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 300 }))]

    /// Whatever happens, after an answer that no limit cut the client knows all bounds as they are, and got records of
    /// every partition that has some: nothing is ever forgotten. Nothing is told twice but records.
    #[test]
    fn a_client_never_misses_a_change(steps in proptest::collection::vec(step(), 1..60)) {
        on_paused_clock(async {
            let mut world = World::new(PLENTY);
            let mut interest = Interest::new();
            let mut known: BTreeMap<u32, Known> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(index) => drop(world.write(&[sent(index, 10)], true).await),
                    Step::GoOn(index) | Step::Seek(index, _) => {
                        let Some(known) = known.get_mut(&index) else { continue };
                        let end = world.end(partition(index));
                        known.offset = if let Step::Seek(_, offset) = step { offset.min(end) } else { end };
                        interest.update(known.slot, wanted(partition(index), known.offset));
                    }
                    Step::Forget(index) => {
                        if let Some(known) = known.remove(&index) {
                            interest.remove(known.slot);
                        }
                    }
                    Step::Add(index) => {
                        known.entry(index).or_insert_with(|| {
                            Known { slot: interest.add(wanted(partition(index), 0)), offset: 0, bounds: None }
                        });
                    }
                    Step::Fetch { waits, while_writing } => {
                        let limits = if waits { PATIENT } else { AT_ONCE };
                        let reader = Arc::clone(&world.reader);
                        let write = async {
                            sleep(Duration::from_millis(10)).await;
                            if let Some(index) = while_writing {
                                world.write(&[sent(index, 10)], true).await;
                            }
                        };
                        let (answer, ()) = tokio::join!(reader.fetch_news(&mut interest, limits), write);
                        check(&answer, &mut known);
                        // What was written after the answer is news for the next one.
                        let answer = reader.fetch_news(&mut interest, AT_ONCE).await;
                        check(&answer, &mut known);
                        let state = world.ledger.state();
                        for (index, known) in &known {
                            let bounds = state.partition(partition(*index)).map(Bounds::of);
                            assert_eq!(known.bounds, bounds, "of partition {index}");
                            let has_records = answer.partitions.iter().any(|data| data.partition.partition == *index && data.bytes > 0);
                            assert_eq!(has_records, known.offset < world.end(partition(*index)), "of partition {index}");
                        }
                    }
                }
                assert_eq!(interest.len(), known.len());
            }
            drop(interest);
            assert!(world.waiters.is_empty());
        });
    }
}

fn check(answer: &FetchAnswer, known: &mut BTreeMap<u32, Known>) {
    for data in &answer.partitions {
        let known = known.get_mut(&data.partition.partition).expect("what was asked for");
        assert_eq!(known.slot, data.slot);
        let before = known.bounds.replace(data.bounds);
        assert!(data.bytes > 0 || before.is_none_or(|before| before != data.bounds), "this is no news");
    }
}
