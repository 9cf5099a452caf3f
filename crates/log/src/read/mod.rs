//! The read path: offset → extents → objects in memory → batches → slices for the socket. Owns what a reader waits
//! for and how much memory reading takes; does not own the order of records (the fold does) nor connections.
//!
//! In reading order: [`locate`] (pure: which bytes of which objects), `cache` and `object` (bytes in memory),
//! `batches` (pure: which of them are sent, and their new first 16 bytes), [`fetch`] (waits, loads, answers),
//! [`interest`] (what a fetch is about, and which of it may have something to tell), `wait` (who sleeps until a
//! partition advances), [`offsets`] (ListOffsets).

pub mod locate;

mod batches;
mod cache;
pub mod fetch;
pub mod interest;
mod object;
pub mod offsets;
mod wait;

use std::sync::Arc;

use kafscale_ports::{Clock, Env};

pub use cache::{Cache, CacheCounters, CacheSettings};
pub use fetch::{FetchAnswer, FetchError, FetchLimits, FetchPartition, FetchRequest, PartitionData};
pub use interest::{Interest, SlotId};
pub use locate::Bounds;
pub use object::CachedObject;
pub use offsets::{FoundOffset, OffsetSpec};
pub use wait::Waiters;

use crate::budget::MemoryBudget;
use crate::ledger::Ledger;

/// Reads records and looks up offsets.
pub struct Reader {
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    cache: Arc<Cache>,
    waiters: Waiters,
    answers: MemoryBudget,
}

impl Reader {
    /// A reader of what `ledger` says, through `cache`. `waiters` are woken by the driver of the fold; `answers` is
    /// the memory that answers may take until they are sent.
    pub fn new(env: &Env, ledger: Arc<dyn Ledger>, cache: Arc<Cache>, waiters: Waiters, answers: MemoryBudget) -> Self {
        Self { clock: Arc::clone(&env.clock), ledger, cache, waiters, answers }
    }
}
