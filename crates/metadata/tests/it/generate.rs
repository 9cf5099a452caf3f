//! Random entries, made to collide: few producers, few partitions, small sequences, wrong numbers among right ones.

mod groups;

use std::collections::BTreeMap;

use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, Listener, ObjectId, ObjectKind, OpenSession, ProducerBatch,
    Reservation, Run, State, TopicId, TopicPartition,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// A step of a random history: an entry of one of three sessions, or a snapshot that is taken and restored.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Entry { n_off: i8, entry: Entry },
    Restore,
}

pub(crate) fn history(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let n_off = prop_oneof![30 => Just(0_i8), 1 => Just(-1_i8), 1 => Just(1_i8)];
    let entry = (1_u64..4, n_off, commands(), header()).prop_map(|(session, n_off, commands, (time_ms, grow, low))| {
        // What an older release wrote, now and then: any session may speak for a group there.
        let feature_level = if time_ms % 5 == 1 { 2 } else { FEATURE_LEVEL };
        let entry = Entry { feature_level, nonce: session, n: 0, time_ms, reserved: grow, low, commands };
        Step::Entry { n_off, entry }
    });
    vec(prop_oneof![20 => entry, 1 => Just(Step::Restore)], 1..length)
}

/// What the clients of a history have sent so far: (first sequence, records) and the epoch.
pub(crate) type Sent = BTreeMap<(TopicPartition, i64), Vec<(i16, i32, u32)>>;

/// Aims the entry at the state: mostly at a live session and its next `n`, at numbers that it may use, and at sequences
/// that are next or were sent before. Some of everything stays as wild as it was made.
pub(crate) fn fit(state: &State, sent: &mut Sent, n_off: i8, mut entry: Entry) -> Entry {
    let slot = entry.nonce * 1_000;
    let dead = |nonce: &u64| state.session(*nonce).is_some_and(|s| !s.is_live());
    let living = (slot..).find(|nonce| !dead(nonce)).unwrap();
    entry.nonce = if entry.time_ms == 7 && living > slot { living - 1 } else { living };
    let session = state.session(entry.nonce);
    entry.n = session.map_or(0, kafscale_metadata::Session::next_n).saturating_add_signed(i64::from(n_off));
    let (low, reserved) = (state.low(entry.nonce), state.reserved(entry.nonce));
    for reservation in &mut entry.reserved {
        reservation.end = reservation.end.saturating_add(reserved);
    }
    entry.low = if entry.low == 3 { low + 1 } else { entry.low };
    if entry.n == 0 {
        let broker_id = (slot / 1_000 % 2) as i32;
        let open = OpenSession { broker_id, identity: 1, listeners: vec![], rack: None };
        entry.commands.insert(0, Command::OpenSession(open));
        entry.reserved = vec![Reservation { kind: ObjectKind::Bundle, end: 6 }];
    }
    for command in &mut entry.commands {
        match command {
            Command::CommitBundle(bundle) => {
                aim_partitions(bundle, state);
                aim_bundle(bundle, state, (low, reserved), sent);
            }
            Command::ExpireProducers { idle } => {
                let real = state.idle_producers(40);
                idle.iter_mut().zip(real).filter(|(i, _)| i.1 % 2 == 0).for_each(|(idle, real)| *idle = real);
            }
            Command::EndSession { nonce } if *nonce < 3 => *nonce = living,
            Command::PublishSnapshot { object, .. } => object.nonce = entry.nonce,
            Command::OpenSession(_)
            | Command::EndSession { .. }
            | Command::SetReady { .. }
            | Command::CreateTopic(_)
            | Command::DeleteTopic { .. }
            | Command::AllocateProducerIds { .. } => {}
            Command::AddPartitions { .. }
            | Command::CompleteJoin(_)
            | Command::CompleteSync(_)
            | Command::ReplaceMember(_)
            | Command::CommitOffsets(_)
            | Command::DeleteOffsets { .. }
            | Command::ExpireOffsets { .. }
            | Command::DeleteGroup { .. } => groups::aim(command, state),
        }
    }
    entry
}

fn aim_partitions(bundle: &mut CommitBundle, state: &State) {
    for run in bundle.runs.iter_mut().filter(|run| run.partition.topic.0 < 3) {
        let topics = state.topics().len().max(1);
        if let Some(topic) = state.topics().nth(run.partition.topic.0 as usize % topics) {
            run.partition =
                TopicPartition { topic: topic.id(), partition: run.partition.partition % topic.partition_count() };
        }
    }
}

fn aim_bundle(bundle: &mut CommitBundle, state: &State, (low, reserved): (u32, u32), sent: &mut Sent) {
    if bundle.number < 5 && reserved > low {
        bundle.number = low + bundle.number % (reserved - low);
    }
    let mut next = BTreeMap::new();
    for run in &mut bundle.runs {
        for batch in &mut run.batches {
            let Some(producer) = &mut batch.producer else { continue };
            let key = (run.partition, producer.id);
            let known = state.partition(run.partition).and_then(|p| p.producer(producer.id));
            let known = known.map(|p| (p.epoch(), p.last_sequence().checked_add(1).unwrap_or(0)));
            let (sent, next) = (sent.entry(key).or_default(), next.entry(key).or_insert(known));
            let aimed = match producer.first_sequence {
                2..=6 => next.map(|(epoch, first)| (epoch, first, batch.records)),
                7 => sent.iter().rev().nth(batch.bytes as usize % 9).copied(),
                _ => None,
            };
            if let Some((epoch, first, records)) = aimed {
                (producer.epoch, producer.first_sequence, batch.records) = (epoch, first, records);
            }
            if next.is_some_and(|next| next == (producer.epoch, producer.first_sequence)) {
                let after = (i64::from(producer.first_sequence) + i64::from(batch.records)).rem_euclid(1 << 31);
                *next = Some((producer.epoch, after as i32));
            }
            sent.push((producer.epoch, producer.first_sequence, batch.records));
        }
    }
}

fn header() -> impl Strategy<Value = (i64, Vec<Reservation>, u32)> {
    let kind = prop_oneof![3 => Just(ObjectKind::Bundle), 1 => Just(ObjectKind::Snapshot)];
    let grow = vec((kind, 0_u32..6).prop_map(|(kind, end)| Reservation { kind, end }), 0..2);
    (0_i64..50, grow, prop_oneof![6 => Just(0_u32), 1 => 0_u32..4])
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    vec(command(), 0..4)
}

fn command() -> impl Strategy<Value = Command> {
    let create =
        (0_u128..4, 0_usize..5, prop_oneof![1 => Just(0_u32), 9 => 1_u32..3]).prop_map(|(id, name, partitions)| {
            let name = ["t", "u", "t", "u", "no/name"][name].to_owned();
            Command::CreateTopic(CreateTopic { topic: TopicId(id), name, partitions, configs: BTreeMap::new() })
        });
    let expire = vec((0_i64..6, 0_i64..50), 0..4).prop_map(|idle| Command::ExpireProducers { idle });
    let publish = (1_u64..4, 0_u32..8, 0_u64..12)
        .prop_map(|(nonce, number, ordinal)| Command::PublishSnapshot { object: ObjectId { nonce, number }, ordinal });
    prop_oneof![
        1 => (1_u64..5).prop_map(|nonce| Command::EndSession { nonce }),
        2 => any::<bool>().prop_map(|ready| Command::SetReady { ready }),
        5 => create,
        1 => (0_u128..9).prop_map(|id| Command::DeleteTopic { topic: TopicId(id) }),
        40 => bundle().prop_map(Command::CommitBundle),
        3 => (0_u32..3).prop_map(|count| Command::AllocateProducerIds { count }),
        2 => expire,
        1 => publish,
        16 => groups::command(),
    ]
}

fn bundle() -> impl Strategy<Value = CommitBundle> {
    let run = (
        0_u128..4,
        prop_oneof![3 => Just(0_u32), 1 => Just(1)],
        prop_oneof![20 => 0_u32..1000, 1 => u32::MAX - 50..=u32::MAX],
        vec(batch(), 0..6),
    );
    let run = run.prop_map(|(topic, partition, position, batches)| Run {
        partition: TopicPartition { topic: TopicId(topic), partition },
        position,
        batches,
    });
    (0_u32..6, vec(run, 0..4)).prop_map(|(number, runs)| CommitBundle { number, runs })
}

fn batch() -> impl Strategy<Value = BatchMeta> {
    let sequence = prop_oneof![20 => 0_i32..8, 2 => i32::MAX - 3..=i32::MAX, 1 => Just(-1)];
    let producer = (0_i64..4, prop_oneof![9 => Just(0_i16), 1 => Just(1)], sequence);
    let producer = producer.prop_map(|(id, epoch, first_sequence)| ProducerBatch { id, epoch, first_sequence });
    let records = prop_oneof![20 => 1_u32..4, 1 => Just(0), 1 => Just(1 << 31), 1 => Just((1 << 31) - 1)];
    (0_u32..40, records, -1_i64..1000, option::weighted(0.9, producer), proptest::bool::weighted(0.02)).prop_map(
        |(bytes, records, max_timestamp, producer, transactional)| BatchMeta {
            bytes,
            records,
            max_timestamp,
            producer,
            transactional,
        },
    )
}

/// An entry of any values whatever, for round trips.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(ObjectKind::Bundle), Just(ObjectKind::Snapshot)];
    let reserved = vec((kind, any::<u32>()).prop_map(|(kind, end)| Reservation { kind, end }), 0..4);
    (any::<u64>(), any::<u64>(), any::<i64>(), reserved, any::<u32>(), vec(any_command(), 0..5)).prop_map(
        |(nonce, n, time_ms, reserved, low, commands)| Entry {
            feature_level: FEATURE_LEVEL,
            nonce,
            n,
            time_ms,
            reserved,
            low,
            commands,
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    let listener = ("[a-z]{0,5}", ".{0,9}", any::<u16>());
    let listener = listener.prop_map(|(name, host, port)| Listener { name, host, port });
    let open = (any::<i32>(), any::<u128>(), vec(listener, 0..3), option::of(".{0,9}"));
    let open = open.prop_map(|(broker_id, identity, listeners, rack)| {
        Command::OpenSession(OpenSession { broker_id, identity, listeners, rack })
    });
    let create = (any::<u128>(), ".{0,9}", any::<u32>(), btree_map(".{0,9}", ".{0,9}", 0..3));
    let create = create.prop_map(|(topic, name, partitions, configs)| {
        Command::CreateTopic(CreateTopic { topic: TopicId(topic), name, partitions, configs })
    });
    let object = (any::<u64>(), any::<u32>()).prop_map(|(nonce, number)| ObjectId { nonce, number });
    prop_oneof![
        open,
        any::<u64>().prop_map(|nonce| Command::EndSession { nonce }),
        any::<bool>().prop_map(|ready| Command::SetReady { ready }),
        create,
        any::<u128>().prop_map(|id| Command::DeleteTopic { topic: TopicId(id) }),
        any_bundle().prop_map(Command::CommitBundle),
        bundle().prop_map(Command::CommitBundle),
        any::<u32>().prop_map(|count| Command::AllocateProducerIds { count }),
        vec((any::<i64>(), any::<i64>()), 0..9).prop_map(|idle| Command::ExpireProducers { idle }),
        (object, any::<u64>()).prop_map(|(object, ordinal)| Command::PublishSnapshot { object, ordinal }),
        groups::any_command(),
        groups::any_command(),
    ]
}

fn any_bundle() -> impl Strategy<Value = CommitBundle> {
    let producer = (any::<i64>(), any::<i16>(), any::<i32>());
    let producer = producer.prop_map(|(id, epoch, first_sequence)| ProducerBatch { id, epoch, first_sequence });
    let batch = (any::<u32>(), any::<u32>(), any::<i64>(), option::of(producer), any::<bool>());
    let batch = batch.prop_map(|(bytes, records, max_timestamp, producer, transactional)| BatchMeta {
        bytes,
        records,
        max_timestamp,
        producer,
        transactional,
    });
    let run = (any::<u128>(), any::<u32>(), any::<u32>(), vec(batch, 0..5));
    let run = run.prop_map(|(topic, partition, position, batches)| Run {
        partition: TopicPartition { topic: TopicId(topic), partition },
        position,
        batches,
    });
    (any::<u32>(), vec(run, 0..4)).prop_map(|(number, runs)| CommitBundle { number, runs })
}
