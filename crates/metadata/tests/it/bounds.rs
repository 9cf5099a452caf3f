//! The limits of the fold, and the memory budgets.

use std::collections::BTreeMap;
use std::mem::size_of;

use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, Extent, Listener, ObjectKind, OpenSession, Outcome,
    Partition, ProducerBatch, ProducerState, Refusal, Reservation, Run, State, Stop, TopicId, TopicPartition, Verdict,
    apply, limits,
};

use crate::encoding::entry_of;

fn opened() -> State {
    let mut state = State::new();
    let open = OpenSession { broker_id: 1, identity: 2, listeners: vec![], rack: None };
    let mut first = entry_of(0, vec![Command::OpenSession(open)]);
    first.reserved = vec![Reservation { kind: ObjectKind::Bundle, end: 64 }];
    apply(&mut state, 1, &first).unwrap();
    state
}

fn next(state: &mut State, commands: Vec<Command>) -> Vec<Outcome> {
    let ordinal = state.ordinal() + 1;
    let applied = apply(state, ordinal, &entry_of(ordinal - 1, commands)).unwrap();
    applied.outcomes
}

fn create(id: u128, partitions: u32) -> Command {
    let (topic, name) = (TopicId(id), format!("t{id}"));
    Command::CreateTopic(CreateTopic { topic, name, partitions, configs: BTreeMap::new() })
}

fn commit(topic: u128, batches: Vec<BatchMeta>) -> Command {
    let partition = TopicPartition { topic: TopicId(topic), partition: 0 };
    Command::CommitBundle(CommitBundle { number: 0, runs: vec![Run { partition, position: 0, batches }] })
}

fn batch(id: i64, records: u32) -> BatchMeta {
    let producer = Some(ProducerBatch { id, epoch: 0, first_sequence: 0 });
    BatchMeta { bytes: 1, records, max_timestamp: 0, producer, transactional: false }
}

#[test]
fn partitions_of_the_cluster() {
    let mut state = opened();
    let outcomes = next(&mut state, (0..11).map(|id| create(id, 100_000)).collect());
    assert_eq!(outcomes[..10], vec![Outcome::Done; 10]);
    assert_eq!(outcomes[10], Outcome::Refused(Refusal::LimitReached));
    let delete = Command::DeleteTopic { topic: TopicId(3) };
    let outcomes = next(&mut state, vec![delete, create(20, 99_999), create(21, 1), create(22, 1)]);
    assert_eq!(outcomes[..3], vec![Outcome::Done; 3]);
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::LimitReached));
    assert_eq!(state.partition_count(), limits::PARTITIONS);
}

#[test]
fn topics_of_the_cluster() {
    let mut state = opened();
    let outcomes = next(&mut state, (0..=limits::TOPICS as u128).map(|id| create(id, 1)).collect());
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Done).count(), limits::TOPICS);
    assert_eq!(outcomes.last(), Some(&Outcome::Refused(Refusal::LimitReached)));
}

#[test]
fn living_producers() {
    let mut state = opened();
    let allocate = Command::AllocateProducerIds { count: limits::PRODUCER_IDS_PER_COMMAND };
    let outcomes = next(&mut state, vec![allocate; 100]);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::ProducerIds { .. })));
    assert_eq!(state.living_producers(), limits::LIVING_PRODUCERS);
    let one = Command::AllocateProducerIds { count: 1 };
    let outcomes = next(&mut state, vec![one.clone(), create(1, 1), commit(1, vec![batch(5_000_000, 1), batch(7, 1)])]);
    assert_eq!(outcomes[0], Outcome::Refused(Refusal::LimitReached));
    let accepted = Verdict::Accepted { first_offset: 0, log_start: 0 };
    assert_eq!(outcomes[2], Outcome::Bundle(vec![vec![Verdict::Refused(Refusal::LimitReached), accepted]]));
    // The proposer's batch of idle ids frees room.
    let idle = state.idle_producers(i64::MAX);
    assert_eq!(idle.len(), limits::IDLE_BATCH);
    assert!(entry_of(0, vec![Command::ExpireProducers { idle: idle.clone() }]).encode().len() < 256 * 1024);
    next(&mut state, vec![Command::ExpireProducers { idle }]);
    assert_eq!(state.living_producers(), limits::LIVING_PRODUCERS - limits::IDLE_BATCH);
    assert_eq!(next(&mut state, vec![one]), [Outcome::ProducerIds { first: 1_000_000 }]);
}

#[test]
fn foreign_producers_cannot_fill_the_table() {
    let mut state = opened();
    let ids = 0..limits::FOREIGN_PRODUCERS as i64 + 1;
    let batches = ids.map(|id| batch(id * 1_000, 1)).collect();
    let outcomes = next(&mut state, vec![create(1, 1), commit(1, batches)]);
    let Outcome::Bundle(verdicts) = &outcomes[1] else { panic!("{outcomes:?}") };
    let refused = verdicts[0].iter().filter(|v| **v == Verdict::Refused(Refusal::LimitReached)).count();
    assert_eq!(refused, 1);
    // 1,000 neighbours that avoid every one of them: there is room only behind the last.
    let allocate = Command::AllocateProducerIds { count: 1_000 };
    let first = (limits::FOREIGN_PRODUCERS as i64 - 1) * 1_000 + 1;
    assert_eq!(next(&mut state, vec![allocate]), [Outcome::ProducerIds { first }]);
}

#[test]
fn offsets_and_positions_do_not_overflow() {
    let mut state = opened();
    next(&mut state, vec![create(1, 1)]);
    let mut huge = batch(0, i32::MAX as u32);
    huge.producer = None;
    huge.bytes = u32::MAX;
    let mut one = huge;
    one.bytes = 1;
    let accepted = Verdict::Accepted { first_offset: 0, log_start: 0 };
    let refused = Verdict::Refused(Refusal::NotAllowed);
    assert_eq!(next(&mut state, vec![commit(1, vec![huge, one])]), [Outcome::Bundle(vec![vec![refused; 2]])]);
    assert_eq!(next(&mut state, vec![commit(1, vec![huge])]), [Outcome::Bundle(vec![vec![accepted]])]);
}

#[test]
fn ordinals_and_levels() {
    let mut state = opened();
    let mut entry = entry_of(1, vec![]);
    assert_eq!(apply(&mut state, 1, &entry), Err(Stop::Ordinal { after: 1, got: 1 }));
    assert_eq!(apply(&mut state, 3, &entry), Err(Stop::Ordinal { after: 1, got: 3 }));
    entry.feature_level = limits::FEATURE_LEVEL + 1;
    assert_eq!(apply(&mut state, 2, &entry), Err(Stop::Newer { level: limits::FEATURE_LEVEL + 1 }));
}

#[test]
fn openings_and_settings_are_bounded() {
    let listener = Listener { name: String::new(), host: String::new(), port: 1 };
    let good = OpenSession { broker_id: 0, identity: 0, listeners: vec![listener.clone(); 16], rack: None };
    let mut bad = vec![good.clone(), good.clone(), good.clone(), good.clone()];
    bad[0].broker_id = -1;
    bad[1].listeners.push(listener);
    bad[2].listeners[3].host = "h".repeat(256);
    bad[3].rack = Some("r".repeat(256));
    bad.push(good);
    let mut state = State::new();
    for (nonce, open) in (1..).zip(bad) {
        let entry = Entry { nonce, ..entry_of(0, vec![Command::OpenSession(open)]) };
        let outcomes = apply(&mut state, nonce, &entry).unwrap().outcomes;
        assert_eq!(outcomes[0] == Outcome::Done, nonce == 5, "{nonce}");
    }
    let configs = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let many = (0..65).map(|i| (format!("{i}"), String::new())).collect();
    let mut state = opened();
    for configs in [configs("", ""), configs(&"n".repeat(256), ""), configs("n", &"v".repeat(8_193)), many] {
        let create = CreateTopic { topic: TopicId(1), name: "t".to_owned(), partitions: 1, configs };
        let outcomes = next(&mut state, vec![Command::CreateTopic(create)]);
        assert_eq!(outcomes, [Outcome::Refused(Refusal::NotAllowed)]);
    }
    let long =
        |length| CreateTopic { topic: TopicId(1), name: "n".repeat(length), partitions: 1, configs: BTreeMap::new() };
    let outcomes = next(&mut state, vec![Command::CreateTopic(long(250)), Command::CreateTopic(long(249))]);
    assert_eq!(outcomes, [Outcome::Refused(Refusal::InvalidTopicName), Outcome::Done]);
}

#[test]
fn memory_budgets() {
    let sizes = (size_of::<Partition>() + 24, size_of::<Extent>(), size_of::<(i64, ProducerState)>());
    println!("partition {}, extent {}, producer on a partition {}", sizes.0, sizes.1, sizes.2);
    assert!(sizes.0 <= 300 && sizes.1 <= 48 && sizes.2 * 5 / 4 + 24 <= 150, "{sizes:?}");
}
