//! OffsetFetch (key 9), versions 1–10.
//!
//! What a group has committed, behind a barrier: a client that finds another coordinator must not see its offsets go
//! back. −1 is "none"; a group, a topic or a partition that does not exist has none, without an error. Null topics (v2)
//! ask for all. v8 asks for several groups at once (KIP-709). `require_stable` (v7, KIP-447) waits for transactions, of
//! which there are none. Member id and epoch (v9) are for the new protocol (KIP-848) and not checked for classic groups,
//! as in Kafka. v10 names topics by id (KIP-516): an unknown one is UNKNOWN_TOPIC_ID.
//!
//! Errors of the whole are NOT_COORDINATOR, also of a group that another broker coordinates, which clients of any age understand here; v1 has no place for it but each
//! partition.

use kafscale_log::Stopped;
use kafscale_metadata::{CommittedOffset, Group, State, TopicId, TopicPartition};
use kafscale_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::{Call, Context, Supported, partition};

pub(super) const API: Supported = Supported { key: 9, name: "OffsetFetch", advertised: 1..=10, served: 1..=10 };

pub(super) async fn handle(context: &Context, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let passed = context.groups.barrier().await;
    let state = context.groups.state();
    let fetch = |asked: OffsetFetchRequestGroup| match passed {
        Ok(()) if context.groups.coordinates(&state, &asked.group_id) => fetch(&state, call.version, asked),
        Ok(()) | Err(Stopped) => refuse(asked),
    };
    if call.version >= 8 {
        return OffsetFetchResponse { groups: request.groups.into_iter().map(fetch).collect(), ..Default::default() };
    }
    let only = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: request.topics.map(|topics| topics.into_iter().map(as_batched).collect()),
        ..Default::default()
    };
    let fetched = fetch(only);
    OffsetFetchResponse {
        topics: fetched.topics.into_iter().map(|topic| as_single(topic, fetched.error_code)).collect(),
        error_code: fetched.error_code,
        ..Default::default()
    }
}

fn as_batched(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics { name: topic.name, partition_indexes: topic.partition_indexes, ..Default::default() }
}

fn as_single(topic: OffsetFetchResponseTopics, error: i16) -> OffsetFetchResponseTopic {
    let partition = |p: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: p.partition_index,
        committed_offset: p.committed_offset,
        committed_leader_epoch: p.committed_leader_epoch,
        metadata: p.metadata,
        error_code: if error == 0 { p.error_code } else { error },
    };
    OffsetFetchResponseTopic { name: topic.name, partitions: topic.partitions.into_iter().map(partition).collect() }
}

fn fetch(state: &State, version: i16, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let group = state.group(&asked.group_id);
    let topics = match asked.topics {
        Some(topics) => topics.into_iter().map(|topic| of_topic(state, group, version, topic)).collect(),
        None => group.map_or_else(Vec::new, |group| all(state, group)),
    };
    OffsetFetchResponseGroup { group_id: asked.group_id, topics, ..Default::default() }
}

fn of_topic(
    state: &State,
    group: Option<&Group>,
    version: i16,
    asked: OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    let topic = if version < 10 { state.topic_by_name(&asked.name) } else { state.topic(TopicId(asked.topic_id.0)) };
    let error = if version >= 10 && topic.is_none() { ErrorCode::UnknownTopicId } else { ErrorCode::None };
    let stored = |index: i32| group?.offset(partition(topic?.id(), index)?);
    let partitions = asked
        .partition_indexes
        .iter()
        .map(|index| OffsetFetchResponsePartitions { error_code: error.code(), ..respond(*index, stored(*index)) });
    OffsetFetchResponseTopics { partitions: partitions.collect(), name: asked.name, topic_id: asked.topic_id }
}

/// Everything that the group has committed; it is kept by topic id and partition.
fn all(state: &State, group: &Group) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (TopicPartition { topic, partition }, offset) in group.offsets() {
        if topics.last().is_none_or(|last| last.topic_id != Uuid(topic.0)) {
            // The fold forgets the offsets of a topic that is deleted.
            let Some(found) = state.topic(topic) else { continue };
            let (name, topic_id) = (Text::from(found.name()), Uuid(topic.0));
            topics.push(OffsetFetchResponseTopics { name, topic_id, partitions: Vec::new() });
        }
        if let Some(last) = topics.last_mut() {
            last.partitions.push(respond(partition.cast_signed(), Some(offset)));
        }
    }
    topics
}

fn respond(partition_index: i32, stored: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: stored.map_or(-1, |stored| stored.offset),
        committed_leader_epoch: stored.map_or(-1, |stored| stored.leader_epoch),
        metadata: Some(stored.map_or_else(Text::default, |stored| Text::from(&*stored.metadata))),
        error_code: 0,
    }
}

/// The whole of a group is refused; its partitions are named for versions that have no other place for an error.
fn refuse(asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topic = |topic: OffsetFetchRequestTopics| OffsetFetchResponseTopics {
        partitions: topic.partition_indexes.iter().map(|index| respond(*index, None)).collect(),
        name: topic.name,
        topic_id: topic.topic_id,
    };
    OffsetFetchResponseGroup {
        group_id: asked.group_id,
        topics: asked.topics.into_iter().flatten().map(topic).collect(),
        error_code: ErrorCode::NotCoordinator.code(),
    }
}
