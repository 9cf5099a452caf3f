//! Every key of the journal in etcd, in one table. Owns their spelling; what stands in them is in
//! [`stored`](super::stored).
//!
//! ```text
//! {root}/journal/e/{nonce, 16 hex digits}/{n, 10 digits}   E   an entry
//! {root}/journal/head                                      H   the journal's life; its version counts the entries
//! {root}/session/{broker id}                               S   a live session; on a lease
//! {root}/pointer                                           P   where a start begins
//! {root}/cluster                                           whose all this is
//! {root}/upkeep                                            who defragments etcd's members now; on a lease
//! ```
//!
//! `root` is what the journal's URL says, one for each cluster. The entries of a session sort by their number. Only the session itself writes keys
//! with its nonce; so what stands under `(nonce, n)` is what that session appended as its entry n, and nothing else.

use bytes::Bytes;

use super::kv::Keys;

/// A session has at most so many entries: its numbers have ten digits.
pub(super) const MAX_SESSION_ENTRIES: u64 = 10_000_000_000;

/// Makes the keys of one journal, and reads them.
#[derive(Debug, Clone)]
pub(super) struct Names {
    root: String,
}

/// What a key under `journal/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Entry {
        nonce: u64,
        n: u64,
    },
    Head,
    /// Not one of ours.
    Other,
}

impl Names {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned() }
    }

    pub(super) fn entry(&self, nonce: u64, n: u64) -> Bytes {
        format!("{}/journal/e/{nonce:016x}/{n:010}", self.root).into()
    }

    /// A session's entries from number `first` up to `end`, which is not one of them.
    pub(super) fn entries_of(&self, nonce: u64, first: u64, end: u64) -> Keys {
        Keys::Between(self.entry(nonce, first), self.entry(nonce, end))
    }

    pub(super) fn entries(&self) -> Keys {
        Keys::prefix(format!("{}/journal/e/", self.root).into())
    }

    pub(super) fn head(&self) -> Bytes {
        format!("{}/journal/head", self.root).into()
    }

    /// What is watched: entries and head.
    pub(super) fn watched(&self) -> Keys {
        Keys::prefix(format!("{}/journal/", self.root).into())
    }

    pub(super) fn session(&self, broker_id: i32) -> Bytes {
        format!("{}/session/{broker_id}", self.root).into()
    }

    pub(super) fn sessions(&self) -> Keys {
        Keys::prefix(format!("{}/session/", self.root).into())
    }

    pub(super) fn pointer(&self) -> Bytes {
        format!("{}/pointer", self.root).into()
    }

    pub(super) fn cluster(&self) -> Bytes {
        format!("{}/cluster", self.root).into()
    }

    pub(super) fn upkeep(&self) -> Bytes {
        format!("{}/upkeep", self.root).into()
    }

    pub(super) fn read(&self, key: &[u8]) -> Named {
        if key == self.head() {
            return Named::Head;
        }
        self.read_entry(key).map_or(Named::Other, |(nonce, n)| Named::Entry { nonce, n })
    }

    fn read_entry(&self, key: &[u8]) -> Option<(u64, u64)> {
        let key = std::str::from_utf8(key).ok()?;
        let (nonce, n) = key.strip_prefix(self.root.as_str())?.strip_prefix("/journal/e/")?.split_once('/')?;
        let (nonce, n) = (u64::from_str_radix(nonce, 16).ok()?, n.parse().ok()?);
        // One spelling for one entry.
        (self.entry(nonce, n) == key).then_some((nonce, n))
    }

    /// Whose session a key under `session/` is.
    pub(super) fn read_session(&self, key: &[u8]) -> Option<i32> {
        let key = std::str::from_utf8(key).ok()?;
        let broker_id = key.strip_prefix(self.root.as_str())?.strip_prefix("/session/")?.parse().ok()?;
        (self.session(broker_id) == key).then_some(broker_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new("kafscale/some cluster/")
    }

    #[test]
    fn the_table_stands() {
        assert_eq!(names().entry(0xab, 7), "kafscale/some cluster/journal/e/00000000000000ab/0000000007");
        assert_eq!(names().head(), "kafscale/some cluster/journal/head");
        assert_eq!(names().session(-1), "kafscale/some cluster/session/-1");
        assert_eq!(names().pointer(), "kafscale/some cluster/pointer");
        assert!(names().watched().contains(&names().head()) && !names().watched().contains(&names().pointer()));
    }

    proptest! {
        #[test]
        fn names_are_read_back(nonce: u64, n in 0..MAX_SESSION_ENTRIES, broker_id: i32) {
            let key = names().entry(nonce, n);
            prop_assert_eq!(names().read(&key), Named::Entry { nonce, n });
            prop_assert!(names().entries().contains(&key) && names().watched().contains(&key));
            prop_assert!(names().entries_of(nonce, n, n + 1).contains(&key));
            prop_assert!(!names().entries_of(nonce, 0, n).contains(&key));
            prop_assert!(!names().entries_of(nonce.wrapping_add(1), 0, n + 1).contains(&key));
            prop_assert_eq!(names().read_session(&names().session(broker_id)), Some(broker_id));
        }

        #[test]
        fn nothing_else_is_one(key: Vec<u8>, text in "kafscale/some cluster/journal/e/[0-9a-fA-F]{15,17}/[+0-9]{9,11}") {
            prop_assert_eq!(names().read(&key), Named::Other);
            if let Named::Entry { nonce, n } = names().read(text.as_bytes()) {
                prop_assert_eq!(names().entry(nonce, n), text);
            }
        }
    }
}
