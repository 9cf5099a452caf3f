//! Committed offsets on their way through the replica: which of them share an entry, and when they are forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_broker::coordinator::GroupLedger;
use kafscale_broker::ledger::{End, OffsetExpiry, Parts, Replica, SnapshotSettings};
use kafscale_broker::metrics::Metrics;
use kafscale_journal::Journal;
use kafscale_journal::memory::MemoryJournal;
use kafscale_log::store::MemoryStore;
use kafscale_log::{Ledger, Stopped};
use kafscale_metadata::{
    Command, CommitOffsets, CompleteJoin, CompleteSync, CreateTopic, GroupMember, ObjectKind, OffsetCommit,
    OpenSession, Outcome, Part, TopicId, TopicPartition,
};
use kafscale_ports::{Clock, Env};
use tokio::time::{Instant, sleep};

const TOPICS: [(TopicId, &str); 2] = [(TopicId(7), "t"), (TopicId(8), "u")];
const LINGER: Duration = Duration::from_millis(25);
const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Instant {
    Env::real().clock.now()
}

/// A wall clock that goes with paused time.
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Instant {
        now()
    }

    fn wall_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from((self.now() - self.0).as_millis()).expect("a short test")
    }
}

struct World {
    journal: Arc<MemoryJournal>,
    replica: Arc<Replica>,
}

impl World {
    async fn start() -> Self {
        let env = Env::real();
        let clock = Arc::new(Paused(env.clock.now()));
        let journal = MemoryJournal::new();
        let parts = Parts {
            env: Env { clock, ..env },
            sessions: None,
            room: None,
            lister: None,
            journal: journal.clone(),
            store: Arc::new(MemoryStore::new()),
            cluster: 1,
            incarnation: 2,
            broker: OpenSession { broker_id: 1, identity: 1, listeners: Vec::new(), rack: None },
            metrics: Arc::new(Metrics::new()),
            snapshots: SnapshotSettings { every_entries: u64::MAX, every_bytes: u64::MAX },
            offsets: OffsetExpiry { retention: 60 * MINUTE, ..OffsetExpiry::default() },
        };
        let replica = Replica::start(parts).await.expect("a good journal");
        for (topic, name) in TOPICS {
            let (name, configs) = (name.to_owned(), BTreeMap::new());
            let create = Command::CreateTopic(CreateTopic { topic, name, partitions: 3, configs });
            assert_eq!(replica.propose(create).await, Ok(Outcome::Done));
        }
        Self { journal, replica }
    }

    async fn entries(&self) -> u64 {
        self.journal.end().await.expect("a live journal").ordinal
    }

    /// Commits after some time; how long that took then.
    async fn commit(&self, after: Duration, commit: Command) -> Duration {
        sleep(after).await;
        let begun = now();
        let outcome = self.replica.propose(commit).await;
        assert_eq!(outcome, Ok(Outcome::Offsets(vec![None; 1])));
        now() - begun
    }

    fn offsets(&self, group: &str) -> Option<usize> {
        self.replica.state().group(group).map(kafscale_metadata::Group::offset_count)
    }
}

fn offset(topic: usize, partition: u32) -> OffsetCommit {
    let partition = TopicPartition { topic: TOPICS[topic].0, partition };
    OffsetCommit { partition, offset: 5, leader_epoch: -1, metadata: String::new() }
}

fn commit(group: &str, offsets: Vec<OffsetCommit>) -> Command {
    let (group, member) = (group.to_owned(), String::new());
    Command::CommitOffsets(CommitOffsets { group, generation: -1, member, offsets })
}

fn one(group: &str) -> Command {
    commit(group, vec![offset(0, 0)])
}

#[tokio::test(start_paused = true)]
async fn offset_commits_wait_for_each_other() {
    let world = World::start().await;
    let before = world.entries().await;
    let (a, b, c) = tokio::join!(
        world.commit(Duration::ZERO, one("a")),
        world.commit(Duration::from_millis(10), one("b")),
        world.commit(Duration::from_millis(24), one("c")),
    );
    assert_eq!(world.entries().await - before, 1);
    assert_eq!([a, b, c], [25, 15, 1].map(Duration::from_millis), "all since the first");
    assert_eq!(world.commit(Duration::from_secs(1), one("d")).await, LINGER, "alone");
}

#[tokio::test(start_paused = true)]
async fn anything_else_takes_them_along_at_once() {
    let world = World::start().await;
    let before = world.entries().await;
    let other = async {
        sleep(Duration::from_millis(7)).await;
        let begun = now();
        let allocate = Command::AllocateProducerIds { count: 1 };
        assert_eq!(world.replica.propose(allocate).await, Ok(Outcome::ProducerIds { first: 0 }));
        now() - begun
    };
    let (a, b) = tokio::join!(world.commit(Duration::ZERO, one("a")), other);
    assert_eq!((a, b), (Duration::from_millis(7), Duration::ZERO));
    assert_eq!(world.entries().await - before, 1);
    // So does the end of the session; whether the fold was quicker is another matter.
    let stopping = async {
        sleep(Duration::from_millis(3)).await;
        let begun = now();
        assert_eq!(world.replica.leave().await, End::Stopped);
        now() - begun
    };
    let (_, took) = tokio::join!(world.replica.propose(one("a")), stopping);
    assert_eq!((took, world.entries().await - before), (Duration::ZERO, 3));
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_object_numbers_does_not_wait_for_them() {
    let world = World::start().await;
    for _ in 0..64 {
        world.replica.next_object(ObjectKind::Bundle).await.expect("a live session");
    }
    let wish = async {
        sleep(Duration::from_millis(7)).await;
        let begun = now();
        world.replica.next_object(ObjectKind::Snapshot).await.expect("a live session");
        now() - begun
    };
    let (took, commit) = tokio::join!(wish, world.commit(Duration::from_millis(5), one("a")));
    assert_eq!((took, commit), (Duration::ZERO, Duration::from_millis(2)));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_full_does_not_wait() {
    let world = World::start().await;
    let before = world.entries().await;
    let mut large = offset(0, 0);
    large.metadata = "m".repeat(4_096);
    let commits = (0..100).map(|n| world.commit(Duration::ZERO, commit(&n.to_string(), vec![large.clone()])));
    let took = futures::future::join_all(commits).await;
    assert_eq!(world.entries().await - before, 3);
    let late = took.iter().filter(|took| **took == LINGER).count();
    assert!((1..=20).contains(&late), "two entries are full, the third waits: {took:?}");
    assert!(took.iter().all(|took| took.is_zero() || *took == LINGER), "{took:?}");
}

fn member() -> GroupMember {
    GroupMember {
        id: "m".into(),
        instance: None,
        client_id: "c".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        subscription: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"),
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_expire_as_kafkas_do() {
    let world = World::start().await;
    let replica = &world.replica;
    let join = |members: Vec<GroupMember>, generation| {
        Command::CompleteJoin(CompleteJoin {
            group: "members".to_owned(),
            generation,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            leader: members.first().map_or_else(|| "".into(), |m| m.id.clone()),
            members,
            part: Part::WHOLE,
        })
    };
    let sync = CompleteSync {
        group: "members".to_owned(),
        generation: 1,
        assignments: vec![("m".into(), Bytes::new())],
        part: Part::WHOLE,
    };
    assert_eq!(replica.propose(join(vec![member()], 1)).await, Ok(Outcome::Done));
    assert_eq!(replica.propose(Command::CompleteSync(sync)).await, Ok(Outcome::Done));
    let of_member = CommitOffsets {
        group: "members".to_owned(),
        generation: 1,
        member: "m".to_owned(),
        offsets: vec![offset(0, 0), offset(1, 0)],
    };
    replica.propose(Command::CommitOffsets(of_member)).await.expect("a live session");
    replica.propose(commit("simple", vec![offset(0, 0), offset(0, 1)])).await.expect("a live session");
    sleep(30 * MINUTE).await;
    replica.propose(commit("simple", vec![offset(0, 1)])).await.expect("a live session");
    sleep(29 * MINUTE).await;
    assert_eq!((world.offsets("members"), world.offsets("simple")), (Some(2), Some(2)));
    sleep(12 * MINUTE).await;
    assert_eq!(world.offsets("simple"), Some(1), "the other one was committed again");
    assert_eq!(world.offsets("members"), Some(1), "nobody subscribes to u");
    sleep(30 * MINUTE).await;
    assert_eq!(world.offsets("simple"), None, "nothing is left of it");
    assert_eq!(world.offsets("members"), Some(1), "it has members that subscribe to t");
    assert_eq!(replica.propose(join(vec![], 2)).await, Ok(Outcome::Done));
    sleep(59 * MINUTE).await;
    assert_eq!(world.offsets("members"), Some(1));
    sleep(12 * MINUTE).await;
    assert_eq!(world.offsets("members"), None, "it has had no members for an hour");
}

#[tokio::test(start_paused = true)]
async fn many_offsets_expire_in_several_entries() {
    let world = World::start().await;
    for group in 0..3_000 {
        let group = format!("{group}{}", "-".repeat(200));
        world.replica.propose(commit(&group, vec![offset(0, 1), offset(1, 2)])).await.expect("a live session");
    }
    assert_eq!(world.replica.state().group_count(), 3_000);
    let before = world.entries().await;
    sleep(80 * MINUTE).await;
    assert_eq!(world.replica.state().group_count(), 0);
    let entries = world.entries().await - before;
    assert!((5..=100).contains(&entries), "{entries} entries");
}

/// Hundreds of members send heartbeats; one look at the journal's end in a second serves them all.
#[tokio::test(start_paused = true)]
async fn coordinators_are_content_with_a_barrier_of_a_moment_ago() {
    let world = World::start().await;
    let (ledger, second): (&dyn GroupLedger, _) = (&world.replica, Duration::from_secs(1));
    assert_eq!(ledger.fresh(second).await, Ok(()));
    world.journal.die();
    assert_eq!(ledger.fresh(second).await, Ok(()), "the journal is not asked again");
    sleep(2 * second).await;
    assert_eq!(ledger.fresh(second).await, Err(Stopped));
}
