//! CreatePartitions (key 37), versions 0–3.
//!
//! Raises the number of partitions of topics, to a total. Not more than there are is INVALID_PARTITIONS. A manual
//! assignment has to list the new partitions, each with brokers of which none stands there twice, or it is
//! INVALID_REPLICA_ASSIGNMENT; which brokers they are means nothing, as in CreateTopics. A topic that stands in the
//! request twice is answered once, with INVALID_REQUEST, as Kafka does. `validate_only` proposes nothing. `timeout_ms`
//! is not used: the answer comes when the journal has the partitions. From then on Metadata tells them; producers and
//! consumers learn of them when they next ask.

use std::collections::{BTreeMap, BTreeSet};

use kafscale_log::Ledger;
use kafscale_metadata::{Command, Outcome, Refusal, TopicId, limits};
use kafscale_wire::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use kafscale_wire::{ErrorCode, Text};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 37, name: "CreatePartitions", advertised: 0..=3, served: 0..=3 };

/// Why a topic gets no partitions: the code, and the words that name what is wrong.
type Refused = (ErrorCode, String);

pub(super) async fn handle(context: &Context, _: &Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mut times: BTreeMap<Text, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    for topic in request.topics {
        let result = match times.remove(&topic.name) {
            Some(1) => create(context, &topic, request.validate_only).await,
            Some(_) => Err((ErrorCode::InvalidRequest, format!("topic '{}' is there more than once", topic.name))),
            None => continue, // answered before
        };
        results.push(report(topic.name, result));
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

async fn create(context: &Context, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let name = &asked.name;
    let topic = context.topic_by_name(name).await.map_err(|error| (error, format!("there is no topic '{name}'")))?;
    let count = plan(context, topic, asked)?;
    if validate_only {
        return Ok(());
    }
    let outcome = context.replica.propose(Command::AddPartitions { topic, count }).await;
    match outcome.map_err(|error| (errors::commit(error), format!("topic '{name}' was not changed for certain")))? {
        Outcome::Done => Ok(()),
        // Somebody else was faster: the words are of what there is now.
        Outcome::Refused(refusal @ Refusal::InvalidPartitions) => {
            let words = || (errors::refusal(refusal), format!("topic '{name}' cannot have {count} partitions"));
            Err(plan(context, topic, asked).err().unwrap_or_else(words))
        }
        Outcome::Refused(Refusal::LimitReached) => Err(too_many(name, count)),
        Outcome::Refused(refusal) => Err((errors::refusal(refusal), format!("topic '{name}' was not changed"))),
        Outcome::Bundle(_) | Outcome::ProducerIds { .. } | Outcome::Offsets(_) => {
            Err((ErrorCode::UnknownServerError, format!("topic '{name}': another outcome than of its command")))
        }
    }
}

/// The new number of partitions, checked against the state.
fn plan(context: &Context, topic: TopicId, asked: &CreatePartitionsTopic) -> Result<u32, Refused> {
    let name = &asked.name;
    let state = context.replica.state();
    let gone = || (ErrorCode::UnknownTopicOrPartition, format!("there is no topic '{name}'"));
    let present = state.topic(topic).ok_or_else(gone)?.partition_count();
    let refuse = |words| Err((ErrorCode::InvalidPartitions, words));
    let count = match u32::try_from(asked.count) {
        Ok(count) if count > present => count,
        Ok(count) if count == present => return refuse(format!("topic '{name}' already has {present} partitions")),
        _ => return refuse(format!("topic '{name}' has {present} partitions; {} is not more", asked.count)),
    };
    check_assignments(asked, count - present)?;
    if count > limits::PARTITIONS_PER_TOPIC || state.partition_count() + u64::from(count - present) > limits::PARTITIONS
    {
        return Err(too_many(name, count));
    }
    Ok(count)
}

fn check_assignments(asked: &CreatePartitionsTopic, new: u32) -> Result<(), Refused> {
    let Some(assignments) = &asked.assignments else { return Ok(()) };
    let refuse = |words| Err((ErrorCode::InvalidReplicaAssignment, words));
    if assignments.len() != new as usize {
        return refuse(format!("{new} partitions are new, and {} are assigned to brokers", assignments.len()));
    }
    for brokers in assignments.iter().map(|assignment| &assignment.broker_ids) {
        if brokers.is_empty() {
            return refuse("a new partition is assigned to no broker".to_owned());
        }
        if brokers.iter().collect::<BTreeSet<_>>().len() < brokers.len() {
            return refuse(format!("a new partition is assigned to a broker twice: {brokers:?}"));
        }
    }
    Ok(())
}

fn too_many(name: &str, count: u32) -> Refused {
    let (topic, all) = (limits::PARTITIONS_PER_TOPIC, limits::PARTITIONS);
    let words =
        format!("topic '{name}' with {count} partitions would exceed the limits of {topic} of a topic or {all} of all");
    (ErrorCode::PolicyViolation, words)
}

fn report(name: Text, result: Result<(), Refused>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err((error, words)) => (error.code(), Some(Text::from(words))),
    };
    CreatePartitionsTopicResult { name, error_code, error_message }
}
