//! The tail: turns what etcd tells of the journal's keys into entries with ordinals, in order and without gaps. Pure:
//! watch events, one read of everything, and looks at the head go in; records come out, or what has to be done.
//!
//! 1. E and H of one transaction share a mod-revision, and H's version counts the entries. A pair gives an entry its
//!    ordinal; who sees E alone knows nothing. Several pairs may come in one reply, and one pair in two.
//! 2. Only the next ordinal is yielded. An E without its H, an H without its E, or an ordinal beyond the next is a
//!    [`Halt::Gap`]: everything is read at one revision, sorted here, and counted against H ([`Tail::read_all`]).
//! 3. What was applied is dropped, by its revision: events may come again.
//! 4. Silence proves nothing; see [`patience`].
//! 5. A store that went back in time is told by any of: a reply below what was applied, an ordinal at or below the
//!    last one, the last applied entry gone from its key although nobody may have truncated it, a session's number at
//!    the pointer's floor below the applied one, an entry number beyond its session's next, another incarnation. Then
//!    [`Halt::Stop`], for good.
//!
//! It begins at the pointer's floor (where truncation may have reached) and keeps a [`Mark`] for every entry since: the
//! entry's key, so that it can be read again, and each session's next number.

mod marks;
pub(super) mod patience;
mod view;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::keys::Named;
use super::kv::{Event, KeyValue, Revision};
use super::stored::{Count, StoredPointer, encode_head};
use super::txns::Life;
use crate::{Position, Record};
pub(super) use marks::{Mark, Marks};
pub(super) use view::{Anchor, Look, View, look_txn, read_look};

/// Why the tail cannot go on with what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// Something is missing: read everything at one revision.
    Gap,
    /// What is missing was truncated: begin again at the pointer.
    Truncated,
    /// The store went back in time, or is damaged. The text says how, and what to do.
    Stop(String),
}

fn back(detail: String) -> Halt {
    Halt::Stop(format!("{detail}: etcd went back in time; stop all brokers and run `kafscale recover`"))
}

fn damage(detail: String) -> Halt {
    Halt::Stop(format!("{detail}; stop all brokers and run `kafscale recover`"))
}

/// A session as far as the tail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Track {
    /// The number of its next entry, and its fence.
    pub(super) count: Count,
    /// Where its newest entry is, if the tail has seen one.
    pub(super) last: Option<Position>,
}

/// One half of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Half {
    Entry(KeyValue),
    Head(KeyValue),
}

impl Half {
    fn revision(&self) -> Revision {
        match self {
            Self::Entry(kv) | Self::Head(kv) => kv.mod_revision,
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    life: Life,
    base: u64,
    /// The mod-revision of the newest pointer that was seen.
    pointer: Revision,
    /// Its floor. A tail that is behind it keeps no marks either: they would promise what may have been truncated.
    floor: u64,
    applied: Position,
    /// Session and number of the last entry that was yielded. It outlives its mark: whoever is behind a pointer's floor has
    /// to prove what it has all the same.
    newest: Option<(u64, u64)>,
    marks: Marks,
    tracks: BTreeMap<u64, Track>,
    half: Option<Half>,
}

/// What a look at the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// The newest entry's place.
    pub(super) end: Position,
    /// The pointer has moved since the tail last read it.
    pub(super) pointer_moved: bool,
    /// The last applied entry is not under its key: it was truncated, or the store went back.
    pub(super) anchor_lost: bool,
}

impl Tail {
    /// The tail of a journal as it was read at one revision, and its entries.
    pub(super) fn start(life: Life, view: &View) -> Result<(Self, Vec<Record>), Halt> {
        let (stored, pointer) = view.pointer(&life)?;
        let track = |count: &Count| Track { count: *count, last: None };
        let mut tail = Self {
            life,
            base: stored.base,
            pointer,
            floor: stored.floor.ordinal,
            applied: stored.floor,
            newest: None,
            marks: Marks::after(stored.floor),
            tracks: stored.counts.iter().map(|(nonce, count)| (*nonce, track(count))).collect(),
            half: None,
        };
        let records = tail.read_all(view, 0)?;
        Ok((tail, records))
    }

    /// The last entry that was yielded.
    pub(super) fn applied(&self) -> Position {
        self.applied
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) fn track(&self, nonce: u64) -> Option<&Track> {
        self.tracks.get(&nonce)
    }

    /// What proves, in a later look at the store, that it is still the one that was applied.
    pub(super) fn anchor(&self) -> Anchor {
        let key = self.newest.map(|(nonce, n)| self.life.names.entry(nonce, n));
        Anchor { applied: self.applied, key, pointer: self.pointer }
    }

    /// The ordinal of an entry that was applied, by its revision.
    pub(super) fn ordinal_at(&self, nonce: u64, revision: Revision) -> Option<u64> {
        let last = self.tracks.get(&nonce).and_then(|track| track.last).filter(|last| last.revision == revision);
        last.map(|last| last.ordinal).or_else(|| self.marks.ordinal_at(revision))
    }

    /// Where a session's entry is, if the tail has seen it.
    pub(super) fn place_of(&self, nonce: u64, n: u64) -> Option<Position> {
        let track = self.tracks.get(&nonce)?;
        if track.count.next == n + 1 && track.last.is_some() {
            return track.last;
        }
        self.marks.place_of(nonce, n)
    }

    /// Takes what a watch told. Records that were yielded before a halt are in `records`.
    pub(super) fn watched(&mut self, events: Vec<Event>, records: &mut Vec<Record>) -> Result<(), Halt> {
        for event in events.into_iter().filter(|event| !event.deleted) {
            self.put(event.kv, records)?;
        }
        Ok(())
    }

    fn put(&mut self, kv: KeyValue, records: &mut Vec<Record>) -> Result<(), Halt> {
        if kv.mod_revision <= self.applied.revision {
            return Ok(());
        }
        let half = match self.life.names.read(&kv.key) {
            Named::Entry { .. } => Half::Entry(kv),
            Named::Head => Half::Head(kv),
            Named::Other => return Ok(()),
        };
        match (self.half.take(), half) {
            (None, half) => self.half = Some(half),
            (Some(older), half) if older == half => self.half = Some(half),
            (Some(older), half) if older.revision() != half.revision() => return Err(Halt::Gap),
            (Some(Half::Entry(entry)), Half::Head(head)) | (Some(Half::Head(head)), Half::Entry(entry)) => {
                let ordinal = self.ordinal(&head)?;
                records.push(self.yield_next(entry, ordinal)?);
            }
            (Some(older), _) => {
                let revision = older.revision();
                return Err(damage(format!("revision {revision} of the journal holds more than one entry")));
            }
        }
        Ok(())
    }

    fn ordinal(&self, head: &KeyValue) -> Result<u64, Halt> {
        if head.value != encode_head(self.life.incarnation) {
            return Err(back("the journal's head is of another incarnation".to_owned()));
        }
        Ok(self.base.saturating_add(head.version))
    }

    /// Applies an entry that is newer than all before it.
    fn yield_next(&mut self, entry: KeyValue, ordinal: u64) -> Result<Record, Halt> {
        let applied = self.applied.ordinal;
        if ordinal <= applied {
            let revision = entry.mod_revision;
            return Err(back(format!("revision {revision} holds entry {ordinal}, and entry {applied} was before it")));
        }
        if ordinal > applied + 1 {
            return Err(Halt::Gap);
        }
        let Named::Entry { nonce, n } = self.life.names.read(&entry.key) else {
            unreachable!("only entries are paired and listed");
        };
        let position = Position { ordinal, revision: entry.mod_revision };
        self.count(nonce, n, position)?;
        self.applied = position;
        self.newest = Some((nonce, n));
        self.marks.push(Mark::new(nonce, n, &entry));
        self.marks.forget(ordinal.min(self.floor));
        Ok(Record { position, nonce, n, entry: entry.value })
    }

    /// The session's next entry, or an old one once more (a repetition can land after a truncation).
    fn count(&mut self, nonce: u64, n: u64, at: Position) -> Result<(), Halt> {
        let next = self.tracks.get(&nonce).map_or(0, |track| track.count.next);
        if n > next {
            let what = format!("entry {} is number {n} of session {nonce:016x}, whose next is {next}", at.ordinal);
            return Err(back(what));
        }
        let opening = Track { count: Count { next: 0, fence: at.revision }, last: None };
        let track = self.tracks.entry(nonce).or_insert(opening);
        if n == 0 {
            track.count.fence = at.revision;
        }
        if n == next {
            track.count.next = n + 1;
            track.last = Some(at);
        }
        Ok(())
    }

    /// Takes everything as it was at one revision, and yields what is newer than what was applied. `asked`: the
    /// mod-revision of the newest pointer when it was asked for. While pages are read a look may bring a newer one, and
    /// then it is no sign of anything that this one is older.
    pub(super) fn read_all(&mut self, view: &View, asked: Revision) -> Result<Vec<Record>, Halt> {
        self.half = None;
        let applied = self.applied;
        if view.revision < applied.revision {
            return Err(back(format!("revision {} was read, and {} was applied", view.revision, applied.revision)));
        }
        let (stored, pointer) = view.pointer(&self.life)?;
        let end = self.end(view.head.as_ref())?;
        if end.ordinal < applied.ordinal || pointer < asked {
            let (end, applied) = (end.ordinal, applied.ordinal);
            let pointers = format!("the pointer is of revision {pointer}, and was of {asked}");
            return Err(back(format!("the journal ends at entry {end}, and {applied} was applied; {pointers}")));
        }
        self.check_floor(stored.floor)?;
        if !view.holds(&self.anchor()) {
            match stored.floor.ordinal.cmp(&applied.ordinal) {
                Ordering::Less => return Err(back(format!("entry {}, which was applied, is gone", applied.ordinal))),
                // It may have been truncated, and is where the pointer has it.
                Ordering::Equal => {}
                // Entries that go on from it by their number may go on from another one.
                Ordering::Greater => return Err(self.truncated(&stored)),
            }
        }
        let newer = view.newer_than(applied.revision);
        let expected = end.ordinal - applied.ordinal;
        if newer.len() as u64 != expected {
            if stored.floor.ordinal > applied.ordinal {
                return Err(self.truncated(&stored));
            }
            let (count, ordinal) = (newer.len(), applied.ordinal);
            return Err(damage(format!("after entry {ordinal} there should be {expected}, and {count} are there")));
        }
        if newer.last().is_some_and(|entry| entry.mod_revision != end.revision) {
            return Err(damage(format!("the journal's head at revision {} has no entry", end.revision)));
        }
        let mut records = Vec::with_capacity(newer.len());
        for (entry, ordinal) in newer.into_iter().zip(applied.ordinal + 1..) {
            records.push(self.yield_next(entry, ordinal)?);
        }
        self.raise(&stored, pointer);
        Ok(records)
    }

    /// A floor that is not beyond what was applied is a place that the tail knows.
    fn check_floor(&self, floor: Position) -> Result<(), Halt> {
        let known = if floor.ordinal > self.applied.ordinal { None } else { self.marks.place(floor.ordinal) };
        match known {
            Some(known) if known != floor => Err(back(format!("the pointer's floor is {floor:?}, and was {known:?}"))),
            Some(_) | None => Ok(()),
        }
    }

    /// What was applied last may have been truncated and proves nothing. But from it to the floor everything only goes up:
    /// the revision, and the numbers of each session, as long as it is the same opening: a late duplicate of one begins
    /// anew, if the pointer had forgotten the session.
    fn truncated(&self, stored: &StoredPointer) -> Halt {
        let is_back = |(nonce, track): (&u64, &Track)| {
            let count = stored.counts.get(nonce).filter(|count| count.fence == track.count.fence);
            count.is_some_and(|count| count.next < track.count.next)
        };
        if stored.floor.revision < self.applied.revision || self.tracks.iter().any(is_back) {
            let (floor, applied) = (stored.floor, self.applied);
            return back(format!("the pointer's {floor:?} is behind {applied:?}, which was applied"));
        }
        Halt::Truncated
    }

    fn end(&self, head: Option<&KeyValue>) -> Result<Position, Halt> {
        let Some(head) = head else { return Ok(Position { ordinal: self.base, revision: 0 }) };
        Ok(Position { ordinal: self.ordinal(head)?, revision: head.mod_revision })
    }

    /// The pointer was read: marks up to its floor are of no more use.
    pub(super) fn raise(&mut self, stored: &StoredPointer, pointer: Revision) {
        if pointer > self.pointer {
            self.pointer = pointer;
            self.floor = stored.floor.ordinal;
            self.marks.forget(stored.floor.ordinal.min(self.applied.ordinal));
            // A session that the pointer does not know any more has ended, and nothing of it is left. But a tail that
            // is behind the floor has its entries still to come.
            if self.applied.ordinal >= stored.floor.ordinal {
                let marks = &self.marks;
                self.tracks.retain(|nonce, _| stored.counts.contains_key(nonce) || marks.has(*nonce));
            }
        }
    }

    /// Judges a look at the head, which was asked for when the tail was at `asked`.
    pub(super) fn look(&self, look: &Look, asked: &Anchor) -> Result<Seen, Halt> {
        let applied = asked.applied;
        let end = self.end(look.head.as_ref())?;
        let went_back = look.revision < applied.revision
            || end.ordinal < applied.ordinal
            || end.revision < applied.revision
            || look.pointer < asked.pointer;
        if went_back {
            let (at, revision) = (end.ordinal, look.revision);
            let detail = format!("it ends at entry {at}, revision {revision}, and {applied:?} was applied");
            return Err(back(detail));
        }
        let anchor_lost = asked.key.is_some() && look.anchor != applied.revision;
        Ok(Seen { end, pointer_moved: look.pointer > self.pointer, anchor_lost })
    }

    /// Each session at ordinal `at`, which must be between the floor and what was applied.
    pub(super) fn counts_at(&self, at: u64, floor: &StoredPointer) -> BTreeMap<u64, Count> {
        let mut counts = floor.counts.clone();
        for mark in self.marks.between(floor.floor.ordinal, at) {
            let count = counts.entry(mark.nonce).or_insert(Count { next: 0, fence: mark.revision });
            if mark.n == 0 {
                count.fence = mark.revision;
            }
            count.next = count.next.max(mark.n + 1);
        }
        counts
    }
}

#[cfg(test)]
#[path = "../tail_tests.rs"]
mod tests;
