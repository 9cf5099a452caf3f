//! Which producers had state in partitions of deleted topics. A client goes on numbering when a topic is deleted and
//! created again under its name, so in the new topic it need not start at 0.
//!
//! It is kept for each partition, not for the topic as a whole: on a partition to which it never wrote, a producer
//! does start at 0, and accepting its batch 5 before its batch 0 there would lose or re-order records. An id that
//! has expired may start anywhere, so what is remembered of it has no meaning, and goes with the rest at the bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::limits::REMEMBERED_PAIRS;

/// (partition index, producer id).
pub(crate) type Pairs = Arc<BTreeSet<(u32, i64)>>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// By topic name: when it was deleted (the count of deletions until then), and what it remembered.
    pub(crate) topics: BTreeMap<Arc<str>, (u64, Pairs)>,
    /// By time of deletion; the oldest goes first.
    by_age: BTreeMap<u64, Arc<str>>,
    pub(crate) deletions: u64,
    /// The pairs in `topics`.
    pairs: usize,
    /// The pairs that re-created topics hold.
    pub(crate) lent: usize,
}

impl Remembered {
    /// Keeps a deleted topic's pairs; forgets the longest deleted topics' at the bound.
    pub(crate) fn keep(&mut self, name: Arc<str>, pairs: Pairs) {
        let age = self.deletions;
        self.deletions = age.saturating_add(1);
        self.restore(name, age, pairs);
        while self.pairs.saturating_add(self.lent) > REMEMBERED_PAIRS {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            if let Some((_, forgotten)) = self.topics.remove(&oldest) {
                self.pairs -= forgotten.len();
            }
        }
    }

    /// Puts an entry where it was, as a snapshot has it.
    pub(crate) fn restore(&mut self, name: Arc<str>, age: u64, pairs: Pairs) {
        self.forget(&name);
        if pairs.is_empty() {
            return;
        }
        self.pairs = self.pairs.saturating_add(pairs.len());
        self.by_age.insert(age, name.clone());
        self.topics.insert(name, (age, pairs));
    }

    /// Hands what is remembered of a name to the topic that is created under it.
    pub(crate) fn lend(&mut self, name: &str) -> Pairs {
        let pairs = self.forget(name).unwrap_or_default();
        self.lent = self.lent.saturating_add(pairs.len());
        pairs
    }

    fn forget(&mut self, name: &str) -> Option<Pairs> {
        let (age, pairs) = self.topics.remove(name)?;
        self.by_age.remove(&age);
        self.pairs -= pairs.len();
        Some(pairs)
    }
}
