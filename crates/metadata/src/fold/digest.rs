//! The rolling hash: XXH3 over the hash before, the ordinal, the entry and what it did. It is over fields, little-endian
//! and in a fixed order, never over stored bytes: those depend on the compressor's version.
//!
//! Golden journals hold every later release to these bytes. A new command or field is added behind what is here.

use xxhash_rust::xxh3::xxh3_64;

use crate::command::{
    BatchMeta, Command, CommitBundle, CommitOffsets, CompleteJoin, CompleteSync, CreateTopic, Entry, GroupMember,
    ObjectKind, OpenSession, Outcome, Part, Refusal, TopicPartition, Verdict,
};

use super::Applied;

pub(super) fn chain(before: u64, ordinal: u64, entry: &Entry, applied: &Applied) -> u64 {
    let mut bytes = Bytes(Vec::with_capacity(256));
    bytes.u64(before).u64(ordinal);
    entry_fields(&mut bytes, entry);
    bytes.u8(u8::from(applied.repeat)).len(applied.outcomes.len());
    for outcome in &applied.outcomes {
        outcome_fields(&mut bytes, outcome);
    }
    xxh3_64(&bytes.0)
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u128(&mut self, value: u128) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn len(&mut self, value: usize) -> &mut Self {
        self.u64(value as u64)
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.u32(value.cast_unsigned())
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.len(value.len());
        self.0.extend_from_slice(value);
        self
    }

    fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    fn part(&mut self, value: Part) -> &mut Self {
        self.u32(value.index).u8(u8::from(value.last))
    }

    fn partition(&mut self, value: TopicPartition) -> &mut Self {
        self.u128(value.topic.0).u32(value.partition)
    }
}

fn entry_fields(bytes: &mut Bytes, entry: &Entry) {
    bytes.u32(entry.feature_level).u64(entry.nonce).u64(entry.n).i64(entry.time_ms).len(entry.reserved.len());
    for reservation in &entry.reserved {
        let kind = match reservation.kind {
            ObjectKind::Bundle => 0,
            ObjectKind::Snapshot => 1,
        };
        bytes.u8(kind).u32(reservation.end);
    }
    bytes.u32(entry.low).len(entry.commands.len());
    for command in &entry.commands {
        command_fields(bytes, command);
    }
}

fn command_fields(bytes: &mut Bytes, command: &Command) {
    match command {
        Command::OpenSession(open) => open_fields(bytes.u8(1), open),
        Command::EndSession { nonce } => {
            bytes.u8(2).u64(*nonce);
        }
        Command::CreateTopic(create) => create_fields(bytes.u8(3), create),
        Command::DeleteTopic { topic } => {
            bytes.u8(4).u128(topic.0);
        }
        Command::CommitBundle(bundle) => bundle_fields(bytes.u8(5), bundle),
        Command::AllocateProducerIds { count } => {
            bytes.u8(6).u32(*count);
        }
        Command::ExpireProducers { idle } => {
            bytes.u8(7).len(idle.len());
            for (id, last_activity) in idle {
                bytes.i64(*id).i64(*last_activity);
            }
        }
        Command::PublishSnapshot { object, ordinal } => {
            bytes.u8(8).u64(object.nonce).u32(object.number).u64(*ordinal);
        }
        Command::AddPartitions { topic, count } => {
            bytes.u8(9).u128(topic.0).u32(*count);
        }
        Command::CompleteJoin(join) => join_fields(bytes.u8(10), join),
        Command::CompleteSync(sync) => sync_fields(bytes.u8(11), sync),
        Command::ReplaceMember(replace) => {
            bytes.u8(12).text(&replace.group).i32(replace.generation).text(&replace.old);
            member_fields(bytes, &replace.new);
        }
        Command::CommitOffsets(commit) => commit_fields(bytes.u8(13), commit),
        Command::DeleteOffsets { group, partitions } => {
            bytes.u8(14).text(group).len(partitions.len());
            for partition in partitions {
                bytes.partition(*partition);
            }
        }
        Command::ExpireOffsets { group, generation, offsets } => {
            bytes.u8(15).text(group).i32(*generation).len(offsets.len());
            for (partition, seen) in offsets {
                bytes.partition(*partition).i64(*seen);
            }
        }
        Command::DeleteGroup { group } => {
            bytes.u8(16).text(group);
        }
        Command::SetReady { ready } => {
            bytes.u8(17).u8(u8::from(*ready));
        }
    }
}

fn join_fields(bytes: &mut Bytes, join: &CompleteJoin) {
    bytes.text(&join.group).i32(join.generation).part(join.part);
    bytes.text(&join.protocol_type).text(&join.protocol).text(&join.leader).len(join.members.len());
    for member in &join.members {
        member_fields(bytes, member);
    }
}

fn member_fields(bytes: &mut Bytes, member: &GroupMember) {
    bytes.text(&member.id).u8(u8::from(member.instance.is_some())).text(member.instance.as_deref().unwrap_or_default());
    bytes.text(&member.client_id).text(&member.client_host);
    bytes.i32(member.session_timeout_ms).i32(member.rebalance_timeout_ms).bytes(&member.subscription);
}

fn sync_fields(bytes: &mut Bytes, sync: &CompleteSync) {
    bytes.text(&sync.group).i32(sync.generation).part(sync.part).len(sync.assignments.len());
    for (member, assignment) in &sync.assignments {
        bytes.text(member).bytes(assignment);
    }
}

fn commit_fields(bytes: &mut Bytes, commit: &CommitOffsets) {
    bytes.text(&commit.group).i32(commit.generation).text(&commit.member).len(commit.offsets.len());
    for offset in &commit.offsets {
        bytes.partition(offset.partition).i64(offset.offset).i32(offset.leader_epoch).text(&offset.metadata);
    }
}

fn open_fields(bytes: &mut Bytes, open: &OpenSession) {
    bytes.u32(open.broker_id.cast_unsigned()).u128(open.identity).len(open.listeners.len());
    for listener in &open.listeners {
        bytes.text(&listener.name).text(&listener.host).u32(u32::from(listener.port));
    }
    bytes.u8(u8::from(open.rack.is_some())).text(open.rack.as_deref().unwrap_or_default());
}

fn create_fields(bytes: &mut Bytes, create: &CreateTopic) {
    bytes.u128(create.topic.0).text(&create.name).u32(create.partitions).len(create.configs.len());
    for (name, value) in &create.configs {
        bytes.text(name).text(value);
    }
}

fn bundle_fields(bytes: &mut Bytes, bundle: &CommitBundle) {
    bytes.u32(bundle.number).len(bundle.runs.len());
    for run in &bundle.runs {
        bytes.partition(run.partition).u32(run.position).len(run.batches.len());
        for batch in &run.batches {
            batch_fields(bytes, batch);
        }
    }
}

fn batch_fields(bytes: &mut Bytes, batch: &BatchMeta) {
    let flags = u8::from(batch.transactional) | u8::from(batch.producer.is_some()) << 1;
    bytes.u8(flags).u32(batch.bytes).u32(batch.records).i64(batch.max_timestamp);
    if let Some(producer) = batch.producer {
        let epoch = u32::from(producer.epoch.cast_unsigned());
        bytes.i64(producer.id).u32(epoch).u32(producer.first_sequence.cast_unsigned());
    }
}

fn outcome_fields(bytes: &mut Bytes, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {
            bytes.u8(0);
        }
        Outcome::Refused(refusal) => {
            bytes.u8(1).u8(refusal_code(*refusal));
        }
        Outcome::Bundle(runs) => {
            bytes.u8(2).len(runs.len());
            for verdicts in runs {
                bytes.len(verdicts.len());
                verdicts.iter().for_each(|v| verdict_fields(bytes, *v));
            }
        }
        Outcome::ProducerIds { first } => {
            bytes.u8(3).i64(*first);
        }
        Outcome::Offsets(verdicts) => {
            bytes.u8(4).len(verdicts.len());
            for verdict in verdicts {
                bytes.u8(verdict.map_or(u8::MAX, refusal_code));
            }
        }
    }
}

fn verdict_fields(bytes: &mut Bytes, verdict: Verdict) {
    match verdict {
        Verdict::Accepted { first_offset, log_start } => bytes.u8(0).i64(first_offset).i64(log_start),
        Verdict::Duplicate { first_offset, log_start } => bytes.u8(1).i64(first_offset).i64(log_start),
        Verdict::Refused(refusal) => bytes.u8(2).u8(refusal_code(refusal)),
    };
}

fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::UnknownTopicOrPartition => 0,
        Refusal::TopicExists => 1,
        Refusal::InvalidTopicName => 2,
        Refusal::InvalidPartitions => 3,
        Refusal::LimitReached => 4,
        Refusal::OutOfOrderSequence => 5,
        Refusal::FencedEpoch => 6,
        Refusal::DuplicateSequence => 7,
        Refusal::NotAllowed => 8,
        Refusal::UnknownGroup => 9,
        Refusal::UnknownMember => 10,
        Refusal::IllegalGeneration => 11,
        Refusal::RebalanceInProgress => 12,
        Refusal::GroupNotEmpty => 13,
        Refusal::NotCoordinator => 14,
    }
}
