//! A producer as Java's 4.x client is one: batches for several partitions in one request, several requests in flight,
//! retries until a deadline, idempotent or plain. Numbering and retries are decided in [`super::queue`]; this is the
//! driver around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use anyhow::anyhow;
use kafscale_wire::init_producer_id::InitProducerIdRequest;
use kafscale_wire::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use kafscale_wire::{ErrorCode, Request, Uuid};
use tokio::time::{Duration, sleep, timeout};

use super::Shared;
use super::batch::encode;
use super::link::{Answer, Link, Lost};
use super::lookup::{Found, PATIENCE, topics};
use super::queue::{Event, Queue, Queued};
use crate::history::{Attempts, Fate, Sent};
use crate::phase::Phase;
use crate::rng::Rng;

/// The first version of Produce that names topics by id.
const BY_ID_FROM: i16 = 13;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// The topic is not the one that it was.
const UNKNOWN: [ErrorCode; 2] = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
/// When the batches of the quiet phase are given up.
const LAST_PATIENCE_MS: u64 = 100_000;
/// What the batches' timestamps are counted from.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What a producer does.
#[derive(Debug, Clone)]
pub struct ProducerPlan {
    /// Its number in the world.
    pub number: usize,
    /// It has a producer id and sequences.
    pub idempotent: bool,
    /// −1, 1 or 0.
    pub acks: i16,
    /// The topics it writes to.
    pub topics: Vec<String>,
    /// How many batches it makes while faults happen.
    pub batches: u32,
    /// Records in a batch.
    pub records: Range<u64>,
    /// Bytes in a record's value.
    pub value_bytes: Range<u64>,
    /// The pause between two batches.
    pub pause_ms: Range<u64>,
    /// The version of Produce.
    pub version: i16,
    /// Requests in flight.
    pub in_flight: usize,
    /// When a request is given up, and with it the connection.
    pub request_timeout_ms: u64,
    /// When a batch is given up.
    pub delivery_timeout_ms: u64,
}

type Partition = (String, u32);

/// A request on its way.
struct OnWire {
    correlation: i32,
    sent_ms: u64,
    partitions: BTreeMap<Partition, Uuid>,
}

/// What it knows of its topics.
struct Metadata {
    topics: BTreeMap<String, Found>,
    /// It must ask (again).
    stale: bool,
}

impl Metadata {
    fn partitions(&self) -> Vec<Partition> {
        let topics = self.topics.values();
        topics.flat_map(|topic| (0..topic.partitions).map(|index| (topic.name.clone(), index))).collect()
    }
}

/// When it makes its batches.
struct Schedule {
    /// How many it has made while faults happen.
    made: u32,
    /// When it makes the next one.
    next_ms: u64,
    /// It has made its last ones, those of the quiet phase.
    finished: bool,
}

struct Producer {
    shared: Arc<Shared>,
    plan: ProducerPlan,
    rng: Rng,
    name: String,
    link: Option<Link>,
    on_wire: VecDeque<OnWire>,
    queues: BTreeMap<Partition, Queue>,
    metadata: Metadata,
    id: Option<(i64, i16)>,
    schedule: Schedule,
}

/// Runs a producer until the quiet phase has come and all its batches are known.
pub async fn run(shared: Arc<Shared>, plan: ProducerPlan, rng: Rng) {
    let name = format!("p{}", plan.number);
    let mut producer = Producer {
        shared,
        plan,
        rng,
        name,
        link: None,
        on_wire: VecDeque::new(),
        queues: BTreeMap::new(),
        metadata: Metadata { topics: BTreeMap::new(), stale: true },
        id: None,
        schedule: Schedule { made: 0, next_ms: 0, finished: false },
    };
    while !producer.is_done() {
        if producer.turn().await == Err(Lost) {
            producer.lose();
            let pause = producer.rng.within(50..400);
            sleep(Duration::from_millis(pause)).await;
        }
    }
}

impl Producer {
    fn is_done(&self) -> bool {
        self.schedule.finished && self.queues.values().all(Queue::is_empty)
    }

    async fn turn(&mut self) -> Result<(), Lost> {
        self.expire();
        self.prepare().await?;
        self.make_due();
        self.send_ready().await?;
        self.wait().await
    }

    /// Has a connection, the topics' partitions and a producer id.
    async fn prepare(&mut self) -> Result<(), Lost> {
        if self.link.is_none() {
            self.link = Some(Link::connect(&self.shared, &self.name).await?);
        }
        if self.metadata.stale || (self.shared.is_quiet() && !self.schedule.finished) {
            let mut control = Link::connect(&self.shared, &self.name).await?;
            let found = topics(&self.shared, &mut control, Some(&self.plan.topics), true).await?;
            self.metadata.stale = found.len() < self.plan.topics.len();
            self.metadata.topics = found.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        }
        if self.plan.idempotent && self.id.is_none() {
            let mut control = Link::connect(&self.shared, &self.name).await?;
            let request = InitProducerIdRequest {
                transactional_id: None,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            };
            let response = control.call(INIT_PRODUCER_ID_VERSION, &request, PATIENCE).await?;
            self.shared.history.lock().answered(InitProducerIdRequest::KEY, response.error_code);
            if response.error_code != 0 {
                return Err(Lost);
            }
            self.id = Some((response.producer_id, response.producer_epoch));
        }
        Ok(())
    }

    /// Makes the batches whose time has come; in the quiet phase a last one for each partition.
    fn make_due(&mut self) {
        let now_ms = self.shared.clock.ms();
        let partitions = self.metadata.partitions();
        if partitions.is_empty() {
            return;
        }
        if self.shared.is_quiet() {
            if !self.schedule.finished && self.metadata.topics.len() == self.plan.topics.len() {
                self.schedule.finished = true;
                partitions.into_iter().for_each(|partition| self.make(partition, now_ms));
            }
            return;
        }
        while self.schedule.made < self.plan.batches && self.schedule.next_ms <= now_ms {
            let partition = partitions[self.rng.index(partitions.len())].clone();
            self.make(partition, now_ms);
            self.schedule.made += 1;
            self.schedule.next_ms =
                self.schedule.next_ms.max(now_ms.saturating_sub(100)) + self.rng.within(self.plan.pause_ms.clone());
        }
    }

    fn make(&mut self, partition: Partition, now_ms: u64) {
        let sent = Sent {
            producer: self.plan.number,
            ids: 0..0,
            topic: partition.0.clone(),
            partition: partition.1,
            idempotent: self.plan.idempotent,
            quiet: self.shared.is_quiet(),
            silent: self.plan.acks == 0,
            attempts: Attempts::default(),
            made_ms: now_ms,
            known_ms: None,
            fate: Fate::Unknown,
        };
        let records = self.rng.within(self.plan.records.clone());
        let (index, ids) = self.shared.history.lock().make(sent, records);
        let numbered = self.plan.idempotent;
        let queue = self.queues.entry(partition).or_insert_with(|| Queue::new(numbered));
        // The last batch waits for those before it, however slow the world is.
        let patience = if self.shared.is_quiet() { LAST_PATIENCE_MS } else { self.plan.delivery_timeout_ms };
        queue.push(index, ids, now_ms + patience);
    }

    /// Sends requests, each with at most one batch for each partition, while some may go.
    async fn send_ready(&mut self) -> Result<(), Lost> {
        while self.on_wire.len() < self.plan.in_flight {
            let Some((request, partitions)) = self.next_request() else { return Ok(()) };
            let Some(link) = &mut self.link else { return Err(Lost) };
            let patience = Duration::from_millis(self.plan.request_timeout_ms);
            let (version, sent_ms) = (self.plan.version, self.shared.clock.ms());
            if self.plan.acks == 0 {
                timeout(patience, link.send_silently(version, &request)).await.unwrap_or(Err(Lost))?;
                self.forget(&partitions);
                continue;
            }
            let expected = link.next_correlation();
            self.on_wire.push_back(OnWire { correlation: expected, sent_ms, partitions });
            timeout(patience, link.send(version, &request)).await.unwrap_or(Err(Lost))?;
        }
        Ok(())
    }

    fn next_request(&mut self) -> Option<(ProduceRequest, BTreeMap<Partition, Uuid>)> {
        let (now_ms, correlation) = (self.shared.clock.ms(), self.link.as_ref()?.next_correlation());
        let by_id = self.plan.version >= BY_ID_FROM;
        let mut topics: BTreeMap<String, TopicProduceData> = BTreeMap::new();
        let mut partitions = BTreeMap::new();
        for (partition, queue) in &mut self.queues {
            let topic_id = self.metadata.topics.get(&partition.0).map_or(Uuid::ZERO, |found| found.id);
            if by_id && topic_id.is_zero() {
                continue;
            }
            let Some(batch) = queue.take(correlation, self.id, now_ms) else { continue };
            self.shared.history.lock().sent[batch.index].attempts.made += 1;
            let topic = topics.entry(partition.0.clone()).or_default();
            if by_id {
                topic.topic_id = topic_id;
            } else {
                topic.name = partition.0.as_str().into();
            }
            let index = i32::try_from(partition.1).expect("a small index");
            topic.partition_data.push(PartitionProduceData { index, records: self.plan.encode(&batch).into() });
            partitions.insert(partition.clone(), if by_id { topic_id } else { Uuid::ZERO });
        }
        let topic_data: Vec<_> = topics.into_values().collect();
        let request = ProduceRequest { acks: self.plan.acks, timeout_ms: 30_000, topic_data, ..Default::default() };
        (!partitions.is_empty()).then_some((request, partitions))
    }

    /// With acks=0 nothing will be known of these.
    fn forget(&mut self, partitions: &BTreeMap<Partition, Uuid>) {
        let now_ms = self.shared.clock.ms();
        for partition in partitions.keys() {
            if let Some(queue) = self.queues.get_mut(partition) {
                let events = queue.forget();
                apply(&self.shared, events, now_ms);
            }
        }
    }

    /// Waits for an answer, or until something is due.
    async fn wait(&mut self) -> Result<(), Lost> {
        let now_ms = self.shared.clock.ms();
        let oldest = self.on_wire.front().map(|request| request.sent_ms + self.plan.request_timeout_ms);
        if oldest.is_some_and(|due| due <= now_ms) {
            return Err(Lost);
        }
        let makes = (self.schedule.made < self.plan.batches && !self.shared.is_quiet())
            .then_some(self.schedule.next_ms.max(now_ms + 1));
        let refresh =
            (self.metadata.stale || (self.shared.is_quiet() && !self.schedule.finished)).then_some(now_ms + 100);
        let queues = self.queues.values().filter_map(|queue| queue.next_due_ms(now_ms));
        let due = queues.chain(oldest).chain(makes).chain(refresh).min().unwrap_or(now_ms + 1000);
        let pause = Duration::from_millis(due.saturating_sub(now_ms).max(1));
        let was_quiet = self.shared.is_quiet();
        let Some(link) = &mut self.link else { return Err(Lost) };
        let answer = tokio::select! {
            biased;
            answer = link.answer() => answer?,
            () = self.shared.phase.reached(Phase::Quiet), if !was_quiet => return Ok(()),
            () = sleep(pause) => return Ok(()),
        };
        self.take(answer)
    }

    fn take(&mut self, answer: Answer) -> Result<(), Lost> {
        let (Some(link), Some(request)) = (&self.link, self.on_wire.pop_front()) else { return Err(Lost) };
        assert_eq!(answer.correlation, request.correlation, "the link matches answers to requests in order");
        let response: ProduceResponse = link.decode(answer)?;
        let now_ms = self.shared.clock.ms();
        let mut open = request.partitions;
        let mut bumps = BTreeSet::new();
        let parts =
            response.responses.iter().flat_map(|topic| topic.partition_responses.iter().map(move |p| (topic, p)));
        for (topic, part) in parts {
            let Some(partition) = take_out(&mut open, topic, part.index) else {
                let what = anyhow!("{} is answered for {topic:?}, which it did not ask", self.name);
                self.shared.history.lock().odd("answers", &what);
                continue;
            };
            self.shared.history.lock().answered(ProduceRequest::KEY, part.error_code);
            self.metadata.stale |= UNKNOWN.map(ErrorCode::code).contains(&part.error_code);
            let Some(queue) = self.queues.get_mut(&partition) else { continue };
            let events = queue.answered(request.correlation, part.error_code, part.base_offset, now_ms);
            if apply(&self.shared, events, now_ms) {
                bumps.insert(partition);
            }
        }
        if !open.is_empty() {
            let what = anyhow!("{} got no answer for {:?}", self.name, open.keys());
            self.shared.history.lock().odd("answers", &what);
        }
        self.bump(&bumps);
        Ok(())
    }

    /// Gives up what is past its time.
    fn expire(&mut self) {
        let now_ms = self.shared.clock.ms();
        let mut bumps = BTreeSet::new();
        for (partition, queue) in &mut self.queues {
            if apply(&self.shared, queue.expire(now_ms), now_ms) {
                bumps.insert(partition.clone());
            }
        }
        self.bump(&bumps);
    }

    /// Takes the next epoch because of these partitions.
    fn bump(&mut self, partitions: &BTreeSet<Partition>) {
        let Some((id, epoch)) = self.id.filter(|_| !partitions.is_empty()) else { return };
        self.id = Some((id, epoch + 1));
        self.shared.trace.line(format_args!("{} takes epoch {}", self.name, epoch + 1));
        for partition in partitions {
            if let Some(queue) = self.queues.get_mut(partition) {
                apply(&self.shared, queue.renumber((id, epoch + 1)), self.shared.clock.ms());
            }
        }
    }

    fn lose(&mut self) {
        self.link = None;
        self.on_wire.clear();
        let now_ms = self.shared.clock.ms();
        for queue in self.queues.values_mut() {
            if self.plan.acks == 0 {
                apply(&self.shared, queue.forget(), now_ms);
            } else {
                apply(&self.shared, queue.lost(now_ms), now_ms);
            }
        }
    }
}

impl ProducerPlan {
    /// The same bytes for the same batch and numbering, also when it is sent again.
    fn encode(&self, batch: &Queued) -> bytes::Bytes {
        let spread = (self.value_bytes.end - self.value_bytes.start).max(1);
        let value_bytes = self.value_bytes.start + batch.ids.start % spread;
        let made_ms = EPOCH_MS + batch.deadline_ms - self.delivery_timeout_ms;
        let timestamp_ms = i64::try_from(made_ms).expect("a date of this century");
        let value_bytes = usize::try_from(value_bytes).expect("a small value");
        encode(batch.ids.clone(), batch.numbering, timestamp_ms, value_bytes)
    }
}

/// The partition that a part of an answer is about; each is answered once.
fn take_out(open: &mut BTreeMap<Partition, Uuid>, topic: &TopicProduceResponse, index: i32) -> Option<Partition> {
    let index = u32::try_from(index).ok()?;
    let is_it = |((name, partition), id): (&Partition, &Uuid)| {
        let same = if id.is_zero() { topic.name == name.as_str() } else { topic.topic_id == *id };
        (same && *partition == index).then(|| (name.clone(), index))
    };
    let partition = open.iter().find_map(is_it)?;
    open.remove(&partition);
    Some(partition)
}

/// Writes events into the history; true if the epoch must be bumped.
fn apply(shared: &Shared, events: Vec<Event>, now_ms: u64) -> bool {
    let mut history = shared.history.lock();
    let mut bump = false;
    for event in events {
        match event {
            Event::Acked(index, Some(offset)) => history.decide(index, Fate::Acked(offset), now_ms),
            Event::Acked(index, None) => history.decide(index, Fate::AckedSomewhere, now_ms),
            Event::Refused(index, code) => history.decide(index, Fate::Refused(code), now_ms),
            Event::GivenUp(index) => history.decide(index, Fate::Unknown, now_ms),
            Event::Doubted(index) => history.sent[index].attempts.doubted += 1,
            Event::Renumbered(index) => history.sent[index].attempts.renumbered = true,
            Event::WantsBump => bump = true,
        }
    }
    bump
}
