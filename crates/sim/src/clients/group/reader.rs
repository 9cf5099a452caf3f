//! The reading side of a group's member: its partitions, where it is in each, and one fetch after the other. What a
//! member reads is remembered like what other consumers read, and as its group's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result as Judged, ensure};
use kafscale_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use kafscale_wire::{ErrorCode, Request, Uuid};

use super::messages::Ids;
use super::protocol::Partition;
use crate::clients::Shared;
use crate::clients::batch::decode_all;
use crate::clients::link::{Answer, Link, Lost};
use crate::clients::lookup::{Found, topics};

/// The first version of Fetch that names topics by id.
const BY_ID_FROM: i16 = 13;
/// How long it waits after an error or a lost connection.
const BACKOFF_MS: u64 = 200;
/// How long it waits for an answer beyond what it asked for.
const PATIENCE_MS: u64 = 10_000;
/// How often it looks whether topics have changed.
const LOOK_MS: u64 = 5_000;

/// What a member fetches with.
#[derive(Debug, Clone, Copy)]
pub struct FetchStyle {
    /// The version of Fetch.
    pub version: i16,
    /// How long a fetch waits.
    pub max_wait_ms: i32,
}

/// See the module's documentation.
pub struct Reader {
    shared: Arc<Shared>,
    name: String,
    group: String,
    style: FetchStyle,
    link: Option<Link>,
    /// What is asked, from which offsets, until when.
    asked: Option<(BTreeMap<Partition, i64>, u64)>,
    /// The next offset of each partition; `None`: what was committed is not known yet.
    places: BTreeMap<Partition, Option<i64>>,
    /// The topics that exist, as last seen.
    topics: BTreeMap<String, Found>,
    look_ms: u64,
    fetch_ms: u64,
}

impl Reader {
    /// Reads nothing.
    pub fn new(shared: &Arc<Shared>, name: &str, group: &str, style: FetchStyle) -> Self {
        Self {
            shared: Arc::clone(shared),
            name: name.to_owned(),
            group: group.to_owned(),
            style,
            link: None,
            asked: None,
            places: BTreeMap::new(),
            topics: BTreeMap::new(),
            look_ms: 0,
            fetch_ms: 0,
        }
    }

    /// The partitions that it has.
    pub fn partitions(&self) -> BTreeSet<Partition> {
        self.places.keys().cloned().collect()
    }

    /// Where it is in each partition of which it knows.
    pub fn positions(&self) -> impl Iterator<Item = (&Partition, i64)> {
        self.places.iter().filter_map(|(partition, next)| next.map(|next| (partition, next)))
    }

    /// The partitions of which it does not know where it is.
    pub fn unplaced(&self) -> Vec<Partition> {
        self.places.iter().filter(|(_, next)| next.is_none()).map(|(partition, _)| partition.clone()).collect()
    }

    /// It has just these partitions from now on; what it had before it has where it was.
    pub fn take(&mut self, partitions: &BTreeSet<Partition>) {
        self.places.retain(|partition, _| partitions.contains(partition));
        partitions.iter().for_each(|partition| {
            self.places.entry(partition.clone()).or_default();
        });
    }

    /// What was committed, where that was not known.
    pub fn place(&mut self, partition: &Partition, committed: i64) {
        if let Some(next @ None) = self.places.get_mut(partition) {
            *next = Some(committed.max(0));
        }
    }

    /// The ids of the topics that it knows.
    pub fn ids(&self) -> Ids {
        self.topics.iter().map(|(name, found)| (name.clone(), found.id)).collect()
    }

    /// How many partitions each of these topics has; those that do not exist are left out.
    pub fn sizes(&self, names: &BTreeSet<String>) -> BTreeMap<String, u32> {
        let known = self.topics.iter().filter(|(name, _)| names.contains(*name));
        known.map(|(name, found)| (name.clone(), found.partitions)).collect()
    }

    /// Whether it is time to look at the topics again.
    pub fn wants_look(&self) -> bool {
        self.shared.clock.ms() >= self.look_ms
    }

    /// Looks at the topics. What belongs to a topic of the same name that is gone is forgotten.
    pub async fn look(&mut self, names: &BTreeSet<String>) -> Result<(), Lost> {
        self.look_ms = self.shared.clock.ms() + BACKOFF_MS;
        let mut link = Link::connect(&self.shared, &self.name).await?;
        let names: Vec<String> = names.iter().cloned().collect();
        let found = topics(&self.shared, &mut link, Some(&names), false).await?;
        for topic in &found {
            let other = self.topics.get(&topic.name).is_some_and(|known| known.id != topic.id);
            if other {
                let places = self.places.iter_mut().filter(|((name, _), _)| *name == topic.name);
                places.for_each(|(_, next)| *next = None);
            }
        }
        self.topics = found.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        self.look_ms = self.shared.clock.ms() + LOOK_MS;
        Ok(())
    }

    /// Asks for more, if it has something to ask for and nothing asked.
    pub async fn fetch(&mut self) {
        let now_ms = self.shared.clock.ms();
        if self.asked.as_ref().is_some_and(|(_, deadline_ms)| *deadline_ms <= now_ms) {
            self.close();
        }
        if self.asked.is_some() || now_ms < self.fetch_ms {
            return;
        }
        let known = |(name, _): &Partition| self.topics.contains_key(name);
        let places: BTreeMap<Partition, i64> =
            self.positions().filter(|(at, _)| known(at)).map(|(at, next)| (at.clone(), next)).collect();
        if places.is_empty() {
            return;
        }
        if self.link.is_none() {
            self.link = Link::connect(&self.shared, &self.name).await.ok();
        }
        let request = self.request(&places);
        let sent = match &mut self.link {
            Some(link) => link.send(self.style.version, &request).await,
            None => Err(Lost),
        };
        if sent.is_err() {
            return self.close();
        }
        let wait_ms = u64::try_from(self.style.max_wait_ms).unwrap_or(0);
        self.asked = Some((places, self.shared.clock.ms() + wait_ms + PATIENCE_MS));
    }

    fn request(&self, places: &BTreeMap<Partition, i64>) -> FetchRequest {
        let mut topics: BTreeMap<&str, FetchTopic> = BTreeMap::new();
        for ((name, index), next) in places {
            let topic = topics.entry(name).or_default();
            if self.style.version >= BY_ID_FROM {
                topic.topic_id = self.id(name);
            } else {
                topic.topic = name.as_str().into();
            }
            topic.partitions.push(FetchPartition {
                partition: i32::try_from(*index).expect("a small index"),
                fetch_offset: *next,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            });
        }
        FetchRequest {
            max_wait_ms: self.style.max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: topics.into_values().collect(),
            ..Default::default()
        }
    }

    fn id(&self, name: &str) -> Uuid {
        self.topics.get(name).map(|found| found.id).unwrap_or_default()
    }

    /// When there is something to do although no answer comes.
    pub fn due_ms(&self) -> u64 {
        let fetch_ms = match &self.asked {
            Some((_, deadline_ms)) => *deadline_ms,
            None if self.positions().next().is_some() => self.fetch_ms,
            None => u64::MAX,
        };
        fetch_ms.min(self.look_ms)
    }

    /// The next answer; never, if nothing is asked. Cancel-safe.
    pub async fn answer(&mut self) -> Result<Answer, Lost> {
        match &mut self.link {
            Some(link) if self.asked.is_some() => link.answer().await,
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Takes an answer, or the loss of the connection.
    pub fn read(&mut self, answer: Result<Answer, Lost>) {
        let response = match (&self.link, answer) {
            (Some(link), Ok(answer)) => link.decode::<FetchResponse>(answer),
            _ => Err(Lost),
        };
        let (Ok(response), Some((asked, _))) = (response, self.asked.take()) else { return self.close() };
        self.shared.history.lock().answered(FetchRequest::KEY, response.error_code);
        let ids: BTreeMap<Uuid, String> = self.ids().into_iter().map(|(name, id)| (id, name)).collect();
        for topic in &response.responses {
            let name = match ids.get(&topic.topic_id) {
                Some(name) if self.style.version >= BY_ID_FROM => name.clone(),
                Some(_) | None => topic.topic.to_string(),
            };
            for part in &topic.partitions {
                let at = (name.clone(), u32::try_from(part.partition_index).unwrap_or(u32::MAX));
                // Given up since, or placed anew.
                let Some(from) = asked.get(&at).filter(|from| self.places.get(&at) == Some(&Some(**from))) else {
                    continue;
                };
                self.take_partition(&at, *from, part);
            }
        }
    }

    fn take_partition(&mut self, at: &Partition, from: i64, part: &PartitionData) {
        self.shared.history.lock().answered(FetchRequest::KEY, part.error_code);
        let error = ErrorCode::from(part.error_code);
        if error == ErrorCode::None {
            match self.take_records(at, from, part) {
                Ok(next) => {
                    self.places.insert(at.clone(), Some(next));
                }
                Err(what) => {
                    let what = what.context(format!("{} reads {}-{}", self.name, at.0, at.1));
                    self.shared.history.lock().odd("reads", &what);
                }
            }
            return;
        }
        // As with auto.offset.reset=earliest: somebody committed what the partition never had.
        if error == ErrorCode::OffsetOutOfRange {
            self.places.insert(at.clone(), Some(0));
        }
        self.look_ms = self.shared.clock.ms();
        self.fetch_ms = self.look_ms + BACKOFF_MS;
    }

    fn take_records(&self, at: &Partition, from: i64, part: &PartitionData) -> Judged<i64> {
        let id = if self.style.version >= BY_ID_FROM { self.id(&at.0).0 } else { 0 };
        let mut history = self.shared.history.lock();
        let mut next = from;
        for batch in decode_all(part.records.to_bytes())? {
            let base = batch.base_offset;
            ensure!(base == next || (next == from && base < next), "a batch at {base} follows where {next} is next");
            for (offset, record) in (base..).zip(batch.ids) {
                if offset >= next {
                    history.see((at.0.clone(), id, at.1, offset), record);
                    next = offset + 1;
                }
            }
        }
        ensure!(next <= part.high_watermark.max(from), "records up to {next}, and {} is the end", part.high_watermark);
        history.groups.read(&self.group, at, from..next);
        Ok(next)
    }

    /// Gives the connection up.
    pub fn close(&mut self) {
        self.link = None;
        self.asked = None;
        self.fetch_ms = self.shared.clock.ms() + BACKOFF_MS;
    }
}
