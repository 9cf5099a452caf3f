//! librdkafka from Rust, driven by the black-box suites and the benchmarks. Every command ends with 0 only if all that it
//! asserts held; the suites compare what `consume` wrote with what they gave `produce`.
//!
//!     produce BOOTSTRAP TOPIC FILE [setting=value ...]       writes a record file, checks the confirmed offsets
//!     consume BOOTSTRAP TOPIC FILE [setting=value ...]       reads all partitions into a record file
//!     limit   BOOTSTRAP TOPIC BYTES                          a value of BYTES is taken, one byte more is refused
//!     times   BOOTSTRAP TOPIC MILLISECONDS ...               prints the watermarks and the offset for each time
//!     host                                                   members of groups and more, see `host.rs`
//!     load produce|consume|latency|idle|groups ...           see `load.rs`

mod admin;
mod host;
mod load;
mod member;
mod members_load;
mod record_file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use record_file::Entry;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["produce", bootstrap, topic, file, settings @ ..] => {
            println!("{} confirmed", produce(&config(bootstrap, settings)?, topic, file)?);
            Ok(())
        }
        ["consume", bootstrap, topic, file, settings @ ..] => consume(&config(bootstrap, settings)?, topic, file),
        ["limit", bootstrap, topic, bytes] => limit(bootstrap, topic, bytes.parse()?),
        ["times", bootstrap, topic, times @ ..] => look_up(bootstrap, topic, times),
        ["host"] => host::run(),
        ["load", what @ ..] => load::run(what),
        _ => bail!("unknown command {words:?}; src/main.rs lists them"),
    }
}

pub(crate) fn config(bootstrap: &str, settings: &[&str]) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for setting in settings {
        let (name, value) = setting.split_once('=').with_context(|| format!("{setting} is not name=value"))?;
        config.set(name, value);
    }
    Ok(config)
}

/// What was reported for each record that was handed over, by its number.
#[derive(Default)]
struct Reports {
    offsets: Mutex<HashMap<usize, Result<i64, KafkaError>>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.offsets.lock().expect("no reporter panics").insert(number, outcome);
    }
}

/// Writes the records of a file; returns how many there were, all confirmed where they belong.
pub(crate) fn produce(config: &ClientConfig, topic: &str, file: &str) -> Result<usize> {
    let entries = record_file::read(Path::new(file))?;
    let producer: BaseProducer<Reports> = config.create_with_context(Reports::default())?;
    for (number, entry) in entries.iter().enumerate() {
        send(&producer, record(topic, number, entry))?;
    }
    producer.flush(PATIENCE)?;
    let offsets = producer.context().offsets.lock().expect("no reporter panics");
    ensure!(offsets.len() == entries.len(), "{} of {} records were reported", offsets.len(), entries.len());
    let confirmed = config.get("acks") != Some("0");
    for (number, entry) in entries.iter().enumerate() {
        let offset = offsets[&number].clone().with_context(|| format!("record {number} was refused"))?;
        ensure!(!confirmed || offset == entry.offset, "record {number} is at {offset}, not {}", entry.offset);
    }
    Ok(entries.len())
}

fn record<'a>(topic: &'a str, number: usize, entry: &'a Entry) -> BaseRecord<'a, [u8], [u8], usize> {
    let mut record = BaseRecord::with_opaque_to(topic, number)
        .partition(entry.partition)
        .timestamp(entry.timestamp)
        .headers(entry.owned_headers());
    if let Some(key) = &entry.key {
        record = record.key(key.as_slice());
    }
    if let Some(value) = &entry.value {
        record = record.payload(value.as_slice());
    }
    record
}

/// Hands a record to librdkafka; while its queue is full, waits for it to drain.
fn send<C: ProducerContext>(
    producer: &BaseProducer<C>,
    record: BaseRecord<'_, [u8], [u8], C::DeliveryOpaque>,
) -> Result<()> {
    let mut record = record;
    loop {
        match producer.send(record) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

pub(crate) fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let topic = metadata.topics().first().context("the topic is not in the metadata")?;
    Ok(topic.partitions().iter().map(|p| p.id()).collect())
}

pub(crate) fn assign_from_beginning(consumer: &BaseConsumer, topic: &str) -> Result<i64> {
    let mut list = TopicPartitionList::new();
    let mut records = 0;
    for partition in partitions(consumer, topic)? {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        list.add_partition_offset(topic, partition, Offset::Offset(low))?;
        records += high - low;
    }
    consumer.assign(&list)?;
    Ok(records)
}

pub(crate) fn consumer(config: &ClientConfig) -> Result<BaseConsumer> {
    let mut config = config.clone();
    // librdkafka wants a name; no group is joined and nothing is committed.
    config.set("group.id", "no-group").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    Ok(config.create()?)
}

fn consume(config: &ClientConfig, topic: &str, file: &str) -> Result<()> {
    let consumer = consumer(config)?;
    let wanted = assign_from_beginning(&consumer, topic)?;
    let mut entries = Vec::new();
    let deadline = Instant::now() + 2 * PATIENCE;
    while (entries.len() as i64) < wanted {
        ensure!(Instant::now() < deadline, "{} records of {wanted} in two minutes", entries.len());
        if let Some(message) = consumer.poll(Duration::from_millis(500)) {
            entries.push(Entry::from_message(&message?));
        }
    }
    record_file::write(Path::new(file), &entries)?;
    println!("{wanted} read");
    Ok(())
}

fn limit(bootstrap: &str, topic: &str, bytes: usize) -> Result<()> {
    let config = config(bootstrap, &["message.max.bytes=2000000", "linger.ms=0"])?;
    let producer: BaseProducer<Reports> = config.create_with_context(Reports::default())?;
    for (number, size) in [bytes, bytes + 1, bytes].into_iter().enumerate() {
        let value = vec![0; size];
        send(&producer, BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, number).partition(0).payload(&value))?;
        producer.flush(PATIENCE)?;
    }
    let offsets = producer.context().offsets.lock().expect("no reporter panics");
    let refused = Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
    ensure!(offsets[&0].is_ok() && offsets[&1] == refused && offsets[&2].is_ok(), "outcomes: {offsets:?}");
    Ok(())
}

fn look_up(bootstrap: &str, topic: &str, times: &[&str]) -> Result<()> {
    let consumer = consumer(&config(bootstrap, &[])?)?;
    for partition in partitions(&consumer, topic)? {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        println!("{partition} watermarks {low} {high}");
        for time in times {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(topic, partition, Offset::Offset(time.parse()?))?;
            let answer = consumer.offsets_for_times(asked, PATIENCE)?;
            println!("{partition} {time} {:?}", answer.elements()[0].offset());
        }
    }
    Ok(())
}
