//! A consumer with partitions assigned by hand: long polls from an offset on, as Kafka's `Fetcher` does, with fetch
//! sessions ([`super::fetch_session`]) or without. Remembers each record it sees; what no correct broker can answer is an oddity at once: gaps, records
//! above the high watermark, a position that is out of range although nothing is ever deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result as Judged, anyhow, ensure};
use kafscale_wire::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use kafscale_wire::{ErrorCode, Request, Uuid};
use tokio::time::{Duration, sleep};

use super::Shared;
use super::batch::decode_all;
use super::fetch_session::{BY_ID_FROM, FetchSession, Wanted};
use super::link::{Link, Lost};
use super::lookup::{Bound, PATIENCE, ends, topics};
use crate::rng::Rng;

/// The topic is not the one that it was.
const UNKNOWN: [ErrorCode; 3] =
    [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, ErrorCode::InconsistentTopicId];

/// What a consumer does.
#[derive(Debug, Clone)]
pub struct ConsumerPlan {
    /// Its number in the world.
    pub number: usize,
    /// The topics it reads; `None`: all there are.
    pub topics: Option<Vec<String>>,
    /// The version of Fetch.
    pub version: i16,
    /// How long a fetch waits.
    pub max_wait_ms: i32,
    /// For how many bytes it waits.
    pub min_bytes: i32,
    /// The most bytes of an answer.
    pub max_bytes: i32,
    /// The most bytes of one partition.
    pub partition_max_bytes: i32,
    /// Begins at the end and not at the beginning.
    pub from_latest: bool,
    /// Opens fetch sessions, if the version has them.
    pub sessions: bool,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    topic: Uuid,
    next: i64,
    high_watermark: i64,
}

struct Consumer {
    shared: Arc<Shared>,
    plan: ConsumerPlan,
    name: String,
    link: Option<Link>,
    session: FetchSession,
    places: BTreeMap<(String, u32), Place>,
    stale: bool,
    /// Out of range at this topic: an oddity, unless it turns out to be another topic by now.
    out_of_range: Vec<((String, u32), Place)>,
    /// In the quiet phase: up to where it has to read.
    goal: Option<BTreeMap<(String, u32), i64>>,
}

/// Runs a consumer until the quiet phase has come and it has read all there is.
pub async fn run(shared: Arc<Shared>, plan: ConsumerPlan, mut rng: Rng) {
    let name = format!("r{}", plan.number);
    let places = BTreeMap::new();
    let session = FetchSession::new(plan.version, plan.sessions);
    let mut consumer =
        Consumer { shared, plan, name, link: None, session, places, stale: true, out_of_range: Vec::new(), goal: None };
    while !consumer.is_done() {
        if consumer.turn().await == Err(Lost) {
            consumer.link = None;
            consumer.session.lost(rng.chance(40));
            sleep(Duration::from_millis(rng.within(50..400))).await;
        }
    }
}

impl Consumer {
    fn is_done(&self) -> bool {
        self.goal.as_ref().is_some_and(|goal| {
            goal.iter().all(|(partition, end)| self.places.get(partition).is_some_and(|place| place.next >= *end))
        })
    }

    async fn turn(&mut self) -> Result<(), Lost> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::connect(&self.shared, &self.name).await?,
        };
        if self.stale || (self.shared.is_quiet() && self.goal.is_none()) {
            self.look(&mut link).await?;
        }
        if self.places.is_empty() {
            sleep(Duration::from_millis(200)).await;
            self.stale = true;
        } else {
            self.fetch(&mut link).await?;
        }
        self.link = Some(link);
        Ok(())
    }

    /// Learns the topics, and where to begin in those that are new.
    async fn look(&mut self, link: &mut Link) -> Result<(), Lost> {
        let was_quiet = self.shared.is_quiet();
        let found = topics(&self.shared, link, self.plan.topics.as_deref(), false).await?;
        self.judge_out_of_range(&found);
        self.places.retain(|(name, _), place| found.iter().any(|topic| topic.name == *name && topic.id == place.topic));
        let mut goal = BTreeMap::new();
        for topic in &found {
            let known = self.places.contains_key(&(topic.name.clone(), 0));
            // Partitions that are added to a topic are read from the beginning.
            let all = (0..topic.partitions).all(|index| self.places.contains_key(&(topic.name.clone(), index)));
            let latest = if was_quiet || (self.plan.from_latest && !known) {
                ends(&self.shared, link, &topic.name, topic.partitions, Bound::Latest).await?
            } else {
                Vec::new()
            };
            let starts = if all {
                Vec::new()
            } else if self.plan.from_latest && !known {
                latest.clone()
            } else {
                ends(&self.shared, link, &topic.name, topic.partitions, Bound::Earliest).await?
            };
            for (index, next) in (0..).zip(starts) {
                let Some(next) = next else { return Err(Lost) };
                let place = Place { topic: topic.id, next, high_watermark: 0 };
                self.places.entry((topic.name.clone(), index)).or_insert(place);
            }
            for (index, end) in (0..).zip(latest) {
                goal.extend(end.map(|end| ((topic.name.clone(), index), end)));
            }
        }
        self.stale = false;
        if was_quiet {
            self.goal = Some(goal);
        }
        Ok(())
    }

    fn judge_out_of_range(&mut self, found: &[super::lookup::Found]) {
        for ((name, partition), place) in std::mem::take(&mut self.out_of_range) {
            if found.iter().any(|topic| topic.name == name && topic.id == place.topic) {
                let what = anyhow!("{}: offset {} of {name}-{partition} is out of range", self.name, place.next);
                self.shared.history.lock().odd("reads", &what);
            }
        }
    }

    async fn fetch(&mut self, link: &mut Link) -> Result<(), Lost> {
        let request = self.request();
        let patience = PATIENCE + Duration::from_millis(u64::try_from(self.plan.max_wait_ms).unwrap_or(0));
        let response = link.call(self.plan.version, &request, patience).await?;
        self.shared.history.lock().answered(FetchRequest::KEY, response.error_code);
        let before = self.places.values().map(|place| place.next).sum::<i64>();
        let fine = match self.session.take(&response) {
            Ok(goes_on) => goes_on && self.take(&response),
            Err(what) => {
                self.shared.history.lock().odd("answers", &what.context(self.name.clone()));
                false
            }
        };
        let idle = self.places.values().map(|place| place.next).sum::<i64>() == before;
        // Nothing new although it did not wait, or an error: not again at once.
        if !fine || (idle && self.plan.min_bytes == 0) {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn request(&mut self) -> FetchRequest {
        let wanted = self.places.iter().map(|(partition, place)| {
            let wanted = Wanted { topic: place.topic, offset: place.next };
            (partition.clone(), wanted)
        });
        FetchRequest {
            max_wait_ms: self.plan.max_wait_ms,
            min_bytes: self.plan.min_bytes,
            max_bytes: self.plan.max_bytes,
            ..self.session.request(wanted.collect(), self.plan.partition_max_bytes)
        }
    }

    /// Takes an answer; false if some partition failed, so that the next request comes after a pause.
    fn take(&mut self, response: &FetchResponse) -> bool {
        let parts = response.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |part| (topic, part)));
        let mut fine = true;
        for (topic, part) in parts {
            let Some(partition) = self.asked(topic, part) else {
                let what = anyhow!("{} is answered for a partition that it did not ask", self.name);
                self.shared.history.lock().odd("answers", &what);
                continue;
            };
            fine &= self.take_partition(partition, part);
        }
        fine
    }

    /// The partition that a part of an answer is about.
    fn asked(&self, topic: &FetchableTopicResponse, part: &PartitionData) -> Option<(String, u32)> {
        let by_id = self.plan.version >= BY_ID_FROM;
        let index = u32::try_from(part.partition_index).unwrap_or(u32::MAX);
        let is_it = |((name, partition), place): (&(String, u32), &Place)| {
            let same = if by_id { place.topic == topic.topic_id } else { topic.topic == name.as_str() };
            (same && *partition == index).then(|| (name.clone(), index))
        };
        self.places.iter().find_map(is_it)
    }

    fn take_partition(&mut self, partition: (String, u32), part: &PartitionData) -> bool {
        self.shared.history.lock().answered(FetchRequest::KEY, part.error_code);
        let error = ErrorCode::from(part.error_code);
        if error == ErrorCode::None {
            if let Err(what) = self.read(&partition, part) {
                let what = what.context(format!("{} reads {}-{}", self.name, partition.0, partition.1));
                self.shared.history.lock().odd("reads", &what);
            }
            return true;
        }
        if error == ErrorCode::OffsetOutOfRange {
            self.out_of_range.extend(self.places.get(&partition).map(|place| (partition, *place)));
            self.stale = true;
        } else if error == ErrorCode::CorruptMessage {
            let what = anyhow!("{}: {}-{} is damaged", self.name, partition.0, partition.1);
            self.shared.history.lock().odd("reads", &what);
        } else if UNKNOWN.contains(&error) {
            self.stale = true;
            self.goal = None;
        }
        false
    }

    /// Takes a partition's records. The error is what a correct broker cannot have answered.
    fn read(&mut self, partition: &(String, u32), part: &PartitionData) -> Judged<()> {
        let by_id = self.plan.version >= BY_ID_FROM;
        let Some(place) = self.places.get_mut(partition) else { return Ok(()) };
        let id = if by_id { place.topic.0 } else { 0 };
        let batches = decode_all(part.records.to_bytes())?;
        let mut history = self.shared.history.lock();
        let mut next = place.next;
        for batch in batches {
            let base = batch.base_offset;
            let first = next == place.next;
            ensure!(base == next || (first && base < next), "a batch at {base} follows where {next} is next");
            for (offset, record) in (base..).zip(batch.ids) {
                if offset >= next {
                    history.see((partition.0.clone(), id, partition.1, offset), record);
                    next = offset + 1;
                }
            }
        }
        ensure!(
            next <= part.high_watermark.max(place.next),
            "records up to {next}, and the high watermark is {}",
            part.high_watermark
        );
        if by_id {
            let before = std::mem::replace(&mut place.high_watermark, part.high_watermark);
            ensure!(part.high_watermark >= before, "the high watermark went from {before} to {}", part.high_watermark);
        }
        if next > place.next {
            history.note(format_args!("{} reads {}-{} {}..{next}", self.name, partition.0, partition.1, place.next));
        }
        place.next = next;
        Ok(())
    }
}
