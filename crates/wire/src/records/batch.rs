//! A batch where it lies: the header's fields by their offsets, and the checks that need no record.
//!
//! Owns the positions of the fields. Copies and decompresses nothing.

use bytes::Bytes;

use super::compression::Codec;

/// The bytes before the records.
pub const HEADER_LENGTH: usize = 61;
/// What the length field does not count: the base offset and itself.
pub(super) const LENGTH_STARTS: usize = 12;

pub(super) const BASE_OFFSET: usize = 0;
pub(super) const LENGTH: usize = 8;
pub(super) const LEADER_EPOCH: usize = 12;
pub(super) const MAGIC: usize = 16;
pub(super) const CRC: usize = 17;
/// The CRC covers the batch from here on.
pub(super) const ATTRIBUTES: usize = 21;
pub(super) const LAST_OFFSET_DELTA: usize = 23;
pub(super) const BASE_TIMESTAMP: usize = 27;
pub(super) const MAX_TIMESTAMP: usize = 35;
pub(super) const PRODUCER_ID: usize = 43;
pub(super) const PRODUCER_EPOCH: usize = 51;
pub(super) const BASE_SEQUENCE: usize = 53;
pub(super) const COUNT: usize = 57;

pub(super) const CODEC_BITS: i16 = 0b111;
pub(super) const APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;

/// Why bytes are not a batch to accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch is cut off, or its length lies.
    #[error("a batch should take {wanted} bytes, {left} are there")]
    Truncated {
        /// What the batch claims, or a header's length where not even that is there.
        wanted: usize,
        /// What is there.
        left: usize,
    },
    /// The length field cannot be right.
    #[error("a batch's length field says {claimed}: a header alone takes 49")]
    Length {
        /// What it says.
        claimed: i32,
    },
    /// Not message format v2; 0 and 1 are Kafka's old message sets, which are not supported.
    #[error("message format {magic} instead of 2 (0 and 1 are of clients older than Kafka 0.11)")]
    Magic {
        /// The format.
        magic: i8,
    },
    /// The content is damaged.
    #[error("the batch says CRC {stated:08x}, its bytes have {computed:08x}")]
    Crc {
        /// What the batch says.
        stated: u32,
        /// What it should say.
        computed: u32,
    },
    /// The count of records and the last offset do not fit one another.
    #[error("{count} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// What the count says.
        count: i32,
        /// What the last offset delta says.
        last_offset_delta: i32,
    },
    /// No codec has this number.
    #[error("there is no compression codec {id}")]
    Codec {
        /// The number.
        id: i16,
    },
}

/// Whose clock a batch's timestamps are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    Create,
    /// The broker's: all records have the batch's maximum.
    LogAppend,
}

/// One whole batch of magic 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    bytes: Bytes,
}

impl BatchView {
    /// The first batch of `records`, and what follows it. Looks at length and magic only.
    pub fn first(mut records: Bytes) -> Result<(Self, Bytes), BatchError> {
        let left = records.len();
        if left <= MAGIC {
            return Err(BatchError::Truncated { wanted: HEADER_LENGTH, left });
        }
        // All three formats have the magic in the same place.
        let magic = i8::from_be_bytes(field(&records, MAGIC));
        if magic != 2 {
            return Err(BatchError::Magic { magic });
        }
        let claimed = i32::from_be_bytes(field(&records, LENGTH));
        let length = usize::try_from(claimed).map_err(|_| BatchError::Length { claimed })?;
        if length < HEADER_LENGTH - LENGTH_STARTS {
            return Err(BatchError::Length { claimed });
        }
        let wanted = LENGTH_STARTS + length;
        if wanted > left {
            return Err(BatchError::Truncated { wanted, left });
        }
        let bytes = records.split_to(wanted);
        Ok((Self { bytes }, records))
    }

    /// Everything that can be checked of a producer's batch without reading its records: the CRC, the codec, and that
    /// as many records are claimed as offsets (a batch of Kafka's own, after compaction, may have fewer).
    pub fn check(&self) -> Result<(), BatchError> {
        let (count, last_offset_delta) = (self.count(), self.last_offset_delta());
        self.check_crc()?;
        self.codec()?;
        if count < 1 || last_offset_delta != count - 1 {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        Ok(())
    }

    /// That the content is what was written.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stated, computed) = (self.crc(), crc(&[&self.bytes[ATTRIBUTES..]]));
        if stated == computed { Ok(()) } else { Err(BatchError::Crc { stated, computed }) }
    }
}

/// The fields of the header.
impl BatchView {
    /// The offset of the first record.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(field(&self.bytes, BASE_OFFSET))
    }

    /// The offset of the last record; saturates where the header makes no sense.
    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(self.last_offset_delta().into())
    }

    /// The epoch of the leader that took the batch.
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, LEADER_EPOCH))
    }

    /// What the batch says that its CRC-32C is.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(&self.bytes, CRC))
    }

    /// All attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(&self.bytes, ATTRIBUTES))
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = self.attributes() & CODEC_BITS;
        Codec::of(id).ok_or(BatchError::Codec { id })
    }

    /// Whose clock the timestamps are of.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & APPEND_TIME_BIT == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are markers rather than a client's.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// The last record's offset, counted from the first.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, LAST_OFFSET_DELTA))
    }

    /// The first record's timestamp in ms, from which the others count.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(&self.bytes, BASE_TIMESTAMP))
    }

    /// The greatest timestamp in ms.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(&self.bytes, MAX_TIMESTAMP))
    }

    /// The producer's id; -1 where it is not idempotent.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(&self.bytes, PRODUCER_ID))
    }

    /// The producer's epoch; -1 where it is not idempotent.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(&self.bytes, PRODUCER_EPOCH))
    }

    /// The first record's sequence number; -1 where the producer is not idempotent.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, BASE_SEQUENCE))
    }

    /// How many records there are.
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(field(&self.bytes, COUNT))
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, as they are compressed.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_LENGTH..)
    }
}

/// The batches of a records field, one after another; ends behind the first error.
pub fn split(records: Bytes) -> Split {
    Split { rest: records }
}

/// See [`split`].
#[derive(Debug, Clone)]
pub struct Split {
    rest: Bytes,
}

impl Iterator for Split {
    type Item = Result<BatchView, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let first = BatchView::first(rest).map(|(batch, rest)| {
            self.rest = rest;
            batch
        });
        Some(first)
    }
}

/// CRC-32C (Castagnoli) of the parts as if they were one.
pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("a view has a whole header, and `first` looks no further than the magic before that")
}
