//! ListOffsets (key 2), versions 1–11.
//!
//! Timestamps below zero name an end of the log: −1 latest, −2 earliest, −3 the record with the largest timestamp (v7,
//! KIP-734), −4 the earliest that is on the broker's own disk (v8, KIP-405: the same as earliest, all is in one store),
//! −5 the latest that is in tiered storage only (v9) and −6 the earliest that waits for it (v11): neither exists here,
//! which is answered with offset −1. Any other is the first record, in offset order, whose timestamp is at least it,
//! exactly: also inside compressed batches, and with timestamps out of order. Answers pass a barrier, so a client that
//! moves between brokers sees no offset go back. Leader epochs (v4) are 0. read_committed (v2) asks for the last
//! stable offset, which is the high watermark: there are no transactions. `timeout_ms` (v10) is not used.

use kafscale_log::read::{FetchError, FoundOffset, OffsetSpec};
use kafscale_metadata::TopicPartition;
use kafscale_wire::ErrorCode;
use kafscale_wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse,
};

use super::{Call, Context, Supported, errors, partition};

pub(super) const API: Supported = Supported { key: 2, name: "ListOffsets", advertised: 1..=11, served: 1..=11 };

const NOWHERE: FoundOffset = FoundOffset { offset: -1, timestamp: -1 };

/// What is asked of one partition.
enum Asked {
    Refused(ErrorCode),
    Nowhere,
    LookUp(TopicPartition, OffsetSpec),
}

pub(super) async fn handle(context: &Context, call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(look_up(context, call.version, topic).await);
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn look_up(context: &Context, version: i16, topic: ListOffsetsTopic) -> ListOffsetsTopicResponse {
    let found = context.topic_by_name(&topic.name).await;
    let plan = |asked: &ListOffsetsPartition| {
        let id = match found {
            Ok(id) => id,
            Err(error) => return Asked::Refused(error),
        };
        match (partition(id, asked.partition_index), spec(version, asked.timestamp)) {
            (None, _) => Asked::Refused(ErrorCode::UnknownTopicOrPartition),
            (_, Err(error)) => Asked::Refused(error),
            (_, Ok(None)) => Asked::Nowhere,
            (Some(partition), Ok(Some(spec))) => Asked::LookUp(partition, spec),
        }
    };
    let plans: Vec<Asked> = topic.partitions.iter().map(plan).collect();
    let wanted = plans.iter().filter_map(|asked| match asked {
        Asked::LookUp(partition, spec) => Some((*partition, *spec)),
        Asked::Refused(_) | Asked::Nowhere => None,
    });
    let wanted: Vec<_> = wanted.collect();
    let mut results = context.reader.offsets(&wanted).await.into_iter();
    let mut answer = |(asked, plan): (&ListOffsetsPartition, &Asked)| {
        let result = match plan {
            Asked::Refused(error) => Err(*error),
            Asked::Nowhere => Ok(NOWHERE),
            Asked::LookUp(..) => results.next().unwrap_or(Err(FetchError::Stopped)).map_err(errors::read),
        };
        respond(asked.partition_index, result)
    };
    let partitions = topic.partitions.iter().zip(&plans).map(&mut answer).collect();
    ListOffsetsTopicResponse { name: topic.name, partitions }
}

/// `None`: there never is such an offset. A number that the version does not know is refused, as Kafka does.
fn spec(version: i16, timestamp: i64) -> Result<Option<OffsetSpec>, ErrorCode> {
    let (since, spec) = match timestamp {
        0.. => (1, Some(OffsetSpec::AtTime(timestamp))),
        -1 => (1, Some(OffsetSpec::Latest)),
        -2 => (1, Some(OffsetSpec::Earliest)),
        -3 => (7, Some(OffsetSpec::MaxTimestamp)),
        -4 => (8, Some(OffsetSpec::Earliest)),
        -5 => (9, None),
        -6 => (11, None),
        _ => return Err(ErrorCode::InvalidRequest),
    };
    if version < since { Err(ErrorCode::UnsupportedVersion) } else { Ok(spec) }
}

fn respond(partition_index: i32, result: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    let blank = ListOffsetsPartitionResponse { partition_index, ..Default::default() };
    match result {
        Ok(NOWHERE) => blank,
        Ok(found) => {
            ListOffsetsPartitionResponse { timestamp: found.timestamp, offset: found.offset, leader_epoch: 0, ..blank }
        }
        Err(error) => ListOffsetsPartitionResponse { error_code: error.code(), ..blank },
    }
}
