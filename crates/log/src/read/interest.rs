//! What a fetch is about: partitions with the offsets that are wanted next, in the order in which they are served,
//! and which of them may have something to tell. Owns what was told of each partition last; does not read records.
//!
//! An interest may outlive a fetch (KIP-227's sessions). Of thousands of partitions only the *active* ones are looked
//! at: those that are new, were changed by the client, were woken by the fold, or had something to tell when they were
//! last looked at. The others have not changed since then, because whatever changes a partition wakes its watch.
//! Without a watch, which is made when a fetch first has to sleep, all are active.
//!
//! A partition that gave records goes to the end: none starves because those before it fill each answer.

use std::collections::{BTreeMap, BTreeSet};

use kafscale_metadata::State;

use super::fetch::{FetchError, FetchPartition, NO_BOUNDS, PartitionData, Survey};
use super::locate::Bounds;
use super::wait::{Waiters, Watch};

/// A partition's place in one [`Interest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u32);

impl SlotId {
    /// Small numbers, used again: the index of a table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Interest {
    slots: Vec<Option<Slot>>,
    free: Vec<SlotId>,
    /// By place. Without a watch it is made when it is looked at.
    active: BTreeSet<(u64, SlotId)>,
    next_place: u64,
    watch: Option<Watch>,
    telling: Telling,
}

#[derive(Debug)]
struct Slot {
    wanted: FetchPartition,
    /// Its bounds as the client knows them; none: it has to be told.
    told: Option<Bounds>,
    /// Those with smaller numbers are served first.
    place: u64,
}

const _: () = assert!(size_of::<Option<Slot>>() <= 112, "what a fetch session counts for each partition");

/// What the next answer is to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Telling {
    /// Every partition.
    #[default]
    All,
    /// Those with records, with an error, or with other bounds than were told.
    Changes,
}

/// What the state says of one active partition.
pub(super) struct Looked {
    pub(super) slot: SlotId,
    pub(super) wanted: FetchPartition,
    pub(super) survey: Survey,
}

impl Interest {
    /// In nothing yet; the first answer tells every partition.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many partitions.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a partition, served after all others.
    pub fn add(&mut self, wanted: FetchPartition) -> SlotId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SlotId(u32::try_from(self.slots.len() - 1).expect("a frame has fewer partitions"))
        });
        let place = self.next_place();
        self.slots[id.index()] = Some(Slot { wanted, told: None, place });
        if self.watch.is_some() {
            self.active.insert((place, id));
            self.watch_one(id);
        }
        id
    }

    /// Changes what is wanted. Another partition than before is told anew.
    pub fn update(&mut self, id: SlotId, wanted: FetchPartition) {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::as_mut) else { return };
        let before = std::mem::replace(&mut slot.wanted, wanted).partition;
        if self.watch.is_some() {
            self.active.insert((slot.place, id));
        }
        if before != wanted.partition {
            slot.told = None;
            if let Some(watch) = &mut self.watch {
                watch.remove(before, id.0);
            }
            self.watch_one(id);
        }
    }

    /// Forgets a partition.
    pub fn remove(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::take) else { return };
        self.active.remove(&(slot.place, id));
        if let Some(watch) = &mut self.watch {
            watch.remove(slot.wanted.partition, id.0);
        }
        self.free.push(id);
    }

    /// What is wanted of a partition.
    pub fn wanted(&self, id: SlotId) -> Option<FetchPartition> {
        self.slots.get(id.index())?.as_ref().map(|slot| slot.wanted)
    }

    /// What the state says of all partitions that may have something to tell, in the order in which they are served.
    pub(super) fn look(&mut self, state: &State, max_bytes: u64) -> Vec<Looked> {
        match &self.watch {
            Some(watch) => {
                let woken = watch.take();
                woken.into_iter().for_each(|mark| self.activate(SlotId(mark)));
            }
            None => self.activate_all(),
        }
        let mut found = Vec::with_capacity(self.active.len());
        let (slots, telling) = (&self.slots, self.telling);
        self.active.retain(|(_, id)| {
            let Some(slot) = &slots[id.index()] else { return false };
            let bounds = state.partition(slot.wanted.partition).map(Bounds::of);
            let is_read_up = bounds.is_some_and(|bounds| bounds.high_watermark == slot.wanted.offset);
            let is_told = telling == Telling::All || slot.told == bounds;
            if is_read_up && is_told {
                return false;
            }
            found.push(Looked { slot: *id, wanted: slot.wanted, survey: Survey::of(state, &slot.wanted, max_bytes) });
            true
        });
        found
    }

    /// Registers with `waiters`, if it is not yet: whoever does this has to look again before sleeping.
    pub(super) fn watch(&mut self, waiters: &Waiters) -> bool {
        if self.watch.is_some() {
            return false;
        }
        let slots = self.slots.iter().zip(0..).filter_map(|(slot, id)| Some((slot.as_ref()?.wanted.partition, id)));
        self.watch = waiters.watch(slots);
        if self.watch.is_some() {
            self.activate_all();
        }
        self.watch.is_some()
    }

    /// Returns once a partition may have something new to tell; never without a watch.
    pub(super) async fn woken(&self) {
        match &self.watch {
            Some(watch) => watch.woken().await,
            None => std::future::pending().await,
        }
    }

    /// Makes of what was gathered what the client is told; takes note of it.
    pub(super) fn tell(&mut self, state: &State, gathered: Vec<PartitionData>) -> Vec<PartitionData> {
        let told = match self.telling {
            Telling::All => self.complete(state, gathered),
            Telling::Changes => gathered.into_iter().filter(|data| self.is_news(data)).collect(),
        };
        self.telling = Telling::Changes;
        for data in &told {
            let place = self.next_place();
            let Some(slot) = &mut self.slots[data.slot.index()] else { continue };
            // What is told with an error is told again when the error is over.
            slot.told = data.error.is_none().then_some(data.bounds);
            if data.bytes > 0 {
                self.active.remove(&(slot.place, data.slot));
                slot.place = place;
                self.active.insert((place, data.slot));
            }
        }
        told
    }

    fn is_news(&self, data: &PartitionData) -> bool {
        let told = self.slots[data.slot.index()].as_ref().and_then(|slot| slot.told);
        data.bytes > 0 || data.error.is_some() || told != Some(data.bounds)
    }

    /// All partitions in the order in which they came, with what was gathered of some.
    fn complete(&self, state: &State, gathered: Vec<PartitionData>) -> Vec<PartitionData> {
        let mut gathered: BTreeMap<_, _> = gathered.into_iter().map(|data| (data.slot, data)).collect();
        let slots = self.slots.iter().zip(0..).filter_map(|(slot, id)| Some((slot.as_ref()?, SlotId(id))));
        let tell = |(slot, id): (&Slot, SlotId)| {
            gathered.remove(&id).unwrap_or_else(|| {
                let bounds = state.partition(slot.wanted.partition).map(Bounds::of);
                // It was there when it was looked at.
                let error = bounds.is_none().then_some(FetchError::UnknownTopicOrPartition);
                let empty = PartitionData::empty(id, slot.wanted.partition, bounds.unwrap_or(NO_BOUNDS));
                PartitionData { error, ..empty }
            })
        };
        slots.map(tell).collect()
    }

    fn activate(&mut self, id: SlotId) {
        if let Some(Some(slot)) = self.slots.get(id.index()) {
            self.active.insert((slot.place, id));
        }
    }

    fn activate_all(&mut self) {
        if self.active.len() < self.len() {
            let slots = self.slots.iter().zip(0..);
            self.active = slots.filter_map(|(slot, id)| Some((slot.as_ref()?.place, SlotId(id)))).collect();
        }
    }

    fn watch_one(&mut self, id: SlotId) {
        let Some(wanted) = self.wanted(id) else { return };
        if self.watch.as_mut().is_some_and(|watch| !watch.add([(wanted.partition, id.0)])) {
            self.watch = None; // too many wait: this one goes on without
        }
    }

    fn next_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }
}
