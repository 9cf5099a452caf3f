//! The bytes of a journal entry: one format byte, then the protobuf message `kafscale.metadata.v1.Entry`
//! (`proto/entry.proto`), compressed if that makes it smaller.
//!
//! | format byte | what follows |
//! |---|---|
//! | 1 | the message |
//! | 2 | its length (4 bytes, little-endian), then the message, zstd |
//!
//! Each entry names its feature level, what a broker must understand to fold it: 1 is where it began, 2 brought consumer
//! groups and partitions that are added, 3 the commands of sessions that are ready to coordinate groups or withdraw (and
//! groups' commands are refused of any other session since). A release writes its own level, and folds older entries
//! as the release that wrote them did.
//!
//! Decoding takes any bytes: it never panics, what it allocates is bounded by the bytes that are there and by
//! [`MESSAGE_BYTES_MAX`], and what it does not understand is an error. This file owns the envelope; the columns of a
//! bundle are in [`columns`], commands of groups in [`groups`], the others in [`commands`].
//!
//! What is written all the time is small: a batch of a bundle takes at most 16 bytes; a consumer's commit of one offset
//! about 150 in an entry of its own, of which two thirds are the names of group and member; a commit of four offsets
//! about 45 where a hundred groups share an entry; and 10,000 offsets in one commit 2.5 each.

pub(crate) mod columns;
pub(crate) mod commands;
pub(crate) mod groups;

use prost::Message;

use crate::command::Entry;
use crate::limits::FEATURE_LEVEL;

/// The generated messages.
pub(crate) mod proto {
    #![expect(unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/kafscale.metadata.v1.rs"));
}

const PLAIN: u8 = 1;
const ZSTD: u8 = 2;
const ZSTD_LEVEL: i32 = 1;
/// Below this nothing is gained.
const COMPRESS_FROM_BYTES: usize = 128;

/// The largest message that a compressed entry may hold; a larger one is stored plain.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte is of no format that this release knows.
    #[error("entry format {0} is not known to this release: upgrade this broker, or the entry is damaged")]
    Format(u8),
    /// The entry needs a newer release.
    #[error("the journal needs feature level {level}, and this release knows {FEATURE_LEVEL}: upgrade this broker")]
    Newer {
        /// The entry's level.
        level: u32,
    },
    /// The bytes are no entry.
    #[error("the entry is damaged: {0}")]
    Malformed(&'static str),
}

impl Entry {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let message = commands::to_message(self).encode_to_vec();
        if let Some(compressed) = compress(&message) {
            return compressed;
        }
        let mut plain = Vec::with_capacity(message.len() + 1);
        plain.push(PLAIN);
        plain.extend_from_slice(&message);
        plain
    }

    /// Reads an entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        let (format, rest) = bytes.split_first().ok_or(DecodeError::Malformed("it is empty"))?;
        let message = match *format {
            PLAIN => proto::Entry::decode(rest),
            ZSTD => proto::Entry::decode(decompress(rest)?.as_slice()),
            other => return Err(DecodeError::Format(other)),
        };
        let message = message.map_err(|_| DecodeError::Malformed("not a message"))?;
        if message.feature_level > FEATURE_LEVEL {
            return Err(DecodeError::Newer { level: message.feature_level });
        }
        commands::from_message(message)
    }
}

/// Format byte, length and zstd frame, if that is smaller than the plain form.
fn compress(message: &[u8]) -> Option<Vec<u8>> {
    if !(COMPRESS_FROM_BYTES..=MESSAGE_BYTES_MAX).contains(&message.len()) {
        return None;
    }
    let frame = zstd::bulk::compress(message, ZSTD_LEVEL).ok()?;
    if frame.len() + 5 > message.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(frame.len() + 5);
    bytes.push(ZSTD);
    bytes.extend_from_slice(&u32::try_from(message.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&frame);
    Some(bytes)
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let (length, frame) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Malformed("its length is cut off"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(DecodeError::Malformed("it claims to be too large"));
    }
    let message =
        zstd::bulk::decompress(frame, length).map_err(|_| DecodeError::Malformed("it cannot be decompressed"))?;
    if message.len() != length {
        return Err(DecodeError::Malformed("its length is another"));
    }
    Ok(message)
}
