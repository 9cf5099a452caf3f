//! OffsetCommit (key 8), versions 2–10.
//!
//! Answered when the journal has the offsets, checked by the fold against the group's generation then. A commit that
//! repeats what is stored may write nothing. Generation −1 and no member is for clients outside of the group protocol:
//! refused while the group has members. An offset may be any number, as in Kafka; metadata above 4096 bytes is refused
//! for that partition alone, as is an unknown topic or partition.
//!
//! v7 has static members (KIP-345); before v9 a group that does not exist is ILLEGAL_GENERATION, from then on
//! GROUP_ID_NOT_FOUND (KIP-848); v10 names topics by id (KIP-516). The retention time of v2 to v4 is ignored: offsets
//! live as long as the broker says (KIP-211).

use kafscale_groups::{Commit, Error};
use kafscale_metadata::{OffsetCommit, TopicId, TopicPartition};
use kafscale_wire::ErrorCode;
use kafscale_wire::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::{Call, Context, Supported, errors, partition};
use crate::connection::Frame;

pub(super) const API: Supported = Supported { key: 8, name: "OffsetCommit", advertised: 2..=10, served: 2..=10 };

/// For each partition of the request, in order: refused at once, or on its way.
type Plan = Vec<Result<(), ErrorCode>>;

pub(super) async fn handle(
    context: &Context,
    call: &Call,
    request: OffsetCommitRequest,
    frame: Frame,
) -> OffsetCommitResponse {
    let mut plan = Plan::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let id = find(context, call.version, topic).await;
        for asked in &topic.partitions {
            let known = id.and_then(|id| known(context, id, asked.partition_index));
            plan.push(known.map(|partition| offsets.push(offset(partition, asked))));
        }
    }
    let commit = Commit {
        member_id: request.member_id.as_str().to_owned(),
        instance: request.group_instance_id.as_ref().map(|instance| instance.as_str().to_owned()),
        generation: request.generation_id_or_member_epoch,
        offsets,
        fresh_at_ms: None,
    };
    let answered = if commit.offsets.is_empty() {
        Ok(Vec::new())
    } else {
        context.groups.commit(&request.group_id, commit, frame.reservation).await
    };
    respond(call.version, request.topics, plan, answered)
}

async fn find(context: &Context, version: i16, topic: &OffsetCommitRequestTopic) -> Result<TopicId, ErrorCode> {
    if version < 10 {
        context.topic_by_name(&topic.name).await
    } else {
        context.topic_exists(TopicId(topic.topic_id.0)).await
    }
}

/// A partition that exists; the topic was just found.
fn known(context: &Context, topic: TopicId, index: i32) -> Result<TopicPartition, ErrorCode> {
    let state = context.groups.state();
    let partition = partition(topic, index).filter(|partition| state.partition(*partition).is_some());
    partition.ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn offset(partition: TopicPartition, asked: &OffsetCommitRequestPartition) -> OffsetCommit {
    OffsetCommit {
        partition,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.as_deref().unwrap_or_default().to_owned(),
    }
}

fn respond(
    version: i16,
    topics: Vec<OffsetCommitRequestTopic>,
    plan: Plan,
    answered: Result<Vec<Result<(), Error>>, Error>,
) -> OffsetCommitResponse {
    let (whole, results) = match answered {
        Ok(results) => (ErrorCode::None, results),
        Err(error) => (refusal(version, &error), Vec::new()),
    };
    let mut results = results.into_iter();
    let mut code = |planned: Result<(), ErrorCode>| match planned {
        Err(error) => error,
        Ok(()) => results.next().map_or(whole, |result| result.map_or_else(|e| refusal(version, &e), |()| whole)),
    };
    let mut plan = plan.into_iter();
    let mut partition = |asked: OffsetCommitRequestPartition| OffsetCommitResponsePartition {
        partition_index: asked.partition_index,
        error_code: plan.next().map_or(ErrorCode::UnknownServerError, &mut code).code(),
    };
    let mut topic = |asked: OffsetCommitRequestTopic| OffsetCommitResponseTopic {
        name: asked.name,
        topic_id: asked.topic_id,
        partitions: asked.partitions.into_iter().map(&mut partition).collect(),
    };
    OffsetCommitResponse { topics: topics.into_iter().map(&mut topic).collect(), ..Default::default() }
}

fn refusal(version: i16, error: &Error) -> ErrorCode {
    if version < 9 && *error == Error::NotFound { ErrorCode::IllegalGeneration } else { errors::group(error) }
}
