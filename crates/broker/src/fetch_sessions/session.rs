//! One session: which topics and partitions a client reads, by the names it gave them. Pure.
//!
//! Before version 13 a topic is its name: a session goes on with whatever topic has that name. A name is looked up when
//! it comes, and again after its topic was not found; in between nothing is looked up.

use std::collections::{BTreeMap, BTreeSet};

use kafscale_log::read::{FetchPartition, Interest, SlotId};
use kafscale_metadata::{State, TopicId, TopicPartition};
use kafscale_wire::Text;

/// What a session's topic takes at most beside its name: a node of each map for itself in the worst case, half empty.
const TOPIC_BYTES: u64 = 512;
/// What a session's partition takes at most: its slot (112 bytes, in a table that may be half empty), its entries in
/// the index, among the active, in both tables of the watch and among the woken, in trees that are half empty.
pub(super) const PARTITION_BYTES: u64 = 512;

/// No topic has this id.
const NO_TOPIC: TopicId = TopicId(0);

/// What a client calls a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Name(Text),
    Id(TopicId),
}

/// What a client wants of one partition.
pub(crate) struct Want {
    pub(crate) index: u32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Session {
    by_id: bool,
    keys: BTreeMap<Key, u64>,
    topics: BTreeMap<u64, Topic>,
    next_topic: u64,
    /// By topic and the partition's index.
    index: BTreeMap<(u64, u32), SlotId>,
    /// The topic of each slot.
    slots: Vec<u64>,
    /// Topics to look up by name.
    unresolved: BTreeSet<u64>,
    interest: Interest,
    /// The bytes of all names.
    name_bytes: u64,
}

#[derive(Debug)]
struct Topic {
    key: Key,
    id: TopicId,
    partitions: u32,
}

impl Session {
    /// Of nothing yet.
    pub(crate) fn new(by_id: bool) -> Self {
        Self {
            by_id,
            keys: BTreeMap::new(),
            topics: BTreeMap::new(),
            next_topic: 0,
            index: BTreeMap::new(),
            slots: Vec::new(),
            unresolved: BTreeSet::new(),
            interest: Interest::new(),
            name_bytes: 0,
        }
    }

    /// Whether it names topics by id.
    pub(super) fn by_id(&self) -> bool {
        self.by_id
    }

    pub(crate) fn interest(&mut self) -> &mut Interest {
        &mut self.interest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.interest.is_empty()
    }

    /// How many partitions.
    pub(super) fn len(&self) -> usize {
        self.interest.len()
    }

    /// What it takes at most.
    pub(super) fn bytes(&self) -> u64 {
        // Slots that were forgotten keep their place for the next ones.
        let (slots, topics) = (self.slots.len() as u64, self.topics.len() as u64);
        slots * PARTITION_BYTES + topics * TOPIC_BYTES + 2 * self.name_bytes
    }

    /// Wants partitions of a topic, each from an offset on, or from another offset than before.
    pub(crate) fn want(&mut self, key: &Key, state: &State, partitions: impl IntoIterator<Item = Want>) {
        let (number, topic) = self.topic(key, state);
        for Want { index, offset, max_bytes } in partitions {
            let partition = TopicPartition { topic, partition: index };
            self.want_one(number, FetchPartition { partition, offset, max_bytes });
        }
    }

    fn want_one(&mut self, topic: u64, wanted: FetchPartition) {
        let index = (topic, wanted.partition.partition);
        if let Some(slot) = self.index.get(&index) {
            return self.interest.update(*slot, wanted);
        }
        let slot = self.interest.add(wanted);
        self.index.insert(index, slot);
        if self.slots.len() <= slot.index() {
            self.slots.resize(slot.index() + 1, topic);
        }
        self.slots[slot.index()] = topic;
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.partitions += 1;
        }
    }

    /// Wants a partition no longer.
    pub(crate) fn forget(&mut self, key: &Key, index: u32) {
        let Some(&number) = self.keys.get(key) else { return };
        let Some(slot) = self.index.remove(&(number, index)) else { return };
        self.interest.remove(slot);
        let Some(topic) = self.topics.get_mut(&number) else { return };
        topic.partitions -= 1;
        if topic.partitions == 0 {
            self.topics.remove(&number);
            self.keys.remove(key);
            self.unresolved.remove(&number);
            self.name_bytes -= key.bytes();
        }
    }

    /// Looks up the names that are not known to be of a topic. False if there are some left.
    pub(crate) fn resolve(&mut self, state: &State) -> bool {
        let numbers = std::mem::take(&mut self.unresolved);
        for number in numbers {
            if !self.resolve_one(number, state) {
                self.unresolved.insert(number);
            }
        }
        self.unresolved.is_empty()
    }

    /// What the client calls the topic of an answer's part; notes those that were not found.
    pub(crate) fn key_of(&mut self, slot: SlotId, is_unknown: bool) -> Option<&Key> {
        let number = *self.slots.get(slot.index())?;
        if is_unknown && !self.by_id {
            self.unresolved.insert(number);
        }
        self.topics.get(&number).map(|topic| &topic.key)
    }

    fn resolve_one(&mut self, number: u64, state: &State) -> bool {
        let Some(topic) = self.topics.get_mut(&number) else { return true };
        let Key::Name(name) = &topic.key else { return true };
        let Some(id) = state.topic_by_name(name).map(kafscale_metadata::Topic::id) else { return false };
        if id == topic.id {
            return true;
        }
        topic.id = id;
        for ((_, partition), slot) in self.index.range((number, 0)..=(number, u32::MAX)) {
            let Some(wanted) = self.interest.wanted(*slot) else { continue };
            let partition = TopicPartition { topic: id, partition: *partition };
            self.interest.update(*slot, FetchPartition { partition, ..wanted });
        }
        true
    }

    /// The topic's number and its id, if that is known by now.
    fn topic(&mut self, key: &Key, state: &State) -> (u64, TopicId) {
        if let Some(number) = self.keys.get(key) {
            return (*number, self.topics.get(number).map_or(NO_TOPIC, |topic| topic.id));
        }
        let number = self.next_topic;
        self.next_topic += 1;
        let (key, id) = match key {
            Key::Name(name) => {
                (Key::Name(name.detached()), state.topic_by_name(name).map_or(NO_TOPIC, kafscale_metadata::Topic::id))
            }
            Key::Id(id) => (Key::Id(*id), *id),
        };
        if id == NO_TOPIC {
            self.unresolved.insert(number);
        }
        self.name_bytes += key.bytes();
        self.keys.insert(key.clone(), number);
        self.topics.insert(number, Topic { key, id, partitions: 0 });
        (number, id)
    }
}

impl Key {
    fn bytes(&self) -> u64 {
        match self {
            Self::Name(name) => name.len() as u64,
            Self::Id(_) => 0,
        }
    }
}
