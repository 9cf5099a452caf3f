//! DeleteTopics (key 20), versions 1–6.
//!
//! By name, from v6 on also by id (KIP-516); naming both at once is refused. The answer comes when the journal has the
//! deletion: from then on no broker serves the topic, and a topic of the same name is a new one. `timeout_ms` is not
//! used.

use kafscale_log::Ledger;
use kafscale_metadata::{Command, Outcome, TopicId};
use kafscale_wire::delete_topics::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 20, name: "DeleteTopics", advertised: 1..=6, served: 1..=6 };

pub(super) async fn handle(context: &Context, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name| DeleteTopicState { name: Some(name), ..Default::default() };
    let asked = if call.version < 6 { request.topic_names.into_iter().map(by_name).collect() } else { request.topics };
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        let (error, topic) = match delete(context, &topic).await {
            Ok(named) => (ErrorCode::None, named),
            Err(error) => (error, topic),
        };
        responses.push(DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: error.code(),
            error_message: (error != ErrorCode::None).then(|| Text::from(error.name())),
        });
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

/// Deletes one topic, and returns its name and id.
async fn delete(context: &Context, asked: &DeleteTopicState) -> Result<DeleteTopicState, ErrorCode> {
    let topic = match &asked.name {
        Some(_) if !asked.topic_id.is_zero() => return Err(ErrorCode::InvalidRequest),
        Some(name) => context.topic_by_name(name).await?,
        None => context.topic_exists(TopicId(asked.topic_id.0)).await?,
    };
    let name = context.replica.state().topic(topic).map(|t| Text::from(t.name()));
    let outcome = context.replica.propose(Command::DeleteTopic { topic }).await.map_err(errors::commit)?;
    match outcome {
        Outcome::Done => Ok(DeleteTopicState { name, topic_id: Uuid(topic.0) }),
        Outcome::Refused(refusal) => Err(errors::refusal(refusal)),
        Outcome::Bundle(_) | Outcome::ProducerIds { .. } | Outcome::Offsets(_) => Err(ErrorCode::UnknownServerError),
    }
}
