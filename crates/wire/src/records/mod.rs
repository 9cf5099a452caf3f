//! Record batches (message format v2).
//!
//! Owns the layout of a batch: reading its header where it lies, checking it, placing it at an offset, and, where
//! records must be looked into, decompressing and reading them. Does not own what a broker accepts (sizes, timestamps,
//! sequences).
//!
//! The header is 61 bytes; the CRC covers what follows it, so that a broker sets the base offset and the leader epoch
//! of a producer's batch without touching the rest:
//!
//! ```text
//!  0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records, compressed as one
//! ```
//!
//! Invariants: a [`BatchView`] is whole and of magic 2; everything else about it is a claim until [`BatchView::check`].
//! Reading records takes no more memory than the limit that the caller gives.

mod batch;
mod builder;
mod compression;
mod iter;
mod place;
mod snappy;
mod varint;

pub use batch::{BatchError, BatchView, HEADER_LENGTH, Split, TimestampType, split};
pub use builder::BatchBuilder;
pub use compression::Codec;
pub use iter::{Header, Record, RecordError, RecordIter};
pub use place::PLACE_LENGTH;
