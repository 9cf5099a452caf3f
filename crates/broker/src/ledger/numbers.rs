//! The numbers of this session's objects: which may be used, which are in use, and `low`.
//!
//! A number is handed out only after an entry that reserves it is known committed, so the fold (and whoever looks
//! for orphans after this broker's death) knows every name that a PUT may ever have. `low` is the other end: it
//! never passes a number whose PUT has no final answer or whose commit is outstanding. Pure; the committer puts
//! what [`Numbers::plan`] says into its next entry and calls [`Numbers::committed`] once that is known.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use kafscale_metadata::{ObjectKind, Reservation};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Bundle numbers are reserved in blocks of this many; the opening of a session reserves the first block.
pub(crate) const BUNDLE_BLOCK: u32 = 64;

/// A new block is asked for when fewer than this many bundle numbers are left.
const BUNDLE_RESERVE: usize = 32;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// One past the last number that a committed entry reserved.
    end: u32,
    bundles: VecDeque<Range<u32>>,
    snapshots: VecDeque<Range<u32>>,
    unsettled: BTreeSet<u32>,
    snapshot_wanted: bool,
}

impl Numbers {
    /// After the session's opening, which reserved the first block for bundles.
    pub(crate) fn opened() -> Self {
        Self {
            end: BUNDLE_BLOCK,
            bundles: std::iter::once(0..BUNDLE_BLOCK).collect(),
            snapshots: VecDeque::new(),
            unsettled: BTreeSet::new(),
            snapshot_wanted: false,
        }
    }

    /// What the opening entry says of numbers.
    pub(crate) fn opening() -> Vec<Reservation> {
        vec![Reservation { kind: ObjectKind::Bundle, end: BUNDLE_BLOCK }]
    }

    /// The next usable number of a kind. `None`: the next entry will reserve more; ask again after it.
    pub(crate) fn take(&mut self, kind: ObjectKind) -> Option<u32> {
        let ranges = match kind {
            ObjectKind::Bundle => &mut self.bundles,
            ObjectKind::Snapshot => &mut self.snapshots,
        };
        let number = loop {
            match ranges.front_mut()?.next() {
                Some(number) => break Some(number),
                None => ranges.pop_front(),
            };
        };
        self.unsettled.extend(number);
        number
    }

    /// Asks for a snapshot number in the next entry.
    pub(crate) fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// The number's object will be referenced by no further entry, and no PUT of it is on its way.
    pub(crate) fn settle(&mut self, number: u32) {
        self.unsettled.remove(&number);
    }

    /// The lowest number that a later entry may still refer to.
    pub(crate) fn low(&self) -> u32 {
        let unused = self.bundles.iter().chain(&self.snapshots).filter(|r| !r.is_empty()).map(|r| r.start).min();
        let unsettled = self.unsettled.first().copied();
        unused.into_iter().chain(unsettled).min().unwrap_or(self.end)
    }

    /// Whether an entry is needed although there is no command to put into it.
    pub(crate) fn wants_entry(&self) -> bool {
        self.snapshot_wanted || self.bundles_left() == 0
    }

    /// The reservations for the next entry.
    pub(crate) fn plan(&self) -> Vec<Reservation> {
        let mut end = self.end;
        let mut reserve = |kind, count| {
            end += count;
            Reservation { kind, end }
        };
        let mut plan = Vec::new();
        if self.snapshot_wanted {
            plan.push(reserve(ObjectKind::Snapshot, 1));
        }
        if self.bundles_left() < BUNDLE_RESERVE {
            plan.push(reserve(ObjectKind::Bundle, BUNDLE_BLOCK));
        }
        plan
    }

    /// The entry that carried `plan` is committed: its numbers may be used.
    pub(crate) fn committed(&mut self, plan: &[Reservation]) {
        for reservation in plan {
            let range = self.end..reservation.end;
            match reservation.kind {
                ObjectKind::Bundle => self.bundles.push_back(range),
                ObjectKind::Snapshot => {
                    self.snapshots.push_back(range);
                    self.snapshot_wanted = false;
                }
            }
            self.end = reservation.end;
        }
    }

    fn bundles_left(&self) -> usize {
        self.bundles.iter().map(ExactSizeIterator::len).sum()
    }
}

/// The numbers as the tasks share them: takers wait for a reservation, and the committer for takers.
#[derive(Debug)]
pub(crate) struct SharedNumbers {
    numbers: Mutex<Numbers>,
    changed: Notify,
    wanted: Notify,
}

impl SharedNumbers {
    pub(crate) fn opened() -> Self {
        Self { numbers: Mutex::new(Numbers::opened()), changed: Notify::new(), wanted: Notify::new() }
    }

    /// See [`Numbers::take`]. `None` has asked the committer for more: wait for [`SharedNumbers::changed`], which was
    /// registered before.
    pub(crate) fn take(&self, kind: ObjectKind) -> Option<u32> {
        let mut numbers = self.numbers.lock();
        let number = numbers.take(kind);
        if number.is_none() && kind == ObjectKind::Snapshot {
            numbers.want_snapshot();
        }
        if numbers.wants_entry() {
            self.wanted.notify_one();
        }
        number
    }

    pub(crate) fn settle(&self, number: u32) {
        self.numbers.lock().settle(number);
    }

    /// What the next entry says of numbers: its reservations, and `low`.
    pub(crate) fn plan(&self) -> (Vec<Reservation>, u32) {
        let numbers = self.numbers.lock();
        (numbers.plan(), numbers.low())
    }

    pub(crate) fn committed(&self, plan: &[Reservation]) {
        self.numbers.lock().committed(plan);
        self.changed.notify_waiters();
    }

    /// The entry with the reservations was not written: whoever waits for them still does.
    pub(crate) fn refused(&self) {
        if self.numbers.lock().wants_entry() {
            self.wanted.notify_one();
        }
    }

    /// The next change of what may be taken; counts from this call, not from the first poll.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// An entry is wanted for the sake of numbers.
    pub(crate) fn wanted(&self) -> Notified<'_> {
        self.wanted.notified()
    }

    /// Lets all who wait look again: the session is over.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit_one_entry(numbers: &mut Numbers) -> Vec<Reservation> {
        let plan = numbers.plan();
        numbers.committed(&plan);
        plan
    }

    #[test]
    fn numbers_are_used_only_after_their_reservation_is_committed() {
        let mut numbers = Numbers::opened();
        for expected in 0..BUNDLE_BLOCK {
            assert_eq!(numbers.take(ObjectKind::Bundle), Some(expected));
        }
        assert_eq!(numbers.take(ObjectKind::Bundle), None);
        assert!(numbers.wants_entry());
        let plan = numbers.plan();
        assert_eq!(numbers.take(ObjectKind::Bundle), None, "planned is not committed");
        numbers.committed(&plan);
        assert_eq!(numbers.take(ObjectKind::Bundle), Some(BUNDLE_BLOCK));
    }

    #[test]
    fn low_waits_for_the_lowest_unsettled_number() {
        let mut numbers = Numbers::opened();
        let (a, b) = (numbers.take(ObjectKind::Bundle).unwrap(), numbers.take(ObjectKind::Bundle).unwrap());
        numbers.settle(b);
        assert_eq!(numbers.low(), a);
        numbers.settle(a);
        assert_eq!(numbers.low(), 2, "the next unused number may still be referenced");
    }

    #[test]
    fn a_snapshot_number_lies_between_blocks_of_bundle_numbers() {
        let mut numbers = Numbers::opened();
        numbers.want_snapshot();
        assert!(numbers.wants_entry());
        let plan = commit_one_entry(&mut numbers);
        assert_eq!(plan, [Reservation { kind: ObjectKind::Snapshot, end: BUNDLE_BLOCK + 1 }]);
        assert_eq!(numbers.take(ObjectKind::Snapshot), Some(BUNDLE_BLOCK));
        assert!(!numbers.wants_entry());
    }
}
