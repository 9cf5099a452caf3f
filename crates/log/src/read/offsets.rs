//! ListOffsets: which offset is the earliest, the latest, the first of a time, the newest. Owns the look-up through
//! extents, objects and batches down to the record; does not own how the answer is encoded.
//!
//! Every look-up is made on a state as of a barrier: "latest" must not be older than what another broker has
//! acknowledged. The state narrows a time down to one extent, batch headers to one batch, and its records, which
//! need not be in order of time, to the exact one. What an extent says of its newest record is the producer's word:
//! where no record keeps it, the look-up goes on behind that extent.

use kafscale_metadata::{Extent, Partition, TopicPartition};

use super::Reader;
use super::batches;
use super::cache::{LoadError, Patience};
use super::fetch::FetchError;
use crate::ledger::Stopped;
use crate::limits::MAX_LOCATE_ATTEMPTS;

/// Which offset of a partition is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that can be read.
    Earliest,
    /// The one that the next record gets (for `read_committed`, the last stable offset, which is the same today).
    Latest,
    /// Of the first record with a timestamp of at least this, ms.
    AtTime(i64),
    /// Of the first record with the largest timestamp (KIP-734).
    MaxTimestamp,
}

/// An offset that was found. Both are −1 where no record is as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms; −1 for earliest and latest.
    pub timestamp: i64,
}

const NO_RECORD: FoundOffset = FoundOffset { offset: -1, timestamp: -1 };

/// The next thing to do for a look-up.
enum Step {
    Found(FoundOffset),
    /// Look into this extent, at records from the offset on.
    Look(Extent, i64, Wanted),
}

/// What is looked for in an extent.
#[derive(Clone, Copy)]
enum Wanted {
    AtTime(i64),
    Newest,
}

impl Reader {
    /// Looks up offsets, each for itself, in the order given.
    pub async fn offsets(&self, wanted: &[(TopicPartition, OffsetSpec)]) -> Vec<Result<FoundOffset, FetchError>> {
        if self.ledger.barrier().await == Err(Stopped) {
            return wanted.iter().map(|_| Err(FetchError::Stopped)).collect();
        }
        let mut found = Vec::with_capacity(wanted.len());
        for (partition, spec) in wanted {
            found.push(self.offset(*partition, *spec).await);
        }
        found
    }

    async fn offset(&self, partition: TopicPartition, spec: OffsetSpec) -> Result<FoundOffset, FetchError> {
        let mut from = i64::MIN;
        let mut attempts = 0;
        loop {
            let step = {
                let state = self.ledger.state();
                let partition = state.partition(partition).ok_or(FetchError::UnknownTopicOrPartition)?;
                next_step(partition, spec, from)
            };
            let (extent, first, wanted) = match step {
                Step::Found(found) => return Ok(found),
                Step::Look(extent, first, wanted) => (extent, first, wanted),
            };
            let object = match self.cache.object(extent.object(), Patience::WaitForRoom).await {
                Ok(object) => object,
                Err(LoadError::NotFound) if attempts < MAX_LOCATE_ATTEMPTS => {
                    attempts += 1;
                    self.ledger.barrier().await.map_err(|Stopped| FetchError::Stopped)?;
                    continue;
                }
                Err(LoadError::Damaged) => return Err(FetchError::Corrupt),
                Err(LoadError::NotFound | LoadError::Failed | LoadError::NoRoom) => {
                    return Err(FetchError::StoreFailed);
                }
            };
            let record = match wanted {
                Wanted::AtTime(time) => batches::first_at_or_after(&object, &extent, first, time),
                Wanted::Newest => batches::with_max_timestamp(&object, &extent, first),
            };
            match record {
                Ok(Some((offset, timestamp))) => return Ok(FoundOffset { offset, timestamp }),
                Ok(None) => from = extent.last_offset + 1,
                Err(damage) => {
                    tracing::error!(object = ?extent.object(), %damage, "a stored batch is damaged");
                    return Err(FetchError::Corrupt);
                }
            }
        }
    }
}

/// Decides, from the state, what comes next; extents before `from` were looked into in vain.
fn next_step(partition: &Partition, spec: OffsetSpec, from: i64) -> Step {
    let (extents, log_start) = (partition.extents(), partition.log_start());
    let first = from.max(log_start);
    let is_first_look = from == i64::MIN;
    let (extent, wanted) = match spec {
        OffsetSpec::Earliest => return Step::Found(FoundOffset { offset: log_start, timestamp: -1 }),
        OffsetSpec::Latest => {
            return Step::Found(FoundOffset { offset: partition.high_watermark(), timestamp: -1 });
        }
        OffsetSpec::AtTime(time) if is_first_look => (extents.first_with_timestamp(time), Wanted::AtTime(time)),
        OffsetSpec::AtTime(time) => {
            (extents.from(first).find(|extent| extent.max_timestamp >= time), Wanted::AtTime(time))
        }
        OffsetSpec::MaxTimestamp => (extents.with_max_timestamp().filter(|_| is_first_look), Wanted::Newest),
    };
    extent.map_or(Step::Found(NO_RECORD), |extent| Step::Look(*extent, first, wanted))
}
