//! The records of a batch, for whoever must look into it (exact timestamp look-ups, tests, clients).
//!
//! Owns the format of a record, and the bound: a compressed batch is inflated record by record, and no further than the
//! caller's limit, so that a batch that inflates to terabytes costs an error. Uncompressed records are slices of the
//! batch.

use std::io::{self, BufReader, Read};

use bytes::{Buf, Bytes};

use super::batch::{BatchError, BatchView, TimestampType};
use super::compression::Codec;
use super::varint;

/// One record. Key, value and headers are slices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its place in the log.
    pub offset: i64,
    /// In ms since 1970.
    pub timestamp_ms: i64,
    /// The key; empty is not null.
    pub key: Option<Bytes>,
    /// The value; empty is not null.
    pub value: Option<Bytes>,
    /// The headers in order; keys may come twice.
    pub headers: Vec<Header>,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The key; UTF-8 as a rule, but nobody checks.
    pub key: Bytes,
    /// The value; empty is not null.
    pub value: Option<Bytes>,
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The batch's header is wrong.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The codec finds the bytes damaged, or they end too early.
    #[error("the records of a batch cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// The bytes are not records.
    #[error("a record is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The records are larger than the caller allows.
    #[error("the records of a batch take more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

fn damaged<T>(what: &'static str) -> Result<T, RecordError> {
    Err(RecordError::Damaged { what })
}

impl BatchView {
    /// The records, which may inflate to `limit` bytes together. Does not check the CRC.
    pub fn records(&self, limit: usize) -> Result<RecordIter, RecordError> {
        let codec = self.codec()?;
        let source = match codec {
            Codec::None => Source::Plain(Cursor { rest: self.body() }),
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                let reader = codec.reader(self.body(), limit).map_err(RecordError::Decompress)?;
                Source::Inflated(Inflated { reader: BufReader::new(reader), left: limit, limit })
            }
        };
        let append_time = (self.timestamp_type() == TimestampType::LogAppend).then(|| self.max_timestamp());
        Ok(RecordIter {
            source,
            left: self.count().max(0).unsigned_abs(),
            base_offset: self.base_offset(),
            base_timestamp: self.base_timestamp(),
            append_time,
            header_limit: limit / size_of::<Header>(),
            is_done: false,
        })
    }
}

/// The records of one batch in order; ends behind the first error.
#[derive(Debug)]
pub struct RecordIter {
    source: Source,
    left: u32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
    header_limit: usize,
    is_done: bool,
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = if self.left > 0 { self.record().map(Some) } else { self.source.expect_end().map(|()| None) };
        self.left = self.left.saturating_sub(1);
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl RecordIter {
    fn record(&mut self) -> Result<Record, RecordError> {
        let mut bytes = Cursor { rest: self.source.record()? };
        let _attributes = bytes.byte()?;
        let timestamp_delta = bytes.number()?;
        let offset_delta = bytes.small_number()?;
        let record = Record {
            offset: self.base_offset.wrapping_add(offset_delta.into()),
            timestamp_ms: self.append_time.unwrap_or(self.base_timestamp.wrapping_add(timestamp_delta)),
            key: bytes.nullable()?,
            value: bytes.nullable()?,
            headers: bytes.headers(self.header_limit)?,
        };
        bytes.expect_end("bytes are left behind its headers")?;
        Ok(record)
    }
}

#[derive(Debug)]
enum Source {
    Plain(Cursor),
    Inflated(Inflated),
}

impl Source {
    /// The bytes of the next record, without its length.
    fn record(&mut self) -> Result<Bytes, RecordError> {
        let length = match self {
            Self::Plain(cursor) => cursor.small_number()?,
            Self::Inflated(stream) => small(varint::read(|| stream.byte())?)?,
        };
        let Ok(length) = usize::try_from(length) else { return damaged("its length is negative") };
        match self {
            Self::Plain(cursor) => cursor.take(length),
            Self::Inflated(stream) => stream.take(length),
        }
    }

    fn expect_end(&mut self) -> Result<(), RecordError> {
        const MORE: &str = "more bytes follow the last";
        match self {
            Self::Plain(cursor) => cursor.expect_end(MORE),
            Self::Inflated(stream) => match stream.reader.read(&mut [0]).map_err(RecordError::Decompress)? {
                0 => Ok(()),
                _ => damaged(MORE),
            },
        }
    }
}

/// What comes out of a codec, up to a limit.
struct Inflated {
    reader: BufReader<Box<dyn Read + Send>>,
    left: usize,
    limit: usize,
}

impl std::fmt::Debug for Inflated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflated").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Inflated {
    fn charge(&mut self, bytes: usize) -> Result<(), RecordError> {
        self.left = self.left.checked_sub(bytes).ok_or(RecordError::TooLarge { limit: self.limit })?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        self.charge(1)?;
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(RecordError::Decompress)?;
        Ok(byte[0])
    }

    fn take(&mut self, length: usize) -> Result<Bytes, RecordError> {
        self.charge(length)?;
        // Grows as bytes come: the length is only a claim.
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(RecordError::Decompress)?;
        if bytes.len() < length {
            return damaged("it is cut off");
        }
        Ok(bytes.into())
    }
}

/// Bytes of a record, or of uncompressed records, being read.
#[derive(Debug)]
struct Cursor {
    rest: Bytes,
}

impl Cursor {
    fn byte(&mut self) -> Result<u8, RecordError> {
        self.rest.try_get_u8().or_else(|_| damaged("it is cut off"))
    }

    fn number(&mut self) -> Result<i64, RecordError> {
        varint::read(|| self.byte())?.map_or_else(|| damaged("a number has more than 64 bits"), Ok)
    }

    fn small_number(&mut self) -> Result<i32, RecordError> {
        small(varint::read(|| self.byte())?)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, RecordError> {
        if length > self.rest.len() {
            return damaged("it is cut off");
        }
        Ok(self.rest.split_to(length))
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, RecordError> {
        match self.small_number()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => damaged("a length is negative"),
            },
        }
    }

    /// At most `limit` headers: a header of two bytes takes sixty-four as a value.
    fn headers(&mut self, limit: usize) -> Result<Vec<Header>, RecordError> {
        let count = self.small_number()?;
        let Ok(count) = usize::try_from(count) else { return damaged("it has a negative number of headers") };
        if count > self.rest.len() || count > limit {
            return damaged("it has more headers than can be");
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let Some(key) = self.nullable()? else { return damaged("a header has no key") };
            headers.push(Header { key, value: self.nullable()? });
        }
        Ok(headers)
    }

    fn expect_end(&self, otherwise: &'static str) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { damaged(otherwise) }
    }
}

fn small(number: Option<i64>) -> Result<i32, RecordError> {
    let fits = number.and_then(|number| i32::try_from(number).ok());
    fits.map_or_else(|| damaged("a number has more than 32 bits"), Ok)
}
