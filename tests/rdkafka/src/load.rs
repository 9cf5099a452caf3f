//! The load of the benchmarks: as little work for each record as librdkafka allows, one line of JSON at the end. The last
//! two print "ready" once every member has its partitions, and go on until their standard input ends.
//!
//!     load produce BOOTSTRAP TOPIC RECORD_BYTES RECORDS [setting=value ...]   as fast as it goes
//!     load consume BOOTSTRAP TOPIC [setting=value ...]                        everything that is there, once
//!     load latency BOOTSTRAP TOPIC RECORDS_PER_SECOND SECONDS [setting=value ...]
//!     load idle BOOTSTRAP TOPIC GROUPS MEMBERS                                consumers that long-poll, MEMBERS a group
//!     load groups BOOTSTRAP TOPIC GROUPS MEMBERS                              see `members_load.rs`

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::{PATIENCE, assign_from_beginning, config, consumer, members_load};

pub(crate) fn run(words: &[&str]) -> Result<()> {
    match words {
        ["produce", bootstrap, topic, bytes, records, settings @ ..] => {
            produce(&config(bootstrap, settings)?, topic, bytes.parse()?, records.parse()?)
        }
        ["consume", bootstrap, topic, settings @ ..] => consume(&config(bootstrap, settings)?, topic),
        ["latency", bootstrap, topic, rate, seconds, settings @ ..] => {
            latency(&config(bootstrap, settings)?, topic, rate.parse()?, seconds.parse()?)
        }
        ["idle", bootstrap, topic, groups, members] => idle(bootstrap, topic, groups.parse()?, members.parse()?),
        ["groups", bootstrap, topic, groups, members] => {
            members_load::run(bootstrap, topic, groups.parse()?, members.parse()?)
        }
        _ => bail!("unknown load {words:?}"),
    }
}

/// Counts failures, and keeps the time from send to report of each record where asked to.
struct Tally {
    began: Instant,
    keep_times: bool,
    failed: Mutex<u64>,
    micros: Mutex<Vec<u64>>,
}

impl Tally {
    fn new(keep_times: bool) -> Self {
        Tally { began: Instant::now(), keep_times, failed: Mutex::default(), micros: Mutex::default() }
    }

    fn micros_since_start(&self) -> usize {
        self.began.elapsed().as_micros() as usize
    }
}

impl ClientContext for Tally {}

impl ProducerContext for Tally {
    /// When the record was due, in microseconds since the start.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        if result.is_err() {
            *self.failed.lock().expect("no reporter panics") += 1;
        } else if self.keep_times {
            let waited = self.micros_since_start().saturating_sub(due);
            self.micros.lock().expect("no reporter panics").push(waited as u64);
        }
    }
}

fn produce(config: &ClientConfig, topic: &str, bytes: usize, records: usize) -> Result<()> {
    let producer: BaseProducer<Tally> = config.create_with_context(Tally::new(false))?;
    let pool = noise(bytes + 4096);
    let began = producer.context().began;
    for number in 0..records {
        let start = number % 64 * 64;
        let value = &pool[start..start + bytes];
        crate::send(&producer, BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, 0).payload(value))?;
    }
    producer.flush(2 * PATIENCE)?;
    let failed = *producer.context().failed.lock().expect("no reporter panics");
    ensure!(failed == 0, "{failed} of {records} records failed");
    print(records as u64, (records * bytes) as u64, began);
    Ok(())
}

fn print(records: u64, bytes: u64, began: Instant) {
    println!(r#"{{"records": {records}, "bytes": {bytes}, "seconds": {:.3}}}"#, began.elapsed().as_secs_f64());
}

/// Bytes that do not compress, the same in every run.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(next).collect()
}

fn consume(config: &ClientConfig, topic: &str) -> Result<()> {
    let consumer = consumer(config)?;
    let wanted = assign_from_beginning(&consumer, topic)?;
    let (mut records, mut bytes) = (0, 0);
    let began = Instant::now();
    while records < wanted {
        let message = consumer.poll(PATIENCE).with_context(|| format!("{records} of {wanted}, then nothing"))??;
        records += 1;
        bytes += message.payload_len() as u64;
    }
    print(records as u64, bytes, began);
    Ok(())
}

/// Sends at a steady rate whatever the answers do, so that a stall counts for every record that was due in it.
fn latency(config: &ClientConfig, topic: &str, rate: u64, seconds: u64) -> Result<()> {
    let producer: BaseProducer<Tally> = config.create_with_context(Tally::new(true))?;
    let value = noise(1000);
    let began = producer.context().began;
    let records = rate * seconds;
    for number in 0..records {
        let due = Duration::from_nanos(1_000_000_000 * number / rate);
        while let Some(left) = due.checked_sub(began.elapsed()) {
            producer.poll(left);
        }
        let due = due.as_micros() as usize;
        crate::send(&producer, BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, due).payload(value.as_slice()))?;
    }
    producer.flush(PATIENCE)?;
    let mut micros = std::mem::take(&mut *producer.context().micros.lock().expect("no reporter panics"));
    ensure!(micros.len() as u64 == records, "{} of {records} records were confirmed", micros.len());
    micros.sort_unstable();
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    let (p50, p99, p999, most) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!(
        r#"{{"records": {records}, "p50_ms": {p50:.3}, "p99_ms": {p99:.3}, "p999_ms": {p999:.3}, "max_ms": {most:.3}}}"#
    );
    Ok(())
}

/// Consumers with the defaults of librdkafka, with nothing to read.
fn idle(bootstrap: &str, topic: &str, groups: usize, members: usize) -> Result<()> {
    let mut consumers: Vec<BaseConsumer> = Vec::new();
    for number in 0..groups * members {
        let group = format!("group.id={topic}-{}", number % groups);
        let consumer: BaseConsumer = config(bootstrap, &[&group, "auto.offset.reset=latest"])?.create()?;
        consumer.subscribe(&[topic])?;
        consumers.push(consumer);
    }
    let wanted = groups * crate::partitions(&consumers[0], topic)?.len();
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        poll_all(&consumers)?;
        let owned = consumers.iter().map(|c| Ok(c.assignment()?.count())).sum::<Result<usize>>()?;
        if owned == wanted && consumers.iter().all(|c| c.assignment().is_ok_and(|list| list.count() > 0)) {
            break;
        }
        ensure!(Instant::now() < deadline, "{owned} of {wanted} partitions are owned after two minutes");
    }
    println!("ready");
    let over = input_ended();
    while !over.load(Ordering::Relaxed) {
        poll_all(&consumers)?;
    }
    println!("{{}}");
    // Nobody says good-bye one by one: that is no part of what is measured.
    std::process::exit(0)
}

fn poll_all(consumers: &[BaseConsumer]) -> Result<()> {
    for consumer in consumers {
        if let Some(message) = consumer.poll(Duration::ZERO) {
            message?;
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// True once standard input has ended.
pub(crate) fn input_ended() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    over
}
