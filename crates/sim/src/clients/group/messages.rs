//! Requests to a coordinator, and what their answers say, in every version that the clients speak. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafscale_wire::heartbeat::HeartbeatRequest;
use kafscale_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use kafscale_wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use kafscale_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use kafscale_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic, OffsetDeleteResponse,
};
use kafscale_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use kafscale_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use kafscale_wire::{ErrorCode, Uuid};

use super::protocol::Partition;
use crate::history::groups::{CommitPart, OffsetTold, Told, Who};

/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";
/// The first version of OffsetCommit and OffsetFetch that names topics by id.
pub const BY_ID_FROM: i16 = 10;

/// A client's topics: name to id.
pub type Ids = BTreeMap<String, Uuid>;

/// JoinGroup, without protocols and timeouts.
pub fn join(version: i16, group: &str, who: &Who, protocols: &[(String, Bytes)]) -> JoinGroupRequest {
    let protocol = |(name, metadata): &(String, Bytes)| JoinGroupRequestProtocol {
        name: name.as_str().into(),
        metadata: metadata.clone(),
    };
    JoinGroupRequest {
        group_id: group.into(),
        member_id: who.member.as_str().into(),
        group_instance_id: who.instance.as_deref().filter(|_| version >= 5).map(Into::into),
        protocol_type: CONSUMER.into(),
        protocols: protocols.iter().map(protocol).collect(),
        reason: (version >= 8).then(|| "the simulator wants it".into()),
        ..Default::default()
    }
}

/// What JoinGroup was answered.
pub fn joined(response: &JoinGroupResponse) -> Told {
    if response.error_code == ErrorCode::MemberIdRequired.code() {
        return Told::Named(response.member_id.to_string());
    }
    if response.error_code != 0 {
        return Told::Code(response.error_code);
    }
    let members = response.members.iter().map(|member| {
        let instance = member.group_instance_id.as_ref().map(ToString::to_string);
        (member.member_id.to_string(), instance, member.metadata.clone())
    });
    Told::Joined {
        generation: response.generation_id,
        protocol: response.protocol_name.as_ref().map(ToString::to_string).unwrap_or_default(),
        leader: response.leader.to_string(),
        member: response.member_id.to_string(),
        skips: response.skip_assignment,
        members: members.collect(),
    }
}

/// SyncGroup.
pub fn sync(version: i16, group: &str, who: &Who, protocol: &str, assignments: &[(String, Bytes)]) -> SyncGroupRequest {
    let assignment = |(member, assignment): &(String, Bytes)| SyncGroupRequestAssignment {
        member_id: member.as_str().into(),
        assignment: assignment.clone(),
    };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: who.generation,
        member_id: who.member.as_str().into(),
        group_instance_id: who.instance.as_deref().filter(|_| version >= 3).map(Into::into),
        protocol_type: (version >= 5).then(|| CONSUMER.into()),
        protocol_name: (version >= 5).then(|| protocol.into()),
        assignments: assignments.iter().map(assignment).collect(),
    }
}

/// What SyncGroup was answered.
pub fn synced(response: &SyncGroupResponse) -> Told {
    match response.error_code {
        0 => Told::Synced(response.assignment.clone()),
        code => Told::Code(code),
    }
}

/// Heartbeat.
pub fn heartbeat(version: i16, group: &str, who: &Who) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: group.into(),
        generation_id: who.generation,
        member_id: who.member.as_str().into(),
        group_instance_id: who.instance.as_deref().filter(|_| version >= 3).map(Into::into),
    }
}

/// LeaveGroup for one member.
pub fn leave(version: i16, group: &str, member: &str, instance: Option<&str>) -> LeaveGroupRequest {
    if version < 3 {
        return LeaveGroupRequest { group_id: group.into(), member_id: member.into(), ..Default::default() };
    }
    let identity = MemberIdentity {
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        reason: (version >= 5).then(|| "the simulator wants it".into()),
    };
    LeaveGroupRequest { group_id: group.into(), members: vec![identity], ..Default::default() }
}

/// What LeaveGroup was answered.
pub fn left(response: &LeaveGroupResponse) -> Told {
    match response.members.first() {
        Some(member) if response.error_code == 0 => Told::Each(vec![member.error_code]),
        None | Some(_) => Told::Code(response.error_code),
    }
}

/// OffsetCommit.
pub fn commit(version: i16, group: &str, who: &Who, parts: &[CommitPart]) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, OffsetCommitRequestTopic> = BTreeMap::new();
    for part in parts {
        let topic = topics.entry(&part.topic).or_default();
        if version >= BY_ID_FROM {
            topic.topic_id = Uuid(part.topic_id);
        } else {
            topic.name = part.topic.as_str().into();
        }
        topic.partitions.push(OffsetCommitRequestPartition {
            partition_index: index(part.partition),
            committed_offset: part.offset,
            committed_metadata: Some(part.metadata.as_str().into()),
            ..Default::default()
        });
    }
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: who.generation,
        member_id: who.member.as_str().into(),
        group_instance_id: who.instance.as_deref().filter(|_| version >= 7).map(Into::into),
        topics: topics.into_values().collect(),
        ..Default::default()
    }
}

/// What OffsetCommit was answered; `None` if some part was not.
pub fn committed(parts: &[CommitPart], response: &OffsetCommitResponse) -> Option<Told> {
    let code = |part: &CommitPart| {
        let topic = response.topics.iter().find(|topic| is_of(part, &topic.name, topic.topic_id))?;
        let partition = topic.partitions.iter().find(|p| p.partition_index == index(part.partition))?;
        Some(partition.error_code)
    };
    parts.iter().map(code).collect::<Option<Vec<_>>>().map(Told::Each)
}

fn is_of(part: &CommitPart, name: &str, id: Uuid) -> bool {
    if part.topic_id == 0 { name == part.topic } else { id.0 == part.topic_id }
}

/// OffsetFetch of some partitions or of all; by id those whose topic has one.
pub fn offsets(version: i16, group: &str, partitions: Option<&[Partition]>, ids: &Ids) -> OffsetFetchRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions.unwrap_or_default() {
        topics.entry(topic).or_default().push(index(*partition));
    }
    if version < 8 {
        let topic = |(name, partition_indexes): (&str, Vec<i32>)| OffsetFetchRequestTopic {
            name: name.into(),
            partition_indexes,
        };
        let topics = partitions.map(|_| topics.into_iter().map(topic).collect());
        return OffsetFetchRequest { group_id: group.into(), topics, ..Default::default() };
    }
    let topic = |(name, partition_indexes): (&str, Vec<i32>)| {
        let id = ids.get(name).copied().filter(|_| version >= BY_ID_FROM);
        let name = if version >= BY_ID_FROM { "" } else { name };
        OffsetFetchRequestTopics { name: name.into(), topic_id: id.unwrap_or_default(), partition_indexes }
    };
    let known = |name: &str| version < BY_ID_FROM || ids.contains_key(name);
    let topics = partitions.map(|_| topics.into_iter().filter(|(name, _)| known(name)).map(topic).collect());
    let group = OffsetFetchRequestGroup { group_id: group.into(), member_epoch: -1, topics, ..Default::default() };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

/// What OffsetFetch was answered.
pub fn fetched(version: i16, response: &OffsetFetchResponse, ids: &Ids) -> Told {
    let mut told = Vec::new();
    if version < 8 {
        if response.error_code != 0 {
            return Told::Code(response.error_code);
        }
        for topic in &response.topics {
            told.extend(topic.partitions.iter().map(|partition| OffsetTold {
                topic: topic.name.to_string(),
                topic_id: 0,
                partition: u32::try_from(partition.partition_index).unwrap_or(u32::MAX),
                offset: partition.committed_offset,
                metadata: partition.metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
                code: partition.error_code,
            }));
        }
        return Told::Offsets(told);
    }
    let Some(group) = response.groups.first() else { return Told::Code(-1) };
    if group.error_code != 0 {
        return Told::Code(group.error_code);
    }
    for topic in &group.topics {
        let named = ids.iter().find(|(_, id)| version >= BY_ID_FROM && **id == topic.topic_id);
        let name = named.map_or_else(|| topic.name.to_string(), |(name, _)| name.clone());
        told.extend(topic.partitions.iter().map(|partition| OffsetTold {
            topic: name.clone(),
            topic_id: topic.topic_id.0,
            partition: u32::try_from(partition.partition_index).unwrap_or(u32::MAX),
            offset: partition.committed_offset,
            metadata: partition.metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
            code: partition.error_code,
        }));
    }
    Told::Offsets(told)
}

/// OffsetDelete.
pub fn delete_offsets(group: &str, partitions: &[Partition]) -> OffsetDeleteRequest {
    let mut topics: BTreeMap<&str, OffsetDeleteRequestTopic> = BTreeMap::new();
    for (topic, partition) in partitions {
        let entry = topics.entry(topic).or_default();
        entry.name = topic.as_str().into();
        let partition_index = index(*partition);
        entry.partitions.push(OffsetDeleteRequestPartition { partition_index });
    }
    OffsetDeleteRequest { group_id: group.into(), topics: topics.into_values().collect() }
}

/// What OffsetDelete was answered.
pub fn deleted(partitions: &[Partition], response: &OffsetDeleteResponse) -> Told {
    if response.error_code != 0 {
        return Told::Code(response.error_code);
    }
    let code = |(topic, partition): &Partition| {
        let topic = response.topics.iter().find(|t| t.name == topic.as_str())?;
        Some(topic.partitions.iter().find(|p| p.partition_index == index(*partition))?.error_code)
    };
    Told::Each(partitions.iter().map(|partition| code(partition).unwrap_or(-1)).collect())
}

fn index(partition: u32) -> i32 {
    i32::try_from(partition).expect("a small index")
}
