//! Inputs that look like what they are to be taken for: checksums made right, parts taken apart.
//!
//! Nothing in here may depend on more than the bytes, and all of it takes any bytes: what does not look like its format
//! is left as it is.

use crc_fast::{CrcAlgorithm, Digest};
use xxhash_rust::xxh3::Xxh3;

/// CRC-32C of the parts, one after the other.
fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    u32::try_from(digest.finalize()).expect("a 32-bit CRC fits 32 bits")
}

fn be_u32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn le_u32(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(there) = bytes.get_mut(at..at + N) {
        there.copy_from_slice(&value);
    }
}

/// The checksums of Kafka's record batches that follow one another.
pub fn batches(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(length) = be_u32(rest, 8).filter(|length| (49..=rest.len() - 12).contains(length)) {
        let (batch, after) = rest.split_at_mut(12 + length);
        let check = crc(&[&batch[21..]]);
        put(batch, 17, check.to_be_bytes());
        rest = after;
    }
}

/// The checksums of an object: its header, its sections, its footer.
pub fn bundle(bytes: &mut [u8]) {
    if bytes.len() < 52 {
        return;
    }
    let header = crc(&[&bytes[..36]]);
    put(bytes, 36, header.to_be_bytes());
    let trailer = bytes.len() - 12;
    let start = be_u32(bytes, trailer).and_then(|footer| trailer.checked_sub(footer));
    let Some(start) = start.filter(|start| *start >= 40) else { return };
    let mut at = start + 4;
    while at + 60 <= trailer {
        let (Some(position), Some(length), Some(sparse)) =
            (be_u32(bytes, at + 20), be_u32(bytes, at + 24), be_u32(bytes, at + 56))
        else {
            break;
        };
        if let Some(section) = bytes.get(position..position.saturating_add(length)) {
            let check = crc(&[section]);
            put(bytes, at + 48, check.to_be_bytes());
        }
        at = at.saturating_add(60).saturating_add(sparse.saturating_mul(20));
    }
    let footer = crc(&[&bytes[start..trailer]]);
    put(bytes, trailer + 4, footer.to_be_bytes());
}

/// Frames as a snapshot.
pub fn snapshot(frames: &[u8]) -> Vec<u8> {
    let body = zstd::bulk::compress(frames, 1).expect("compressing into memory cannot fail");
    let mut bytes = b"KFSSNAP\n\x01\0\0\0".to_vec();
    bytes.extend((frames.len() as u64).to_le_bytes());
    let mut hasher = Xxh3::new();
    hasher.update(&bytes[8..20]);
    hasher.update(&body);
    bytes.extend(hasher.digest().to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Pieces, each behind two bytes of its length; the last one may be shorter than it says.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (piece, after) = after.split_at(after.len().min(u16::from_be_bytes(*length).into()));
        rest = after;
        Some(piece)
    })
}

/// The reverse of [`pieces`].
pub fn join<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let length = u16::try_from(piece.len()).expect("a piece of an input is small");
        bytes.extend(length.to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

/// The files of a journal's directory.
#[derive(Debug, Default)]
pub struct Files {
    /// Names and contents.
    pub named: Vec<(String, Vec<u8>)>,
}

impl Files {
    const CHECKSUMS: u8 = 1;
    const ORDINALS: u8 = 2;
    const POINTER: u8 = 4;
    const TEMPORARY: u8 = 8;

    /// A byte of flags (1: checksums are made right, 2: ordinals too, 4: the first piece is the pointer, 8: a
    /// `pointer.tmp` is there), then [`pieces`]: each log file is eight bytes of the ordinal in its name, and its bytes.
    pub fn parse(input: &[u8]) -> Self {
        let mut files = Self::default();
        let Some((flags, rest)) = input.split_first() else { return files };
        let mut pieces = pieces(rest);
        let pointer = if flags & Self::POINTER != 0 { pieces.next().map(<[u8]>::to_vec) } else { None };
        let mut before = None;
        let mut incarnation = None;
        for piece in pieces.take(16) {
            let Some((first, log)) = piece.split_first_chunk::<8>() else { continue };
            let (first, mut log) = (u64::from_be_bytes(*first), log.to_vec());
            if flags & Self::CHECKSUMS != 0 {
                incarnation = incarnation.or_else(|| log.get(16..32).map(<[u8]>::to_vec));
                let ordinal = (flags & Self::ORDINALS != 0).then_some(first);
                before = repair_log(&mut log, ordinal, before);
            }
            files.named.push((format!("{first:020}.log"), log));
        }
        if let Some(mut pointer) = pointer {
            if flags & Self::CHECKSUMS != 0 {
                repair_pointer(&mut pointer, incarnation);
            }
            files.named.push(("pointer".to_owned(), pointer));
        }
        if flags & Self::TEMPORARY != 0 {
            files.named.push(("pointer.tmp".to_owned(), b"half a pointer".to_vec()));
        }
        files
    }

    /// The input that gives these log files and this pointer.
    pub fn input(logs: &[(u64, Vec<u8>)], pointer: Option<&[u8]>, repair: u8) -> Vec<u8> {
        let logs: Vec<Vec<u8>> = logs.iter().map(|(first, log)| [&first.to_be_bytes()[..], log].concat()).collect();
        let flags = repair & (Self::CHECKSUMS | Self::ORDINALS) | if pointer.is_some() { Self::POINTER } else { 0 };
        let pieces = pointer.into_iter().chain(logs.iter().map(Vec::as_slice));
        [vec![flags], join(pieces)].concat()
    }
}

/// The checksums of a log file, chained to the file before it; returns the last chain value.
fn repair_log(log: &mut [u8], mut ordinal: Option<u64>, before: Option<u32>) -> Option<u32> {
    let incarnation: [u8; 16] = *log.get(16..64)?.first_chunk()?;
    if let Some(first) = ordinal {
        put(log, 32, first.to_le_bytes());
    }
    let mut chain = before.unwrap_or_else(|| crc(&[&incarnation]));
    put(log, 12, chain.to_le_bytes());
    let header = crc(&[&log[..60]]);
    put(log, 60, header.to_le_bytes());
    let mut at = 64;
    while let Some(body) = le_u32(log, at + 4).filter(|body| at + 32 + body <= log.len()) {
        if let Some(first) = &mut ordinal {
            put(log, at + 8, first.to_le_bytes());
            *first = first.wrapping_add(le_u32(log, at + 16).unwrap_or(0) as u64);
        }
        chain = crc(&[&chain.to_le_bytes(), &log[at..at + 24], &log[at + 32..at + 32 + body]]);
        put(log, at + 24, chain.to_le_bytes());
        let header = crc(&[&incarnation, &log[at..at + 28]]);
        put(log, at + 28, header.to_le_bytes());
        at += 32 + body;
    }
    Some(chain)
}

fn repair_pointer(pointer: &mut [u8], incarnation: Option<Vec<u8>>) {
    let Some(end) = pointer.len().checked_sub(4).filter(|end| *end >= 48) else { return };
    if let Some(incarnation) = incarnation {
        pointer[16..32].copy_from_slice(&incarnation);
    }
    let length = u32::try_from(end - 48).expect("a piece of an input is small");
    put(pointer, 12, length.to_le_bytes());
    let check = crc(&[&pointer[..end]]);
    put(pointer, end, check.to_le_bytes());
}
