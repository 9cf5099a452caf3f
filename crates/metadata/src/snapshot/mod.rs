//! The whole state as bytes, and back.
//!
//! ```text
//! "KFSSNAP\n"   8 bytes
//! version       4 bytes, little-endian
//! length        8 bytes, little-endian: of the frames before compression
//! checksum      8 bytes, little-endian: XXH3 of version, length and all that follows
//! frames        zstd; each frame behind its length, a varint (proto/snapshot.proto)
//! ```
//!
//! Version 1 had no groups; version 2 did not say which sessions are ready to coordinate them, which none was then.
//!
//! The frames are a pure function of the state: two states are equal if and only if their frames are. (The compressed
//! bytes also depend on the compressor's version, so it is [`content_hash`] that brokers compare.) Writing and reading
//! go frame by frame, a partition or a few thousand extents at a time. Reading takes any bytes: what it allocates is
//! bounded by what is there, a state that the fold could not have made is an error, and it never panics.

mod read;
mod read_groups;
mod write;
mod write_groups;

use std::io::{BufReader, Read, Write as _};

use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use crate::encode::{DecodeError, proto};
use crate::state::State;

const MAGIC: &[u8; 8] = b"KFSSNAP\n";
/// The format that is written, and the newest that is read. Version 1 had no groups, version 2 no
/// standing of sessions.
pub const VERSION: u32 = 3;
const HEADER_BYTES: usize = 28;
const ZSTD_LEVEL: i32 = 1;
/// The largest frame: a million remembered pairs fit.
const FRAME_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Producers or extents in one frame.
const COLUMN: usize = 4096;

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes do not begin as a snapshot does.
    #[error("this is not a snapshot")]
    NotASnapshot,
    /// A newer release wrote it.
    #[error(
        "the snapshot has format {version}, and this release knows {VERSION}: a newer release wrote it, use that one"
    )]
    Newer {
        /// Its format.
        version: u32,
    },
    /// It is cut off, or bytes of it changed, or they are no state.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> SnapshotError {
        match error {
            DecodeError::Malformed(what) => SnapshotError::Damaged(what),
            DecodeError::Format(_) | DecodeError::Newer { .. } => SnapshotError::Damaged("a nested format"),
        }
    }
}

/// The state as a snapshot's bytes.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    const INFALLIBLE: &str = "compressing into memory cannot fail";
    let mut encoder = zstd::stream::write::Encoder::new(vec![0; HEADER_BYTES], ZSTD_LEVEL).expect(INFALLIBLE);
    let mut length = 0_u64;
    write::frames(state, &mut |frame| {
        length = length.saturating_add(frame.len() as u64);
        encoder.write_all(frame).expect(INFALLIBLE);
    });
    let mut bytes = encoder.finish().expect(INFALLIBLE);
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&header[8..20], body);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The state that a snapshot holds.
pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::NotASnapshot)?;
    let cut_off = SnapshotError::Damaged("its header is cut off");
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(cut_off)?;
    let version = u32::from_le_bytes(*version);
    if version > VERSION {
        return Err(SnapshotError::Newer { version });
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(cut_off)?;
    let (stored, body) = rest.split_first_chunk::<8>().ok_or(cut_off)?;
    if checksum(&bytes[8..20], body) != u64::from_le_bytes(*stored) {
        return Err(SnapshotError::Damaged("its checksum is another: it is cut off, or bytes of it changed"));
    }
    let mut frames = Frames::new(body, u64::from_le_bytes(*length))?;
    let mut builder = read::Builder::default();
    while let Some(frame) = frames.next()? {
        builder.take(frame)?;
    }
    builder.finish()
}

/// The hash of what a snapshot of the state holds: equal for equal states, whatever compressed it.
#[must_use]
pub fn content_hash(state: &State) -> u64 {
    let mut hasher = Xxh3::new();
    write::frames(state, &mut |frame| hasher.update(frame));
    hasher.digest()
}

fn checksum(header: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(body);
    hasher.digest()
}

/// The frames of a snapshot's body, one at a time.
struct Frames<'a> {
    source: std::io::Take<BufReader<zstd::stream::read::Decoder<'static, BufReader<&'a [u8]>>>>,
    buffer: Vec<u8>,
}

impl<'a> Frames<'a> {
    fn new(body: &'a [u8], length: u64) -> Result<Frames<'a>, SnapshotError> {
        let decoder = zstd::stream::read::Decoder::new(body);
        let decoder = decoder.map_err(|_| SnapshotError::Damaged("it cannot be decompressed"))?;
        Ok(Frames { source: BufReader::new(decoder).take(length), buffer: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<proto::Frame>, SnapshotError> {
        let Some(length) = self.length()? else { return Ok(None) };
        if length > FRAME_BYTES_MAX {
            return Err(SnapshotError::Damaged("a frame claims to be too large"));
        }
        self.buffer.clear();
        let read = self.source.by_ref().take(length).read_to_end(&mut self.buffer);
        if read.ok().map(|r| r as u64) != Some(length) {
            return Err(SnapshotError::Damaged("a frame is cut off"));
        }
        let frame = proto::Frame::decode(self.buffer.as_slice());
        frame.map(Some).map_err(|_| SnapshotError::Damaged("a frame is no message"))
    }

    /// The varint before a frame; none at the end.
    fn length(&mut self) -> Result<Option<u64>, SnapshotError> {
        let mut length = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let mut byte = [0_u8];
            match self.source.read(&mut byte) {
                Ok(0) if shift == 0 => return Ok(None),
                Ok(1) => length |= u64::from(byte[0] & 0x7f) << shift,
                Ok(_) | Err(_) => return Err(SnapshotError::Damaged("a frame's length is cut off")),
            }
            if byte[0] & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(SnapshotError::Damaged("a frame claims to be too large"))
    }
}
