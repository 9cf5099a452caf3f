//! The file `pointer`: where a starting broker begins. Owns its bytes and the order of steps in which it is replaced.
//!
//! ```text
//!  0  8  magic "KAFSPNTR"
//!  8  4  format version, 1
//! 12  4  bytes of the value
//! 16 16  incarnation of the journal
//! 32  8  ordinal of the newest snapshot
//! 40  8  ordinal up to which entries may be truncated
//! 48  …  the value
//! last 4  CRC-32C of all bytes before it, in every version
//! ```
//!
//! It is replaced by way of `pointer.tmp`: written, fsynced, renamed, directory fsynced. A crash leaves the old one
//! or the new one, and perhaps a `pointer.tmp`, which the next start removes.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafscale_ports::Disk;
use kafscale_ports::disk::OpenMode;

use super::error::StartError;
use super::format::{VERSION, crc};
use crate::Pointer;

const MAGIC: &[u8; 8] = b"KAFSPNTR";
const FIXED_BYTES: usize = 48;
/// A value may have this many bytes: a few object names.
pub(super) const MAX_VALUE_BYTES: usize = 1 << 20;

/// Where the pointer of the journal in `dir` is.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("pointer")
}

/// Where the next one is prepared.
pub(super) fn temp_path(dir: &Path) -> PathBuf {
    dir.join("pointer.tmp")
}

fn encode(incarnation: u128, pointer: &Pointer) -> Bytes {
    let mut out = BytesMut::with_capacity(FIXED_BYTES + pointer.value.len() + 4);
    out.put_slice(MAGIC);
    out.put_u32_le(VERSION);
    out.put_u32_le(u32::try_from(pointer.value.len()).expect("the caller bounds the value"));
    out.put_u128_le(incarnation);
    out.put_u64_le(pointer.ordinal);
    out.put_u64_le(pointer.truncatable);
    out.put_slice(&pointer.value);
    let check = crc(&[&out]);
    out.put_u32_le(check);
    out.freeze()
}

enum Fault {
    Unreadable,
    Newer(u32),
}

fn decode(bytes: &Bytes) -> Result<(u128, Pointer), Fault> {
    if bytes.len() < FIXED_BYTES + 4 {
        return Err(Fault::Unreadable);
    }
    let mut rest = bytes.slice(..bytes.len() - 4);
    if (&bytes[rest.len()..]).get_u32_le() != crc(&[&rest]) || !rest.starts_with(MAGIC) {
        return Err(Fault::Unreadable);
    }
    rest.advance(MAGIC.len());
    let version = rest.get_u32_le();
    if version > VERSION {
        return Err(Fault::Newer(version));
    }
    let value_bytes = rest.get_u32_le() as usize;
    let incarnation = rest.get_u128_le();
    let (ordinal, truncatable) = (rest.get_u64_le(), rest.get_u64_le());
    // A pointer names a snapshot, and the first one holds at least one entry.
    if version != VERSION || rest.len() != value_bytes || truncatable > ordinal || ordinal == 0 {
        return Err(Fault::Unreadable);
    }
    Ok((incarnation, Pointer { ordinal, truncatable, value: rest }))
}

/// Reads the pointer and the incarnation it belongs to; `None` if there is none. Changes nothing.
pub(super) async fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<(u128, Pointer)>, StartError> {
    let path = path(dir);
    let file = match disk.open(&path, OpenMode::Existing).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StartError::io("open the journal's pointer", &path)(error)),
    };
    // One byte more than there can be: a longer file fails by its CRC.
    let most = FIXED_BYTES + MAX_VALUE_BYTES + 5;
    let bytes = file.read_at(0, most).await.map_err(StartError::io("read the journal's pointer", &path))?;
    match decode(&bytes) {
        Ok(found) => Ok(Some(found)),
        Err(Fault::Newer(version)) => Err(StartError::Newer { path, version }),
        Err(Fault::Unreadable) => Err(StartError::damaged(&path, 0, "the pointer's checksum or length is wrong")),
    }
}

/// How far a step of the replacement came when it failed.
pub(super) enum StoreError {
    /// Before any fsync: it can be tried again.
    Failed(io::Error),
    /// A failed fsync: never tried again.
    Sync(io::Error),
}

/// Writes and fsyncs `pointer.tmp`; the pointer itself is untouched.
pub(super) async fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    incarnation: u128,
    pointer: &Pointer,
) -> Result<(), StoreError> {
    let temp = temp_path(dir);
    match disk.remove(&temp).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::Failed(error)),
    }
    let file = disk.open(&temp, OpenMode::CreateNew).await.map_err(StoreError::Failed)?;
    file.write_at(0, vec![encode(incarnation, pointer)]).await.map_err(StoreError::Failed)?;
    file.sync().await.map_err(StoreError::Sync)
}

/// Puts the prepared pointer in the old one's place, durably.
pub(super) async fn install(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    disk.rename(&temp_path(dir), &path(dir)).await.map_err(StoreError::Failed)?;
    disk.sync_dir(dir).await.map_err(StoreError::Sync)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pointer_round_trips(
            incarnation: u128, ordinal in 1u64.., back: u64, value in prop::collection::vec(any::<u8>(), 0..100),
            bit: prop::sample::Index,
        ) {
            let pointer = Pointer { ordinal, truncatable: ordinal.saturating_sub(back), value: value.into() };
            let bytes = encode(incarnation, &pointer);
            let decoded = decode(&bytes).ok();
            prop_assert_eq!(decoded, Some((incarnation, pointer)));
            let mut flipped = bytes.to_vec();
            let bit = bit.index(flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&flipped.into()).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes.into());
        }
    }
}
