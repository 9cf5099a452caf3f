//! What a producer may send: the records field of one partition in a Produce request becomes one [`ValidBatch`], or
//! an error that fails this partition alone. Owns every check that needs no state: the fold checks sequences and
//! epochs, the broker that the topic exists. Pure.
//!
//! The checks are Kafka's (`ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`,
//! `LogValidator`), but for those of single records: records stay as they came, compressed. So a record that lies
//! about its own offset or timestamp harms its readers only, and timestamps are checked by the header's two.
//!
//! LogAppendTime is set here, because it lies inside the batch's CRC: 61 bytes of header are written anew, the
//! records behind them are shared with the frame.

use bytes::{Bytes, BytesMut};
use kafscale_metadata::{BatchMeta, ProducerBatch};
use kafscale_wire::records::{BatchError, BatchView, Codec, HEADER_LENGTH, TimestampType};

use crate::segment::SealedBatch;

/// Produce requests below this version must not carry zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;
const NO_TIMESTAMP: i64 = -1;

/// What a topic's configuration says of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicRules {
    /// `max.message.bytes`: the largest batch, with its header.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`.
    pub timestamps: TimestampRule,
}

/// Whose clock gives the records their timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampRule {
    /// The producer's, within bounds around the broker's.
    CreateTime {
        /// `message.timestamp.before.max.ms`.
        before_max_ms: i64,
        /// `message.timestamp.after.max.ms`.
        after_max_ms: i64,
    },
    /// The broker's.
    LogAppendTime,
}

/// A batch that may be written. Only [`validate`] makes one.
#[derive(Debug)]
pub struct ValidBatch {
    sealed: SealedBatch,
    append_time: Option<i64>,
}

/// Why a partition's records were not taken. One variant for each Kafka error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// INVALID_RECORD.
    #[error("invalid record batch: {0}")]
    Malformed(Rule),
    /// CORRUPT_MESSAGE.
    #[error("the record batch does not match its length or its CRC")]
    Corrupt,
    /// MESSAGE_TOO_LARGE.
    #[error("a record batch of {bytes} bytes is larger than max.message.bytes = {limit}")]
    TooLarge {
        /// Its size with its header.
        bytes: usize,
        /// What the topic allows.
        limit: u32,
    },
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("compression type {codec} is unknown, or not allowed in this version of Produce")]
    Compression {
        /// As in the batch's attributes.
        codec: i16,
    },
    /// INVALID_TIMESTAMP.
    #[error("timestamp {timestamp} is of the wrong type, or out of the topic's bounds")]
    Timestamp {
        /// The one that is out of bounds.
        timestamp: i64,
    },
    /// The batch belongs to a transaction: not served yet.
    #[error("transactional batches are not served yet")]
    Transactional,
}

/// A rule that every batch must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Not one whole batch and nothing else.
    #[error("Produce carries exactly one batch for a partition")]
    OneBatch,
    /// An older message format.
    #[error("only batches of magic 2 are taken")]
    Magic,
    /// A base offset that is not 0.
    #[error("the base offset of a produced batch is 0")]
    BaseOffset,
    /// A record count that does not fit the last offset delta.
    #[error("the record count is positive and the last offset delta is one less")]
    Count,
    /// A control batch.
    #[error("clients must not write control batches")]
    Control,
    /// A producer id without epoch or sequence.
    #[error("a batch with a producer id has an epoch and a sequence")]
    Producer,
}

/// Checks the records field of one partition in a Produce request of version `produce_version` (3 or later, the
/// first that carries these batches). `now_ms` is the broker's wall clock.
///
/// # Errors
/// [`Invalid`], in the order in which Kafka looks for them.
pub fn validate(records: Bytes, produce_version: i16, rules: &TopicRules, now_ms: i64) -> Result<ValidBatch, Invalid> {
    let batch = only_batch(records)?;
    if batch.codec() == Ok(Codec::Zstd) && produce_version < FIRST_ZSTD_VERSION {
        return Err(Invalid::Compression { codec: Codec::Zstd as i16 });
    }
    if batch.base_offset() != 0 {
        return Err(Invalid::Malformed(Rule::BaseOffset));
    }
    if batch.bytes().len() > rules.max_message_bytes as usize {
        return Err(Invalid::TooLarge { bytes: batch.bytes().len(), limit: rules.max_message_bytes });
    }
    batch.check().map_err(Invalid::of)?;
    let mut meta = describe(&batch)?;
    check_timestamps(&batch, rules.timestamps, now_ms)?;
    match rules.timestamps {
        TimestampRule::CreateTime { .. } => {
            Ok(ValidBatch { sealed: SealedBatch::whole(batch.bytes().clone(), meta), append_time: None })
        }
        TimestampRule::LogAppendTime => {
            meta.max_timestamp = now_ms;
            let [head, rest] = batch.with_append_time(now_ms, &mut BytesMut::with_capacity(HEADER_LENGTH));
            Ok(ValidBatch { sealed: SealedBatch::with_header(head, rest, meta), append_time: Some(now_ms) })
        }
    }
}

impl ValidBatch {
    /// What the journal will say of it.
    pub fn meta(&self) -> &BatchMeta {
        self.sealed.meta()
    }

    /// Its length with its header.
    pub fn bytes(&self) -> usize {
        self.meta().bytes as usize
    }

    /// The time that replaced its records' timestamps.
    pub fn append_time(&self) -> Option<i64> {
        self.append_time
    }

    pub(crate) fn sealed(&self) -> &SealedBatch {
        &self.sealed
    }

    /// The same batch in memory of its own, cut from `buffer`.
    pub(crate) fn copied_into(self, buffer: &mut BytesMut) -> Self {
        for slice in self.sealed.slices() {
            buffer.extend_from_slice(slice);
        }
        Self { sealed: SealedBatch::whole(buffer.split().freeze(), *self.meta()), append_time: self.append_time }
    }
}

impl Invalid {
    fn of(error: BatchError) -> Self {
        match error {
            // Two batches, or the beginning of one.
            BatchError::Truncated { .. } => Self::Malformed(Rule::OneBatch),
            // The formats before record batches are named; any other magic is no format at all.
            BatchError::Magic { magic: 0 | 1 } => Self::Malformed(Rule::Magic),
            BatchError::Magic { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => Self::Corrupt,
            BatchError::Count { .. } => Self::Malformed(Rule::Count),
            BatchError::Codec { id } => Self::Compression { codec: id },
        }
    }
}

fn only_batch(records: Bytes) -> Result<BatchView, Invalid> {
    let (batch, rest) = BatchView::first(records).map_err(Invalid::of)?;
    if rest.is_empty() { Ok(batch) } else { Err(Invalid::Malformed(Rule::OneBatch)) }
}

fn describe(batch: &BatchView) -> Result<BatchMeta, Invalid> {
    if batch.is_control() {
        return Err(Invalid::Malformed(Rule::Control));
    }
    if batch.is_transactional() {
        return Err(Invalid::Transactional);
    }
    let numbered = batch.producer_id() >= 0;
    if numbered && (batch.producer_epoch() < 0 || batch.base_sequence() < 0) {
        return Err(Invalid::Malformed(Rule::Producer));
    }
    Ok(BatchMeta {
        bytes: u32::try_from(batch.bytes().len()).map_err(|_| Invalid::Corrupt)?,
        records: batch.count().unsigned_abs(),
        max_timestamp: batch.max_timestamp(),
        producer: numbered.then_some(ProducerBatch {
            id: batch.producer_id(),
            epoch: batch.producer_epoch(),
            first_sequence: batch.base_sequence(),
        }),
        transactional: false,
    })
}

fn check_timestamps(batch: &BatchView, rule: TimestampRule, now_ms: i64) -> Result<(), Invalid> {
    if batch.timestamp_type() == TimestampType::LogAppend {
        return Err(Invalid::Timestamp { timestamp: batch.max_timestamp() });
    }
    let TimestampRule::CreateTime { before_max_ms, after_max_ms } = rule else { return Ok(()) };
    let bounds = now_ms.saturating_sub(before_max_ms)..=now_ms.saturating_add(after_max_ms);
    let out_of_bounds = |timestamp: &i64| *timestamp != NO_TIMESTAMP && !bounds.contains(timestamp);
    match [batch.base_timestamp(), batch.max_timestamp()].into_iter().find(out_of_bounds) {
        Some(timestamp) => Err(Invalid::Timestamp { timestamp }),
        None => Ok(()),
    }
}
