//! One consumer of a group, driven from outside. Every answer carries the calls of its rebalance callback since the last.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::host::Driven;
use crate::record_file::Entry;

/// How long a poll waits for its first record, and how many it takes at most.
const POLL: Duration = Duration::from_millis(100);
const POLL_RECORDS: usize = 5_000;

/// What librdkafka calls while a poll runs.
struct Calls {
    commit_on_revoke: bool,
    events: Mutex<Vec<Value>>,
}

impl ClientContext for Calls {}

impl ConsumerContext for Calls {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.note("assigned", partitions),
            Rebalance::Revoke(partitions) => {
                if self.commit_on_revoke
                    && let Err(error) = commit_all(consumer, CommitMode::Sync)
                {
                    eprintln!("commit before partitions are given up: {error}");
                }
                self.note("revoked", partitions);
            }
            Rebalance::Error(error) => eprintln!("rebalance: {error}"),
        }
    }
}

impl Calls {
    fn note(&self, kind: &str, list: &TopicPartitionList) {
        let partitions: Vec<Value> = list.elements().iter().map(|e| json!([e.topic(), e.partition()])).collect();
        self.events.lock().expect("no callback panics").push(json!([kind, partitions]));
    }
}

/// Commits what was read; that nothing was is no error.
fn commit_all(consumer: &BaseConsumer<Calls>, mode: CommitMode) -> KafkaResult<()> {
    match consumer.commit_consumer_state(mode) {
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        other => other,
    }
}

pub(crate) struct Member {
    calls: Arc<Calls>,
    /// Gone after "close".
    consumer: Option<BaseConsumer<Calls>>,
}

impl Driven for Member {
    fn carry_out(&mut self, operation: &str, request: &Value, records: &mut Vec<Entry>) -> Result<Value> {
        let mut answer = json!({});
        match operation {
            "subscribe" => self.subscribe(request)?,
            "assign" => self.consumer()?.assign(&partitions(request, Offset::Stored)?)?,
            "poll" => self.poll(records)?,
            "commit" => self.commit(request)?,
            "committed" => answer["committed"] = self.committed(request)?,
            "seek" => self.seek(request)?,
            "close" => self.consumer = None,
            _ => bail!("a consumer cannot {operation}"),
        }
        answer["events"] = mem::take(&mut *self.calls.events.lock().expect("no callback panics")).into();
        Ok(answer)
    }
}

impl Member {
    pub(crate) fn new(config: &ClientConfig, commit_on_revoke: bool) -> Result<Member> {
        let calls = Calls { commit_on_revoke, events: Mutex::default() };
        let consumer: BaseConsumer<Calls> = config.create_with_context(calls)?;
        // Also what is called while it closes is told.
        Ok(Member { calls: Arc::clone(consumer.context()), consumer: Some(consumer) })
    }

    fn consumer(&self) -> Result<&BaseConsumer<Calls>> {
        self.consumer.as_ref().context("the consumer is closed")
    }

    fn subscribe(&self, request: &Value) -> Result<()> {
        let topics = request["topics"].as_array().context("no topics")?;
        let topics: Vec<&str> = topics.iter().filter_map(Value::as_str).collect();
        Ok(self.consumer()?.subscribe(&topics)?)
    }

    fn poll(&self, records: &mut Vec<Entry>) -> Result<()> {
        let consumer = self.consumer()?;
        let mut patience = POLL;
        while let Some(message) = consumer.poll(patience) {
            match message {
                Ok(message) => records.push(Entry::from_message(&message)),
                Err(error) => check(consumer, error)?,
            }
            if records.len() >= POLL_RECORDS {
                break;
            }
            patience = Duration::ZERO;
        }
        Ok(())
    }

    fn commit(&self, request: &Value) -> Result<()> {
        let mode = if request["wait"] == true { CommitMode::Sync } else { CommitMode::Async };
        let offsets = offsets(request)?;
        let consumer = self.consumer()?;
        if offsets.count() == 0 {
            commit_all(consumer, mode)?;
        } else {
            consumer.commit(&offsets, mode)?;
        }
        if let CommitMode::Async = mode {
            // This binding does not tell what became of it. What is asked after it on the same connection is answered
            // after it.
            consumer.committed(PATIENCE)?;
        }
        Ok(())
    }

    fn committed(&self, request: &Value) -> Result<Value> {
        let found = self.consumer()?.committed_offsets(partitions(request, Offset::Invalid)?, PATIENCE)?;
        let rows = found.elements().into_iter().filter_map(|row| match row.offset() {
            Offset::Offset(offset) => Some(json!([row.topic(), row.partition(), offset, row.metadata()])),
            _ => None,
        });
        Ok(rows.collect::<Vec<_>>().into())
    }

    fn seek(&self, request: &Value) -> Result<()> {
        let offset = Offset::Offset(request["offset"].as_i64().context("no offset")?);
        self.consumer()?.seek_partitions(partitions(request, offset)?, PATIENCE)?;
        Ok(())
    }
}

/// Passes on what is final; a connection that broke is not, librdkafka makes another.
fn check(consumer: &BaseConsumer<Calls>, error: KafkaError) -> Result<()> {
    if let Some((code, words)) = consumer.client().fatal_error() {
        return Err(anyhow::Error::new(KafkaError::MessageConsumptionFatal(code)).context(words));
    }
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Resolve,
        ) => Ok(()),
        _ => Err(error.into()),
    }
}

/// The "partitions" of a request, `[topic, partition]`.
fn partitions(request: &Value, offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for row in request["partitions"].as_array().context("no partitions")? {
        let (topic, partition) = (row[0].as_str().context("no topic")?, row[1].as_i64().context("no partition")?);
        list.add_partition_offset(topic, partition as i32, offset)?;
    }
    Ok(list)
}

/// The "offsets" of a request, `[topic, partition, offset, metadata]`.
fn offsets(request: &Value) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for row in request["offsets"].as_array().context("no offsets")? {
        let (topic, partition) = (row[0].as_str().context("no topic")?, row[1].as_i64().context("no partition")?);
        let mut added = list.add_partition(topic, partition as i32);
        added.set_offset(Offset::Offset(row[2].as_i64().context("no offset")?))?;
        added.set_metadata(row[3].as_str().unwrap_or_default());
    }
    Ok(list)
}
