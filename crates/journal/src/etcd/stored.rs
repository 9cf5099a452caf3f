//! What stands in the journal's keys. Owns the bytes of head, session and pointer; an entry's are its appender's own.
//!
//! ```text
//! H   16  incarnation
//!
//! S    1  format version, 1
//!      8  nonce
//!     16  identity token
//!      …  the opening entry: what it says of listeners and rack is said once
//!
//! P    1  format version, 1
//!     16  incarnation
//!      8  base: the ordinal before this life's first entry
//!      8  ordinal of the newest snapshot, 0 for none yet
//!      8  ordinal up to which entries may be truncated
//!      8  its revision
//!      4  number of sessions; each at that ordinal:
//!          8 nonce, 8 number of its next entry, 8 revision of its opening
//!      …  the publisher's words
//! ```
//!
//! Numbers are big-endian. A newer version is refused before anything is written.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::kv::Revision;
use crate::{Identity, Pointer, Position};

const VERSION: u8 = 1;

/// Why stored bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the {what} has format version {version}; this broker reads up to {VERSION}: start a newer release")]
    Newer { what: &'static str, version: u8 },
    #[error("the {what} cannot be read")]
    Malformed { what: &'static str },
}

pub(super) fn encode_head(incarnation: u128) -> Bytes {
    Bytes::copy_from_slice(&incarnation.to_be_bytes())
}

/// A live session as its key says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredSession {
    pub(super) nonce: u64,
    pub(super) token: u128,
    pub(super) opening: Bytes,
}

impl StoredSession {
    pub(super) fn new(identity: Identity, nonce: u64, opening: Bytes) -> Self {
        Self { nonce, token: identity.token, opening }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(25 + self.opening.len());
        out.put_u8(VERSION);
        out.put_u64(self.nonce);
        out.put_u128(self.token);
        out.put_slice(&self.opening);
        out.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Unreadable> {
        let mut bytes = check_version(bytes.clone(), "session")?;
        let malformed = |_short| Unreadable::Malformed { what: "session" };
        let nonce = bytes.try_get_u64().map_err(malformed)?;
        let token = bytes.try_get_u128().map_err(malformed)?;
        Ok(Self { nonce, token, opening: bytes })
    }
}

/// A session at some ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// The number of its next entry.
    pub(super) next: u64,
    /// The revision of its opening: its fence.
    pub(super) fence: Revision,
}

/// The pointer with what this backend keeps beside the publisher's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPointer {
    pub(super) incarnation: u128,
    pub(super) base: u64,
    /// Of the newest snapshot; 0 if none was published.
    pub(super) ordinal: u64,
    /// Entries up to this place may be truncated.
    pub(super) floor: Position,
    /// Each session at the floor.
    pub(super) counts: BTreeMap<u64, Count>,
    pub(super) value: Bytes,
}

impl StoredPointer {
    /// Of a journal without entries.
    pub(super) fn first(incarnation: u128, base: u64) -> Self {
        let floor = Position { ordinal: base, revision: 0 };
        Self { incarnation, base, ordinal: 0, floor, counts: BTreeMap::new(), value: Bytes::new() }
    }

    /// As the port says it.
    pub(super) fn published(&self) -> Option<Pointer> {
        let truncatable = self.floor.ordinal;
        (self.ordinal > 0).then(|| Pointer { ordinal: self.ordinal, truncatable, value: self.value.clone() })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(53 + 24 * self.counts.len() + self.value.len());
        out.put_u8(VERSION);
        out.put_u128(self.incarnation);
        out.put_u64(self.base);
        out.put_u64(self.ordinal);
        out.put_u64(self.floor.ordinal);
        out.put_u64(self.floor.revision);
        out.put_u32(u32::try_from(self.counts.len()).expect("a request holds fewer sessions"));
        for (nonce, count) in &self.counts {
            out.put_u64(*nonce);
            out.put_u64(count.next);
            out.put_u64(count.fence);
        }
        out.put_slice(&self.value);
        out.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Unreadable> {
        let bytes = check_version(bytes.clone(), "pointer")?;
        Self::fields(bytes).map_err(|_short| Unreadable::Malformed { what: "pointer" })
    }

    fn fields(mut bytes: Bytes) -> Result<Self, bytes::TryGetError> {
        let incarnation = bytes.try_get_u128()?;
        let base = bytes.try_get_u64()?;
        let ordinal = bytes.try_get_u64()?;
        let floor = Position { ordinal: bytes.try_get_u64()?, revision: bytes.try_get_u64()? };
        let mut counts = BTreeMap::new();
        for _ in 0..bytes.try_get_u32()? {
            let nonce = bytes.try_get_u64()?;
            let count = Count { next: bytes.try_get_u64()?, fence: bytes.try_get_u64()? };
            counts.insert(nonce, count);
        }
        Ok(Self { incarnation, base, ordinal, floor, counts, value: bytes })
    }
}

fn check_version(mut bytes: Bytes, what: &'static str) -> Result<Bytes, Unreadable> {
    match bytes.try_get_u8() {
        Ok(VERSION) => Ok(bytes),
        Ok(version) if version > VERSION => Err(Unreadable::Newer { what, version }),
        Ok(_) | Err(_) => Err(Unreadable::Malformed { what }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn pointers()(
            incarnation: u128,
            numbers in any::<[u64; 4]>(),
            counts in btree_map(any::<u64>(), (any::<u64>(), any::<u64>()), 0..5),
            value in vec(any::<u8>(), 0..20),
        ) -> StoredPointer {
            let [base, ordinal, floor, revision] = numbers;
            let counts = counts.into_iter().map(|(nonce, (next, fence))| (nonce, Count { next, fence })).collect();
            let floor = Position { ordinal: floor, revision };
            StoredPointer { incarnation, base, ordinal, floor, counts, value: value.into() }
        }
    }

    proptest! {
        #[test]
        fn pointers_round_trip(pointer in pointers()) {
            prop_assert_eq!(StoredPointer::decode(&pointer.encode()), Ok(pointer));
        }

        #[test]
        fn sessions_round_trip(nonce: u64, token: u128, opening in vec(any::<u8>(), 0..20)) {
            let session = StoredSession { nonce, token, opening: opening.into() };
            prop_assert_eq!(StoredSession::decode(&session.encode()), Ok(session));
        }

        #[test]
        fn what_is_cut_short_is_refused(pointer in pointers(), cut in 1..53usize) {
            let short = pointer.encode().slice(..cut);
            prop_assert_eq!(StoredPointer::decode(&short), Err(Unreadable::Malformed { what: "pointer" }));
        }

        #[test]
        fn nothing_panics(bytes in vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _either = (StoredPointer::decode(&bytes).is_ok(), StoredSession::decode(&bytes).is_ok());
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let newer = Bytes::from_static(&[2, 0, 0]);
        assert_eq!(StoredPointer::decode(&newer), Err(Unreadable::Newer { what: "pointer", version: 2 }));
        assert_eq!(StoredSession::decode(&newer), Err(Unreadable::Newer { what: "session", version: 2 }));
    }

    #[test]
    fn only_a_published_pointer_is_one() {
        let mut pointer = StoredPointer::first(7, 100);
        assert_eq!(pointer.published(), None);
        pointer.ordinal = 120;
        assert_eq!(pointer.published(), Some(Pointer { ordinal: 120, truncatable: 100, value: Bytes::new() }));
    }
}
