//! The bytes of a journal file. Owns encoding and decoding of file headers, frames and entries; pure, no I/O. What
//! a damaged or torn frame means is decided in `verify`.
//!
//! All numbers are little-endian; every CRC is CRC-32C (Castagnoli). A file is one header and then frames without
//! padding:
//!
//! ```text
//! file header, 64 bytes                          frame header, 32 bytes
//!  0  8  magic "KAFSJRNL"                         0  4  magic "KFRM"
//!  8  4  format version, 1                        4  4  bytes of the body
//! 12  4  chain value before the first frame       8  8  ordinal of the first entry
//! 16 16  incarnation                             16  4  entries in the body, at least 1
//! 32  8  ordinal of the file's first entry       20  4  zero
//! 40 20  zero                                    24  4  chain value: CRC of (chain value of the frame before,
//! 60  4  CRC of bytes 0..60                             frame header 0..24, body)
//!                                                28  4  CRC of (incarnation, frame header 0..28)
//!
//! entry in a body
//!  0  1  kind: 1 opening, 2 append, 3 leave
//!  1  8  nonce of the session
//!  9  8  n, the entry's number in the session
//! 17  4  bytes of the entry
//! 21  …  the entry
//! ```
//!
//! The frame header's own CRC is checked before its length is believed. It begins with the incarnation, so that
//! bytes which a client managed to put into an entry can never pass for a frame.
//!
//! The chain value before the journal's first frame is the CRC of the incarnation. In every future version the
//! first 12 bytes and the CRC at byte 60 stay where they are, so that "newer" can be told from "damaged".

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

/// The format version that this release writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// Bytes of a file header.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// Bytes of a frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// Bytes of an entry's head.
pub(crate) const ENTRY_HEAD_BYTES: usize = 21;
/// An entry may have this many bytes: far above what any command needs (etcd's limit is 256 KiB).
pub const MAX_ENTRY_BYTES: usize = 8 << 20;
/// A frame's body may have this many bytes.
pub(crate) const MAX_BODY_BYTES: usize = 16 << 20;

const FILE_MAGIC: &[u8; 8] = b"KAFSJRNL";
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"KFRM";

const _: () = assert!(MAX_ENTRY_BYTES + ENTRY_HEAD_BYTES <= MAX_BODY_BYTES);

/// CRC-32C of the parts, one after the other.
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit CRC fits 32 bits")
}

/// The chain value before the journal's first frame.
pub(crate) fn first_chain(incarnation: u128) -> u32 {
    crc(&[&incarnation.to_le_bytes()])
}

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) incarnation: u128,
    /// Ordinal of the file's first entry; its name too.
    pub(crate) first: u64,
    /// Chain value before the file's first frame.
    pub(crate) chain: u32,
}

/// Why a file header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Short, or its CRC or magic is wrong: half made, or damaged.
    Unreadable,
    /// Whole, of this newer version.
    Newer(u32),
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FILE_HEADER_BYTES);
        out.put_slice(FILE_MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.chain);
        out.put_u128_le(self.incarnation);
        out.put_u64_le(self.first);
        out.put_bytes(0, 20);
        let check = crc(&[&out]);
        out.put_u32_le(check);
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let bytes = bytes.get(..FILE_HEADER_BYTES).ok_or(HeaderFault::Unreadable)?;
        let (covered, mut check) = bytes.split_at(FILE_HEADER_BYTES - 4);
        if check.get_u32_le() != crc(&[covered]) || !covered.starts_with(FILE_MAGIC) {
            return Err(HeaderFault::Unreadable);
        }
        let mut rest = &covered[FILE_MAGIC.len()..];
        let version = rest.get_u32_le();
        if version != VERSION {
            return Err(if version > VERSION { HeaderFault::Newer(version) } else { HeaderFault::Unreadable });
        }
        let chain = rest.get_u32_le();
        Ok(Self { incarnation: rest.get_u128_le(), first: rest.get_u64_le(), chain })
    }
}

/// What an entry does to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Opens it, n = 0.
    Open,
    /// Goes on.
    Append,
    /// Ends it.
    Leave,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Append => 2,
            Self::Leave => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Append),
            3 => Some(Self::Leave),
            _ => None,
        }
    }
}

/// One entry of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) nonce: u64,
    pub(crate) n: u64,
    pub(crate) bytes: Bytes,
}

/// A frame header whose own CRC is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) body_bytes: usize,
    /// Ordinal of the first entry.
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Chain value after this frame.
    pub(crate) chain: u32,
}

/// A frame ready to be written: slices that share the entries' memory.
pub(crate) struct Encoded {
    pub(crate) slices: Vec<Bytes>,
    /// Bytes of the whole frame.
    pub(crate) bytes: u64,
    /// Chain value after it.
    pub(crate) chain: u32,
}

/// Encodes the frame that follows the one with chain value `before`. The caller bounds the body's size.
pub(crate) fn encode_frame(incarnation: u128, before: u32, first: u64, entries: &[Entry]) -> Encoded {
    let mut body = Vec::with_capacity(entries.len() * 2);
    for entry in entries {
        let mut head = BytesMut::with_capacity(ENTRY_HEAD_BYTES);
        head.put_u8(entry.kind.code());
        head.put_u64_le(entry.nonce);
        head.put_u64_le(entry.n);
        head.put_u32_le(u32::try_from(entry.bytes.len()).expect("the caller bounds entries"));
        body.push(head.freeze());
        body.push(entry.bytes.clone());
    }
    let body_bytes: usize = body.iter().map(Bytes::len).sum();
    assert!(!entries.is_empty() && body_bytes <= MAX_BODY_BYTES, "a frame holds 1 entry or more, {body_bytes} bytes");

    let mut header = BytesMut::with_capacity(FRAME_HEADER_BYTES);
    header.put_slice(FRAME_MAGIC);
    header.put_u32_le(u32::try_from(body_bytes).expect("bounded above"));
    header.put_u64_le(first);
    header.put_u32_le(u32::try_from(entries.len()).expect("bounded by the body"));
    header.put_u32_le(0);
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&before.to_le_bytes());
    digest.update(&header);
    body.iter().for_each(|slice| digest.update(slice));
    let chain = u32::try_from(digest.finalize()).expect("a 32-bit CRC fits 32 bits");
    header.put_u32_le(chain);
    let check = crc(&[&incarnation.to_le_bytes(), &header]);
    header.put_u32_le(check);

    let mut slices = vec![header.freeze()];
    slices.append(&mut body);
    Encoded { slices, bytes: (FRAME_HEADER_BYTES + body_bytes) as u64, chain }
}

impl FrameHeader {
    /// Reads a frame header; `None` if these bytes are none of this journal's.
    pub(crate) fn decode(incarnation: u128, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        let (covered, mut check) = bytes.split_at(FRAME_HEADER_BYTES - 4);
        if !covered.starts_with(FRAME_MAGIC) || check.get_u32_le() != crc(&[&incarnation.to_le_bytes(), covered]) {
            return None;
        }
        let mut rest = &covered[FRAME_MAGIC.len()..];
        let body_bytes = rest.get_u32_le() as usize;
        let (first, count) = (rest.get_u64_le(), rest.get_u32_le());
        let zero = rest.get_u32_le();
        let chain = rest.get_u32_le();
        let sane =
            zero == 0 && count > 0 && body_bytes <= MAX_BODY_BYTES && first.checked_add(u64::from(count)).is_some();
        sane.then_some(Self { body_bytes, first, count, chain })
    }

    /// Whether this frame, `header` and `body` as they are on disk, follows the one with chain value `before`.
    pub(crate) fn follows(&self, before: u32, header: &[u8], body: &[u8]) -> bool {
        self.chain == crc(&[&before.to_le_bytes(), &header[..24], body])
    }

    /// The entries of a body whose chain value is right.
    pub(crate) fn entries(&self, mut body: Bytes) -> Result<Vec<Entry>, &'static str> {
        let mut entries = Vec::new();
        for _ in 0..self.count {
            if body.len() < ENTRY_HEAD_BYTES {
                return Err("the frame holds fewer entries than it says");
            }
            let kind = Kind::from_code(body.get_u8()).ok_or("an entry of an unknown kind")?;
            let (nonce, n, len) = (body.get_u64_le(), body.get_u64_le(), body.get_u32_le() as usize);
            if body.len() < len {
                return Err("an entry is longer than its frame");
            }
            entries.push(Entry { kind, nonce, n, bytes: body.split_to(len) });
        }
        if body.is_empty() { Ok(entries) } else { Err("the frame holds more than its entries") }
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
