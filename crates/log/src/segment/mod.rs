//! The stored format of record objects, `.kfs`. Owns the bytes: writing them ([`assemble`]), and reading them
//! without trusting them ([`open`], [`Footer::parse`]). Pure; knows nothing of stores, caches or offsets.
//!
//! # Format 1, byte by byte
//!
//! All integers are big-endian, as in Kafka's batches. An object is
//!
//! ```text
//! header │ section │ section │ … │ footer │ trailer
//! ```
//!
//! | part | at | size | what |
//! |---|---|---|---|
//! | header | 0 | 4 | magic `KFS1` |
//! | | 4 | 2 | format version, 1 |
//! | | 6 | 1 | kind: 1 = bundle |
//! | | 7 | 1 | zero |
//! | | 8 | 16 | cluster id |
//! | | 24 | 8 | nonce of the session that wrote it |
//! | | 32 | 4 | number in that session |
//! | | 36 | 4 | CRC-32C of bytes 0..36 |
//! | section | 40 | | whole Kafka record batches (magic 2) of one partition, one after the other, as the producer sent them (base offset and leader epoch mean nothing) |
//! | footer | | 4 | number of sections; then for each, in order of position: |
//! | | | 16 + 4 | topic id, partition |
//! | | | 4 + 4 | position in the object and length, bytes |
//! | | | 4 + 8 | batches; records (sum of last offset delta + 1) |
//! | | | 8 | the largest record timestamp, ms |
//! | | | 4 | CRC-32C of the section's bytes |
//! | | | 2 + 2 | codec and key id of the section, both 0 = stored as it is |
//! | | | 4 | number of sparse entries; then for each, in order of position: |
//! | | | 4 + 8 + 8 | position of a batch in the object; records in the section before it; largest timestamp in the section before it |
//! | trailer | −12 | 4 | length of the footer |
//! | | −8 | 4 | CRC-32C of the footer |
//! | | −4 | 4 | magic `1SFK` |
//!
//! A section of more than [`SPARSE_INDEX_INTERVAL_BYTES`](crate::limits::SPARSE_INDEX_INTERVAL_BYTES) has a sparse
//! entry for each first batch that begins at least that far behind the section's start or the previous entry. The
//! index is in the object, so that one PUT stores both and no half-written pair exists; it is last, so that a
//! reader needs the object's tail alone; and the sections begin at 40, so that records are never moved.
//!
//! A section is followed at once by the next one, and the last by the footer. The header keeps its length, its
//! version and its CRC where they are in every later format, so that a newer object is told from a damaged one.

mod assemble;
mod footer;
mod open;

use crc_fast::{CrcAlgorithm, Digest};

pub use assemble::{Assembled, SealedBatch, Section, assemble};
pub use footer::{Footer, SectionIndex, SparseEntry};
pub use open::{BundleReader, Header, open};

/// Length of the header.
pub const HEADER_BYTES: usize = 40;
/// Length of the trailer.
pub const TRAILER_BYTES: usize = 12;
/// The newest format that this release writes and reads.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"KFS1";
const END_MAGIC: [u8; 4] = *b"1SFK";
const KIND_BUNDLE: u8 = 1;
/// A section in the footer, without its sparse entries.
const SECTION_ENTRY_BYTES: usize = 60;
const SPARSE_ENTRY_BYTES: usize = 20;

/// Which part of an object an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first 40 bytes.
    Header,
    /// The index.
    Footer,
    /// The last 12 bytes.
    Trailer,
    /// The section of this number, from 0.
    Section(usize),
}

/// Why bytes are not an object that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The magic is missing: not a `.kfs` object, or its end was cut off.
    #[error("no magic in the {0:?}: not a .kfs object, or cut off")]
    NoMagic(Part),
    /// Written by a newer release.
    #[error("format version {version} is newer than this release reads ({FORMAT_VERSION}); use a newer release")]
    NewerFormat {
        /// What the header says.
        version: u16,
    },
    /// Fewer bytes than the object says it has.
    #[error("{needed} bytes are needed and {given} are there")]
    Short {
        /// How many bytes (of the tail) are needed.
        needed: u64,
        /// How many there are.
        given: u64,
    },
    /// The bytes are not those that were written.
    #[error("checksum of {0:?} does not match")]
    Checksum(Part),
    /// The checksum matches, and the content contradicts itself or is not known to this release.
    #[error("{0:?} is malformed")]
    Malformed(Part),
}

/// CRC-32C (Castagnoli) of some bytes, as Kafka's batches use it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut digest = Crc32c::new();
    digest.update(bytes);
    digest.finish()
}

/// CRC-32C over slices.
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a 32-bit CRC has 32 bits")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc_is_castagnoli() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
