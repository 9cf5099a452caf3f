//! Topics in the fold: creating, adding partitions, and deleting. What a deleted topic leaves is which producers wrote to it.

use std::sync::Arc;

use crate::command::{CreateTopic, Refusal, TopicId};
use crate::limits::{
    CONFIG_NAME_BYTES, CONFIG_VALUE_BYTES, CONFIGS_PER_TOPIC, PARTITIONS, PARTITIONS_PER_TOPIC, TOPIC_NAME_BYTES,
    TOPICS,
};
use crate::state::{Pairs, Producers, State, Topic};

pub(super) fn create(state: &mut State, create: &CreateTopic) -> Result<(), Refusal> {
    if !is_topic_name(&create.name) {
        return Err(Refusal::InvalidTopicName);
    }
    if create.partitions == 0 || create.partitions > PARTITIONS_PER_TOPIC {
        return Err(Refusal::InvalidPartitions);
    }
    if !configs_are_well_formed(create) {
        return Err(Refusal::NotAllowed);
    }
    if state.topics.contains_key(&create.topic) || state.names.contains_key(create.name.as_str()) {
        return Err(Refusal::TopicExists);
    }
    let partition_count = state.partition_count.saturating_add(u64::from(create.partitions));
    if state.topics.len() >= TOPICS || partition_count > PARTITIONS {
        return Err(Refusal::LimitReached);
    }
    let name: Arc<str> = create.name.as_str().into();
    let topic = Topic {
        id: create.topic,
        name: name.clone(),
        configs: create.configs.clone(),
        partitions: Topic::empty_partitions(create.partitions),
        lenient: state.remembered.lend(&name),
    };
    state.names.insert(name, create.topic);
    state.topics.insert(create.topic, Arc::new(topic));
    state.partition_count = partition_count;
    Ok(())
}

pub(super) fn delete(state: &mut State, id: TopicId) -> Result<(), Refusal> {
    let topic = state.topics.remove(&id).ok_or(Refusal::UnknownTopicOrPartition)?;
    state.names.remove(&topic.name);
    state.partition_count = state.partition_count.saturating_sub(topic.partitions.len() as u64);
    state.remembered.lent = state.remembered.lent.saturating_sub(topic.lenient.len());
    let pairs = strict_pairs(&topic, &state.producers);
    state.remembered.keep(topic.name.clone(), pairs);
    super::offsets::forget_topic(state, id);
    Ok(())
}

/// Partitions are only added: what is in the others stays where it is.
pub(super) fn add_partitions(state: &mut State, id: TopicId, count: u32) -> Result<(), Refusal> {
    let topic = state.topics.get_mut(&id).ok_or(Refusal::UnknownTopicOrPartition)?;
    let more = count.checked_sub(topic.partition_count()).filter(|more| *more > 0 && count <= PARTITIONS_PER_TOPIC);
    let more = more.ok_or(Refusal::InvalidPartitions)?;
    let partition_count = state.partition_count.saturating_add(u64::from(more));
    if partition_count > PARTITIONS {
        return Err(Refusal::LimitReached);
    }
    Arc::make_mut(topic).partitions.extend(Topic::empty_partitions(more));
    state.partition_count = partition_count;
    Ok(())
}

/// (partition, producer) of the strict producers that have state in the topic, and of those that had some in an older
/// topic of its name and did not come back yet.
fn strict_pairs(topic: &Topic, producers: &Producers) -> Pairs {
    let here = (0_u32..).zip(&topic.partitions);
    let here = here.flat_map(|(index, p)| p.producers.iter().map(move |(id, _)| (index, *id)));
    let older = topic.lenient.iter().copied();
    Arc::new(here.chain(older).filter(|(_, id)| producers.get(*id).is_some_and(|p| p.strict)).collect())
}

/// Kafka's rules (`org.apache.kafka.common.internals.Topic`). Names that differ only in `.` and `_` are allowed.
pub fn is_topic_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !name.is_empty() && name != "." && name != ".." && name.len() <= TOPIC_NAME_BYTES && name.bytes().all(allowed)
}

fn configs_are_well_formed(create: &CreateTopic) -> bool {
    create.configs.len() <= CONFIGS_PER_TOPIC
        && create.configs.iter().all(|(name, value)| {
            !name.is_empty() && name.len() <= CONFIG_NAME_BYTES && value.len() <= CONFIG_VALUE_BYTES
        })
}
