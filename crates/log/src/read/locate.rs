//! Where the wanted records lie: offset → extents. Pure, and the only place that decides "out of range". Does not
//! read anything, and does not know whether the state that it was given is new enough: the caller does.

use kafscale_metadata::{Extent, Partition};

use crate::limits::MAX_EXTENTS_PER_READ;

/// What the client is told of a partition beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that can be read.
    pub log_start: i64,
    /// The offset that the next record gets.
    pub high_watermark: i64,
    /// Below it every transaction is decided.
    pub last_stable_offset: i64,
}

impl Bounds {
    /// A partition's.
    pub fn of(partition: &Partition) -> Self {
        Self {
            log_start: partition.log_start(),
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
        }
    }
}

/// What to read, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPlan {
    /// The first wanted offset.
    pub offset: i64,
    /// Where the records from there on lie, as far as the limit can reach; empty at the end of the log. The wanted
    /// offset is in the first one.
    pub extents: Vec<Extent>,
}

impl ReadPlan {
    /// At most this many bytes can come of it.
    pub fn most_bytes(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.bytes)).sum()
    }
}

/// The offset is below the log's start or beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the offset is not within the log")]
pub struct OutOfRange;

/// Plans a read of about `max_bytes` from `offset` on. The end of the log is within range: there is nothing to read.
///
/// # Errors
/// If the offset is not within the log.
pub fn plan(partition: &Partition, offset: i64, max_bytes: u64) -> Result<ReadPlan, OutOfRange> {
    if offset < partition.log_start() || offset > partition.high_watermark() {
        return Err(OutOfRange);
    }
    let mut extents = Vec::new();
    // How much of the first extent lies before the offset is not known here: it does not count.
    let mut behind_first = 0;
    for extent in partition.extents().from(offset).take(MAX_EXTENTS_PER_READ) {
        if !extents.is_empty() {
            behind_first += u64::from(extent.bytes);
        }
        extents.push(*extent);
        if behind_first >= max_bytes {
            break;
        }
    }
    Ok(ReadPlan { offset, extents })
}
