//! Metadata (key 3), versions 0–13.
//!
//! Brokers are the live sessions, each at the address of the listener that the client came in by, with its rack. Any
//! broker serves any partition, so the leader is advice: one of the client's zone if there is one, else of all, the same
//! for all who ask, and another one only when sessions come and go ([`super::brokers`]). The replicas are the brokers
//! that lead the partition in each zone; all are in sync, and the leader epoch is always 0, so that it never goes back.
//! The controller is this broker: any broker takes admin requests. While no broker can be reached through the listener
//! partitions are LEADER_NOT_AVAILABLE.
//!
//! Topics are asked for by name or by id (v10, KIP-516), all of them by null (v1) or by an empty list (v0). A name
//! that does not exist is created if the request allows it (before v4 it always does) and the cluster's setting too.
//! Authorized operations (v8) are not reported: there are no ACLs. v13's top-level error is never set.

use std::collections::BTreeMap;

use kafscale_log::Ledger;
use kafscale_metadata::{CreateTopic, Topic, TopicId, TopicPartition};
use kafscale_wire::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::brokers::Layout;
use super::{Call, Context, Supported, brokers};

pub(super) const API: Supported = Supported { key: 3, name: "Metadata", advertised: 0..=13, served: 0..=13 };

pub(super) async fn handle(context: &Context, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let may_create = context.settings.auto_create_topics && (call.version < 4 || request.allow_auto_topic_creation);
    let topics = match request.topics {
        Some(topics) if !(topics.is_empty() && call.version == 0) => {
            let mut found = Vec::with_capacity(topics.len());
            for topic in topics {
                found.push(describe_one(context, call, topic, may_create).await);
            }
            found
        }
        Some(_) | None => {
            let state = context.replica.state();
            let layout = Layout::of(context, &state, call);
            state.topics().map(|topic| describe(&layout, topic)).collect()
        }
    };
    let brokers = brokers::all(context, call);
    MetadataResponse {
        controller_id: brokers::controller(context, brokers.iter().map(|broker| broker.id)),
        brokers: brokers.into_iter().map(broker).collect(),
        cluster_id: Some(context.cluster_id.clone()),
        topics,
        ..Default::default()
    }
}

fn broker(seen: brokers::Broker) -> MetadataResponseBroker {
    MetadataResponseBroker { node_id: seen.id, host: seen.host, port: seen.port, rack: seen.rack }
}

async fn describe_one(
    context: &Context,
    call: &Call,
    asked: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let found = match &asked.name {
        Some(name) => find_or_create(context, name, may_create).await,
        None => context.topic_exists(TopicId(asked.topic_id.0)).await,
    };
    let failed = |error: ErrorCode| MetadataResponseTopic {
        error_code: error.code(),
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..Default::default()
    };
    match found {
        Ok(id) => {
            let state = context.replica.state();
            match state.topic(id) {
                Some(topic) => describe(&Layout::of(context, &state, call), topic),
                None => failed(ErrorCode::UnknownTopicOrPartition), // deleted a moment ago
            }
        }
        Err(error) => failed(error),
    }
}

async fn find_or_create(context: &Context, name: &str, may_create: bool) -> Result<TopicId, ErrorCode> {
    match context.topic_by_name(name).await {
        Err(ErrorCode::UnknownTopicOrPartition) if may_create => {}
        found => return found,
    }
    let topic = context.new_topic_id();
    let partitions = context.settings.default_partitions;
    let proposal = CreateTopic { topic, name: name.to_owned(), partitions, configs: BTreeMap::new() };
    match context.create_topic(proposal).await {
        Ok(()) => Ok(topic),
        Err(ErrorCode::TopicAlreadyExists) => context.topic_by_name(name).await,
        Err(error) => Err(error),
    }
}

fn describe(layout: &Layout, topic: &Topic) -> MetadataResponseTopic {
    let partition = |index: u32| {
        let replicas = layout.replicas(TopicPartition { topic: topic.id(), partition: index });
        let leader = replicas.first().copied();
        let error = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index.cast_signed(),
            leader_id: leader.unwrap_or(-1),
            leader_epoch: 0,
            isr_nodes: replicas.clone(),
            replica_nodes: replicas,
            ..Default::default()
        }
    };
    MetadataResponseTopic {
        name: Some(Text::from(topic.name())),
        topic_id: Uuid(topic.id().0),
        partitions: (0..topic.partition_count()).map(partition).collect(),
        ..Default::default()
    }
}
