//! Snapshots of states that are larger than random histories make, and hostile bytes.

use std::collections::BTreeMap;

use kafscale_metadata::{
    Command, CreateTopic, ObjectKind, OpenSession, Reservation, SnapshotError, State, TopicId, TopicPartition, apply,
    snapshot,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::encoding::{Numbers, entry_of, realistic_bundle};

/// Four topics with 100 partitions, `others` partitions that nobody writes to, and `bundles` bundles.
pub(crate) fn busy_state(bundles: u64, others: u32) -> State {
    let mut state = State::new();
    let open = OpenSession { broker_id: 1, identity: 2, listeners: vec![], rack: Some("a".to_owned()) };
    let mut first = entry_of(0, vec![Command::OpenSession(open)]);
    first.reserved = vec![Reservation { kind: ObjectKind::Bundle, end: 20_000 }];
    for (name, partitions) in [("t0", 25), ("t1", 25), ("t2", 25), ("t3", 25), ("quiet", others)] {
        let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef ^ (name.as_bytes()[1] - b'0') as u128;
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
        let create = CreateTopic { topic: TopicId(id), name: name.to_owned(), partitions, configs };
        first.commands.push(Command::CreateTopic(create));
    }
    apply(&mut state, 1, &first).unwrap();
    let (mut numbers, mut sequences) = (Numbers(3), BTreeMap::new());
    for n in 1..=bundles {
        let mut bundle = realistic_bundle(&mut numbers, &mut sequences);
        bundle.number = 100 + n as u32;
        apply(&mut state, n + 1, &entry_of(n, vec![Command::CommitBundle(bundle)])).unwrap();
    }
    state
}

#[test]
fn a_large_state_comes_back_as_it_was() {
    // More than one frame of extents for each partition.
    let state = busy_state(60, 9_900);
    assert_eq!(state.partition_count(), 10_000);
    let partition = TopicPartition { topic: state.topic_by_name("t1").unwrap().id(), partition: 3 };
    let before = state.partition(partition).unwrap().clone();
    assert!(before.high_watermark() > 30_000 && before.producers().count() == 50 && before.extents().len() >= 60);
    let bytes = snapshot::encode(&state);
    let restored = snapshot::decode(&bytes).unwrap();
    assert_eq!(restored, state);
    assert_eq!(restored.content_hash(), state.content_hash());
    assert_eq!(restored.partition(partition), Some(&before));
    println!("{} partitions, {} bytes", state.partition_count(), bytes.len());
}

#[test]
fn a_snapshot_is_not_changed_by_what_comes_after() {
    let mut state = busy_state(5, 10);
    let (clone, hash) = (state.clone(), state.content_hash());
    let next = state.session(0x1234_5678_9abc_def0).unwrap().next_n();
    let bundle = realistic_bundle(&mut Numbers(4), &mut BTreeMap::new());
    let mut bundle = Command::CommitBundle(bundle);
    if let Command::CommitBundle(bundle) = &mut bundle {
        bundle.number = 300;
        bundle.runs.iter_mut().flat_map(|r| &mut r.batches).for_each(|b| b.producer = None);
    }
    let ordinal = state.ordinal() + 1;
    let applied = apply(&mut state, ordinal, &entry_of(next, vec![bundle])).unwrap();
    assert_eq!(applied.advanced.len(), 100);
    assert_eq!(clone.content_hash(), hash);
    assert_ne!(state.content_hash(), hash);
}

#[test]
fn what_is_no_snapshot_says_what_it_is() {
    let good = snapshot::encode(&busy_state(2, 10));
    assert_eq!(snapshot::decode(b""), Err(SnapshotError::NotASnapshot));
    assert_eq!(snapshot::decode(b"KFSSNAP\n"), Err(SnapshotError::Damaged("its header is cut off")));
    let mut newer = good.clone();
    newer[8] = 4;
    assert_eq!(snapshot::decode(&newer), Err(SnapshotError::Newer { version: 4 }));
    for length in (8..good.len()).step_by(61) {
        assert!(matches!(snapshot::decode(&good[..length]), Err(SnapshotError::Damaged(_))), "{length}");
    }
    for at in (12..good.len()).step_by(17) {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        assert!(matches!(snapshot::decode(&flipped), Err(SnapshotError::Damaged(_))), "{at}");
    }
}

/// A snapshot with a checksum that fits, whatever the frames are.
fn sealed(frames: &[u8]) -> Vec<u8> {
    let body = zstd::bulk::compress(frames, 1).unwrap();
    let header = [snapshot::VERSION.to_le_bytes().as_slice(), (frames.len() as u64).to_le_bytes().as_slice()].concat();
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&header);
    hasher.update(&body);
    [b"KFSSNAP\n".as_slice(), &header, &hasher.digest().to_le_bytes(), &body].concat()
}

fn frames_of(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(&bytes[28..]).unwrap()
}

#[test]
fn frames_without_an_end_are_no_state() {
    let good = snapshot::encode(&busy_state(2, 10));
    let frames = frames_of(&good);
    assert_eq!(snapshot::decode(&sealed(&frames)), snapshot::decode(&good));
    assert!(snapshot::decode(&sealed(&[])).is_err());
    for cut in 1..200 {
        assert!(snapshot::decode(&sealed(&frames[..frames.len() - cut])).is_err(), "{cut}");
    }
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn hostile_frames_are_no_panic(
        at in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        random in vec(any::<u8>(), 0..200),
    ) {
        let _ = snapshot::decode(&random);
        let _ = snapshot::decode(&sealed(&random));
        let mut frames = frames_of(&snapshot::encode(&busy_state(1, 3)));
        for (at, value) in at {
            let at = at.index(frames.len());
            frames[at] = value;
        }
        if let Ok(state) = snapshot::decode(&sealed(&frames)) {
            let again = snapshot::decode(&snapshot::encode(&state));
            prop_assert_eq!(again, Ok(state));
        }
    }
}
