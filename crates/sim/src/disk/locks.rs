//! Who holds which file's lock. Owns the rule that a lock which a crash has freed is not freed again by its old holder;
//! that a crash frees all of them is the disk's matter.

use std::collections::BTreeMap;

use super::names::Ino;

/// The locks that are held.
#[derive(Default)]
pub(super) struct Locks {
    held: BTreeMap<Ino, u64>,
    taken: u64,
}

impl Locks {
    /// Takes a file's lock and gives its id; `None` if somebody holds it.
    pub(super) fn take(&mut self, ino: Ino) -> Option<u64> {
        if self.held.contains_key(&ino) {
            return None;
        }
        self.taken += 1;
        self.held.insert(ino, self.taken);
        Some(self.taken)
    }

    /// Frees a lock, if it is still the one of this id: after a crash another life may hold it.
    pub(super) fn release(&mut self, ino: Ino, id: u64) {
        if self.held.get(&ino) == Some(&id) {
            self.held.remove(&ino);
        }
    }

    /// The process that held them is gone.
    pub(super) fn release_all(&mut self) {
        self.held.clear();
    }
}
