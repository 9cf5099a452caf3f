//! Frames that no fold could have made: each is an error that says what is wrong.

use super::*;
use crate::encode::commands::id_to;

fn head() -> Kind {
    Kind::Head(proto::Head { ordinal: 5, hash: 6, next_producer_id: 7, ..Default::default() })
}

fn session(nonce: u64, broker_id: i32) -> Kind {
    let identity = id_to(1);
    Kind::Session(proto::SessionState { nonce, broker_id, identity, ..Default::default() })
}

fn topic(id: u128, name: &str, partitions: u32) -> Kind {
    Kind::Topic(proto::TopicState { topic: id_to(id), name: name.to_owned(), partitions, ..Default::default() })
}

fn partition(index: u32, log_start: i64, high_watermark: i64) -> Kind {
    Kind::Partition(proto::PartitionState { index, log_start, high_watermark })
}

/// Extents of one byte: (gap, length).
fn extents(offsets: &[(i64, i64)]) -> Kind {
    Kind::Extents(proto::Extents {
        first_offsets: offsets.iter().map(|o| o.0).collect(),
        lengths: offsets.iter().map(|o| o.1).collect(),
        max_timestamps: vec![0; offsets.len()],
        nonces: vec![9],
        nonce_lengths: vec![offsets.len() as u32],
        numbers: vec![1; offsets.len()],
        positions: vec![1; offsets.len()],
        bytes: vec![1; offsets.len()],
    })
}

/// Producers with one batch each.
fn producers(ids: &[i64]) -> proto::PartitionProducers {
    let count = ids.len();
    proto::PartitionProducers {
        ids: ids.to_vec(),
        epochs: vec![0; count],
        consecutive: vec![1; count],
        kept: vec![1; count],
        first_sequences: vec![0; count],
        last_sequences: vec![0; count],
        first_offsets: vec![0; count],
    }
}

fn read(kinds: Vec<Kind>) -> Result<State, SnapshotError> {
    let mut builder = Builder::default();
    for kind in kinds {
        builder.take(proto::Frame { kind: Some(kind) })?;
    }
    builder.finish()
}

/// The frames with a right end.
fn ended(mut kinds: Vec<Kind>) -> Result<State, SnapshotError> {
    let frames = kinds.len() as u64;
    kinds.push(Kind::End(proto::End { frames }));
    read(kinds)
}

#[test]
fn right_frames_are_a_state() {
    let good = extents(&[(0, 4), (1, 0)]);
    let known = Kind::PartitionProducers(producers(&[3, 1]));
    let state = ended(vec![head(), session(1, 1), topic(1, "t", 3), partition(2, 0, 7), known, good]).unwrap();
    let partition = state.topic_by_name("t").and_then(|t| t.partition(2)).unwrap();
    let offsets: Vec<_> = partition.extents().iter().map(|e| (e.first_offset, e.last_offset, e.number)).collect();
    assert_eq!(offsets, [(0, 4, 1), (6, 6, 2)]);
    assert_eq!(partition.producers().map(|(id, _)| id).collect::<Vec<_>>(), [3, 4]);
    assert_eq!((state.ordinal(), state.hash(), state.partition_count()), (5, 6, 3));
}

#[test]
fn order_and_end() {
    assert_eq!(ended(vec![]), Err(ORDER));
    assert_eq!(ended(vec![session(1, 1)]), Err(ORDER));
    assert_eq!(ended(vec![head(), head()]), Err(ORDER));
    assert_eq!(read(vec![head()]), Err(Damaged("its end is missing")));
    let end = |frames| Kind::End(proto::End { frames });
    assert_eq!(read(vec![head(), end(2)]), Err(Damaged("its end is missing")));
    assert_eq!(read(vec![head(), end(1), session(1, 1)]), Err(ORDER));
    assert_eq!(ended(vec![head(), extents(&[(0, 0)])]), Err(ORDER));
    assert_eq!(ended(vec![head(), Kind::PartitionProducers(producers(&[1]))]), Err(ORDER));
    assert_eq!(ended(vec![head(), partition(0, 0, 0)]), Err(ORDER), "a partition without a topic");
    assert_eq!(ended(vec![head(), topic(1, "t", 2), partition(2, 0, 0)]), Err(ORDER), "a partition too many");
    assert!(Builder::default().take(proto::Frame { kind: None }).is_err());
}

#[test]
fn what_came_twice() {
    assert!(ended(vec![head(), session(1, 1), session(1, 2)]).is_err());
    assert!(ended(vec![head(), session(1, 1), session(2, 1)]).is_err(), "two live sessions of one broker");
    assert!(ended(vec![head(), topic(1, "t", 1), topic(1, "u", 1)]).is_err());
    assert!(ended(vec![head(), topic(1, "t", 1), topic(2, "t", 1)]).is_err());
    let twice = proto::Producers { ids: vec![1, 0], last_activities: vec![0, 0], strict: vec![true, true] };
    assert!(ended(vec![head(), Kind::Producers(twice)]).is_err());
    let config = proto::Config { name: "a".to_owned(), value: "b".to_owned() };
    let configs = vec![config.clone(), config];
    let topic = proto::TopicState { topic: id_to(1), name: "t".to_owned(), configs, ..Default::default() };
    assert!(ended(vec![head(), Kind::Topic(topic)]).is_err());
}

#[test]
fn standings_that_cannot_be() {
    let with = |standing: i32, ended_at: Option<u64>| {
        let (identity, ended_at) = (id_to(1), ended_at);
        let session = proto::SessionState { nonce: 1, identity, standing, ended: ended_at, ..Default::default() };
        ended(vec![head(), Kind::Session(session)])
    };
    assert!(with(0, Some(3)).is_ok() && with(1, None).is_ok() && with(2, None).is_ok());
    assert_eq!(with(3, None), Err(Damaged("an unknown standing of a session")));
    assert_eq!(with(1, Some(3)), Err(Damaged("a session that has ended and is ready")));
}

#[test]
fn what_is_too_much() {
    let most = [topic(1, "t", 1_000_000), topic(2, "u", 1)];
    assert_eq!(ended([vec![head()], most.to_vec()].concat()), Err(Damaged("too many partitions")));
    let snapshot = proto::PublishSnapshot::default();
    let head = proto::Head { snapshots: vec![snapshot; 3], ..Default::default() };
    assert_eq!(ended(vec![Kind::Head(head)]), Err(Damaged("too many snapshots")));
}

#[test]
fn offsets_that_cannot_be() {
    let with = |p: Kind, e: Kind| ended(vec![head(), topic(1, "t", 1), p, e]);
    assert!(with(partition(0, 0, 5), extents(&[(0, 4)])).is_ok());
    assert!(with(partition(0, 0, 4), extents(&[(0, 4)])).is_err(), "beyond the high watermark");
    assert!(with(partition(0, 0, 9), extents(&[(0, 4), (-1, 1)])).is_err(), "they overlap");
    assert!(with(partition(0, 0, 9), extents(&[(0, -1)])).is_err(), "it ends before it begins");
    assert!(with(partition(0, 0, i64::MAX), extents(&[(i64::MAX, i64::MAX)])).is_err(), "overflow");
    assert!(with(partition(0, -1, 9), extents(&[])).is_err());
    assert!(with(partition(0, 10, 9), extents(&[])).is_err());
}

#[test]
fn producers_that_cannot_be() {
    let with = |change: fn(&mut proto::PartitionProducers)| {
        let mut message = producers(&[3, 1]);
        change(&mut message);
        ended(vec![head(), topic(1, "t", 1), partition(0, 0, 9), Kind::PartitionProducers(message)])
    };
    assert!(with(|_| {}).is_ok());
    assert!(with(|p| p.ids[1] = -1).is_err(), "not in order");
    assert!(with(|p| p.ids[1] = 0).is_err(), "twice");
    assert!(with(|p| p.epochs[0] = 40_000).is_err());
    assert!(with(|p| p.first_sequences[0] = 1 << 31).is_err());
    assert!(with(|p| p.kept = vec![0, 2]).is_err(), "no batch");
    assert!(with(|p| p.kept = vec![300, 1]).is_err(), "too many batches");
    for shorten in [
        |p: &mut proto::PartitionProducers| p.epochs.truncate(1),
        |p: &mut proto::PartitionProducers| p.consecutive.truncate(1),
        |p: &mut proto::PartitionProducers| p.kept.truncate(1),
        |p: &mut proto::PartitionProducers| p.first_offsets.truncate(1),
    ] {
        assert_eq!(with(shorten), Err(COLUMNS));
    }
}
