//! Where a partition's records lie: a list of extents in offset order, without overlap.
//!
//! The list is cut into chunks of 128 behind `Arc`: changing a partition that a snapshot still holds copies the
//! table of chunks and the last chunk, not a million extents. Each chunk knows its largest timestamp, so a look-up
//! by time skips chunks. This file does not know why an extent begins or ends: the fold does.

use std::sync::Arc;

use crate::command::ObjectId;

const CHUNK: usize = 128;

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtentKind {
    /// Record batches.
    Data,
}

/// A run of live batches of one partition inside one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The largest record timestamp in it, milliseconds.
    pub max_timestamp: i64,
    /// The object's session; see [`Extent::object`].
    pub nonce: u64,
    /// The object's number in its session; see [`Extent::object`].
    pub number: u32,
    /// Where its first batch begins in the object, in bytes.
    pub position: u32,
    /// Its length in the object, in bytes.
    pub bytes: u32,
    /// What it holds.
    pub kind: ExtentKind,
}

const _: () = assert!(size_of::<Extent>() <= 48, "the memory budget of an extent");

impl Extent {
    /// The object that holds it. (Two fields, since an `ObjectId` inside the struct would cost 8 bytes of padding.)
    #[must_use]
    pub fn object(&self) -> ObjectId {
        ObjectId { nonce: self.nonce, number: self.number }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    max_timestamp: i64,
    extents: Vec<Extent>,
}

impl Chunk {
    fn last_offset(&self) -> i64 {
        self.extents.last().map_or(i64::MIN, |e| e.last_offset)
    }
}

/// A partition's extents, in offset order. A clone shares all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

impl Extents {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Extent> + Clone {
        self.chunks.iter().flat_map(|c| c.extents.iter())
    }

    /// Those from `offset` on: first the extent that contains it, or else the first one after it.
    pub fn from(&self, offset: i64) -> impl Iterator<Item = &Extent> + Clone {
        let chunk = self.chunks.partition_point(|c| c.last_offset() < offset);
        let rest = self.chunks.get(chunk..).unwrap_or_default();
        let skip = rest.first().map_or(0, |c| c.extents.partition_point(|e| e.last_offset < offset));
        rest.iter().flat_map(|c| c.extents.iter()).skip(skip)
    }

    /// The first one, if any.
    #[must_use]
    pub fn first(&self) -> Option<&Extent> {
        self.chunks.first().and_then(|c| c.extents.first())
    }

    /// The last one, if any.
    #[must_use]
    pub fn last(&self) -> Option<&Extent> {
        self.chunks.last().and_then(|c| c.extents.last())
    }

    /// The first extent that holds a record with a timestamp of at least `timestamp`: the record that Kafka's
    /// `ListOffsets` asks for is in it.
    #[must_use]
    pub fn first_with_timestamp(&self, timestamp: i64) -> Option<&Extent> {
        let chunk = self.chunks.iter().find(|c| c.max_timestamp >= timestamp)?;
        chunk.extents.iter().find(|e| e.max_timestamp >= timestamp)
    }

    /// The first extent that holds a record with the largest timestamp of the partition.
    #[must_use]
    pub fn with_max_timestamp(&self) -> Option<&Extent> {
        let max = self.chunks.iter().map(|c| c.max_timestamp).max()?;
        self.first_with_timestamp(max)
    }

    /// Adds one after the last.
    pub(crate) fn push(&mut self, extent: Extent) {
        match self.chunks.last_mut() {
            Some(last) if last.extents.len() < CHUNK => {
                let last = Arc::make_mut(last);
                last.max_timestamp = last.max_timestamp.max(extent.max_timestamp);
                last.extents.push(extent);
            }
            _ => self.chunks.push(Arc::new(Chunk { max_timestamp: extent.max_timestamp, extents: vec![extent] })),
        }
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(i: i64) -> Extent {
        Extent {
            first_offset: i * 10,
            last_offset: i * 10 + 9,
            max_timestamp: if i == 200 { 5_000 } else { i },
            nonce: 7,
            number: 1,
            position: 0,
            bytes: 1,
            kind: ExtentKind::Data,
        }
    }

    fn filled(count: i64) -> Extents {
        let mut extents = Extents::default();
        (0..count).for_each(|i| extents.push(extent(i)));
        extents
    }

    #[test]
    fn look_up_by_offset_finds_the_extent_that_contains_it() {
        let extents = filled(1_000);
        for offset in [0, 5, 9, 10, 1_279, 1_280, 9_999] {
            let first = extents.from(offset).next().unwrap();
            assert!(first.first_offset <= offset && offset <= first.last_offset, "{offset}");
            assert_eq!(extents.from(offset).count() as i64, 1_000 - offset / 10);
        }
        assert_eq!(extents.from(10_000).next(), None);
        assert_eq!(extents.from(-5).count(), 1_000);
        assert_eq!(Extents::default().from(0).next(), None);
    }

    #[test]
    fn look_up_by_time_takes_the_first_that_reaches_it() {
        let extents = filled(1_000);
        assert_eq!(extents.first_with_timestamp(3), Some(&extent(3)));
        assert_eq!(extents.first_with_timestamp(201), Some(&extent(200)), "timestamps need not be in order");
        assert_eq!(extents.first_with_timestamp(5_001), None);
        assert_eq!(extents.with_max_timestamp(), Some(&extent(200)));
        assert_eq!(Extents::default().with_max_timestamp(), None);
    }

    #[test]
    fn a_clone_shares_all_but_what_changes() {
        let old = filled(1_000);
        let mut new = old.clone();
        new.push(extent(1_000));
        assert_eq!((old.len(), new.len()), (1_000, 1_001));
        let shared = old.chunks.iter().zip(&new.chunks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, old.chunks.len() - 1);
    }
}
