//! An object in memory: a rope of slices, since a bundle that was just written is kept as the slices that were
//! written, and one that was fetched is a single slice. Owns addressing by position, and what is known of the bytes'
//! soundness; does not own how objects get here, nor offsets.
//!
//! Bytes that were written by this broker are sound. Of fetched bytes, a section is sound if its checksum is right;
//! where it is not, or where the index itself is damaged, each batch is judged by its own CRC when it is read. So
//! one damaged byte costs one batch of one partition, and what follows it in its extent, whose offsets can then not
//! be counted; nothing before it, and no other partition.

use std::ops::Range;

use bytes::Bytes;
use kafscale_metadata::ObjectId;

use crate::segment::{Footer, Header, Part, SectionIndex, SegmentError, crc32c};

/// What an object in memory takes beside its bytes, at least: an idle system writes bundles of 200 bytes, and a budget
/// that counted those alone would be exceeded several times over.
pub(super) const OBJECT_OVERHEAD_BYTES: u64 = 1024;

/// A whole object in memory.
#[derive(Debug)]
pub struct CachedObject {
    slices: Vec<Bytes>,
    /// Where each slice begins in the object; ends with the object's length.
    starts: Vec<u64>,
    footer: Footer,
    /// For each section, whether its bytes are known to be sound.
    sound: Vec<bool>,
}

impl CachedObject {
    /// A bundle that this broker wrote, as the slices of `Assembled`.
    pub fn written(slices: Vec<Bytes>) -> Self {
        let slices: Vec<Bytes> = slices.into_iter().filter(|slice| !slice.is_empty()).collect();
        let mut starts = Vec::with_capacity(slices.len() + 1);
        let mut len = 0;
        for slice in &slices {
            starts.push(len);
            len += slice.len() as u64;
        }
        starts.push(len);
        let footer = slices.last().and_then(|tail| Footer::parse(tail, len).ok()).unwrap_or_default();
        let sound = vec![true; footer.sections.len()];
        Self { slices, starts, footer, sound }
    }

    /// An object from the store, and what is wrong with it: the first damage that was found.
    ///
    /// # Errors
    /// If it is another object, or not one at all: then nothing of it can be used.
    pub fn fetched(
        bytes: Bytes,
        cluster: u128,
        object: ObjectId,
    ) -> Result<(Self, Option<SegmentError>), SegmentError> {
        let mut damage = None;
        match Header::parse(&bytes) {
            Ok(header) if (header.cluster, header.object) == (cluster, object) => {}
            Ok(_) => return Err(SegmentError::Malformed(Part::Header)),
            // The batches have checksums of their own: a damaged header or index need not cost them.
            Err(wrong @ (SegmentError::Checksum(_) | SegmentError::NoMagic(_))) => damage = Some(wrong),
            Err(unusable) => return Err(unusable),
        }
        let len = bytes.len() as u64;
        let footer = Footer::parse(&bytes, len).unwrap_or_else(|wrong| {
            damage = Some(wrong);
            Footer::default()
        });
        let mut sound = Vec::with_capacity(footer.sections.len());
        for (number, section) in footer.sections.iter().enumerate() {
            let start = section.position as usize;
            let is_sound = crc32c(&bytes[start..start + section.bytes as usize]) == section.crc;
            if !is_sound {
                damage.get_or_insert(SegmentError::Checksum(Part::Section(number)));
            }
            sound.push(is_sound);
        }
        Ok((Self { slices: vec![bytes], starts: vec![0, len], footer, sound }, damage))
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes of memory, about.
    pub(super) fn memory_bytes(&self) -> u64 {
        let slices = self.slices.len() * (size_of::<Bytes>() + size_of::<u64>());
        let sections = self.footer.sections.len() * size_of::<SectionIndex>();
        self.len() + (slices + sections) as u64 + OBJECT_OVERHEAD_BYTES
    }

    /// A range of its bytes, without a copy; `None` where it exceeds the object.
    pub fn slice(&self, range: Range<u64>) -> Option<Vec<Bytes>> {
        let mut out = Vec::new();
        self.slice_into(range, &mut out)?;
        Some(out)
    }

    /// Like [`CachedObject::slice`], appending to `out`.
    pub(super) fn slice_into(&self, range: Range<u64>, out: &mut Vec<Bytes>) -> Option<()> {
        if range.end > self.len() || range.start > range.end {
            return None;
        }
        let mut at = range.start;
        let mut index = self.index_of(at);
        while at < range.end {
            let start = self.starts[index];
            let end = self.starts[index + 1].min(range.end);
            out.push(self.slices[index].slice(within(start, at)..within(start, end)));
            at = end;
            index += 1;
        }
        Some(())
    }

    /// Copies `N` bytes at a position: a batch's header, wherever slices end.
    pub(super) fn copy<const N: usize>(&self, position: u64) -> Option<[u8; N]> {
        let mut out = [0; N];
        if position.checked_add(N as u64)? > self.len() {
            return None;
        }
        let mut index = self.index_of(position);
        let mut filled = 0;
        while filled < N {
            let from = &self.slices[index][within(self.starts[index], position + filled as u64)..];
            let n = from.len().min(N - filled);
            out[filled..filled + n].copy_from_slice(&from[..n]);
            filled += n;
            index += 1;
        }
        Some(out)
    }

    /// The section that holds a range, and whether its bytes are sound. `None` without a usable index.
    pub(super) fn section_of(&self, range: &Range<u64>) -> Option<(&SectionIndex, bool)> {
        let (number, section) = self.footer.section_of(range.start, range.end)?;
        Some((section, self.sound[number]))
    }

    /// The slice that holds a position within the object.
    fn index_of(&self, position: u64) -> usize {
        self.starts
            .partition_point(|start| *start <= position)
            .saturating_sub(1)
            .min(self.slices.len().saturating_sub(1))
    }
}

/// A position within a slice that begins at `start`.
fn within(start: u64, position: u64) -> usize {
    usize::try_from(position - start).expect("a slice is shorter than memory")
}
