//! Fetch: the driver that waits, locates, loads and answers. Owns when a fetch is answered and with how much
//! (KIP-74, min_bytes, max_wait, the memory of answers); which extents and which batches is decided by the pure
//! `locate` and `batches`.
//!
//! A fetch is a loop of *survey* (pure: what does the state say of every partition), *gather* (load and choose
//! batches) and *sleep*. A survey that finds nothing to send touches neither store nor cache, so an idle fetch
//! causes no I/O. The order register → survey → sleep loses no wake-up (see `wait`). A survey looks at those
//! partitions alone that may have something to tell (see [`super::interest`]), not at all thousands of a session.
//!
//! A partition that seems unknown, or an offset out of range, may only mean that this broker's fold is behind: no
//! such answer leaves before a barrier. So a fetch beyond the local end waits, and does not reset a consumer.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kafscale_metadata::{Extent, ObjectId, State, TopicPartition};

use super::Reader;
use super::batches::{self, Limit, Progress, Taken};
use super::cache::{LoadError, Patience};
use super::interest::{Interest, Looked, SlotId};
use super::locate::{Bounds, ReadPlan, plan};
use crate::budget::Reservation;
use crate::ledger::Stopped;
use crate::limits::{
    ANSWER_SHARE, MAX_BATCH_BYTES, MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS, MAX_LOADS_PER_FETCH, MAX_LOCATE_ATTEMPTS,
    MAX_OBJECTS_AHEAD,
};

/// What a client wants to read, all of it in one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchRequest {
    /// In the order in which they are served until the most bytes of the answer.
    pub partitions: Vec<FetchPartition>,
    /// When, and how much.
    pub limits: FetchLimits,
}

/// When a fetch is answered, and with how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchLimits {
    /// The most bytes of records in the answer; the first batch may exceed it.
    pub max_bytes: u64,
    /// The answer waits until it has as many bytes of records,
    pub min_bytes: u64,
    /// but not longer than this.
    pub max_wait: Duration,
}

/// One partition of a [`FetchRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// Which one.
    pub partition: TopicPartition,
    /// The first wanted offset.
    pub offset: i64,
    /// The most bytes of this partition; the first batch of the answer may exceed it.
    pub max_bytes: u64,
}

/// Why a partition has no records in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is none such, as of a barrier after the request came.
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    /// The offset is below the log's start or beyond its end, as of a barrier after the request came.
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// The stored bytes at the offset are damaged.
    #[error("corrupt message")]
    Corrupt,
    /// The store did not give the bytes; try again.
    #[error("the object store failed")]
    StoreFailed,
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Stopped,
}

/// The answer to a fetch.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// All partitions of a first answer; of a later one those that have something to tell.
    pub partitions: Vec<PartitionData>,
    /// The memory of the records; keep it until they are sent.
    pub reservation: Option<Reservation>,
}

/// One partition of a [`FetchAnswer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionData {
    /// Its place in the interest.
    pub slot: SlotId,
    /// Which one.
    pub partition: TopicPartition,
    /// Why there are no records, if there is a reason.
    pub error: Option<FetchError>,
    /// Its offsets; all −1 if the partition is unknown.
    pub bounds: Bounds,
    /// Whole batches from the one that contains the offset on, one after the other.
    pub slices: Vec<Bytes>,
    /// The length of all slices.
    pub bytes: u64,
}

impl PartitionData {
    /// Without records.
    pub(super) fn empty(slot: SlotId, partition: TopicPartition, bounds: Bounds) -> Self {
        Self { slot, partition, error: None, bounds, slices: Vec::new(), bytes: 0 }
    }
}

pub(super) const NO_BOUNDS: Bounds = Bounds { log_start: -1, high_watermark: -1, last_stable_offset: -1 };

/// What the state says of one partition of a request.
pub(super) struct Survey {
    bounds: Bounds,
    found: Result<ReadPlan, FetchError>,
}

impl Survey {
    pub(super) fn of(state: &State, wanted: &FetchPartition, max_bytes: u64) -> Self {
        let Some(partition) = state.partition(wanted.partition) else {
            return Self { bounds: NO_BOUNDS, found: Err(FetchError::UnknownTopicOrPartition) };
        };
        let found = plan(partition, wanted.offset, wanted.max_bytes.min(max_bytes));
        Self { bounds: Bounds::of(partition), found: found.map_err(|_| FetchError::OffsetOutOfRange) }
    }

    /// At most this many bytes can be sent of it.
    fn most_bytes(&self, wanted: &FetchPartition) -> u64 {
        self.found.as_ref().map_or(0, |plan| plan.most_bytes().min(wanted.max_bytes.max(1)))
    }
}

/// What one pass over all partitions came to.
struct Gathered {
    answer: FetchAnswer,
    /// A limit, and not the log's end, ended it: there is nothing to wait for.
    is_cut: bool,
}

impl FetchAnswer {
    fn is_enough(&self, min_bytes: u64) -> bool {
        let bytes: u64 = self.partitions.iter().map(|p| p.bytes).sum();
        bytes >= min_bytes || self.partitions.iter().any(|p| p.error.is_some())
    }
}

impl Reader {
    /// Answers a fetch that stands for itself: every partition is told.
    pub async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        let mut interest = Interest::new();
        for wanted in request.partitions {
            interest.add(wanted);
        }
        self.fetch_news(&mut interest, request.limits).await
    }

    /// Answers a fetch: at once if there is enough to send or an error to tell, else once there is, or at the end of
    /// `max_wait` with what there is. The first answer for an interest tells every partition, the following ones what
    /// has changed. An answer that is dropped half way told nothing.
    pub async fn fetch_news(&self, interest: &mut Interest, mut limits: FetchLimits) -> FetchAnswer {
        limits.max_bytes = limits.max_bytes.min(MAX_FETCH_BYTES as u64);
        limits.min_bytes = limits.min_bytes.min(limits.max_bytes);
        let deadline = self.clock.now() + limits.max_wait.min(Duration::from_millis(MAX_FETCH_WAIT_MS));
        let mut is_fresh = false;
        loop {
            let looked = interest.look(&self.ledger.state(), limits.max_bytes);
            let has_error = looked.iter().any(|looked| looked.survey.found.is_err());
            if has_error && !is_fresh {
                match self.ledger.barrier().await {
                    Ok(()) => is_fresh = true,
                    Err(Stopped) => return self.stopped(interest, looked),
                }
                continue;
            }
            let most: u64 = looked.iter().map(|looked| looked.survey.most_bytes(&looked.wanted)).sum();
            let is_last = has_error || interest.is_empty() || self.clock.now() >= deadline;
            if is_last || most >= limits.min_bytes {
                let Gathered { mut answer, is_cut } = self.gather(limits.max_bytes, looked, most).await;
                if is_last || is_cut || answer.is_enough(limits.min_bytes) {
                    answer.partitions = interest.tell(&self.ledger.state(), answer.partitions);
                    return answer;
                }
            }
            if interest.watch(&self.waiters) {
                continue; // look again: what came before the registration woke nobody
            }
            tokio::select! {
                biased;
                () = interest.woken() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }

    fn stopped(&self, interest: &mut Interest, looked: Vec<Looked>) -> FetchAnswer {
        let failed = looked.into_iter().map(|looked| PartitionData {
            error: Some(FetchError::Stopped),
            ..PartitionData::empty(looked.slot, looked.wanted.partition, NO_BOUNDS)
        });
        let partitions = interest.tell(&self.ledger.state(), failed.collect());
        FetchAnswer { partitions, reservation: None }
    }

    async fn gather(&self, max_bytes: u64, looked: Vec<Looked>, most: u64) -> Gathered {
        let mut gathered = Gathered { answer: FetchAnswer::default(), is_cut: false };
        let mut left = 0;
        if most > 0 {
            let reservation = self.reserve_answer(max_bytes, &looked, most).await;
            left = reservation.bytes().min(max_bytes);
            gathered.answer.reservation = Some(reservation);
            self.load_ahead(&looked, left).await;
        }
        let mut total = 0;
        for Looked { slot, wanted, survey } in looked {
            let limit = Limit { bytes: wanted.max_bytes.min(left), first_whole: total == 0 };
            let mut read = Read::default();
            match survey.found {
                Ok(plan) => self.read(wanted.partition, plan, limit, &mut read).await,
                Err(error) => read.error = Some(error),
            }
            left = left.saturating_sub(read.taken.bytes);
            total += read.taken.bytes;
            gathered.is_cut |= read.is_cut;
            gathered.answer.partitions.push(PartitionData {
                slot,
                partition: wanted.partition,
                error: read.error,
                bounds: survey.bounds,
                slices: read.taken.slices,
                bytes: read.taken.bytes,
            });
        }
        if let Some(reservation) = &mut gathered.answer.reservation {
            reservation.shrink_to(total);
        }
        gathered
    }

    /// Memory for an answer; under pressure less, but enough for its first batch, which is sent even if it exceeds the
    /// client's limits, and lies within the first extent.
    async fn reserve_answer(&self, max_bytes: u64, looked: &[Looked], most: u64) -> Reservation {
        let first = looked.iter().find_map(|looked| looked.survey.found.as_ref().ok()?.extents.first());
        let first_batch = first.map_or(0, |extent| u64::from(extent.bytes)).min(MAX_BATCH_BYTES.into());
        // A share, so that no client can hold all of the memory by not reading its answers.
        let share = self.answers.total_bytes() / ANSWER_SHARE;
        let wanted = (most + first_batch).min(max_bytes.min(share).max(first_batch));
        match self.answers.try_reserve(wanted) {
            Some(reservation) => reservation,
            None => {
                let least = first_batch.min(self.answers.total_bytes());
                self.answers.reserve(least).await.expect("no more than the whole budget is asked for")
            }
        }
    }

    /// Loads the objects of the first `bytes` of a plan, a few at a time: a consumer that catches up on many
    /// partitions would else wait for one GET after the other.
    async fn load_ahead(&self, looked: &[Looked], bytes: u64) {
        let mut missing: Vec<ObjectId> = Vec::new();
        let mut planned = 0;
        for extent in looked.iter().filter_map(|l| l.survey.found.as_ref().ok()).flat_map(|plan| &plan.extents) {
            if planned >= bytes || missing.len() == MAX_OBJECTS_AHEAD {
                break;
            }
            planned += u64::from(extent.bytes);
            let object = extent.object();
            if missing.last() != Some(&object) && !missing.contains(&object) && self.cache.peek(object).is_none() {
                missing.push(object);
            }
        }
        if missing.len() > 1 {
            futures::stream::iter(missing)
                .for_each_concurrent(MAX_LOADS_PER_FETCH, |object| async move {
                    // What fails here is tried again in its turn, and told then.
                    drop(self.cache.object(object, Patience::OnlyIfRoom).await);
                })
                .await;
        }
    }

    /// Reads one partition's part of an answer.
    async fn read(&self, partition: TopicPartition, plan: ReadPlan, limit: Limit, read: &mut Read) {
        if plan.extents.is_empty() {
            return;
        }
        if limit.bytes == 0 && !limit.first_whole {
            read.is_cut = true;
            return;
        }
        let mut offset = plan.offset;
        let mut extents = plan.extents;
        for _ in 0..MAX_LOCATE_ATTEMPTS {
            let Err(Vanished) = self.read_extents(&extents, &mut offset, limit, read).await else { return };
            if read.taken.bytes > 0 {
                read.is_cut = true;
                return;
            }
            match self.locate_again(partition, offset, limit.bytes).await {
                Ok(again) => extents = again,
                Err(error) => return read.error = Some(error),
            }
        }
        tracing::error!(?partition, offset, "the state names an object that the store does not have");
        read.error = Some(FetchError::StoreFailed);
    }

    /// An object is gone: the state as of a barrier says where its records are now.
    async fn locate_again(
        &self,
        partition: TopicPartition,
        offset: i64,
        bytes: u64,
    ) -> Result<Vec<Extent>, FetchError> {
        self.ledger.barrier().await.map_err(|Stopped| FetchError::Stopped)?;
        let wanted = FetchPartition { partition, offset, max_bytes: bytes };
        let survey = Survey::of(&self.ledger.state(), &wanted, bytes);
        survey.found.map(|plan| plan.extents)
    }

    async fn read_extents(
        &self,
        extents: &[Extent],
        offset: &mut i64,
        limit: Limit,
        read: &mut Read,
    ) -> Result<(), Vanished> {
        for extent in extents {
            // Whoever holds bytes does not wait for memory: see the cache.
            let holds_nothing = limit.first_whole && read.taken.bytes == 0;
            let patience = if holds_nothing { Patience::WaitForRoom } else { Patience::OnlyIfRoom };
            let error = match self.cache.object(extent.object(), patience).await {
                Ok(object) => match batches::take(&object, extent, *offset, limit, &mut read.taken) {
                    Ok(Progress::Exhausted) => {
                        *offset = extent.last_offset + 1;
                        continue;
                    }
                    Ok(Progress::Full) => {
                        read.is_cut = true;
                        return Ok(());
                    }
                    Err(damage) => {
                        tracing::error!(object = ?extent.object(), %damage, "a stored batch is damaged");
                        FetchError::Corrupt
                    }
                },
                Err(LoadError::NotFound) => return Err(Vanished),
                Err(LoadError::Damaged) => FetchError::Corrupt,
                Err(LoadError::Failed) => FetchError::StoreFailed,
                Err(LoadError::NoRoom) => {
                    read.is_cut = true;
                    return Ok(());
                }
            };
            // What was taken is sent; the error is the next fetch's, which begins behind it.
            read.is_cut = true;
            read.error = (read.taken.bytes == 0).then_some(error);
            return Ok(());
        }
        Ok(())
    }
}

/// One partition's part of an answer, being read.
#[derive(Default)]
struct Read {
    taken: Taken,
    error: Option<FetchError>,
    is_cut: bool,
}

/// There is no object of that name (any more).
struct Vanished;
