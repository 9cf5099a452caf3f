//! The table of living producer ids: last activity, and whether the id is strict.
//!
//! Ids are allocated one after the other, so the table is cut into pages of 256 neighbours behind `Arc`: a snapshot
//! clones a table of pointers, and a change copies one page. A living id costs 24 bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A living producer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The id.
    pub id: i64,
    /// The time of the last entry in which a batch of it was accepted, or of its allocation; milliseconds.
    pub last_activity: i64,
    /// It was allocated here and has lived since, so a partition without state of it has never seen a batch of it.
    pub strict: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    pages: BTreeMap<i64, Arc<Vec<Producer>>>,
    len: usize,
    foreign: usize,
}

impl Producers {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Living ids that are not strict.
    pub(crate) fn foreign(&self) -> usize {
        self.foreign
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Producer> {
        let page = self.pages.get(&page_of(id))?;
        let index = page.binary_search_by_key(&id, |p| p.id).ok()?;
        page.get(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Producer> {
        self.pages.values().flat_map(|page| page.iter())
    }

    /// The largest living id in `first..=last`.
    pub(crate) fn last_within(&self, first: i64, last: i64) -> Option<i64> {
        let pages = self.pages.range(page_of(first)..=page_of(last)).rev();
        pages.flat_map(|(_, page)| page.iter().rev()).map(|p| p.id).find(|id| (first..=last).contains(id))
    }

    /// Adds an id that is not in the table.
    pub(crate) fn insert(&mut self, producer: Producer) {
        let page = Arc::make_mut(self.pages.entry(page_of(producer.id)).or_default());
        if let Err(index) = page.binary_search_by_key(&producer.id, |p| p.id) {
            page.insert(index, producer);
            self.len += 1;
            self.foreign += usize::from(!producer.strict);
        }
    }

    /// Notes an activity. Brokers' clocks differ: the time never goes back.
    pub(crate) fn touch(&mut self, id: i64, time_ms: i64) {
        if self.get(id).is_none_or(|p| p.last_activity >= time_ms) {
            return;
        }
        let Some(page) = self.pages.get_mut(&page_of(id)) else { return };
        if let Ok(index) = page.binary_search_by_key(&id, |p| p.id) {
            Arc::make_mut(page)[index].last_activity = time_ms;
        }
    }

    pub(crate) fn remove(&mut self, id: i64) {
        let Some(page) = self.pages.get_mut(&page_of(id)) else { return };
        let Ok(index) = page.binary_search_by_key(&id, |p| p.id) else { return };
        let removed = Arc::make_mut(page).remove(index);
        self.len -= 1;
        self.foreign -= usize::from(!removed.strict);
        if page.is_empty() {
            self.pages.remove(&page_of(id));
        }
    }
}

fn page_of(id: i64) -> i64 {
    id >> 8
}
