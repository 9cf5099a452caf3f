//! Objects in memory, within a budget. Owns who is kept and for how long, and that an object is fetched once
//! however many wait for it; does not own batches or offsets.
//!
//! ```text
//! written ──▶ tail (first in, first out) ─┐
//!                                         ├─▶ look-up ─▶ rope
//! store ─GET─▶ fetched (least recently used) ─┘
//! ```
//!
//! Two budgets, so that a consumer that reads the whole past cannot evict what was just written: the tail is
//! exactly the newest bundles of this broker. Of fetched objects the budget counts what is *alive* and not what is
//! in the table: a slow client that holds ten bytes of an evicted bundle holds the bundle, so its bytes come back
//! when the last slice is dropped. Loads in progress have a bound of their own, since an object's size is not known
//! before its GET.
//!
//! A load that finds no room waits only if its caller holds nothing ([`Patience::WaitForRoom`]); so no two answers wait for
//! each other's memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use kafscale_metadata::ObjectId;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::object::{CachedObject, OBJECT_OVERHEAD_BYTES};
use crate::budget::{MemoryBudget, Reservation};
use crate::segment::SegmentError;
use crate::store::{GetError, ObjectName, ObjectStore};

/// How much the cache may hold.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// Bundles that this broker wrote, bytes.
    pub tail_bytes: u64,
    /// Objects that were fetched, bytes, whether cached or still being sent.
    pub fetched_bytes: u64,
    /// GETs at a time; each may hold one whole object more.
    pub concurrent_loads: usize,
}

/// Whether a load may wait for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait: the caller holds no bytes of any object.
    WaitForRoom,
    /// The caller holds bytes: fail rather than wait.
    OnlyIfRoom,
}

/// Why an object is not there to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("there is no such object")]
    NotFound,
    #[error("the store failed")]
    Failed,
    #[error("the object is damaged")]
    Damaged,
    #[error("no room")]
    NoRoom,
}

/// What the cache has done since the start.
#[derive(Debug, Default)]
pub struct CacheCounters {
    /// Look-ups that found the object.
    pub hits: AtomicU64,
    /// GETs of whole objects.
    pub loads: AtomicU64,
    /// Objects that came damaged from the store.
    pub damaged: AtomicU64,
}

/// See the module's documentation.
pub struct Cache {
    cluster: u128,
    store: Arc<dyn ObjectStore>,
    tail: Mutex<Tail>,
    fetched: Mutex<Fetched>,
    alive: MemoryBudget,
    loads: Semaphore,
    /// Loads that wait for room.
    starving: AtomicUsize,
    flights: Mutex<BTreeMap<ObjectId, Slot>>,
    counters: CacheCounters,
}

/// What one load came to; `None` until it is over.
type Slot = Arc<AsyncMutex<Option<Result<Arc<CachedObject>, LoadError>>>>;

impl Cache {
    /// An empty cache of the cluster's objects in `store`.
    pub fn new(cluster: u128, store: Arc<dyn ObjectStore>, settings: CacheSettings) -> Self {
        Self {
            cluster,
            store,
            tail: Mutex::new(Tail { budget: settings.tail_bytes, ..Tail::default() }),
            fetched: Mutex::default(),
            alive: MemoryBudget::new(settings.fetched_bytes),
            loads: Semaphore::new(settings.concurrent_loads.max(1)),
            starving: AtomicUsize::new(0),
            flights: Mutex::default(),
            counters: CacheCounters::default(),
        }
    }

    /// Takes in a bundle that this broker wrote, as the slices of `Assembled`. Call before its commit, so that
    /// whoever the fold wakes finds it.
    pub fn insert(&self, object: ObjectId, slices: Vec<Bytes>) {
        self.tail.lock().insert(object, Arc::new(CachedObject::written(slices)));
    }

    /// Forgets a bundle whose upload was given up.
    pub fn forget(&self, object: ObjectId) {
        self.tail.lock().forget(object);
    }

    /// The object, if it is in memory.
    pub fn peek(&self, object: ObjectId) -> Option<Arc<CachedObject>> {
        let tail = self.tail.lock().objects.get(&object).cloned();
        tail.or_else(|| self.fetched.lock().touch(object))
    }

    /// What the cache has done.
    pub fn counters(&self) -> &CacheCounters {
        &self.counters
    }

    /// Bytes of bundles in the tail, and of fetched objects that are alive.
    pub fn held_bytes(&self) -> (u64, u64) {
        (self.tail.lock().bytes, self.alive.total_bytes() - self.alive.free_bytes())
    }

    /// The object, from memory or the store.
    pub(crate) async fn object(&self, object: ObjectId, patience: Patience) -> Result<Arc<CachedObject>, LoadError> {
        loop {
            if let Some(found) = self.peek(object) {
                self.counters.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(found);
            }
            let flight = Flight::join(&self.flights, object);
            let mut slot = match patience {
                Patience::WaitForRoom => flight.slot.lock().await,
                // Whoever loads it may be waiting for the very room that this caller holds.
                Patience::OnlyIfRoom => flight.slot.try_lock().map_err(|_| LoadError::NoRoom)?,
            };
            match &*slot {
                // Another one, that may not wait, was first.
                Some(Err(LoadError::NoRoom)) if patience == Patience::WaitForRoom => {}
                Some(outcome) => return outcome.clone(),
                None => {
                    // A flight may have landed between the look-up and this one's beginning.
                    let outcome = match self.peek(object) {
                        Some(found) => Ok(found),
                        None => self.load(object, patience).await,
                    };
                    *slot = Some(outcome.clone());
                    flight.land();
                    return outcome;
                }
            }
        }
    }

    async fn load(&self, object: ObjectId, patience: Patience) -> Result<Arc<CachedObject>, LoadError> {
        let name = ObjectName::bundle(self.cluster, object);
        let loading = match patience {
            Patience::WaitForRoom => self.loads.acquire().await.expect("the semaphore is never closed"),
            Patience::OnlyIfRoom => self.loads.try_acquire().map_err(|_| LoadError::NoRoom)?,
        };
        self.counters.loads.fetch_add(1, Ordering::Relaxed);
        let bytes = self.store.get_all(&name).await.map_err(|error| match error {
            GetError::NotFound(_) => LoadError::NotFound,
            GetError::Failed { ref source, .. } => {
                tracing::warn!(%error, cause = %source, "a GET failed");
                LoadError::Failed
            }
        })?;
        let room = self.room(bytes.len() as u64 + OBJECT_OVERHEAD_BYTES, patience).await?;
        drop(loading);
        let bytes = Bytes::from_owner(Counted { bytes, _room: room });
        match CachedObject::fetched(bytes, self.cluster, object) {
            Ok((fetched, damage)) => {
                if let Some(damage) = damage {
                    self.note_damage(&name, &damage);
                }
                let fetched = Arc::new(fetched);
                self.fetched.lock().insert(object, Arc::clone(&fetched));
                if self.starving.load(Ordering::SeqCst) > 0 {
                    self.evict_all();
                }
                Ok(fetched)
            }
            Err(unusable) => {
                self.note_damage(&name, &unusable);
                Err(LoadError::Damaged)
            }
        }
    }

    /// Memory for a fetched object; the least recently used make room for it.
    async fn room(&self, bytes: u64, patience: Patience) -> Result<Option<Reservation>, LoadError> {
        if let Some(room) = self.evict_for(bytes) {
            return Ok(Some(room));
        }
        if patience == Patience::OnlyIfRoom {
            return Err(LoadError::NoRoom);
        }
        // What is left is in answers that are being sent, or is about to be cached: from here on, what is loaded is
        // evicted at once, so that nothing idle holds the room that this load waits for.
        let _starving = Starving::begin(&self.starving);
        self.evict_all();
        // An object larger than the whole budget is served, one load at a time, without being counted.
        Ok(self.alive.reserve(bytes).await.ok())
    }

    fn evict_for(&self, bytes: u64) -> Option<Reservation> {
        loop {
            if let Some(room) = self.alive.try_reserve(bytes) {
                return Some(room);
            }
            // Bound, so that its bytes come back here, after the lock.
            let _evicted = { self.fetched.lock().pop_oldest()? };
        }
    }

    fn evict_all(&self) {
        let _evicted = std::mem::take(&mut *self.fetched.lock());
    }

    fn note_damage(&self, name: &ObjectName, damage: &SegmentError) {
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::error!(object = %name, %damage, "a stored object is damaged: records in it are answered as corrupt; restore it from a copy");
    }
}

/// Fetched bytes with their share of the budget.
struct Counted {
    bytes: Bytes,
    _room: Option<Reservation>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A load that waits for room, counted while it does.
struct Starving<'a>(&'a AtomicUsize);

impl<'a> Starving<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Starving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One load, and those who wait for it. Whoever gets the slot first loads; if it is dropped while loading, the next
/// one does.
struct Flight<'a> {
    flights: &'a Mutex<BTreeMap<ObjectId, Slot>>,
    object: ObjectId,
    slot: Slot,
}

impl<'a> Flight<'a> {
    fn join(flights: &'a Mutex<BTreeMap<ObjectId, Slot>>, object: ObjectId) -> Self {
        let slot = Arc::clone(flights.lock().entry(object).or_default());
        Self { flights, object, slot }
    }

    /// Later ones begin anew; those who wait take what is in the slot.
    fn land(&self) {
        let mut flights = self.flights.lock();
        if flights.get(&self.object).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot)) {
            flights.remove(&self.object);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // The last one of a flight that never landed: the table and this one.
        let abandoned = flights.get(&self.object).is_some_and(|slot| Arc::ptr_eq(slot, &self.slot));
        if abandoned && Arc::strong_count(&self.slot) == 2 {
            flights.remove(&self.object);
        }
    }
}

/// The newest bundles of this broker.
#[derive(Default)]
struct Tail {
    budget: u64,
    bytes: u64,
    objects: BTreeMap<ObjectId, Arc<CachedObject>>,
    order: VecDeque<ObjectId>,
}

impl Tail {
    fn insert(&mut self, object: ObjectId, content: Arc<CachedObject>) {
        self.forget(object);
        self.bytes += content.memory_bytes();
        self.order.push_back(object);
        self.objects.insert(object, content);
        while self.bytes > self.budget {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
    }

    fn forget(&mut self, object: ObjectId) {
        if self.remove(object) {
            self.order.retain(|other| *other != object);
        }
    }

    fn remove(&mut self, object: ObjectId) -> bool {
        let removed = self.objects.remove(&object);
        self.bytes -= removed.as_ref().map_or(0, |old| old.memory_bytes());
        removed.is_some()
    }
}

/// Fetched objects, and when each was used last (by count of uses, not by time).
#[derive(Default)]
struct Fetched {
    uses: u64,
    objects: BTreeMap<ObjectId, (u64, Arc<CachedObject>)>,
    by_use: BTreeMap<u64, ObjectId>,
}

impl Fetched {
    fn touch(&mut self, object: ObjectId) -> Option<Arc<CachedObject>> {
        let (used, content) = self.objects.get_mut(&object)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, object);
        Some(Arc::clone(content))
    }

    fn insert(&mut self, object: ObjectId, content: Arc<CachedObject>) {
        self.uses += 1;
        self.by_use.insert(self.uses, object);
        if let Some((used, _)) = self.objects.insert(object, (self.uses, content)) {
            self.by_use.remove(&used);
        }
    }

    fn pop_oldest(&mut self) -> Option<Arc<CachedObject>> {
        let (_, object) = self.by_use.pop_first()?;
        self.objects.remove(&object).map(|(_, content)| content)
    }
}
