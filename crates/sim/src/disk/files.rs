//! The contents of simulated files: what was written, beside what was made durable. Pure.
//!
//! Data is kept in pages. A page that was written and not fsynced is dirty; a crash leaves of each dirty page the
//! old one, the new one, or a part of each. A failed fsync leaves the pages clean and what is durable as it was, as
//! Linux does: the next fsync has nothing to do and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Op;
use crate::rng::Rng;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

type Page = Arc<Vec<u8>>;

/// Length and pages; a page that is absent is zeros.
#[derive(Debug, Clone, Default)]
struct Content {
    len: u64,
    pages: BTreeMap<u64, Page>,
}

impl Content {
    fn page(&self, at: u64) -> Page {
        self.pages.get(&at).cloned().unwrap_or_else(|| Arc::new(vec![0; page_bytes()]))
    }

    fn page_mut(&mut self, at: u64) -> &mut Vec<u8> {
        Arc::make_mut(self.pages.entry(at).or_insert_with(|| Arc::new(vec![0; page_bytes()])))
    }

    /// Drops everything from `len` on.
    fn cut(&mut self, len: u64) {
        self.len = len;
        self.pages.split_off(&len.div_ceil(PAGE));
        let within = index(len % PAGE);
        if within > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE))
        {
            Arc::make_mut(page)[within..].fill(0);
        }
    }
}

fn page_bytes() -> usize {
    index(PAGE)
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("simulated files fit in memory")
}

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct SimFile {
    now: Content,
    durable: Content,
    dirty: BTreeSet<u64>,
    /// The least length since the last fsync.
    low: u64,
    was_cut: bool,
    /// What the next fsync is to its caller, who does not know whether the last one lied.
    asked: Asked,
}

#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    ever: bool,
    cut_since: bool,
}

impl SimFile {
    pub(super) fn len(&self) -> u64 {
        self.now.len
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let within = index(at % PAGE);
            let take = rest.len().min(page_bytes() - within);
            self.now.page_mut(at / PAGE)[within..within + take].copy_from_slice(&rest[..take]);
            self.dirty.insert(at / PAGE);
            (at, rest) = (at + take as u64, &rest[take..]);
        }
        if !data.is_empty() {
            self.now.len = self.now.len.max(at);
        }
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.now.len.min(offset.saturating_add(len as u64));
        let mut out = Vec::with_capacity(index(end.saturating_sub(offset)));
        let mut at = offset;
        while at < end {
            let within = at % PAGE;
            let take = (PAGE - within).min(end - at);
            out.extend_from_slice(&self.now.page(at / PAGE)[index(within)..index(within + take)]);
            at += take;
        }
        out
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.now.len {
            self.was_cut = true;
            self.asked.cut_since = true;
            self.dirty.extend(len / PAGE..self.now.len.div_ceil(PAGE));
            self.now.cut(len);
            self.low = self.low.min(len);
        }
        self.now.len = len;
    }

    /// What kind of fsync one would be now.
    pub(super) fn sync_kind(&self) -> Op {
        match (self.asked.cut_since, self.asked.ever) {
            (true, _) => Op::SyncCut,
            (false, true) => Op::SyncData,
            (false, false) => Op::SyncNew,
        }
    }

    /// The caller was told that the file is fsynced, truly or not.
    pub(super) fn answered(&mut self) {
        self.asked = Asked { ever: true, cut_since: false };
    }

    pub(super) fn sync(&mut self) {
        while let Some(page) = self.dirty.pop_first() {
            self.persist(page);
        }
        self.durable.cut(self.now.len);
        self.clean();
    }

    /// A failed fsync: some pages made it, and none is dirty any more.
    pub(super) fn lose(&mut self, rng: &mut Rng) {
        while let Some(page) = self.dirty.pop_first() {
            if rng.one_in(2) {
                self.persist(page);
            }
        }
    }

    fn clean(&mut self) {
        (self.low, self.was_cut) = (self.now.len, false);
    }

    fn persist(&mut self, page: u64) {
        match self.now.pages.get(&page) {
            Some(data) => self.durable.pages.insert(page, Arc::clone(data)),
            None => self.durable.pages.remove(&page),
        };
    }

    /// The kernel writes some pages back by itself, and perhaps the length.
    pub(super) fn write_back(&mut self, rng: &mut Rng) {
        let dirty: Vec<u64> = self.dirty.iter().copied().collect();
        for page in dirty {
            if rng.one_in(2) {
                self.dirty.remove(&page);
                self.persist(page);
            }
        }
        if rng.one_in(2) {
            self.durable.cut(self.now.len);
        }
    }

    /// The power fails: what is left.
    pub(super) fn crash(&mut self, survival: Survival, rng: &mut Rng) {
        for at in std::mem::take(&mut self.dirty) {
            let (old, new) = (self.durable.page(at), self.now.page(at));
            let page = match survival {
                Survival::Nothing => old,
                Survival::Everything => new,
                Survival::Some => mixed(&old, &new, rng),
            };
            self.durable.pages.insert(at, page);
        }
        let len = match survival {
            Survival::Nothing => self.durable.len,
            Survival::Everything => self.now.len,
            Survival::Some => self.surviving_len(rng),
        };
        // What lies below the length and was never written is zeros.
        self.durable.cut(len);
        self.now = self.durable.clone();
        self.clean();
    }

    fn surviving_len(&self, rng: &mut Rng) -> u64 {
        let (least, most) = (self.low.min(self.durable.len), self.now.len.max(self.durable.len));
        match rng.within(0..4) {
            0 => self.durable.len,
            1 => self.now.len,
            2 if self.was_cut => self.low,
            _ if self.was_cut => self.durable.len,
            _ => rng.within(least.max(self.durable.len.min(self.now.len))..most + 1),
        }
    }
}

/// How much of what was not made durable is left by a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    Nothing,
    Everything,
    Some,
}

impl Survival {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.within(0..6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }
}

/// One of both pages, or the beginning of one and the end of the other, torn somewhere between the first and the
/// last byte in which they differ.
fn mixed(old: &Page, new: &Page, rng: &mut Rng) -> Page {
    let differs = |at: &usize| old[*at] != new[*at];
    let Some(first) = (0..page_bytes()).find(differs) else { return Arc::clone(old) };
    let last = (0..page_bytes()).rfind(differs).unwrap_or(first);
    let torn = first + rng.index(last - first + 1);
    let (head, tail) = match rng.within(0..4) {
        0 => return Arc::clone(old),
        1 => return Arc::clone(new),
        2 => (old, new),
        _ => (new, old),
    };
    Arc::new([&head[..torn], &tail[torn..]].concat())
}
