//! The index of an object: what is where. Owns the footer's encoding and its reading from the object's tail; the
//! byte layout is described in the parent module. Nothing here trusts a length: no more is allocated than the
//! footer's own bytes can describe.

use bytes::{Buf, BufMut, BytesMut};
use kafscale_metadata::{TopicId, TopicPartition};

use super::{
    END_MAGIC, HEADER_BYTES, Part, SECTION_ENTRY_BYTES, SPARSE_ENTRY_BYTES, SegmentError, TRAILER_BYTES, crc32c,
};

/// The index of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footer {
    /// In order of position, without gaps.
    pub sections: Vec<SectionIndex>,
}

/// What the footer says of one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionIndex {
    /// Whose batches.
    pub partition: TopicPartition,
    /// Where the first batch begins in the object, bytes.
    pub position: u32,
    /// The section's length.
    pub bytes: u32,
    /// How many batches it has.
    pub batches: u32,
    /// How many offsets they take, if none of them is dead.
    pub records: u64,
    /// The largest record timestamp, ms.
    pub max_timestamp: i64,
    /// CRC-32C of its bytes.
    pub crc: u32,
    /// Batches about every 64 KiB.
    pub sparse: Vec<SparseEntry>,
}

/// A batch from which reading may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseEntry {
    /// Where it begins in the object, bytes.
    pub position: u32,
    /// Records of the section before it.
    pub records_before: u64,
    /// The largest timestamp in the section before it, ms.
    pub max_timestamp_before: i64,
}

impl SectionIndex {
    /// One past the section's last byte.
    pub fn end(&self) -> u64 {
        u64::from(self.position) + u64::from(self.bytes)
    }
}

impl Footer {
    /// Reads the footer from an object's tail.
    ///
    /// `tail` is the object's last bytes, at least [`TRAILER_BYTES`] of them; `object_len` its whole length.
    ///
    /// # Errors
    /// [`SegmentError::Short`] with the tail that is needed if the footer begins before `tail`; else what is wrong.
    pub fn parse(tail: &[u8], object_len: u64) -> Result<Self, SegmentError> {
        let given = tail.len() as u64;
        let Some((rest, mut trailer)) = tail.split_last_chunk::<TRAILER_BYTES>().map(|(rest, t)| (rest, t.as_slice()))
        else {
            return Err(SegmentError::Short { needed: TRAILER_BYTES as u64, given });
        };
        let footer_len = trailer.get_u32();
        let crc = trailer.get_u32();
        if trailer != END_MAGIC {
            return Err(SegmentError::NoMagic(Part::Trailer));
        }
        let needed = u64::from(footer_len) + TRAILER_BYTES as u64;
        if needed + HEADER_BYTES as u64 > object_len {
            return Err(SegmentError::Malformed(Part::Trailer));
        }
        let Some((_, footer)) = rest.split_at_checked(rest.len().wrapping_sub(footer_len as usize)) else {
            return Err(SegmentError::Short { needed, given });
        };
        if crc32c(footer) != crc {
            return Err(SegmentError::Checksum(Part::Footer));
        }
        let sections_end = object_len - needed;
        decode(footer, sections_end).ok_or(SegmentError::Malformed(Part::Footer))
    }

    /// The section that holds the bytes `start..end` of the object, and its number.
    pub fn section_of(&self, start: u64, end: u64) -> Option<(usize, &SectionIndex)> {
        let after = self.sections.partition_point(|s| u64::from(s.position) <= start);
        let number = after.checked_sub(1)?;
        let section = &self.sections[number];
        (end <= section.end()).then_some((number, section))
    }

    pub(super) fn encoded_len(&self) -> usize {
        let sparse: usize = self.sections.iter().map(|s| s.sparse.len()).sum();
        4 + self.sections.len() * SECTION_ENTRY_BYTES + sparse * SPARSE_ENTRY_BYTES
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(count(self.sections.len()));
        for section in &self.sections {
            out.put_u128(section.partition.topic.0);
            out.put_u32(section.partition.partition);
            out.put_u32(section.position);
            out.put_u32(section.bytes);
            out.put_u32(section.batches);
            out.put_u64(section.records);
            out.put_i64(section.max_timestamp);
            out.put_u32(section.crc);
            out.put_u32(0); // codec and key: stored as it is
            out.put_u32(count(section.sparse.len()));
            for entry in &section.sparse {
                out.put_u32(entry.position);
                out.put_u64(entry.records_before);
                out.put_i64(entry.max_timestamp_before);
            }
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a bundle has far fewer than 2^32 of anything")
}

/// `None` if the footer contradicts itself, or does not describe exactly the bytes between header and footer.
fn decode(mut footer: &[u8], sections_end: u64) -> Option<Footer> {
    let sections = footer.try_get_u32().ok()? as usize;
    if sections > footer.len() / SECTION_ENTRY_BYTES {
        return None;
    }
    let mut decoded = Footer { sections: Vec::with_capacity(sections) };
    let mut position = HEADER_BYTES as u64;
    for _ in 0..sections {
        let section = decode_section(&mut footer)?;
        if u64::from(section.position) != position {
            return None;
        }
        position = section.end();
        decoded.sections.push(section);
    }
    (footer.is_empty() && position == sections_end).then_some(decoded)
}

fn decode_section(footer: &mut &[u8]) -> Option<SectionIndex> {
    let mut section = SectionIndex {
        partition: TopicPartition {
            topic: TopicId(footer.try_get_u128().ok()?),
            partition: footer.try_get_u32().ok()?,
        },
        position: footer.try_get_u32().ok()?,
        bytes: footer.try_get_u32().ok()?,
        batches: footer.try_get_u32().ok()?,
        records: footer.try_get_u64().ok()?,
        max_timestamp: footer.try_get_i64().ok()?,
        crc: footer.try_get_u32().ok()?,
        sparse: Vec::new(),
    };
    let stored_as_it_is = footer.try_get_u32().ok()? == 0;
    let entries = footer.try_get_u32().ok()? as usize;
    if !stored_as_it_is || section.bytes == 0 || entries > footer.len() / SPARSE_ENTRY_BYTES {
        return None;
    }
    section.sparse.reserve_exact(entries);
    let mut last = SparseEntry { position: section.position, records_before: 0, max_timestamp_before: i64::MIN };
    for _ in 0..entries {
        let entry = SparseEntry {
            position: footer.try_get_u32().ok()?,
            records_before: footer.try_get_u64().ok()?,
            max_timestamp_before: footer.try_get_i64().ok()?,
        };
        let in_order = entry.position > last.position
            && u64::from(entry.position) < section.end()
            && entry.records_before >= last.records_before
            && entry.records_before <= section.records
            && entry.max_timestamp_before >= last.max_timestamp_before;
        if !in_order {
            return None;
        }
        section.sparse.push(entry);
        last = entry;
    }
    Some(section)
}
