//! What every client asks before it works: the topics with their ids, and the ends of partitions.

use kafscale_wire::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafscale_wire::metadata::{MetadataRequest, MetadataRequestTopic};
use kafscale_wire::{Request, Uuid};
use tokio::time::Duration;

use super::Shared;
use super::link::{Link, Lost};
use crate::history::Latest;

/// How long a client waits for an answer before it gives the connection up.
pub const PATIENCE: Duration = Duration::from_secs(10);

const METADATA_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 7;

/// A topic as Metadata tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: u32,
}

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The first offset.
    Earliest,
    /// One past the last one.
    Latest,
}

/// Asks for topics by name, or for all; those with an error are left out.
pub async fn topics(
    shared: &Shared,
    link: &mut Link,
    names: Option<&[String]>,
    create: bool,
) -> Result<Vec<Found>, Lost> {
    let named = |name: &String| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() };
    let request = MetadataRequest {
        topics: names.map(|names| names.iter().map(named).collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    };
    let response = link.call(METADATA_VERSION, &request, PATIENCE).await?;
    let mut found = Vec::new();
    for topic in response.topics {
        shared.history.lock().answered(MetadataRequest::KEY, topic.error_code);
        let Some(name) = topic.name.filter(|_| topic.error_code == 0) else { continue };
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        found.push(Found { name: name.into(), id: topic.topic_id, partitions });
    }
    Ok(found)
}

/// Asks for one end of each partition of a topic; `None` where the broker answers an error.
pub async fn ends(
    shared: &Shared,
    link: &mut Link,
    topic: &str,
    partitions: u32,
    which: Bound,
) -> Result<Vec<Option<i64>>, Lost> {
    let timestamp = match which {
        Bound::Earliest => -2,
        Bound::Latest => -1,
    };
    let partition = |index| ListOffsetsPartition {
        partition_index: i32::try_from(index).expect("a small index"),
        timestamp,
        ..Default::default()
    };
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions: (0..partitions).map(partition).collect() }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let asked_ms = shared.clock.ms();
    let response = link.call(LIST_OFFSETS_VERSION, &request, PATIENCE).await?;
    let mut offsets = vec![None; partitions as usize];
    for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
        let mut history = shared.history.lock();
        history.answered(ListOffsetsRequest::KEY, answer.error_code);
        let index = usize::try_from(answer.partition_index).unwrap_or(usize::MAX);
        let (0, Some(slot)) = (answer.error_code, offsets.get_mut(index)) else { continue };
        *slot = Some(answer.offset);
        if which == Bound::Latest {
            let (topic, partition) = (topic.to_owned(), u32::try_from(index).expect("a small index"));
            history.latest.push(Latest { topic, partition, asked_ms, offset: answer.offset });
        }
    }
    Ok(offsets)
}
