//! What a broker stores beside records: entries, snapshots, the journal's files.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use kafscale_journal::file::FileJournal;
use kafscale_journal::{Identity, Journal, Pointer};
use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CommitOffsets, CompleteJoin, CompleteSync, CreateTopic, Entry, GroupMember,
    Listener, ObjectId, ObjectKind, OffsetCommit, OpenSession, Part, ProducerBatch, ReplaceMember, Reservation, Run,
    State, TopicId, TopicPartition, apply, snapshot,
};

use super::Input;
use crate::disk::MemoryDisk;
use crate::hunt::home;
use crate::journal::{now, start};
use crate::repair::{Files, join};

/// Entries of a broker's life: it opens, makes a topic, writes, and leaves.
fn life() -> Vec<Entry> {
    let topic = TopicId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let listener = Listener { name: "PLAINTEXT".to_owned(), host: "127.0.0.1".to_owned(), port: 9092 };
    let open = OpenSession { broker_id: 1, identity: 7, listeners: vec![listener], rack: Some("a".to_owned()) };
    let configs = [("max.message.bytes".to_owned(), "1048588".to_owned())].into();
    let create = CreateTopic { topic, name: "orders".to_owned(), partitions: 3, configs };
    let object = ObjectId { nonce: 77, number: 60 };
    let steps = vec![
        Command::OpenSession(open),
        Command::CreateTopic(create),
        Command::AllocateProducerIds { count: 10 },
        bundle(topic, 0, 0),
        bundle(topic, 1, 4),
        // Once more: duplicates.
        bundle(topic, 2, 4),
        Command::PublishSnapshot { object, ordinal: 3 },
        Command::ExpireProducers { idle: vec![(4, 1_700_000_000_002), (5, 0)] },
        Command::DeleteTopic { topic },
        Command::SetReady { ready: true },
        Command::EndSession { nonce: 77 },
    ];
    let kinds = |n| match n {
        0 => vec![(ObjectKind::Bundle, 50), (ObjectKind::Snapshot, 100)],
        3 => vec![(ObjectKind::Bundle, 150)],
        _ => Vec::new(),
    };
    let entry = |(n, command)| Entry {
        feature_level: FEATURE_LEVEL,
        nonce: 77,
        n,
        time_ms: 1_700_000_000_000 + n as i64,
        reserved: kinds(n).into_iter().map(|(kind, end)| Reservation { kind, end }).collect(),
        low: u32::from(n > 4),
        commands: vec![command],
    };
    (0..).zip(steps).map(entry).collect()
}

fn bundle(topic: TopicId, number: u32, first_sequence: i32) -> Command {
    let batch = |n: u32| {
        let producer = ProducerBatch { id: 3, epoch: 0, first_sequence: first_sequence + n as i32 * 2 };
        BatchMeta {
            bytes: 100 + n,
            records: 2,
            max_timestamp: 1_700_000_000_000 + i64::from(n),
            producer: (n < 2).then_some(producer),
            transactional: false,
        }
    };
    let run = |partition| Run {
        partition: TopicPartition { topic, partition },
        position: 40 + partition * 500,
        batches: (0..3 + partition).map(batch).collect(),
    };
    Command::CommitBundle(CommitBundle { number, runs: vec![run(0), run(1)] })
}

/// Entries of a group's life: two members, one of them static, join in parts, commit, and leave.
fn group_life() -> Vec<Entry> {
    let topic = TopicId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let partition = |partition| TopicPartition { topic, partition };
    let group = || "payments".to_owned();
    let time_ms = 1_700_000_000_005;
    let assignments = vec![("a".into(), Bytes::from_static(b"one")), ("b".into(), Bytes::from_static(b"two"))];
    let assigned = CompleteSync { group: group(), generation: 1, assignments, part: Part::WHOLE };
    let replace = ReplaceMember { group: group(), generation: 1, old: "b".into(), new: member("c", Some("i")) };
    let seen = vec![(partition(1), time_ms), (partition(2), time_ms)];
    let steps = vec![
        generation(1, vec![member("a", None)], Part { index: 0, last: false }),
        generation(1, vec![member("b", Some("i"))], Part { index: 1, last: true }),
        Command::CompleteSync(assigned),
        Command::AddPartitions { topic, count: 5 },
        offsets(topic, 1, "a"),
        Command::ReplaceMember(replace),
        offsets(topic, 1, "b"),
        generation(2, Vec::new(), Part::WHOLE),
        Command::DeleteOffsets { group: group(), partitions: vec![partition(0)] },
        Command::ExpireOffsets { group: group(), generation: 2, offsets: seen },
        offsets(topic, -1, ""),
        Command::DeleteGroup { group: group() },
    ];
    let mut entries = life();
    entries.truncate(2);
    let opening = entries[0].clone();
    entries.extend((2_u64..).zip(steps).map(|(n, command)| Entry {
        n,
        time_ms: 1_700_000_000_000 + n as i64 - 1,
        reserved: Vec::new(),
        commands: vec![command],
        ..opening.clone()
    }));
    entries
}

fn member(id: &str, instance: Option<&str>) -> GroupMember {
    GroupMember {
        id: id.into(),
        instance: instance.map(str::to_owned),
        client_id: "consumer-1".to_owned(),
        client_host: "/10.1.2.3".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        subscription: Bytes::from_static(b"\0\x03\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\0"),
    }
}

fn generation(generation: i32, members: Vec<GroupMember>, part: Part) -> Command {
    Command::CompleteJoin(CompleteJoin {
        group: "payments".to_owned(),
        generation,
        protocol_type: "consumer".to_owned(),
        protocol: "range".to_owned(),
        leader: if generation == 1 { "a".into() } else { "".into() },
        members,
        part,
    })
}

fn offsets(topic: TopicId, generation: i32, member: &str) -> Command {
    let offset = |index: u32| OffsetCommit {
        partition: TopicPartition { topic, partition: index },
        offset: 1_000 + i64::from(index),
        leader_epoch: i32::from(index > 0) - 1,
        metadata: if index == 2 { "note".to_owned() } else { String::new() },
    };
    let (group, member, offsets) = ("payments".to_owned(), member.to_owned(), (0..4).map(offset).collect());
    Command::CommitOffsets(CommitOffsets { group, generation, member, offsets })
}

/// A stored journal of an earlier release, which the metadata crate keeps.
fn golden(level: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    let path = home().join(format!("../crates/metadata/testdata/journal-{level}.bin"));
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut rest, mut entries) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        ensure!(length <= after.len(), "{} is cut off", path.display());
        entries.push(after[..length].to_vec());
        rest = &after[length..];
    }
    Ok(entries)
}

/// The same entry, not compressed: in a compressed one most changes damage the compression alone.
fn plain(entry: &[u8]) -> Vec<u8> {
    let Some((head, frame)) = entry.split_first_chunk::<5>().filter(|(head, _)| head[0] == 2) else {
        return entry.to_vec();
    };
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let message = zstd::bulk::decompress(frame, length).expect("an entry that was written");
    [vec![1], message].concat()
}

pub(super) fn entries() -> anyhow::Result<Vec<Input>> {
    let life: Vec<Vec<u8>> = life().iter().map(Entry::encode).collect();
    let (golden, of_groups) = (golden(1)?, golden(2)?);
    let group_life: Vec<Vec<u8>> = group_life().iter().map(Entry::encode).collect();
    let input = |flags: u8, entries: &[Vec<u8>]| [vec![flags], join(entries.iter().map(Vec::as_slice))].concat();
    let plain = |entries: &[Vec<u8>]| entries.iter().map(|entry| plain(entry)).collect::<Vec<_>>();
    let mut inputs = vec![
        ("life".to_owned(), input(0, &life)),
        ("life-plain".to_owned(), input(1, &plain(&life))),
        ("life-twice".to_owned(), input(0, &[life.clone(), life.clone()].concat())),
    ];
    for (n, entry) in life.iter().enumerate() {
        inputs.push((format!("life-{n}"), input(1, &plain(&[life[0].clone(), entry.clone()]))));
    }
    inputs.push(("groups".to_owned(), input(0, &group_life)));
    inputs.push(("groups-plain".to_owned(), input(1, &plain(&group_life))));
    for n in 3..group_life.len() {
        inputs.push((format!("groups-{n}"), input(1, &plain(&group_life[..n]))));
    }
    for (n, some) in of_groups.chunks(60).take(3).enumerate() {
        inputs.push((format!("stored-groups-{n}"), input(1, &plain(some))));
    }
    for count in [4, 12, 40] {
        inputs.push((format!("stored-{count}"), input(0, &golden[..count])));
        inputs.push((format!("stored-{count}-plain"), input(1, &plain(&golden[..count]))));
    }
    // Out of the middle, each in its own session.
    for (n, some) in golden[40..].chunks(60).enumerate() {
        inputs.push((format!("stored-part-{n}"), input(1, &plain(some))));
    }
    Ok(inputs)
}

pub(super) fn snapshots() -> anyhow::Result<Vec<Input>> {
    let mut states = vec![("nothing".to_owned(), State::new())];
    let mut state = State::new();
    for (ordinal, entry) in (1..).zip(life()) {
        apply(&mut state, ordinal, &entry).context("a life folds")?;
        states.push((format!("life-{ordinal}"), state.clone()));
    }
    let mut state = State::new();
    for (ordinal, entry) in (1..).zip(group_life()) {
        apply(&mut state, ordinal, &entry).context("a group's life folds")?;
        if ordinal > 2 {
            states.push((format!("groups-{ordinal}"), state.clone()));
        }
    }
    for (level, ordinals) in [(1, [20, 60, 150, 301]), (2, [20, 60, 150, 401])] {
        let mut state = State::new();
        for (ordinal, bytes) in (1..).zip(golden(level)?) {
            let entry = Entry::decode(&bytes).context("a stored entry")?;
            apply(&mut state, ordinal, &entry).context("a stored journal folds")?;
            if ordinals.contains(&ordinal) {
                let name = if level == 1 { "stored" } else { "stored-groups" };
                states.push((format!("{name}-{ordinal}"), state.clone()));
            }
        }
    }
    let mut inputs = Vec::new();
    for (name, state) in states {
        let bytes = snapshot::encode(&state);
        let frames = zstd::stream::decode_all(&bytes[28..]).context("a snapshot's body")?;
        inputs.push((format!("{name}-frames"), [vec![1], frames].concat()));
        inputs.push((name, [vec![0], bytes].concat()));
    }
    Ok(inputs)
}

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n} {}", "x".repeat((n * 7 % 50) as usize)))
}

/// A directory after some appends, some sessions, and a snapshot in the middle of it.
fn directory(entries: u64, sessions: u64, truncated: bool) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let journal: Arc<FileJournal> = Arc::new(now(start(&disk)).expect("an empty directory starts"));
    const FITS: &str = "the disk does not fail";
    for nonce in 1..=sessions {
        now(journal.open(Identity { broker_id: 1, token: 7 }, nonce, entry(0))).expect(FITS);
        for n in 1..entries {
            now(journal.append(nonce, n, entry(n))).expect(FITS);
        }
        let ordinal = now(journal.end()).expect(FITS).ordinal;
        if truncated {
            let pointer = Pointer { ordinal, truncatable: ordinal - 1, value: Bytes::from_static(b"snapshot 7") };
            now(journal.publish(nonce, entries, entry(3), pointer)).expect(FITS);
            now(journal.truncate()).expect(FITS);
        }
    }
    disk
}

pub(super) fn journals() -> Vec<Input> {
    let mut inputs = vec![("nothing".to_owned(), vec![0]), ("temporary".to_owned(), vec![8])];
    for (name, entries, sessions, truncated) in [
        ("new", 1, 0, false),
        ("one", 1, 1, false),
        ("few", 6, 1, false),
        ("files", 40, 1, false),
        ("sessions", 4, 6, false),
        ("pointer", 3, 1, true),
        ("truncated", 30, 3, true),
    ] {
        let mut contents = directory(entries, sessions, truncated).contents();
        let pointer = contents.remove("pointer");
        let logs = contents.into_iter().filter_map(|(name, log)| Some((name.strip_suffix(".log")?.parse().ok()?, log)));
        let logs: Vec<(u64, Vec<u8>)> = logs.collect();
        for (how, repair) in [("as-they-are", 0), ("checksums", 1), ("ordinals", 3)] {
            inputs.push((format!("{name}-{how}"), Files::input(&logs, pointer.as_deref(), repair)));
        }
        if let Some(((first, last), rest)) = logs.split_last() {
            let cut = (*first, last[..last.len() - last.len().min(5)].to_vec());
            let torn = [rest, &[cut]].concat();
            inputs.push((format!("{name}-torn"), Files::input(&torn, pointer.as_deref(), 0)));
        }
    }
    inputs
}
