//! The committed offsets of one group, by topic id and partition: pages of up to 256 neighbouring partitions of one
//! topic, each a sorted vector behind `Arc`. A commit copies one page at most; an offset takes 48 bytes, 60 with the
//! slack of its page.

use std::sync::Arc;

use crate::command::{TopicId, TopicPartition};
use crate::limits::OFFSET_WEIGHT;

/// Partitions of one page.
const OFFSETS_PER_PAGE: u32 = 256;

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record that was read; −1 if unknown.
    pub leader_epoch: i32,
    /// Whatever the client added.
    pub metadata: Arc<str>,
    /// The time of the entry that committed it; milliseconds. Never goes back.
    pub committed_ms: i64,
}

const _: () = assert!(size_of::<(u32, CommittedOffset)>() <= 48, "the memory budget of an offset");

impl CommittedOffset {
    pub(crate) fn weight(&self) -> u64 {
        OFFSET_WEIGHT + self.metadata.len() as u64
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    topic: TopicId,
    /// Its partitions' indexes divided by [`OFFSETS_PER_PAGE`].
    number: u32,
    /// By partition; not empty.
    offsets: Arc<Vec<(u32, CommittedOffset)>>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    pages: Vec<Page>,
    len: usize,
    weight: u64,
}

impl Offsets {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What they weigh.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.pages.iter().flat_map(|page| {
            let topic = page.topic;
            page.offsets.iter().map(move |(partition, o)| (TopicPartition { topic, partition: *partition }, o))
        })
    }

    pub(crate) fn get(&self, of: TopicPartition) -> Option<&CommittedOffset> {
        let page = self.pages.get(self.page(of).ok()?)?;
        let index = page.offsets.binary_search_by_key(&of.partition, |(partition, _)| *partition).ok()?;
        page.offsets.get(index).map(|(_, offset)| offset)
    }

    pub(crate) fn has_topic(&self, topic: TopicId) -> bool {
        self.pages.get(self.pages.partition_point(|page| page.topic < topic)).is_some_and(|page| page.topic == topic)
    }

    pub(crate) fn set(&mut self, of: TopicPartition, offset: CommittedOffset) {
        self.weight = self.weight.saturating_add(offset.weight());
        let index = match self.page(of) {
            Ok(index) => index,
            Err(index) => {
                let (topic, number) = (of.topic, of.partition / OFFSETS_PER_PAGE);
                grow(&mut self.pages);
                self.pages.insert(index, Page { topic, number, offsets: Arc::default() });
                index
            }
        };
        let page = Arc::make_mut(&mut self.pages[index].offsets);
        match page.binary_search_by_key(&of.partition, |(partition, _)| *partition) {
            Ok(index) => {
                let before = std::mem::replace(&mut page[index].1, offset);
                self.weight = self.weight.saturating_sub(before.weight());
            }
            Err(index) => {
                grow(page);
                page.insert(index, (of.partition, offset));
                self.len += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, of: TopicPartition) {
        let Ok(index) = self.page(of) else { return };
        let offsets = &mut self.pages[index].offsets;
        let Ok(place) = offsets.binary_search_by_key(&of.partition, |(partition, _)| *partition) else { return };
        let (_, removed) = Arc::make_mut(offsets).remove(place);
        self.len -= 1;
        self.weight = self.weight.saturating_sub(removed.weight());
        if offsets.is_empty() {
            self.pages.remove(index);
        }
    }

    pub(crate) fn remove_topic(&mut self, topic: TopicId) {
        for page in self.pages.iter().filter(|page| page.topic == topic) {
            self.len -= page.offsets.len();
            let weight = page.offsets.iter().map(|(_, offset)| offset.weight()).sum();
            self.weight = self.weight.saturating_sub(weight);
        }
        self.pages.retain(|page| page.topic != topic);
    }

    fn page(&self, of: TopicPartition) -> Result<usize, usize> {
        let key = (of.topic, of.partition / OFFSETS_PER_PAGE);
        self.pages.binary_search_by_key(&key, |page| (page.topic, page.number))
    }
}

/// Room for one more, with a quarter of slack: a group's partitions come once and stay.
fn grow<T>(vector: &mut Vec<T>) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact(vector.len() / 4 + 1);
    }
}
