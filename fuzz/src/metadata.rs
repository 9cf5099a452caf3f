//! Targets of the state: journal entries and what they do, and snapshots.
//!
//! Whatever can be decoded is folded, by the fold and by its naive reference, which must agree; whatever state comes of
//! it survives a snapshot; and from a snapshot that was taken for a state the fold goes on.

use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::reference::Reference;
use kafscale_metadata::{
    Applied, BatchMeta, Command, CommitBundle, CommitOffsets, CompleteJoin, CreateTopic, Entry, ObjectKind,
    OffsetCommit, OpenSession, Outcome as Decided, Part, ProducerBatch, Reservation, Run, SnapshotError, State, Stop,
    TopicId, TopicPartition, apply, snapshot as snapshots,
};

use crate::outcome::{Outcome, Way};
use crate::repair;

/// The reference keeps lists of everything, and is slow from here on.
const REFERENCE_PARTITIONS: u64 = 256;
const REFERENCE_BYTES: usize = 16 << 10;

/// A byte of flags (1: entries are numbered as their sessions are), then entries, each behind two bytes of length.
pub fn entry(input: &[u8]) -> Outcome {
    let way = Way::default();
    let Some((flags, rest)) = input.split_first() else { return way.refused(&"short") };
    let mut fold = Fold { way, state: State::new(), reference: Some(Reference::new()), applied: 0 };
    if input.len() > REFERENCE_BYTES {
        fold.reference = None;
    }
    for bytes in repair::pieces(rest) {
        match Entry::decode(bytes) {
            Err(error) => fold.way.found(&error),
            Ok(mut entry) => {
                assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
                if flags & 1 != 0 {
                    entry.n = next_n(&fold.state, entry.nonce);
                }
                fold.apply(&entry);
            }
        }
    }
    fold.finish()
}

/// One fact for each command, and for each batch.
fn found(way: &mut Way, entry: &Entry, applied: &Applied) {
    way.found(&(applied.repeat, applied.deleted.len()));
    for (command, outcome) in entry.commands.iter().zip(&applied.outcomes) {
        match outcome {
            Decided::Bundle(runs) => runs.iter().flatten().for_each(|verdict| way.found(verdict)),
            Decided::Offsets(verdicts) => verdicts.iter().for_each(|verdict| way.found(verdict)),
            Decided::Done | Decided::Refused(_) | Decided::ProducerIds { .. } => {
                way.found(&(std::mem::discriminant(command), outcome));
            }
        }
    }
}

fn next_n(state: &State, nonce: u64) -> u64 {
    state.session(nonce).map_or(0, kafscale_metadata::Session::next_n)
}

struct Fold {
    way: Way,
    state: State,
    reference: Option<Reference>,
    applied: u32,
}

impl Fold {
    fn apply(&mut self, entry: &Entry) {
        let ordinal = self.state.ordinal() + 1;
        let before = (self.state.ordinal(), self.state.hash());
        let applied = apply(&mut self.state, ordinal, entry);
        if self.state.partition_count() > REFERENCE_PARTITIONS {
            self.reference = None;
        }
        if let Some(reference) = &mut self.reference {
            assert_eq!(reference.apply(ordinal, entry), applied, "the reference decides otherwise on {entry:?}");
        }
        match &applied {
            Ok(applied) => {
                assert!(applied.repeat || applied.outcomes.len() == entry.commands.len());
                self.applied += 1;
            }
            Err(_) => assert_eq!((self.state.ordinal(), self.state.hash()), before, "a refused entry does nothing"),
        }
        match applied {
            Ok(applied) => found(&mut self.way, entry, &applied),
            Err(stop) => self.way.found(&stop),
        }
    }

    fn finish(self) -> Outcome {
        if let Some(reference) = &self.reference {
            assert_eq!(reference.check(&self.state), Ok(()));
        }
        survives(&self.state);
        if self.applied > 0 { self.way.accepted(&"folded") } else { self.way.refused(&"nothing to fold") }
    }
}

fn survives(state: &State) {
    let again = snapshots::decode(&snapshots::encode(state));
    assert_eq!(again.as_ref(), Ok(state), "a snapshot holds the state that it was made of");
    assert_eq!(again.map(|again| again.content_hash()), Ok(state.content_hash()));
}

/// A byte of flags, then a snapshot; with flag 1 its frames alone, which are compressed and get a header.
pub fn snapshot(input: &[u8]) -> Outcome {
    let mut way = Way::default();
    let Some((flags, rest)) = input.split_first() else { return way.refused(&"short") };
    let decoded = if flags & 1 != 0 { snapshots::decode(&repair::snapshot(rest)) } else { snapshots::decode(rest) };
    let mut state = match decoded {
        Ok(state) => state,
        Err(error @ (SnapshotError::NotASnapshot | SnapshotError::Newer { .. } | SnapshotError::Damaged(_))) => {
            return way.refused(&error);
        }
    };
    survives(&state);
    let published = usize::from(state.snapshot().is_some());
    let shape = [state.topics().len(), state.living_producers(), published, state.group_count()];
    way.found(&shape.map(|count| count.min(3).to_string().replace('0', "none")));
    for entry in what_follows(&state) {
        let ordinal = state.ordinal().saturating_add(1);
        match apply(&mut state, ordinal, &entry) {
            Ok(applied) => found(&mut way, &entry, &applied),
            Err(stop @ (Stop::Ordinal { .. } | Stop::Newer { .. } | Stop::Gap { .. })) => way.found(&stop),
        }
    }
    survives(&state);
    way.accepted(&"state")
}

/// Entries of a new session that touch what is in the state.
fn what_follows(state: &State) -> [Entry; 4] {
    let nonce = (1..).find(|nonce| state.session(*nonce).is_none()).expect("nonces do not run out");
    let entry = |n, commands| Entry {
        feature_level: FEATURE_LEVEL,
        nonce,
        n,
        time_ms: 9,
        reserved: Vec::new(),
        low: 0,
        commands,
    };
    let open = OpenSession { broker_id: 1, identity: 1, listeners: Vec::new(), rack: None };
    let mut opening = entry(0, vec![Command::OpenSession(open)]);
    opening.reserved = vec![Reservation { kind: ObjectKind::Bundle, end: 9 }];
    let create = |name: &str| CreateTopic {
        topic: TopicId(u128::from(nonce)),
        name: name.to_owned(),
        partitions: 2,
        configs: Default::default(),
    };
    let runs = state.topics().take(4).map(|topic| run(state, topic.id())).collect();
    let writing = vec![
        Command::AllocateProducerIds { count: 3 },
        Command::CreateTopic(create("after.the.snapshot")),
        Command::CommitBundle(CommitBundle { number: 0, runs }),
    ];
    let mut ending = vec![Command::ExpireProducers { idle: state.idle_producers(i64::MAX) }];
    for topic in state.topics().take(4) {
        ending.push(Command::DeleteTopic { topic: topic.id() });
        ending.push(Command::CreateTopic(create(topic.name())));
    }
    [opening, entry(1, writing), entry(2, of_groups(state)), entry(3, ending)]
}

/// What the members of the groups would say next, and what they leave.
fn of_groups(state: &State) -> Vec<Command> {
    let mut commands = Vec::new();
    for (id, group) in state.groups().take(4) {
        let member = group.members().next().map_or_else(String::new, |member| member.id().to_string());
        let generation = if group.members().len() == 0 { -1 } else { group.generation() };
        let partitions: Vec<TopicPartition> = group.offsets().map(|(partition, _)| partition).take(3).collect();
        let commit = |partition: &TopicPartition| OffsetCommit {
            partition: *partition,
            offset: 9,
            leader_epoch: 1,
            metadata: "again".to_owned(),
        };
        let offsets = partitions.iter().map(commit).collect();
        let (joining, next) = (id.to_owned(), group.generation().saturating_add(1));
        commands.push(Command::CommitOffsets(CommitOffsets { group: id.to_owned(), generation, member, offsets }));
        commands.push(Command::DeleteOffsets { group: id.to_owned(), partitions });
        commands.push(Command::CompleteJoin(CompleteJoin {
            group: joining,
            generation: next,
            protocol_type: "consumer".to_owned(),
            protocol: "range".to_owned(),
            leader: "".into(),
            members: Vec::new(),
            part: Part::WHOLE,
        }));
    }
    for found in state.expired_offsets(i64::MAX, "").found {
        let (group, generation, offsets) = (found.group.to_string(), found.generation, found.offsets);
        commands.push(Command::ExpireOffsets { group, generation, offsets });
    }
    commands
}

/// Batches of everyone who may write: no producer, a new one, and those that the partition knows.
fn run(state: &State, topic: TopicId) -> Run {
    let partition = TopicPartition { topic, partition: 0 };
    let batch = |producer| BatchMeta { bytes: 70, records: 2, max_timestamp: 5, producer, transactional: false };
    let known = state.partition(partition).into_iter().flat_map(|p| p.producers().take(3));
    let known = known.map(|(id, known)| {
        let first_sequence = known.last_sequence().checked_add(1).unwrap_or(0);
        Some(ProducerBatch { id, epoch: known.epoch(), first_sequence })
    });
    let new = Some(ProducerBatch { id: 123_456, epoch: 0, first_sequence: 0 });
    let batches = [None, new].into_iter().chain(known).map(batch).collect();
    Run { partition, position: 40, batches }
}
