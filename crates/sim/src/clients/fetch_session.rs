//! The consumer's side of a fetch session (KIP-227), as Java's `FetchSessionHandler`: lists what is new, changed or no
//! longer wanted, counts epochs, begins anew after whatever it cannot understand. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use kafscale_wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use kafscale_wire::{ErrorCode, Text, Uuid};

/// The first version of Fetch that names topics by id.
pub(super) const BY_ID_FROM: i16 = 13;

/// The first version of Fetch that has sessions.
const SESSIONS_FROM: i16 = 7;

type Partition = (String, u32);

/// What is wanted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic: Uuid,
    pub(super) offset: i64,
}

/// See the module's documentation.
pub(super) struct FetchSession {
    by_id: bool,
    /// The epoch of a request that lists everything.
    first_epoch: i32,
    id: i32,
    epoch: i32,
    /// What the broker was told, as far as it has answered.
    told: BTreeMap<Partition, Wanted>,
    /// What it will have been told when it answers.
    asked: BTreeMap<Partition, Wanted>,
}

impl FetchSession {
    pub(super) fn new(version: i16, opens: bool) -> Self {
        let first_epoch = if opens && version >= SESSIONS_FROM { 0 } else { -1 };
        Self {
            by_id: version >= BY_ID_FROM,
            first_epoch,
            id: 0,
            epoch: first_epoch,
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// The next request's part that says what is wanted.
    pub(super) fn request(&mut self, wanted: BTreeMap<Partition, Wanted>, partition_max_bytes: i32) -> FetchRequest {
        let by_id = self.by_id;
        let is_same = |told: &Wanted, wanted: &Wanted| !by_id || told.topic == wanted.topic;
        if self.is_full() {
            self.told.clear();
        }
        let mut topics: BTreeMap<(&str, Uuid), FetchTopic> = BTreeMap::new();
        for (partition, wanted) in wanted.iter().filter(|(partition, wanted)| self.told.get(*partition) != Some(wanted))
        {
            let topic = topics.entry((&partition.0, wanted.topic)).or_default();
            (topic.topic, topic.topic_id) = self.name(&partition.0, wanted.topic);
            topic.partitions.push(FetchPartition {
                partition: i32::try_from(partition.1).expect("a small index"),
                fetch_offset: wanted.offset,
                partition_max_bytes,
                ..Default::default()
            });
        }
        let is_gone =
            |(partition, told): &(&Partition, &Wanted)| !wanted.get(*partition).is_some_and(|now| is_same(told, now));
        let forgotten = self.told.iter().filter(is_gone).map(|((name, index), told)| {
            let (topic, topic_id) = self.name(name, told.topic);
            ForgottenTopic { topic, topic_id, partitions: vec![i32::try_from(*index).expect("a small index")] }
        });
        let request = FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            forgotten_topics_data: forgotten.collect(),
            topics: topics.into_values().collect(),
            ..Default::default()
        };
        self.asked = wanted;
        request
    }

    /// Takes note of an answer: false if it says nothing of the partitions. The error is what a correct broker cannot
    /// have answered.
    pub(super) fn take(&mut self, response: &FetchResponse) -> Result<bool> {
        let (was_full, id) = (self.is_full(), self.id);
        let error = ErrorCode::from(response.error_code);
        if error != ErrorCode::None {
            self.begin_anew(if error == ErrorCode::FetchSessionIdNotFound { 0 } else { id });
            ensure!(!was_full || error == ErrorCode::UnknownServerError, "a whole request is answered with {error}");
            return Ok(false);
        }
        self.told = std::mem::take(&mut self.asked);
        if response.session_id == 0 {
            self.begin_anew(0);
        } else {
            (self.id, self.epoch) = (response.session_id, if was_full { 1 } else { self.epoch + 1 });
        }
        ensure!(self.first_epoch == 0 || response.session_id == 0, "a session that nobody asked for");
        ensure!(was_full || [0, id].contains(&response.session_id), "another session than {id}");
        if was_full {
            let answered: BTreeSet<(Text, Uuid, i32)> = response.responses.iter().flat_map(named).collect();
            let asked = self.told.iter().map(|((name, index), wanted)| {
                let (name, id) = self.name(name, wanted.topic);
                (name, id, i32::try_from(*index).expect("a small index"))
            });
            ensure!(asked.collect::<BTreeSet<_>>() == answered, "a whole request is not answered in full");
        }
        Ok(true)
    }

    /// The connection is lost, and whether the broker took the request is not known. Java begins anew; who asks the same
    /// again learns it from the epoch.
    pub(super) fn lost(&mut self, asks_again: bool) {
        if !asks_again {
            self.begin_anew(self.id);
        }
    }

    fn begin_anew(&mut self, id: i32) {
        (self.id, self.epoch) = (id, self.first_epoch);
    }

    fn is_full(&self) -> bool {
        self.epoch == self.first_epoch
    }

    fn name(&self, name: &str, id: Uuid) -> (Text, Uuid) {
        if self.by_id { (Text::default(), id) } else { (name.into(), Uuid::default()) }
    }
}

fn named(topic: &kafscale_wire::fetch::FetchableTopicResponse) -> impl Iterator<Item = (Text, Uuid, i32)> + '_ {
    topic.partitions.iter().map(|part| (topic.topic.clone(), topic.topic_id, part.partition_index))
}
