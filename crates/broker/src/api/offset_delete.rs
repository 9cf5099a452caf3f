//! OffsetDelete (key 47), version 0 (KIP-496).
//!
//! Forgets a group's offsets of some partitions; answered when the journal has it. Partitions of topics that members
//! are subscribed to stay (GROUP_SUBSCRIBED_TO_TOPIC); an unknown topic or partition is refused alone; an offset that
//! was not there is no error.

use kafscale_groups::Error;
use kafscale_metadata::{TopicId, TopicPartition};
use kafscale_wire::ErrorCode;
use kafscale_wire::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::{Call, Context, Supported, errors, partition};

pub(super) const API: Supported = Supported { key: 47, name: "OffsetDelete", advertised: 0..=0, served: 0..=0 };

pub(super) async fn handle(context: &Context, _: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let (mut plan, mut wanted) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let id = context.topic_by_name(&topic.name).await;
        for asked in &topic.partitions {
            let known = id.and_then(|id| known(context, id, asked.partition_index));
            plan.push(known.map(|partition| wanted.push(partition)));
        }
    }
    match context.groups.delete_offsets(&request.group_id, wanted).await {
        Ok(results) => respond(request.topics, plan, results),
        Err(error) => OffsetDeleteResponse { error_code: errors::group(&error).code(), ..Default::default() },
    }
}

fn known(context: &Context, topic: TopicId, index: i32) -> Result<TopicPartition, ErrorCode> {
    let state = context.groups.state();
    let partition = partition(topic, index).filter(|partition| state.partition(*partition).is_some());
    partition.ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn respond(
    topics: Vec<OffsetDeleteRequestTopic>,
    plan: Vec<Result<(), ErrorCode>>,
    results: Vec<Result<(), Error>>,
) -> OffsetDeleteResponse {
    let mut results = results.into_iter();
    let mut codes = plan.into_iter().map(|planned| match planned {
        Err(error) => error,
        Ok(()) => results.next().map_or(ErrorCode::UnknownServerError, errors::group_result),
    });
    let mut topic = |asked: OffsetDeleteRequestTopic| {
        let partitions = asked.partitions.iter().zip(&mut codes).map(|(asked, error)| OffsetDeleteResponsePartition {
            partition_index: asked.partition_index,
            error_code: error.code(),
        });
        OffsetDeleteResponseTopic { partitions: partitions.collect(), name: asked.name }
    };
    OffsetDeleteResponse { topics: topics.into_iter().map(&mut topic).collect(), ..Default::default() }
}
