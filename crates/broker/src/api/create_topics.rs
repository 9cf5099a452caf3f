//! CreateTopics (key 19), versions 2–7.
//!
//! Any replication factor from 1 on is accepted and reported as 1: durability is the object store's. A manual
//! assignment counts partitions; the brokers in it mean nothing. −1 partitions or replicas ask for the defaults
//! (KIP-464; accepted in all versions). Settings: those of [`topic_config`], any other is refused by name, never
//! silently ignored. A topic that stands in the request twice is refused both times, as Kafka does. `timeout_ms` is
//! not used: the answer comes when the journal has it. `validate_only` proposes nothing.

use std::collections::BTreeMap;

use kafscale_metadata::{CreateTopic, limits};
use kafscale_wire::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::topic_config::{self, TopicConfig};
use super::{Call, Context, Supported};

pub(super) const API: Supported = Supported { key: 19, name: "CreateTopics", advertised: 2..=7, served: 2..=7 };

/// Why a topic was not created: the code, and the words that name what is wrong.
type Refused = (ErrorCode, String);

pub(super) async fn handle(context: &Context, _: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut times: BTreeMap<Text, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let result = match times.get(&topic.name) {
            Some(1) => create(context, &topic, request.validate_only).await,
            _ => Err((ErrorCode::InvalidRequest, format!("topic '{}' is in the request more than once", topic.name))),
        };
        topics.push(report(topic.name, result));
    }
    CreateTopicsResponse { topics, ..Default::default() }
}

async fn create(context: &Context, topic: &CreatableTopic, validate_only: bool) -> Result<CreateTopic, Refused> {
    let proposal = plan(context, topic)?;
    if validate_only {
        return match context.topic_by_name(&proposal.name).await {
            Err(ErrorCode::UnknownTopicOrPartition) => Ok(proposal),
            Ok(_) => Err(explain(ErrorCode::TopicAlreadyExists, &proposal.name)),
            Err(error) => Err(explain(error, &proposal.name)),
        };
    }
    match context.create_topic(proposal.clone()).await {
        Ok(()) => Ok(proposal),
        Err(error) => Err(explain(error, &proposal.name)),
    }
}

fn explain(error: ErrorCode, name: &str) -> Refused {
    let words = if error == ErrorCode::TopicAlreadyExists {
        format!("topic '{name}' already exists")
    } else if error == ErrorCode::InvalidTopicException {
        let most = limits::TOPIC_NAME_BYTES;
        format!(
            "topic name '{name}' is not allowed: 1 to {most} of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..'"
        )
    } else if error == ErrorCode::PolicyViolation {
        let (topics, partitions) = (limits::TOPICS, limits::PARTITIONS);
        format!("topic '{name}' would exceed the cluster's limit of {topics} topics or {partitions} partitions")
    } else {
        format!("topic '{name}' was not created: {error}")
    };
    (error, words)
}

/// What the request asks for, checked as far as it can be without the state.
fn plan(context: &Context, topic: &CreatableTopic) -> Result<CreateTopic, Refused> {
    if let Some(other) = context.collision(&topic.name) {
        let words =
            format!("topic '{}' collides with topic '{other}': '.' and '_' are the same in metrics", topic.name);
        return Err((ErrorCode::InvalidTopicException, words));
    }
    let partitions = partitions(context, topic)?;
    if !topic.assignments.is_empty() && topic.replication_factor != -1 {
        return Err((ErrorCode::InvalidRequest, "a manual assignment goes with a replication factor of -1".to_owned()));
    }
    if topic.replication_factor == 0 || topic.replication_factor < -1 {
        let words = format!("replication factor {} is not allowed: it must be -1 or above 0", topic.replication_factor);
        return Err((ErrorCode::InvalidReplicationFactor, words));
    }
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_deref().ok_or_else(|| {
            (ErrorCode::InvalidConfig, format!("setting '{}' has no value; leave it out for the default", config.name))
        })?;
        configs.insert(config.name.to_string(), value.to_owned());
    }
    TopicConfig::parse(&configs).map_err(|why| (ErrorCode::InvalidConfig, why.to_string()))?;
    Ok(CreateTopic { topic: context.new_topic_id(), name: topic.name.to_string(), partitions, configs })
}

fn partitions(context: &Context, topic: &CreatableTopic) -> Result<u32, Refused> {
    let asked = match topic.assignments.len() {
        0 if topic.num_partitions == -1 => return Ok(context.settings.default_partitions),
        0 => i64::from(topic.num_partitions),
        assigned => i64::try_from(assigned).unwrap_or(i64::MAX),
    };
    match u32::try_from(asked) {
        Ok(count) if (1..=limits::PARTITIONS_PER_TOPIC).contains(&count) => Ok(count),
        _ => {
            let words = format!("{asked} partitions are not allowed: 1 to {}", limits::PARTITIONS_PER_TOPIC);
            Err((ErrorCode::InvalidPartitions, words))
        }
    }
}

fn report(name: Text, result: Result<CreateTopic, Refused>) -> CreatableTopicResult {
    match result {
        Ok(created) => CreatableTopicResult {
            name,
            topic_id: Uuid(created.topic.0),
            num_partitions: created.partitions.cast_signed(),
            replication_factor: 1,
            configs: Some(describe_configs(&created.configs)),
            ..Default::default()
        },
        Err((error, words)) => CreatableTopicResult {
            name,
            error_code: error.code(),
            error_message: Some(Text::from(words)),
            ..Default::default()
        },
    }
}

fn describe_configs(configs: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let described = topic_config::describe(configs).map(|described| CreatableTopicConfigs {
        name: Text::from(described.setting.name),
        value: Some(Text::from(described.value)),
        config_source: described.source,
        ..Default::default()
    });
    described.collect()
}
