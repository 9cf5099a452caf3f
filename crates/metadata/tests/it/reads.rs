//! The read API, against plain scans of what it must find.

use std::collections::BTreeMap;

use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, Extent, Listener, ObjectId, ObjectKind, OpenSession,
    Reservation, Run, State, TopicId, TopicPartition, apply,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::encoding::entry_of;

const PARTITION: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };

fn create(id: u128, name: &str) -> Command {
    let configs = BTreeMap::from([("retention.ms".to_owned(), id.to_string())]);
    Command::CreateTopic(CreateTopic { topic: TopicId(id), name: name.to_owned(), partitions: 2, configs })
}

fn opening(nonce: u64, broker_id: i32) -> Entry {
    let listener = Listener { name: "plain".to_owned(), host: "localhost".to_owned(), port: 9092 };
    let open = OpenSession { broker_id, identity: 5, listeners: vec![listener], rack: Some("z".to_owned()) };
    let mut entry = Entry { nonce, ..entry_of(0, vec![Command::OpenSession(open)]) };
    entry.reserved = vec![
        Reservation { kind: ObjectKind::Bundle, end: 4 },
        Reservation { kind: ObjectKind::Snapshot, end: 6 },
        Reservation { kind: ObjectKind::Snapshot, end: 7 },
        Reservation { kind: ObjectKind::Bundle, end: 64 },
    ];
    entry
}

fn next(state: &mut State, nonce: u64, commands: Vec<Command>) -> kafscale_metadata::Applied {
    let n = state.session(nonce).unwrap().next_n();
    let ordinal = state.ordinal() + 1;
    apply(state, ordinal, &Entry { nonce, ..entry_of(n, commands) }).unwrap()
}

/// One extent for each (records, timestamp).
fn with_extents(extents: &[(u32, i64)]) -> State {
    let mut state = State::new();
    apply(&mut state, 1, &opening(9, 1)).unwrap();
    next(&mut state, 9, vec![create(1, "t")]);
    let run = |(records, max_timestamp): &(u32, i64)| {
        let (records, max_timestamp) = (*records, *max_timestamp);
        let batch = BatchMeta { bytes: 7, records, max_timestamp, producer: None, transactional: false };
        Run { partition: PARTITION, position: 100, batches: vec![batch] }
    };
    let runs = extents.iter().map(run).collect();
    next(&mut state, 9, vec![Command::CommitBundle(CommitBundle { number: 0, runs })]);
    state
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn extents_are_found_as_a_scan_finds_them(
        made in vec((1_u32..4, -1_i64..60), 0..700),
        offsets in vec(-2_i64..1_500, 20),
        times in vec(-3_i64..65, 20),
    ) {
        let state = with_extents(&made);
        let partition = state.partition(PARTITION).unwrap();
        let extents = partition.extents();
        let all: Vec<Extent> = extents.iter().copied().collect();
        prop_assert_eq!(all.len(), made.len());
        prop_assert_eq!((extents.len(), extents.is_empty()), (made.len(), made.is_empty()));
        prop_assert_eq!((extents.first(), extents.last()), (all.first(), all.last()));
        prop_assert_eq!(partition.bytes(), 7 * made.len() as u64);
        prop_assert_eq!(partition.high_watermark(), made.iter().map(|(records, _)| i64::from(*records)).sum::<i64>());
        prop_assert_eq!(partition.last_stable_offset(), partition.high_watermark());
        for offset in offsets {
            let scanned: Vec<Extent> = all.iter().copied().filter(|e| e.last_offset >= offset).collect();
            let found: Vec<Extent> = extents.from(offset).copied().collect();
            prop_assert_eq!(found, scanned);
        }
        for time in times {
            let scanned = all.iter().find(|e| e.max_timestamp >= time);
            prop_assert_eq!(extents.first_with_timestamp(time), scanned);
        }
        let max = all.iter().map(|e| e.max_timestamp).max();
        prop_assert_eq!(extents.with_max_timestamp(), all.iter().find(|e| Some(e.max_timestamp) == max));
    }
}

#[test]
fn topics_by_id_by_name_and_in_order() {
    let mut state = State::new();
    apply(&mut state, 1, &opening(9, 1)).unwrap();
    next(&mut state, 9, vec![create(3, "b"), create(2, "c"), create(4, "a")]);
    let names: Vec<&str> = state.topics().map(kafscale_metadata::Topic::name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let topic = state.topic_by_name("b").unwrap();
    assert_eq!((topic.id(), topic.partition_count(), topic.partitions().len()), (TopicId(3), 2, 2));
    assert_eq!(topic.configs()["retention.ms"], "3");
    assert_eq!(state.topic(TopicId(3)), Some(topic));
    assert_eq!((state.topic(TopicId(1)), state.topic_by_name("d")), (None, None));
    assert!(topic.partition(1).is_some() && topic.partition(2).is_none());
    let applied = next(&mut state, 9, vec![Command::DeleteTopic { topic: TopicId(3) }]);
    assert_eq!(applied.deleted, [TopicId(3)]);
    assert_eq!((state.topic_by_name("b"), state.partition_count()), (None, 4));
    assert_eq!(state.partition(TopicPartition { topic: TopicId(3), partition: 0 }), None);
}

#[test]
fn sessions_and_their_object_numbers() {
    let mut state = State::new();
    apply(&mut state, 1, &opening(9, 4)).unwrap();
    apply(&mut state, 2, &opening(8, 3)).unwrap();
    let session = state.session(9).unwrap();
    assert_eq!((session.broker_id(), session.identity(), session.rack()), (4, 5, Some("z")));
    assert_eq!((session.listeners().len(), session.next_n(), session.ended()), (1, 1, None));
    let kinds = [0, 3, 4, 6, 7, 63, 64].map(|number| session.kind_of(number));
    let (bundle, snapshot) = (Some(ObjectKind::Bundle), Some(ObjectKind::Snapshot));
    assert_eq!(kinds, [bundle, bundle, snapshot, snapshot, bundle, bundle, None]);
    assert_eq!(session.reservations().len(), 3, "neighbours of one kind are one range");
    assert_eq!((state.reserved(9), state.low(9), state.reserved(1)), (64, 0, 0));
    assert_eq!(state.live_sessions().map(kafscale_metadata::Session::nonce).collect::<Vec<_>>(), [8, 9]);
    next(&mut state, 8, vec![Command::EndSession { nonce: 9 }]);
    let ended = state.session(9).unwrap();
    assert_eq!((ended.is_live(), ended.ended(), ended.reserved(), ended.listeners().len()), (false, Some(3), 64, 0));
    assert_eq!(state.live_sessions().count(), 1);
}

#[test]
fn what_advanced_is_named_once() {
    let mut state = with_extents(&[(1, 0)]);
    let batch = BatchMeta { bytes: 1, records: 1, max_timestamp: 0, producer: None, transactional: false };
    let dead = BatchMeta { transactional: true, ..batch };
    let run = |partition, batch| Run {
        partition: TopicPartition { partition, ..PARTITION },
        position: 0,
        batches: vec![batch],
    };
    let runs = vec![run(1, batch), run(0, batch), run(1, batch), run(0, dead)];
    let bundle = |number, runs| Command::CommitBundle(CommitBundle { number, runs });
    let applied = next(&mut state, 9, vec![bundle(1, runs), bundle(2, vec![run(0, dead)])]);
    let advanced: Vec<u32> = applied.advanced.iter().map(|p| p.partition).collect();
    assert_eq!(advanced, [0, 1]);
    assert!(next(&mut state, 9, vec![bundle(2, vec![run(0, dead)])]).advanced.is_empty());
}

#[test]
fn the_hash_is_over_what_happened_too() {
    // The same entry at the same ordinal, after different histories that end in the same table of topics.
    let mut one = with_extents(&[]);
    let mut other = one.clone();
    next(&mut one, 9, vec![create(7, "x")]);
    next(&mut other, 9, vec![create(7, "y")]);
    assert_ne!(one.hash(), other.hash());
    next(&mut one, 9, vec![Command::DeleteTopic { topic: TopicId(7) }]);
    next(&mut other, 9, vec![Command::DeleteTopic { topic: TopicId(7) }]);
    assert_ne!(one.hash(), other.hash(), "it remembers");
    assert_ne!(one.content_hash(), other.content_hash(), "the rolling hash is part of the state");
}

#[test]
fn published_snapshots_and_idle_producers() {
    let mut state = with_extents(&[]);
    assert_eq!((state.snapshot(), state.previous_snapshot()), (None, None));
    let publish = |number, ordinal| Command::PublishSnapshot { object: ObjectId { nonce: 9, number }, ordinal };
    next(&mut state, 9, vec![publish(4, 2), publish(5, 3)]);
    assert_eq!(state.snapshot().map(|s| (s.object.number, s.ordinal)), Some((5, 3)));
    assert_eq!(state.previous_snapshot().map(|s| s.ordinal), Some(2));
    next(&mut state, 9, vec![Command::AllocateProducerIds { count: 3 }]);
    let at = 1_700_000_000_050;
    assert_eq!(state.idle_producers(at), []);
    assert_eq!(state.idle_producers(at + 1), [(0, at), (1, at), (2, at)]);
    assert_eq!((state.living_producers(), state.producer(1).map(|p| p.strict)), (3, Some(true)));
}
