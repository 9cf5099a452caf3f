//! Journals from earlier releases, and what they fold to. Every later release must read these bytes and reach these
//! hashes: a difference means that two brokers of a cluster being upgraded would disagree.
//!
//! `testdata/journal-LEVEL.bin`: for each entry its length (4 bytes, little-endian) and its bytes. They were made by
//! [`entries`], [`groups::entries`] and [`coordinators::entries`], which must never change; a new level of features gets a new file beside them.

mod coordinators;
mod groups;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kafscale_metadata::reference::Reference;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, Listener, ObjectId, ObjectKind, OpenSession, ProducerBatch,
    Reservation, Run, State, TopicId, TopicPartition, apply, snapshot,
};

use crate::encoding::Numbers;

const ENTRIES: usize = 301;

/// A journal, and the state that it folds to.
struct Golden {
    /// The feature level.
    level: u32,
    entries: fn() -> Vec<Entry>,
    count: usize,
    hash: u64,
    content_hash: u64,
}

const JOURNALS: [Golden; 3] = [
    Golden { level: 1, entries, count: ENTRIES, hash: 0xbe34_3181_dc90_842f, content_hash: 0x3a36_9b5d_30b5_c38a },
    Golden {
        level: 2,
        entries: groups::entries,
        count: groups::ENTRIES,
        hash: 0xe32c_5ac3_0558_fdb4,
        content_hash: 0xd210_ba32_0131_475e,
    },
    Golden {
        level: 3,
        entries: coordinators::entries,
        count: coordinators::ENTRIES,
        hash: 0x4d4e_eb88_7ee2_b22d,
        content_hash: 0x5df6_e878_4d79_88bb,
    },
];

fn path(kind: &str, level: u32) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", &format!("{kind}-{level}.bin")].iter().collect()
}

fn fold(entries: &[Vec<u8>]) -> State {
    let mut state = State::new();
    for (ordinal, bytes) in (1..).zip(entries) {
        apply(&mut state, ordinal, &Entry::decode(bytes).unwrap()).unwrap();
    }
    state
}

fn stored(level: u32) -> Vec<Vec<u8>> {
    let bytes = fs::read(path("journal", level)).unwrap();
    let (mut rest, mut entries) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (entry, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        entries.push(entry.to_vec());
        rest = after;
    }
    entries
}

#[test]
fn golden_journals_fold_as_they_did() {
    for golden in JOURNALS {
        let state = fold(&stored(golden.level));
        assert_eq!(state.ordinal(), golden.count as u64);
        let got = (state.hash(), state.content_hash());
        assert_eq!(got, (golden.hash, golden.content_hash), "level {}: got {got:#x?}", golden.level);
        let bytes = fs::read(path("snapshot", golden.level)).unwrap();
        assert_eq!(snapshot::decode(&bytes), Ok(state));
    }
}

#[test]
fn golden_journals_say_what_they_said() {
    for golden in JOURNALS {
        let decoded: Vec<Entry> = stored(golden.level).iter().map(|bytes| Entry::decode(bytes).unwrap()).collect();
        assert!(decoded == (golden.entries)(), "level {}", golden.level);
    }
}

/// The groups of levels 2 and 3 are worth their name: everything is accepted now and then, and refused.
#[test]
fn the_golden_groups_reach_what_there_is() {
    let (groups, outcomes) = reached(groups::entries());
    println!("{outcomes:#?}");
    assert!(outcomes.len() > 25 && groups > 2);
    let (groups, outcomes) = reached(coordinators::entries());
    let not = |((_, outcome), count): (&(String, String), &u32)| {
        if outcome.contains("NotCoordinator") { *count } else { 0 }
    };
    assert!(outcomes.iter().map(not).sum::<u32>() > 50);
    println!("{outcomes:#?}");
    assert!(outcomes.len() > 30 && groups > 2);
}

/// How many groups there are at the end, and how often each command had each outcome.
fn reached(entries: Vec<Entry>) -> (usize, BTreeMap<(String, String), u32>) {
    let (mut state, mut reference) = (State::new(), Reference::new());
    let mut outcomes = BTreeMap::<(String, String), u32>::new();
    for (ordinal, entry) in (1..).zip(entries) {
        let applied = apply(&mut state, ordinal, &entry).unwrap();
        assert_eq!(Ok(&applied), reference.apply(ordinal, &entry).as_ref());
        for (command, outcome) in entry.commands.iter().zip(applied.outcomes) {
            let command = format!("{command:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
            *outcomes.entry((command, format!("{outcome:?}"))).or_default() += 1;
        }
    }
    reference.check(&state).unwrap();
    (state.group_count(), outcomes)
}

/// Writes the files of the newest level anew; by hand, and only for a new format.
#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_journal() {
    let [_, _, golden] = JOURNALS;
    let entries: Vec<Vec<u8>> = (golden.entries)().iter().map(Entry::encode).collect();
    let framed = entries.iter().flat_map(|e| [&(e.len() as u32).to_le_bytes(), e.as_slice()].concat());
    fs::write(path("journal", golden.level), framed.collect::<Vec<u8>>()).unwrap();
    fs::write(path("snapshot", golden.level), snapshot::encode(&fold(&entries))).unwrap();
}

/// Every command, each with what it accepts and what it refuses.
fn entries() -> Vec<Entry> {
    let mut numbers = Numbers(42);
    let mut entries = vec![opening(11, 1), opening(12, 2)];
    entries[0].commands.push(create(1, "orders", 3));
    entries[0].commands.push(create(2, "clicks.v2", 2));
    entries[0].commands.push(Command::AllocateProducerIds { count: 6 });
    let mut next_n = BTreeMap::from([(11, 1), (12, 1), (13, 0)]);
    let mut sequences = BTreeMap::new();
    while entries.len() < ENTRIES {
        let nonce = 11 + numbers.below(if entries.len() > 200 { 3 } else { 2 });
        let n = next_n.get_mut(&nonce).unwrap();
        let mut entry = if *n == 0 { opening(nonce, 1) } else { plain(nonce, *n) };
        entry.time_ms += entries.len() as i64 * 10;
        entry.reserved.push(Reservation { kind: ObjectKind::Bundle, end: 64 + *n as u32 * 2 + 1 });
        entry.reserved.push(Reservation { kind: ObjectKind::Snapshot, end: 64 + *n as u32 * 2 + 2 });
        if *n == 0 {
            entry.reserved.clear();
            entry.reserved.push(Reservation { kind: ObjectKind::Bundle, end: 64 });
        }
        entry.low = (*n as u32).saturating_sub(5) / 2;
        *n += 1;
        let at = entries.len() as u64;
        for _ in 0..=numbers.below(2) {
            entry.commands.push(command(&mut numbers, &mut sequences, nonce, at));
        }
        entries.push(entry);
        if numbers.below(20) == 0 {
            entries.push(entries[entries.len() - 1].clone());
        }
    }
    entries.truncate(ENTRIES);
    entries
}

fn plain(nonce: u64, n: u64) -> Entry {
    let (time_ms, low) = (1_700_000_000_000, 0);
    Entry { feature_level: 1, nonce, n, time_ms, reserved: vec![], low, commands: vec![] }
}

fn opening(nonce: u64, broker_id: i32) -> Entry {
    let mut entry = plain(nonce, 0);
    let listener = Listener { name: "plain".to_owned(), host: "127.0.0.1".to_owned(), port: 9092 };
    let rack = (broker_id == 2).then(|| "zone-b".to_owned());
    let open = OpenSession { broker_id, identity: u128::from(nonce) << 70, listeners: vec![listener], rack };
    entry.commands.push(Command::OpenSession(open));
    entry.reserved.push(Reservation { kind: ObjectKind::Bundle, end: 64 });
    entry
}

fn create(id: u128, name: &str, partitions: u32) -> Command {
    let configs = BTreeMap::from([("message.timestamp.type".to_owned(), "LogAppendTime".to_owned())]);
    Command::CreateTopic(CreateTopic { topic: TopicId(id << 90), name: name.to_owned(), partitions, configs })
}

type Sequences = BTreeMap<(u64, u64, i64), u64>;

fn command(numbers: &mut Numbers, sequences: &mut Sequences, nonce: u64, at: u64) -> Command {
    match numbers.below(30) {
        0 => Command::DeleteTopic { topic: TopicId(u128::from(1 + numbers.below(3)) << 90) },
        1 => create(u128::from(1 + numbers.below(3)), ["orders", "clicks.v2"][numbers.below(2) as usize], 3),
        2 => Command::AllocateProducerIds { count: numbers.below(4) as u32 },
        3 => {
            let time = 1_700_000_000_000 + numbers.below(at) as i64 * 10;
            Command::ExpireProducers { idle: (0..6).map(|id| (id, time)).collect() }
        }
        4 => {
            let number = 64 + numbers.below(at) as u32;
            Command::PublishSnapshot {
                object: ObjectId { nonce, number },
                ordinal: at.saturating_sub(numbers.below(9)),
            }
        }
        _ => {
            let runs = (0..=numbers.below(3)).map(|_| run(numbers, sequences)).collect();
            Command::CommitBundle(CommitBundle { number: numbers.below(66) as u32, runs })
        }
    }
}

fn run(numbers: &mut Numbers, sequences: &mut Sequences) -> Run {
    let (topic, partition) = (1 + numbers.below(3), numbers.below(3));
    let position = numbers.below(5_000) as u32;
    let batches = (0..=numbers.below(5)).map(|_| batch(numbers, sequences, (topic, partition))).collect();
    Run {
        partition: TopicPartition { topic: TopicId(u128::from(topic) << 90), partition: partition as u32 },
        position,
        batches,
    }
}

fn batch(numbers: &mut Numbers, sequences: &mut Sequences, (topic, partition): (u64, u64)) -> BatchMeta {
    let id = numbers.below(9) as i64;
    let records = 1 + numbers.below(5);
    let sequence = sequences.entry((topic, partition, id)).or_insert(0);
    let slip = numbers.below(8);
    let first = if slip == 0 { sequence.saturating_sub(records) } else { *sequence + u64::from(slip == 1) };
    if slip > 1 {
        *sequence += records;
    }
    let producer = ProducerBatch { id, epoch: (numbers.below(40) == 0).into(), first_sequence: first as i32 };
    BatchMeta {
        bytes: 61 + numbers.below(900) as u32,
        records: records as u32,
        max_timestamp: 1_700_000_000_000 + numbers.below(10_000) as i64,
        producer: (id < 8).then_some(producer),
        transactional: numbers.below(50) == 0,
    }
}
