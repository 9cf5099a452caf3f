//! One partition: its offsets, its extents, and what it remembers of each idempotent producer.
//!
//! Producers are a sorted vector, not a tree: a tree's first node alone would cost a kilobyte, and most partitions
//! have few producers. New ids are larger than old ones, so an insertion is nearly always at the end.

use super::extents::Extents;
use crate::limits::BATCHES_PER_PRODUCER;

/// A batch that a partition remembers, to recognise its repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) first_offset: i64,
}

/// What a partition remembers of one producer: its epoch and its last five batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    pub(crate) epoch: i16,
    /// How many of `batches` are in use, oldest first; at least 1.
    pub(crate) kept: u8,
    /// How many sequence numbers up to the last one were accepted without a gap, at most 2^30. What lies within is
    /// in the log for sure; what lies further back may never have been seen.
    pub(crate) consecutive: u32,
    pub(crate) batches: [KeptBatch; BATCHES_PER_PRODUCER],
}

const _: () = assert!(size_of::<(i64, ProducerState)>() <= 120, "with a quarter of slack, 150 bytes");

impl ProducerState {
    /// The epoch of its batches.
    #[must_use]
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The sequence of the last record of its last batch.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        self.kept().last().map_or(-1, |b| b.last_sequence)
    }

    pub(crate) fn kept(&self) -> &[KeptBatch] {
        self.batches.get(..usize::from(self.kept)).unwrap_or_default()
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub(crate) log_start: i64,
    pub(crate) high_watermark: i64,
    pub(crate) bytes: u64,
    pub(crate) extents: Extents,
    /// Sorted by id.
    pub(crate) producers: Vec<(i64, ProducerState)>,
}

const _: () = assert!(size_of::<Partition>() + 24 <= 300, "the memory budget of a partition");

impl Partition {
    /// The first offset that can be read.
    #[must_use]
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The offset that the next record gets. All records below it are durable.
    #[must_use]
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Below it every transaction is decided. There are none yet: it is the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> i64 {
        self.high_watermark
    }

    /// Where its records lie.
    #[must_use]
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// The bytes of all its extents.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it remembers of a producer.
    #[must_use]
    pub fn producer(&self, id: i64) -> Option<&ProducerState> {
        let index = self.producers.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.producers.get(index).map(|(_, state)| state)
    }

    /// All producers that it remembers, by id.
    pub fn producers(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.producers.iter().map(|(id, state)| (*id, state))
    }

    /// Sets what it remembers of a producer.
    pub(crate) fn set_producer(&mut self, id: i64, state: ProducerState) {
        match self.producers.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(index) => self.producers[index].1 = state,
            Err(index) => {
                if self.producers.len() == self.producers.capacity() {
                    self.producers.reserve_exact(self.producers.len() / 4 + 1);
                }
                self.producers.insert(index, (id, state));
            }
        }
    }
}
