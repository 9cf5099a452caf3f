//! The write path when store and journal fail: retries, giving up and what goes along, and the books at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use kafscale_log::write::{Dropped, Settings, Written};
use kafscale_metadata::{Refusal, Verdict};
use tokio::time::{Duration as Span, sleep};

use crate::write_world::{Batch, CommitFault, PutFault, World, partition, settings};

const GIVEN_UP: [(u64, PutFault); 4] = [(0, PutFault::Refused); 4];

fn is_appended(outcome: &Written) -> bool {
    matches!(outcome, Written::Appended { .. })
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_is_tried_again_under_a_new_name() {
    let world = World::new(settings());
    world.store.plan([(0, PutFault::Refused), (0, PutFault::UnknownLanded), (0, PutFault::UnknownLost)]);
    assert!(is_appended(&world.submit_one(1, 0, &Batch::new(0).of(3, 0)).await));
    assert_eq!(world.ledger.commits()[0].number, 3);
    assert_eq!(world.ledger.unsettled(), BTreeSet::from([1, 2]), "names of unknown outcome are never settled");
    assert_eq!(world.writer.metrics().retries.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_hangs_is_given_up_in_time() {
    let world = World::new(settings());
    world.store.plan([(0, PutFault::Hangs)]);
    let outcome = tokio::time::timeout(Span::from_secs(30), world.submit_one(1, 0, &Batch::new(0))).await;
    assert_eq!(outcome, Ok(Written::Dropped(Dropped::StoreFailed)));
    assert!(is_appended(&world.submit_one(1, 0, &Batch::new(1)).await));
}

/// A bundle is given up, by its fourth refusal after 700 ms, while a later one is uploaded and more wait to be sealed.
#[tokio::test(start_paused = true)]
async fn giving_up_takes_later_batches_of_the_same_producers_along_and_only_these() {
    let world = World::new(Settings { flushes_per_second: 1, flush_burst: 2, ..settings() });
    let refused = (0, PutFault::Refused);
    world.store.plan([refused, (0, PutFault::None), refused, refused, refused]);
    let first = world.submit_one(1, 0, &Batch::new(0).of(1, 0));
    sleep(Span::from_millis(10)).await;
    let uploaded = [
        world.submit_one(1, 0, &Batch::new(1).of(2, 0)),
        world.submit_one(1, 0, &Batch::new(2).of(1, 1)),
        world.submit_one(1, 0, &Batch::new(3).of(2, 1)),
        world.submit_one(1, 0, &Batch::new(4)),
        world.submit_one(1, 1, &Batch::new(5).of(1, 0)),
    ];
    sleep(Span::from_millis(590)).await;
    assert_eq!(world.store.objects.puts(), 1, "the later bundle is stored");
    let buffered = [
        world.submit_one(1, 0, &Batch::new(6).of(1, 2)),
        world.submit_one(1, 1, &Batch::new(7).of(1, 1)),
        world.submit_one(1, 0, &Batch::new(8).of(2, 2)),
    ];
    assert_eq!(first.await, Written::Dropped(Dropped::StoreFailed));
    let along = Written::Dropped(Dropped::Predecessor);
    let outcomes = join_all(uploaded).await;
    assert_eq!(outcomes[1], along);
    assert!([0, 2, 3, 4].iter().all(|&at| is_appended(&outcomes[at])), "{outcomes:?}");
    let runs: Vec<_> = world.ledger.commits()[0].runs.iter().map(|run| (run.partition, run.batches.len())).collect();
    assert_eq!(runs, [(partition(0), 1), (partition(0), 2), (partition(1), 1)], "the run is split");
    assert_eq!(world.writer.metrics().flushes_budget.get(), 2, "the last ones were not sealed yet");
    let outcomes = join_all(buffered).await;
    assert_eq!(outcomes[0], along);
    assert!(is_appended(&outcomes[1]) && is_appended(&outcomes[2]), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_start_of_a_producer_is_never_skipped() {
    // Without the rule the fold, which knows nothing of producer 500 (not strict), would take sequence 1 as its start.
    let world = World::new(Settings { bundle_batches: 1, ..settings() });
    world.store.plan([(50, PutFault::Full)]);
    let outcomes = join_all((0..5).map(|n| world.submit_one(1, 0, &Batch::new(n.into()).of(500, n)))).await;
    assert!(!outcomes.iter().any(is_appended), "{outcomes:?}");
    assert!(world.ledger.judged().is_empty());
    sleep(Span::from_secs(2)).await;
    let again = join_all((0..5).map(|n| world.submit_one(1, 0, &Batch::new(n.into()).of(500, n)))).await;
    assert!(again.iter().all(is_appended), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_waits_for_its_retry_holds_later_commits() {
    let world = World::new(Settings { bundle_batches: 1, ..settings() });
    world.store.plan([(0, PutFault::Refused)]);
    let outcomes = join_all((0..5).map(|n| world.submit_one(1, 0, &Batch::new(n.into())))).await;
    let expected: Vec<_> =
        (0..5).map(|first_offset| Written::Appended { first_offset, log_start: 0, append_time: None }).collect();
    assert_eq!(outcomes, expected);
}

#[tokio::test(start_paused = true)]
async fn each_batch_gets_its_own_verdict() {
    let world = World::new(settings());
    let batches = [Batch::new(0).of(1, 0), Batch::new(1).of(1, 0), Batch::new(2).of(1, 7), Batch::new(3)];
    let receipts = world.submit(1, batches.iter().map(|batch| (partition(0), batch.valid())).collect());
    let appended = |first_offset| Written::Appended { first_offset, log_start: 0, append_time: None };
    let outcomes = join_all(receipts).await;
    let out_of_order = Written::Refused(Refusal::OutOfOrderSequence);
    assert_eq!(outcomes, [appended(0), appended(0), out_of_order, appended(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_refuses_is_a_definite_answer_and_silence_is_not() {
    let world = World::new(settings());
    world.ledger.plan([CommitFault::Refused, CommitFault::UnknownLanded, CommitFault::UnknownLost]);
    assert_eq!(world.submit_one(1, 0, &Batch::new(0)).await, Written::Dropped(Dropped::JournalFull));
    assert_eq!(world.submit_one(1, 0, &Batch::new(1)).await, Written::Unknown);
    assert_eq!(world.submit_one(1, 0, &Batch::new(2)).await, Written::Unknown);
    assert_eq!(world.ledger.unsettled(), BTreeSet::from([1, 2]), "an entry may refer to these");
}

#[tokio::test(start_paused = true)]
async fn given_up_bundles_let_others_go_on() {
    let world = World::new(Settings { bundle_batches: 1, ..settings() });
    world.store.plan(GIVEN_UP);
    assert_eq!(world.submit_one(1, 0, &Batch::new(0)).await, Written::Dropped(Dropped::StoreFailed));
    assert!(is_appended(&world.submit_one(1, 0, &Batch::new(1)).await));
    assert_eq!((world.writer.metrics().given_up.get(), world.writer.metrics().retries.get()), (1, 3));
}

/// A small generator of random numbers (SplitMix64), so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn random_put(dice: &mut Dice) -> (u64, PutFault) {
    let fault = match dice.roll(12) {
        0 | 1 => PutFault::Refused,
        2 => PutFault::Full,
        3 | 4 => PutFault::UnknownLanded,
        5 | 6 => PutFault::UnknownLost,
        7 if dice.roll(8) == 0 => PutFault::Hangs,
        _ => PutFault::None,
    };
    (dice.roll(40), fault)
}

fn random_commit(dice: &mut Dice) -> CommitFault {
    match dice.roll(20) {
        0 => CommitFault::Refused,
        1 => CommitFault::UnknownLanded,
        2 => CommitFault::UnknownLost,
        _ => CommitFault::None,
    }
}

struct Sent {
    tag: i64,
    producer: Option<(i64, i32)>,
    outcome: Written,
}

/// Random traffic of three connections, each with a producer of its own and plain batches between.
async fn random_run(seed: u64) -> (World, Vec<Sent>) {
    let mut dice = Dice(seed);
    let world = World::new(Settings {
        bundle_batches: 1 + dice.roll(6) as usize,
        upload_window: 1 + dice.roll(4) as usize,
        flushes_per_second: 50 + dice.roll(500) as u32,
        flush_burst: 1 + dice.roll(4) as u32,
        ..settings()
    });
    world.ledger.set_latency(Duration::from_millis(dice.roll(20)));
    world.store.plan((0..200).map(|_| random_put(&mut dice)).collect::<Vec<_>>());
    world.ledger.plan((0..100).map(|_| random_commit(&mut dice)).collect::<Vec<_>>());
    let (mut sequences, mut sent, mut receipts) = ([0; 3], Vec::new(), Vec::new());
    for tag in 0..120 {
        let connection = dice.roll(3) as usize;
        let mut batch = Batch::new(tag);
        if dice.roll(3) > 0 {
            // The third is unknown to the fold: it may start anywhere.
            batch = batch.of([1, 2, 500][connection], sequences[connection]);
            sequences[connection] += 1;
        }
        let producer = batch.producer.map(|producer| (producer.id, producer.first_sequence));
        sent.push((tag, producer));
        receipts.push(world.submit_one(connection as u64, connection as u32, &batch));
        if dice.roll(3) == 0 {
            sleep(Span::from_millis(dice.roll(30))).await;
        }
    }
    let outcomes = tokio::time::timeout(Span::from_secs(600), join_all(receipts)).await.expect("everybody is told");
    let sent = sent.into_iter().zip(outcomes).map(|((tag, producer), outcome)| Sent { tag, producer, outcome });
    (world, sent.collect())
}

fn check(seed: u64, world: &World, sent: &[Sent]) {
    let judged: BTreeMap<i64, Verdict> =
        world.ledger.judged().iter().map(|j| (j.meta.max_timestamp, j.verdict)).collect();
    assert_eq!(judged.len(), world.ledger.judged().len(), "seed {seed}: a batch was committed twice");
    let mut last: BTreeMap<i64, (i32, i64)> = BTreeMap::new();
    for Sent { tag, producer, outcome } in sent {
        let verdict = judged.get(tag);
        match (outcome, verdict) {
            (Written::Appended { first_offset, .. }, Some(Verdict::Accepted { first_offset: at, .. })) => {
                assert_eq!(first_offset, at, "seed {seed}, batch {tag}");
            }
            (Written::Refused(told), Some(Verdict::Refused(refusal))) => assert_eq!(told, refusal),
            (Written::Dropped(_), None) | (Written::Unknown, _) => {}
            other => panic!("seed {seed}, batch {tag}: {other:?}"),
        }
        if let (Some((id, sequence)), Some(Verdict::Accepted { first_offset, .. })) = (producer, verdict)
            && let Some((before, offset)) = last.insert(*id, (*sequence, *first_offset))
        {
            assert!(before < *sequence && offset < *first_offset, "seed {seed}: order of producer {id}");
        }
    }
    let unsettled = world.ledger.unsettled();
    assert!(world.store.unknown.lock().is_subset(&unsettled), "seed {seed}: settled with a PUT of unknown outcome");
}

#[test]
fn under_random_faults_everybody_is_told_the_truth_once() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (world, sent) = random_run(seed).await;
            check(seed, &world, &sent);
            for sent in &sent {
                let kind = match sent.outcome {
                    Written::Appended { .. } => "appended",
                    Written::Refused(_) => "refused",
                    Written::Dropped(Dropped::Predecessor) => "taken along",
                    Written::Dropped(Dropped::StoreFull) => "store full",
                    Written::Dropped(Dropped::StoreFailed) => "store failed",
                    Written::Dropped(Dropped::JournalFull) => "journal full",
                    Written::Dropped(_) => "other",
                    Written::Unknown => "unknown",
                };
                *seen.entry(kind).or_default() += 1;
            }
        });
    }
    for kind in ["appended", "refused", "taken along", "store full", "store failed", "journal full", "unknown"] {
        assert!(seen.get(kind).is_some_and(|&n| n > 100), "what never happened was never tested: {kind} in {seen:?}");
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (world, sent) = random_run(seed).await;
            (world.ledger.commits(), sent.iter().map(|sent| sent.outcome).collect::<Vec<_>>())
        })
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
