//! Where every entry since the pointer's floor is: its key and its revision, without its bytes. Owns the way from
//! ordinals to keys and back.

use std::collections::VecDeque;

use super::super::kv::{KeyValue, Revision};
use crate::Position;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Mark {
    pub(in super::super) nonce: u64,
    pub(in super::super) n: u64,
    pub(in super::super) revision: Revision,
    /// About what it takes in an answer.
    pub(in super::super) bytes: usize,
}

impl Mark {
    pub(super) fn new(nonce: u64, n: u64, entry: &KeyValue) -> Self {
        Self { nonce, n, revision: entry.mod_revision, bytes: entry.key.len() + entry.value.len() }
    }
}

/// The entries after ordinal `before`, without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Marks {
    before: Position,
    marks: VecDeque<Mark>,
}

impl Marks {
    pub(super) fn after(before: Position) -> Self {
        Self { before, marks: VecDeque::new() }
    }

    pub(super) fn push(&mut self, mark: Mark) {
        self.marks.push_back(mark);
    }

    /// The first ordinal that has a mark, or will have.
    pub(in super::super) fn first(&self) -> u64 {
        self.before.ordinal + 1
    }

    /// Whether a session has an entry among them.
    pub(in super::super) fn has(&self, nonce: u64) -> bool {
        self.marks.iter().any(|mark| mark.nonce == nonce)
    }

    /// Those after ordinal `after` up to `until`.
    pub(in super::super) fn between(&self, after: u64, until: u64) -> impl Iterator<Item = &Mark> {
        let skip = usize::try_from(after.saturating_sub(self.before.ordinal)).unwrap_or(usize::MAX);
        let most = usize::try_from(until.saturating_sub(after.max(self.before.ordinal))).unwrap_or(usize::MAX);
        self.marks.iter().skip(skip).take(most)
    }

    /// The place of an ordinal: one that has a mark, or the one before the first.
    pub(in super::super) fn place(&self, ordinal: u64) -> Option<Position> {
        if ordinal == self.before.ordinal {
            return Some(self.before);
        }
        let index = usize::try_from(ordinal.checked_sub(self.first())?).ok()?;
        self.marks.get(index).map(|mark| Position { ordinal, revision: mark.revision })
    }

    pub(super) fn ordinal_at(&self, revision: Revision) -> Option<u64> {
        let index = self.marks.binary_search_by_key(&revision, |mark| mark.revision).ok()?;
        Some(self.first() + index as u64)
    }

    pub(super) fn place_of(&self, nonce: u64, n: u64) -> Option<Position> {
        let index = self.marks.iter().rposition(|mark| (mark.nonce, mark.n) == (nonce, n))?;
        self.place(self.first() + index as u64)
    }

    /// Drops those up to `ordinal`.
    pub(super) fn forget(&mut self, ordinal: u64) {
        while self.before.ordinal < ordinal
            && let Some(mark) = self.marks.pop_front()
        {
            self.before = Position { ordinal: self.before.ordinal + 1, revision: mark.revision };
        }
    }
}
