//! Lays sealed batches out as one object. Owns positions, checksums and the footer; does not own which batches go
//! into a bundle, nor the upload. Record bytes are never copied: the object is a list of slices, and the batches'
//! slices are among them as they came from the socket.
//!
//! Invariant for readers of the slices: each slice is the header, one batch, one batch header (61 bytes, when
//! LogAppendTime replaced it), the rest of such a batch, or footer and trailer together.

use bytes::{BufMut, Bytes, BytesMut};
use kafscale_metadata::{BatchMeta, ObjectId, Run, TopicPartition};

use super::{
    Crc32c, END_MAGIC, FORMAT_VERSION, Footer, HEADER_BYTES, KIND_BUNDLE, MAGIC, SectionIndex, SparseEntry,
    TRAILER_BYTES, crc32c,
};
use crate::limits::SPARSE_INDEX_INTERVAL_BYTES;

/// The batches of one partition in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Whose batches.
    pub partition: TopicPartition,
    /// In the order in which they get their offsets; at least one.
    pub batches: Vec<SealedBatch>,
}

/// One validated record batch, as it will be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    head: Bytes,
    rest: Bytes,
    meta: BatchMeta,
}

impl SealedBatch {
    /// A batch as it was received.
    ///
    /// # Panics
    /// If `meta.bytes` is not its length.
    pub fn whole(bytes: Bytes, meta: BatchMeta) -> Self {
        Self::with_header(bytes, Bytes::new(), meta)
    }

    /// A batch whose header was replaced (LogAppendTime is inside of the batch's CRC): `header` is the whole new
    /// 61-byte header, `rest` the untouched records behind it.
    ///
    /// # Panics
    /// If `meta.bytes` is not the length of both.
    pub fn with_header(header: Bytes, rest: Bytes, meta: BatchMeta) -> Self {
        assert_eq!(header.len() + rest.len(), meta.bytes as usize, "a batch is as long as its description says");
        Self { head: header, rest, meta }
    }

    /// What the journal will say of it.
    pub fn meta(&self) -> &BatchMeta {
        &self.meta
    }

    /// Its bytes: one slice, or two where the header was replaced.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        [&self.head, &self.rest].into_iter().filter(|slice| !slice.is_empty())
    }
}

/// An object, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Its bytes, one slice after the other. Insert the same slices into the cache.
    pub slices: Vec<Bytes>,
    /// Its length in bytes.
    pub len: u64,
    /// For each section, where its batches are: what the journal's commit says.
    pub runs: Vec<Run>,
}

/// Lays out a bundle: the bytes, and the runs to commit once they are stored.
///
/// # Panics
/// If a section is empty, or the object would reach 4 GiB: bundles are bounded by
/// [`MAX_BUNDLE_BYTES`](crate::limits::MAX_BUNDLE_BYTES) long before.
pub fn assemble(cluster: u128, object: ObjectId, sections: Vec<Section>) -> Assembled {
    let batches: usize = sections.iter().map(|s| s.batches.len()).sum();
    let mut slices = Vec::with_capacity(batches + 2);
    let mut runs = Vec::with_capacity(sections.len());
    let mut footer = Footer { sections: Vec::with_capacity(sections.len()) };
    slices.push(header(cluster, object));
    let mut position = as_position(HEADER_BYTES);
    for section in sections {
        let (run, index) = lay_out(section, position, &mut slices);
        position = position.checked_add(index.bytes).expect("a bundle is far below 4 GiB");
        runs.push(run);
        footer.sections.push(index);
    }
    let end = footer_and_trailer(&footer);
    let len = u64::from(position) + end.len() as u64;
    slices.push(end);
    Assembled { slices, len, runs }
}

fn header(cluster: u128, object: ObjectId) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    out.put_slice(&MAGIC);
    out.put_u16(FORMAT_VERSION);
    out.put_u8(KIND_BUNDLE);
    out.put_u8(0);
    out.put_u128(cluster);
    out.put_u64(object.nonce);
    out.put_u32(object.number);
    let crc = crc32c(&out);
    out.put_u32(crc);
    assert_eq!(out.len(), HEADER_BYTES, "the header has its fixed length");
    out.freeze()
}

/// Appends a section's slices; `start` is its position.
fn lay_out(section: Section, start: u32, slices: &mut Vec<Bytes>) -> (Run, SectionIndex) {
    assert!(!section.batches.is_empty(), "a section of {:?} without batches", section.partition);
    let mut crc = Crc32c::new();
    let mut index = SectionIndex {
        partition: section.partition,
        position: start,
        bytes: 0,
        batches: as_position(section.batches.len()),
        records: 0,
        max_timestamp: i64::MIN,
        crc: 0,
        sparse: Vec::new(),
    };
    let mut metas = Vec::with_capacity(section.batches.len());
    let mut last_indexed = start;
    for batch in section.batches {
        let position = start + index.bytes;
        if position - last_indexed >= SPARSE_INDEX_INTERVAL_BYTES {
            index.sparse.push(SparseEntry {
                position,
                records_before: index.records,
                max_timestamp_before: index.max_timestamp,
            });
            last_indexed = position;
        }
        index.bytes = index.bytes.checked_add(batch.meta.bytes).expect("a bundle is far below 4 GiB");
        index.records += u64::from(batch.meta.records);
        index.max_timestamp = index.max_timestamp.max(batch.meta.max_timestamp);
        metas.push(batch.meta);
        for slice in [batch.head, batch.rest] {
            if !slice.is_empty() {
                crc.update(&slice);
                slices.push(slice);
            }
        }
    }
    index.crc = crc.finish();
    (Run { partition: section.partition, position: start, batches: metas }, index)
}

fn footer_and_trailer(footer: &Footer) -> Bytes {
    let mut out = BytesMut::with_capacity(footer.encoded_len() + TRAILER_BYTES);
    footer.encode(&mut out);
    let (len, crc) = (out.len(), crc32c(&out));
    out.put_u32(as_position(len));
    out.put_u32(crc);
    out.put_slice(&END_MAGIC);
    out.freeze()
}

fn as_position(n: usize) -> u32 {
    u32::try_from(n).expect("a bundle is far below 4 GiB")
}
