//! The replica over a journal in memory, with its faults: who is told what, and what lands how often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kafscale_broker::ledger::{End, LoadError, OffsetExpiry, Parts, Replica, SnapshotSettings};
use kafscale_broker::metrics::Metrics;
use kafscale_journal::Journal;
use kafscale_journal::memory::{Fault, MemoryJournal};
use kafscale_log::store::{GetFault, MemoryStore, PutFault};
use kafscale_log::{CommitError, Ledger};
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, ObjectKind, OpenSession, Outcome, Run, TopicId, TopicPartition,
    Verdict, snapshot,
};
use kafscale_ports::Env;

const TOPIC: TopicId = TopicId(7);
/// How long offsets are kept.
const RETENTION: Duration = Duration::from_secs(60 * 60);

struct World {
    journal: Arc<MemoryJournal>,
    store: Arc<MemoryStore>,
}

impl World {
    fn new() -> Self {
        Self { journal: MemoryJournal::new(), store: Arc::new(MemoryStore::new()) }
    }

    async fn try_start(&self, every_entries: u64) -> Result<Arc<Replica>, LoadError> {
        let broker = OpenSession { broker_id: 1, identity: 1, listeners: Vec::new(), rack: None };
        let parts = Parts {
            env: Env::real(),
            journal: self.journal.clone(),
            sessions: None,
            room: None,
            lister: None,
            store: self.store.clone(),
            cluster: 1,
            incarnation: 2,
            broker,
            metrics: Arc::new(Metrics::new()),
            snapshots: SnapshotSettings { every_entries, every_bytes: u64::MAX },
            offsets: OffsetExpiry { retention: RETENTION, ..OffsetExpiry::default() },
        };
        Replica::start(parts).await
    }

    async fn start(&self) -> Arc<Replica> {
        self.try_start(u64::MAX).await.expect("a good journal")
    }

    async fn entries(&self) -> u64 {
        self.journal.end().await.expect("a live journal").ordinal
    }
}

fn create(topic: TopicId, name: &str) -> Command {
    Command::CreateTopic(CreateTopic { topic, name: name.to_owned(), partitions: 1, configs: BTreeMap::new() })
}

async fn commit_one(replica: &Replica) -> Result<Verdict, CommitError> {
    let object = replica.next_object(ObjectKind::Bundle).await.expect("a live session");
    let batch = BatchMeta { bytes: 100, records: 2, max_timestamp: 0, producer: None, transactional: false };
    let partition = TopicPartition { topic: TOPIC, partition: 0 };
    let runs = vec![Run { partition, position: 40, batches: vec![batch] }];
    let verdicts = replica.commit(CommitBundle { number: object.number, runs }).await;
    replica.settle(object);
    verdicts.map(|verdicts| verdicts[0][0])
}

fn accepted(first_offset: i64) -> Result<Verdict, CommitError> {
    Ok(Verdict::Accepted { first_offset, log_start: 0 })
}

#[tokio::test(start_paused = true)]
async fn the_outcome_is_the_folds_and_what_waits_shares_an_entry() {
    let world = World::new();
    let replica = world.start().await;
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Ok(Outcome::Done));
    let before = world.entries().await;
    let verdicts = join_all((0..20).map(|_| commit_one(&replica))).await;
    let expected: Vec<_> = (0..20).map(|n| accepted(n * 2)).collect();
    assert_eq!(verdicts, expected, "in the order of the calls");
    assert!(world.entries().await - before <= 2, "20 commits share entries");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_append_is_repeated_and_lands_once() {
    let world = World::new();
    let replica = world.start().await;
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Ok(Outcome::Done));
    for fault in [Fault::LoseReply, Fault::LoseRequest, Fault::Duplicate] {
        world.journal.script([fault]);
        commit_one(&replica).await.expect("known in the end");
        world.journal.deliver_late();
    }
    assert_eq!(commit_one(&replica).await, accepted(6), "each of the three landed once");
}

#[tokio::test(start_paused = true)]
async fn a_refused_entry_is_told_and_its_number_used_again() {
    let world = World::new();
    let replica = world.start().await;
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Ok(Outcome::Done));
    world.journal.script([Fault::Refuse]);
    assert_eq!(commit_one(&replica).await, Err(CommitError::Refused));
    assert_eq!(commit_one(&replica).await, accepted(0));
}

#[tokio::test(start_paused = true)]
async fn fenced_means_not_written_unless_an_attempt_was_unknown() {
    let world = World::new();
    let replica = world.start().await;
    world.journal.script([Fault::ExpireBefore]);
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Err(CommitError::Refused));
    assert_eq!(replica.ended().await, End::Fenced);

    let world = World::new();
    let replica = world.start().await;
    world.journal.script([Fault::LoseRequest, Fault::ExpireBefore]);
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Err(CommitError::Unknown));
    assert_eq!(replica.ended().await, End::Fenced);
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Err(CommitError::Refused), "nothing is proposed any more");
}

#[tokio::test(start_paused = true)]
async fn a_dead_journal_ends_the_broker_and_its_waiters_read_unknown() {
    let world = World::new();
    let replica = world.start().await;
    world.journal.die();
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Err(CommitError::Unknown));
    assert!(matches!(replica.ended().await, End::Failed(_)));
    assert!(replica.next_object(ObjectKind::Bundle).await.is_ok() || replica.over().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_went_back_is_noticed_running_and_starting() {
    let world = World::new();
    let replica = world.try_start(6).await.expect("a good journal");
    for n in 0..10 {
        assert_eq!(replica.propose(create(TopicId(n), &n.to_string())).await, Ok(Outcome::Done));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.journal.rewind_to(3);
    assert!(replica.barrier().await.is_err());
    assert!(matches!(replica.ended().await, End::Failed(why) if why.contains("back in time")));
    let refused = world.try_start(6).await.map(drop).expect_err("the snapshot is beyond the journal's end");
    assert!(refused.to_string().contains("back in time"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn object_numbers_go_on_over_blocks_and_are_used_once() {
    let world = World::new();
    let replica = world.start().await;
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Ok(Outcome::Done));
    for n in 0..300 {
        assert_eq!(commit_one(&replica).await, accepted(n * 2), "its reservation was committed before");
    }
    let state = replica.state();
    let session = state.session(replica.nonce()).expect("the open session");
    assert!(session.low() >= 290, "what is settled is passed: {}", session.low());
}

#[tokio::test(start_paused = true)]
async fn a_start_from_snapshot_and_tail_gives_the_same_state() {
    let world = World::new();
    let replica = world.try_start(10).await.expect("a good journal");
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Ok(Outcome::Done));
    for _ in 0..95 {
        commit_one(&replica).await.expect("no faults");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(replica.leave().await, End::Stopped);
    let pointer = world.journal.pointer().await.expect("a live journal").expect("snapshots were published");
    assert!(pointer.ordinal > 60 && pointer.truncatable > 0 && pointer.truncatable < pointer.ordinal);
    assert!(world.journal.read(0).await.is_err(), "the journal was truncated");
    assert_eq!(world.store.names().len(), 2, "superseded snapshots are deleted");

    let before = snapshot::content_hash(&replica.state());
    let hash = replica.state().hash();
    drop(replica);
    let second = world.start().await;
    assert_eq!(commit_one(&second).await, accepted(190));
    drop(second);

    // The same journal and the older snapshot, as if the newest could not be read.
    world.store.plan_gets([GetFault::Damaged(100)]);
    let third = world.start().await;
    assert_eq!(commit_one(&third).await, accepted(192));
    assert_ne!((before, hash), (snapshot::content_hash(&third.state()), third.state().hash()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_snapshot_moves_nothing_and_is_tried_again() {
    let world = World::new();
    world.store.plan_puts([PutFault::Refused, PutFault::UnknownLost, PutFault::UnknownLanded]);
    let replica = world.try_start(5).await.expect("a good journal");
    for n in 0..10 {
        assert_eq!(replica.propose(create(TopicId(n), &n.to_string())).await, Ok(Outcome::Done));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.journal.pointer().await.expect("a live journal"), None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let pointer = world.journal.pointer().await.expect("a live journal").expect("the fourth attempt succeeds");
    assert!(pointer.ordinal >= 10);
    let state = replica.state();
    let session = state.session(replica.nonce()).expect("the open session");
    assert!(session.low() <= 65, "a PUT without a final answer holds low back: {}", session.low());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_confirmed_does_not_stay() {
    let world = World::new();
    world.store.plan_gets([GetFault::Damaged(100)]);
    let replica = world.try_start(6).await.expect("a good journal");
    for n in 0..10 {
        assert_eq!(replica.propose(create(TopicId(n), &n.to_string())).await, Ok(Outcome::Done));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((world.store.puts(), world.store.names().len()), (1, 0));
    assert_eq!(world.journal.pointer().await.expect("a live journal"), None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.journal.pointer().await.expect("a live journal").is_some(), "the next attempt succeeds");
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_the_session_in_the_journal() {
    let world = World::new();
    let replica = world.start().await;
    assert_eq!(replica.leave().await, End::Stopped);
    assert_eq!(replica.propose(create(TOPIC, "t")).await, Err(CommitError::Refused));
    let second = world.start().await;
    assert_eq!(second.state().live_sessions().count(), 1);
}
