//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! Topics in the order of their names, those that are asked for or (none are) all; up to the limit of partitions, of
//! which Kafka's default is the most; what is left begins at the cursor of the answer, with which the client asks
//! again. A topic that is not there has its error; one that is asked for by all is left out if it is gone. A cursor at
//! a topic that is not asked for, or below partition 0, is INVALID_REQUEST for every topic that is asked for.
//!
//! Leaders, replicas and epochs are Metadata's. There are no eligible leaders beside them, and nothing is offline.
//! Authorized operations are not reported: there are no ACLs.

use std::collections::BTreeSet;
use std::ops::Bound;

use kafscale_log::Ledger;
use kafscale_metadata::{Topic, TopicPartition};
use kafscale_wire::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic, NextCursor,
};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::brokers::Layout;
use super::{Call, Context, Supported, errors};

pub(super) const API: Supported =
    Supported { key: 75, name: "DescribeTopicPartitions", advertised: 0..=0, served: 0..=0 };

/// The most partitions of an answer: Kafka's default `max.request.partition.size.limit`.
const MAX_PARTITIONS: usize = 2000;

/// Where an answer begins.
struct Start<'a> {
    topic: &'a str,
    partition: u32,
}

pub(super) async fn handle(
    context: &Context,
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let asked: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    let Some(start) = start(request.cursor.as_ref(), &asked) else { return fail(&asked, ErrorCode::InvalidRequest) };
    let is_known = |name: &&str| context.replica.state().topic_by_name(name).is_some();
    if !asked.iter().all(is_known)
        && let Err(stopped) = context.replica.barrier().await
    {
        return fail(&asked, errors::stopped(stopped));
    }
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PARTITIONS);
    let state = context.replica.state();
    let layout = Layout::of(context, &state, call);
    let mut page = Page { response: DescribeTopicPartitionsResponse::default(), left: limit, layout };
    if asked.is_empty() {
        let topics = state.topics().filter(|topic| topic.name() >= start.topic);
        fill(&mut page, &start, topics.map(|topic| (topic.name(), Some(topic))));
    } else {
        let names = asked.range::<str, _>((Bound::Included(start.topic), Bound::Unbounded));
        fill(&mut page, &start, names.map(|name| (*name, state.topic_by_name(name))));
    }
    page.response
}

/// None if the cursor cannot be of an answer to this request.
fn start<'a>(cursor: Option<&'a Cursor>, asked: &BTreeSet<&str>) -> Option<Start<'a>> {
    let Some(cursor) = cursor else { return Some(Start { topic: "", partition: 0 }) };
    let topic = cursor.topic_name.as_str();
    let partition = u32::try_from(cursor.partition_index).ok()?;
    (asked.is_empty() || asked.contains(topic)).then_some(Start { topic, partition })
}

fn fail(asked: &BTreeSet<&str>, error: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topics = asked.iter().map(|name| failed(name, error));
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

fn failed(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(Text::from(name)),
        ..Default::default()
    }
}

/// An answer that grows.
struct Page {
    response: DescribeTopicPartitionsResponse,
    /// Partitions that still fit.
    left: usize,
    layout: Layout,
}

fn fill<'a>(page: &mut Page, start: &Start<'_>, topics: impl Iterator<Item = (&'a str, Option<&'a Topic>)>) {
    for (name, topic) in topics {
        if page.left == 0 {
            return page.continue_at(name, 0);
        }
        let Some(topic) = topic else {
            page.response.topics.push(failed(name, errors::no_topic(name)));
            continue;
        };
        let first = if name == start.topic { start.partition } else { 0 };
        let fitting = u32::try_from(page.left).unwrap_or(u32::MAX);
        let end = topic.partition_count().min(first.saturating_add(fitting));
        page.add(topic, first, end);
        if end < topic.partition_count() {
            return page.continue_at(name, end);
        }
    }
}

impl Page {
    fn add(&mut self, topic: &Topic, first: u32, end: u32) {
        let partition = |index: u32| {
            let replicas = self.layout.replicas(TopicPartition { topic: topic.id(), partition: index });
            let leader = replicas.first().copied();
            let error = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
            DescribeTopicPartitionsResponsePartition {
                error_code: error.code(),
                partition_index: index.cast_signed(),
                leader_id: leader.unwrap_or(-1),
                leader_epoch: 0,
                isr_nodes: replicas.clone(),
                replica_nodes: replicas,
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                ..Default::default()
            }
        };
        let partitions: Vec<_> = (first..end).map(partition).collect();
        self.left -= partitions.len();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(Text::from(topic.name())),
            topic_id: Uuid(topic.id().0),
            partitions,
            ..Default::default()
        });
    }

    fn continue_at(&mut self, topic: &str, partition: u32) {
        let (topic_name, partition_index) = (Text::from(topic), partition.cast_signed());
        self.response.next_cursor = Some(NextCursor { topic_name, partition_index });
    }
}
