//! Fetch (key 1), versions 4–18.
//!
//! Whole batches from the one that contains the offset on, up to the limits of the partition and of the request; the
//! first batch is always whole, once a request (KIP-74). A fetch that finds less than `min_bytes` sleeps until the
//! fold wakes it or `max_wait_ms` is over. Records are slices of what is cached, with base offset and leader epoch
//! patched in front: never copied. read_committed (v4) works: there are no transactions, so the last stable offset is
//! the high watermark and no transaction is aborted.
//!
//! v7's fetch sessions (KIP-227) are not offered yet: the answer's session id is 0, so clients send whole requests. A
//! client that names a session gets FETCH_SESSION_ID_NOT_FOUND and starts anew. v9's and v12's leader epochs are
//! ignored: the epoch is always 0 and no log ever diverges. v13 names topics by id (KIP-516). v11's rack is ignored
//! while there is one broker. Replica ids mean nothing: a fetch is a consumer's.

use std::time::Duration;

use kafscale_log::read::{FetchPartition as Read, FetchRequest as Wanted, PartitionData as Found};
use kafscale_metadata::TopicId;
use kafscale_wire::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use kafscale_wire::{ErrorCode, Records};

use super::{Call, Context, Supported, answer_holding, errors, partition};
use crate::connection::Reply;

pub(super) const API: Supported = Supported { key: 1, name: "Fetch", advertised: 4..=18, served: 4..=18 };

/// A partition of the answer.
enum Slot {
    Refused(ErrorCode),
    /// The next one of those that are read.
    Read,
}

pub(super) async fn handle(context: &Context, call: &Call, request: FetchRequest) -> Reply {
    if request.session_id != 0 && request.session_epoch > 0 {
        let response = FetchResponse { error_code: ErrorCode::FetchSessionIdNotFound.code(), ..Default::default() };
        return answer_holding(call, &response, Vec::new());
    }
    let mut reads = Vec::new();
    let mut slots = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = find(context, call.version, topic).await;
        slots.push(topic.partitions.iter().map(|asked| plan(found, asked, &mut reads)).collect::<Vec<_>>());
    }
    let nothing_to_wait_for = reads.is_empty() || slots.iter().flatten().any(|slot| matches!(slot, Slot::Refused(_)));
    let wait_ms = if nothing_to_wait_for { 0 } else { u64::try_from(request.max_wait_ms).unwrap_or(0) };
    let wanted = Wanted {
        partitions: reads,
        max_bytes: u64::try_from(request.max_bytes).unwrap_or(0),
        min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
        max_wait: Duration::from_millis(wait_ms),
    };
    let found = context.reader.fetch(wanted).await;
    let response = respond(request.topics, slots, found.partitions);
    answer_holding(call, &response, found.reservation.into_iter().collect())
}

async fn find(context: &Context, version: i16, topic: &FetchTopic) -> Result<TopicId, ErrorCode> {
    if version < 13 {
        context.topic_by_name(&topic.topic).await
    } else {
        context.topic_exists(TopicId(topic.topic_id.0)).await
    }
}

fn plan(topic: Result<TopicId, ErrorCode>, asked: &FetchPartition, reads: &mut Vec<Read>) -> Slot {
    let found = topic.and_then(|id| partition(id, asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition));
    match found {
        Ok(partition) => {
            let max_bytes = u64::try_from(asked.partition_max_bytes).unwrap_or(0);
            reads.push(Read { partition, offset: asked.fetch_offset, max_bytes });
            Slot::Read
        }
        Err(error) => Slot::Refused(error),
    }
}

fn respond(topics: Vec<FetchTopic>, slots: Vec<Vec<Slot>>, found: Vec<Found>) -> FetchResponse {
    let mut found = found.into_iter();
    let mut respond_partition = |(asked, slot): (&FetchPartition, Slot)| match slot {
        Slot::Refused(error) => refused(asked.partition, error),
        Slot::Read => found
            .next()
            .map_or_else(|| refused(asked.partition, ErrorCode::UnknownServerError), |f| read(asked.partition, f)),
    };
    let respond_topic = |(topic, slots): (FetchTopic, Vec<Slot>)| FetchableTopicResponse {
        partitions: topic.partitions.iter().zip(slots).map(&mut respond_partition).collect(),
        topic: topic.topic,
        topic_id: topic.topic_id,
    };
    FetchResponse { responses: topics.into_iter().zip(slots).map(respond_topic).collect(), ..Default::default() }
}

fn read(partition_index: i32, found: Found) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: found.error.map_or(ErrorCode::None, errors::read).code(),
        high_watermark: found.bounds.high_watermark,
        last_stable_offset: found.bounds.last_stable_offset,
        log_start_offset: found.bounds.log_start,
        records: Records::from(found.slices),
        ..Default::default()
    }
}

fn refused(partition_index: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: error.code(),
        high_watermark: -1,
        records: Records::from(Vec::new()),
        ..Default::default()
    }
}
