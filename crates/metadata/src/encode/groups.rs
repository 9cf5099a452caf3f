//! Commands of consumer groups as messages, and back. What comes in numbers, partitions and their offsets, is in
//! columns.

use bytes::Bytes;

use super::columns::{deltas, run_lengths, undo_deltas, undo_run_lengths};
use super::{DecodeError, proto};
use crate::command::{
    CommitOffsets, CompleteJoin, CompleteSync, GroupMember, MemberId, OffsetCommit, Part, ReplaceMember, TopicId,
    TopicPartition,
};

const COLUMNS: DecodeError = DecodeError::Malformed("columns of different lengths");

pub(super) fn join_to(join: &CompleteJoin) -> proto::CompleteJoin {
    proto::CompleteJoin {
        group: join.group.clone(),
        generation: join.generation,
        part: part_to(join.part),
        protocol_type: join.protocol_type.clone(),
        protocol: join.protocol.clone(),
        leader: join.leader.to_string(),
        members: join.members.iter().map(member_to).collect(),
    }
}

pub(super) fn join_from(join: proto::CompleteJoin) -> CompleteJoin {
    CompleteJoin {
        group: join.group,
        generation: join.generation,
        protocol_type: join.protocol_type,
        protocol: join.protocol,
        leader: join.leader.into(),
        members: join.members.into_iter().map(member_from).collect(),
        part: part_from(join.part),
    }
}

fn part_to(part: Part) -> Option<proto::Part> {
    (part != Part::WHOLE).then_some(proto::Part { index: part.index, last: part.last })
}

fn part_from(part: Option<proto::Part>) -> Part {
    part.map_or(Part::WHOLE, |part| Part { index: part.index, last: part.last })
}

pub(crate) fn member_to(member: &GroupMember) -> proto::GroupMember {
    proto::GroupMember {
        id: member.id.to_string(),
        instance: member.instance.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        subscription: member.subscription.to_vec(),
    }
}

pub(crate) fn member_from(member: proto::GroupMember) -> GroupMember {
    GroupMember {
        id: member.id.into(),
        instance: member.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        subscription: member.subscription.into(),
    }
}

pub(super) fn sync_to(sync: &CompleteSync) -> proto::CompleteSync {
    proto::CompleteSync {
        group: sync.group.clone(),
        generation: sync.generation,
        part: part_to(sync.part),
        assignments: sync.assignments.iter().map(assignment_to).collect(),
    }
}

pub(super) fn sync_from(sync: proto::CompleteSync) -> CompleteSync {
    CompleteSync {
        group: sync.group,
        generation: sync.generation,
        assignments: sync.assignments.into_iter().map(assignment_from).collect(),
        part: part_from(sync.part),
    }
}

pub(crate) fn assignment_to((member, assignment): &(MemberId, Bytes)) -> proto::Assignment {
    proto::Assignment { member: member.to_string(), assignment: assignment.to_vec() }
}

pub(crate) fn assignment_from(message: proto::Assignment) -> (MemberId, Bytes) {
    (message.member.into(), message.assignment.into())
}

pub(super) fn replace_to(replace: &ReplaceMember) -> proto::ReplaceMember {
    proto::ReplaceMember {
        group: replace.group.clone(),
        generation: replace.generation,
        old: replace.old.to_string(),
        new: Some(member_to(&replace.new)),
    }
}

pub(super) fn replace_from(replace: proto::ReplaceMember) -> Result<ReplaceMember, DecodeError> {
    let new = replace.new.ok_or(DecodeError::Malformed("no member"))?;
    Ok(ReplaceMember {
        group: replace.group,
        generation: replace.generation,
        old: replace.old.into(),
        new: member_from(new),
    })
}

pub(super) fn partitions_to(partitions: impl Iterator<Item = TopicPartition> + Clone) -> proto::Partitions {
    let (topics, topic_lengths) = run_lengths(partitions.clone().map(|p| p.topic));
    proto::Partitions {
        topics: topics.iter().flat_map(|topic| topic.0.to_be_bytes()).collect(),
        topic_lengths,
        partitions: deltas(partitions.map(|p| i64::from(p.partition))),
    }
}

pub(super) fn partitions_from(message: Option<&proto::Partitions>) -> Result<Vec<TopicPartition>, DecodeError> {
    let Some(message) = message else { return Ok(Vec::new()) };
    let (topics, rest) = message.topics.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(DecodeError::Malformed("an id that is not 16 bytes"));
    }
    let topics = undo_run_lengths(topics, &message.topic_lengths, message.partitions.len())?;
    let one = |(topic, partition): ([u8; 16], i64)| {
        let partition = u32::try_from(partition).map_err(|_| DecodeError::Malformed("a partition"))?;
        Ok(TopicPartition { topic: TopicId(u128::from_be_bytes(topic)), partition })
    };
    topics.into_iter().zip(undo_deltas(&message.partitions)).map(one).collect()
}

pub(crate) fn commit_to(commit: &CommitOffsets) -> proto::CommitOffsets {
    let offsets = || commit.offsets.iter();
    let (leader_epochs, leader_epoch_lengths) = run_lengths(offsets().map(|o| o.leader_epoch));
    let with_metadata = (0_i64..).zip(offsets()).filter(|(_, o)| !o.metadata.is_empty());
    let places = deltas(with_metadata.clone().map(|(place, _)| place));
    proto::CommitOffsets {
        group: commit.group.clone(),
        generation: commit.generation,
        member: commit.member.clone(),
        partitions: Some(partitions_to(offsets().map(|o| o.partition))),
        offsets: deltas(offsets().map(|o| o.offset)),
        leader_epochs,
        leader_epoch_lengths,
        metadata_places: places.into_iter().map(|d| u32::try_from(d).unwrap_or(u32::MAX)).collect(),
        metadata: with_metadata.map(|(_, o)| o.metadata.clone()).collect(),
    }
}

pub(crate) fn commit_from(message: proto::CommitOffsets) -> Result<CommitOffsets, DecodeError> {
    let partitions = partitions_from(message.partitions.as_ref())?;
    let epochs = undo_run_lengths(&message.leader_epochs, &message.leader_epoch_lengths, partitions.len())?;
    if message.offsets.len() != partitions.len() || message.metadata.len() != message.metadata_places.len() {
        return Err(COLUMNS);
    }
    let columns = partitions.into_iter().zip(undo_deltas(&message.offsets)).zip(epochs);
    let one =
        |((partition, offset), leader_epoch)| OffsetCommit { partition, offset, leader_epoch, metadata: String::new() };
    let mut offsets: Vec<OffsetCommit> = columns.map(one).collect();
    let mut place = 0_usize;
    for (delta, metadata) in message.metadata_places.iter().zip(message.metadata) {
        place = place.saturating_add(*delta as usize);
        offsets.get_mut(place).ok_or(DecodeError::Malformed("a place beyond the offsets"))?.metadata = metadata;
    }
    Ok(CommitOffsets { group: message.group, generation: message.generation, member: message.member, offsets })
}

pub(super) fn expire_to(
    group: &str,
    generation: i32,
    offsets: &[(TopicPartition, i64)],
    time_ms: i64,
) -> proto::ExpireOffsets {
    proto::ExpireOffsets {
        group: group.to_owned(),
        generation,
        partitions: Some(partitions_to(offsets.iter().map(|(partition, _)| *partition))),
        committed: deltas(offsets.iter().map(|(_, committed)| committed.wrapping_sub(time_ms))),
    }
}

pub(super) fn expire_from(
    message: &proto::ExpireOffsets,
    time_ms: i64,
) -> Result<Vec<(TopicPartition, i64)>, DecodeError> {
    let partitions = partitions_from(message.partitions.as_ref())?;
    if message.committed.len() != partitions.len() {
        return Err(COLUMNS);
    }
    let times = undo_deltas(&message.committed).map(|t| t.wrapping_add(time_ms));
    Ok(partitions.into_iter().zip(times).collect())
}
