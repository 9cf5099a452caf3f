//! The compression codecs of batches.
//!
//! Owns their numbers and how to stream each. Does not bound what comes out: the reader of records does (`iter.rs`).

use std::io::{Read, Write};

use bytes::{Buf, Bytes};

use super::snappy;

/// How the records of a batch are compressed, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Codec {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of a number, if there is one.
    pub fn of(id: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| *codec as i16 == id)
    }

    /// What inflates `bytes`, bit by bit. Snappy knows sizes beforehand, and refuses blocks larger than `limit`.
    pub(super) fn reader(self, bytes: Bytes, limit: usize) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => Box::new(bytes.reader()),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes.reader())),
            Self::Snappy => Box::new(snappy::Reader::new(bytes, limit)),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes.reader())),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes.reader())?),
        })
    }

    /// The bytes, compressed as Kafka's clients do.
    pub(super) fn compress(self, bytes: Bytes) -> Bytes {
        const CANNOT_FAIL: &str = "compressing into memory cannot fail";
        match self {
            Self::None => bytes,
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&bytes).expect(CANNOT_FAIL);
                encoder.finish().expect(CANNOT_FAIL).into()
            }
            Self::Snappy => snappy::compress(&bytes),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&bytes).expect(CANNOT_FAIL);
                encoder.finish().expect(CANNOT_FAIL).into()
            }
            Self::Zstd => zstd::encode_all(&*bytes, zstd::DEFAULT_COMPRESSION_LEVEL).expect(CANNOT_FAIL).into(),
        }
    }
}
