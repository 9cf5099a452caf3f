//! Produce (key 0), versions 3–13; 0–2 are advertised for old librdkafka (KIP-896) and answered UNSUPPORTED_VERSION
//! (Kafka 4.3 closes the connection).
//!
//! Each partition's batch is validated, enters the write path's buffer in arrival order (that happens before
//! [`enter`] returns, so that requests of one connection are pipelined), and is answered when it is durable in the
//! object store, ordered in the journal, and folded here. acks=1 and acks=−1 (all) mean the same; acks=0 gets no
//! answer. A batch that is refused fails alone. A duplicate is answered with its first offset and no error.
//!
//! "No such topic" is said behind a barrier: another broker may have created it. By then the batch has lost its place among
//! those that came after it, so if the topic is there now, the client is asked to send it again.
//!
//! v5 answers the log start offset, v8 an error message (KIP-467), v13 names topics by id (KIP-516). v10's hints of a
//! new leader are never needed: any broker takes any write. `timeout_ms` is not used: an answer that comes before the
//! outcome is known would be a guess. Transactions are not served: a transactional id is refused.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use kafscale_log::Ledger;
use kafscale_log::write::{TimestampRule, TopicRules, ValidBatch, Written, validate};
use kafscale_metadata::{State, Topic, TopicId, TopicPartition};
use kafscale_wire::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use kafscale_wire::{ErrorCode, Records, Text};

use super::topic_config::TopicConfig;
use super::{Call, Context, Supported, answer, errors, partition};
use crate::connection::{Frame, Reply};

pub(super) const API: Supported = Supported { key: 0, name: "Produce", advertised: 0..=13, served: 3..=13 };

/// A partition of the request: refused at once, or on its way.
enum Entered {
    Refused(ErrorCode, String),
    /// The number of its receipt.
    Waiting(usize),
}

/// The partitions of one topic in the request.
struct EnteredTopic {
    asked: TopicProduceData,
    partitions: Vec<(i32, Entered)>,
}

impl EnteredTopic {
    /// Whether something of it was not known here.
    fn is_missing(&self) -> bool {
        self.partitions.iter().any(|(_, entered)| is_missing(entered))
    }
}

fn is_missing(entered: &Entered) -> bool {
    let unknown = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    matches!(entered, Entered::Refused(error, _) if unknown.contains(error))
}

/// Says of what was not known here what is so as of a barrier.
async fn look_again(context: &Context, version: i16, topics: &mut [EnteredTopic]) {
    let passed = context.replica.barrier().await;
    let state = context.replica.state();
    for topic in topics {
        let target = Target::find(&state, version, &topic.asked, 0).ok();
        for (index, entered) in topic.partitions.iter_mut().filter(|(_, entered)| is_missing(entered)) {
            let is_there = target.as_ref().is_some_and(|target| target.partition(*index).is_some());
            *entered = match passed {
                Err(stopped) => Entered::Refused(errors::stopped(stopped), String::new()),
                Ok(()) if is_there => {
                    let words = "this broker did not know the topic yet; send the batch again";
                    Entered::Refused(ErrorCode::NotEnoughReplicas, words.to_owned())
                }
                Ok(()) => continue,
            };
        }
    }
}

/// Validates the batches and puts them into the buffer; the future is the answer.
pub(super) fn enter(
    context: Arc<Context>,
    call: Call,
    request: ProduceRequest,
    frame: Frame,
) -> BoxFuture<'static, Reply> {
    let acks = request.acks;
    if !API.served.contains(&call.version) {
        let words = "record batches come with Produce version 3";
        return ready(refuse_all(&call, request, ErrorCode::UnsupportedVersion, words)).boxed();
    }
    if !(-1..=1).contains(&acks) {
        let words = format!("acks={acks} is not allowed: 0, 1 or -1 (all)");
        return ready(refuse_all(&call, request, ErrorCode::InvalidRequiredAcks, &words)).boxed();
    }
    if request.transactional_id.is_some() {
        let words = "transactions are not supported";
        return ready(refuse_all(&call, request, ErrorCode::TransactionalIdAuthorizationFailed, words)).boxed();
    }
    let (mut topics, batches) = plan(&context, call.version, request);
    let receipts = context.writer.submit(call.peer.id, frame.bytes.len(), batches, frame.reservation);
    if acks == 0 {
        return ready(Reply::Nothing).boxed();
    }
    async move {
        let outcomes = futures::future::join_all(receipts).await;
        if topics.iter().any(EnteredTopic::is_missing) {
            look_again(&context, call.version, &mut topics).await;
        }
        answer(&call, &respond(topics, &outcomes))
    }
    .boxed()
}

type Batches = Vec<(TopicPartition, ValidBatch)>;

fn plan(context: &Context, version: i16, request: ProduceRequest) -> (Vec<EnteredTopic>, Batches) {
    let mut batches = Vec::new();
    let now_ms = context.env.clock.wall_ms();
    let state = context.replica.state();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for mut asked in request.topic_data {
        let data = std::mem::take(&mut asked.partition_data);
        let target = Target::find(&state, version, &asked, now_ms);
        let enter = |data: PartitionProduceData| {
            let entered = match target
                .as_ref()
                .map_err(|error| (*error, String::new()))
                .and_then(|t| t.check(data.index, data.records))
            {
                Ok(batch) => {
                    batches.push(batch);
                    Entered::Waiting(batches.len() - 1)
                }
                Err((error, words)) => Entered::Refused(error, words),
            };
            (data.index, entered)
        };
        let partitions = data.into_iter().map(enter).collect();
        topics.push(EnteredTopic { asked, partitions });
    }
    (topics, batches)
}

/// A topic that is written to, and its rules.
struct Target {
    id: TopicId,
    partitions: u32,
    rules: TopicRules,
    version: i16,
    now_ms: i64,
}

impl Target {
    fn find(state: &State, version: i16, asked: &TopicProduceData, now_ms: i64) -> Result<Self, ErrorCode> {
        let topic = if version < 13 {
            state.topic_by_name(&asked.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
        } else {
            state.topic(TopicId(asked.topic_id.0)).ok_or(ErrorCode::UnknownTopicId)?
        };
        Ok(Self { id: topic.id(), partitions: topic.partition_count(), rules: rules(topic), version, now_ms })
    }

    fn partition(&self, index: i32) -> Option<TopicPartition> {
        partition(self.id, index).filter(|p| p.partition < self.partitions)
    }

    fn check(&self, index: i32, records: Records) -> Result<(TopicPartition, ValidBatch), (ErrorCode, String)> {
        let partition = self.partition(index).ok_or((ErrorCode::UnknownTopicOrPartition, String::new()))?;
        match validate(records.to_bytes(), self.version, &self.rules, self.now_ms) {
            Ok(batch) => Ok((partition, batch)),
            Err(why) => Err((errors::invalid(&why), why.to_string())),
        }
    }
}

fn rules(topic: &Topic) -> TopicRules {
    // The settings were checked when the topic was created.
    let config = TopicConfig::parse(topic.configs()).unwrap_or_default();
    let timestamps = if config.log_append_time {
        TimestampRule::LogAppendTime
    } else {
        let (before_max_ms, after_max_ms) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
        TimestampRule::CreateTime { before_max_ms, after_max_ms }
    };
    TopicRules { max_message_bytes: config.max_batch_bytes, timestamps }
}

fn respond(topics: Vec<EnteredTopic>, outcomes: &[Written]) -> ProduceResponse {
    let respond_partition = |(index, entered): (i32, Entered)| {
        let blank = PartitionProduceResponse { index, base_offset: -1, ..Default::default() };
        match entered {
            Entered::Refused(error, words) => refused(blank, error, words),
            Entered::Waiting(number) => written(blank, outcomes[number]),
        }
    };
    let respond_topic = |topic: EnteredTopic| TopicProduceResponse {
        name: topic.asked.name,
        topic_id: topic.asked.topic_id,
        partition_responses: topic.partitions.into_iter().map(respond_partition).collect(),
    };
    ProduceResponse { responses: topics.into_iter().map(respond_topic).collect(), ..Default::default() }
}

fn written(blank: PartitionProduceResponse, outcome: Written) -> PartitionProduceResponse {
    match outcome {
        Written::Appended { first_offset, log_start, append_time } => PartitionProduceResponse {
            base_offset: first_offset,
            log_append_time_ms: append_time.unwrap_or(-1),
            log_start_offset: log_start,
            ..blank
        },
        Written::Refused(refusal) => refused(blank, errors::refusal(refusal), refusal.to_string()),
        Written::Dropped(why) => refused(blank, errors::dropped(why), why.to_string()),
        Written::Unknown => {
            let words = "the broker could not learn whether the batch was written".to_owned();
            refused(blank, ErrorCode::NotEnoughReplicasAfterAppend, words)
        }
    }
}

fn refused(blank: PartitionProduceResponse, error: ErrorCode, words: String) -> PartitionProduceResponse {
    let error_message = (!words.is_empty()).then(|| Text::from(words));
    PartitionProduceResponse { error_code: error.code(), error_message, ..blank }
}

fn refuse_all(call: &Call, request: ProduceRequest, error: ErrorCode, words: &str) -> Reply {
    if request.acks == 0 {
        return Reply::Close; // as Kafka does: it is the only way to tell
    }
    let refuse_topic = |mut asked: TopicProduceData| {
        let data = std::mem::take(&mut asked.partition_data);
        let refuse = |data: PartitionProduceData| (data.index, Entered::Refused(error, words.to_owned()));
        EnteredTopic { asked, partitions: data.into_iter().map(refuse).collect() }
    };
    let topics = request.topic_data.into_iter().map(refuse_topic).collect();
    answer(call, &respond(topics, &[]))
}
