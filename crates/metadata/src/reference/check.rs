//! Whether a state says the same as the reference.

use super::{LiveBatch, Reference};
use crate::command::TopicPartition;
use crate::state::{Extent, State};

impl Reference {
    /// Compares every partition (high watermark, and each extent batch by batch), every group with its
    /// coordinator, and every living producer. The error names the first difference.
    pub fn check(&self, state: &State) -> Result<(), String> {
        if self.ordinal != state.ordinal() {
            return Err(format!("ordinal {} and {}", self.ordinal, state.ordinal()));
        }
        let names: Vec<&str> = state.topics().map(crate::state::Topic::name).collect();
        let mut mine: Vec<&str> = self.topics.iter().map(|t| t.name.as_str()).collect();
        mine.sort_unstable();
        if names != mine {
            return Err(format!("topics {mine:?} and {names:?}"));
        }
        for partition in self.partitions() {
            self.check_partition(state, partition)?;
        }
        if self.changes != state.session_changes() {
            return Err(format!("sessions changed {} and {} times", self.changes, state.session_changes()));
        }
        self.check_groups(state)?;
        for group in ["g", "h", "", "another"].into_iter().chain(state.groups().map(|(id, _)| id)) {
            let (mine, theirs) = (self.coordinator(group), state.coordinator(group).map(crate::state::Session::nonce));
            if mine != theirs {
                return Err(format!("{mine:?} and {theirs:?} coordinate {group}"));
            }
        }
        let mut mine: Vec<_> = self.producers.iter().map(|p| (p.id, p.last_activity, p.strict)).collect();
        mine.sort_unstable();
        let theirs: Vec<_> = state.producers.iter().map(|p| (p.id, p.last_activity, p.strict)).collect();
        if mine != theirs { Err(format!("producers {mine:?} and {theirs:?}")) } else { Ok(()) }
    }

    fn check_partition(&self, state: &State, of: TopicPartition) -> Result<(), String> {
        let batches = self.batches(of);
        let partition = state.partition(of).ok_or_else(|| format!("{of:?} is missing"))?;
        let end = batches.last().map_or(0, |b| b.first_offset + i64::from(b.records));
        if partition.high_watermark() != end {
            return Err(format!("{of:?} ends at {end} and {}", partition.high_watermark()));
        }
        let bytes: u64 = batches.iter().map(|b| u64::from(b.bytes)).sum();
        if partition.bytes() != bytes {
            return Err(format!("{of:?} has {bytes} and {} bytes", partition.bytes()));
        }
        let mut rest = batches;
        for extent in partition.extents().iter() {
            let count = rest.iter().take_while(|b| b.first_offset <= extent.last_offset).count();
            let (inside, after) = rest.split_at(count);
            if !covers(extent, inside) {
                return Err(format!("{of:?}: {extent:?} does not hold {inside:?}"));
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{of:?}: no extent holds {rest:?}")) }
    }
}

/// Whether the extent is exactly these batches, one after the other.
fn covers(extent: &Extent, batches: &[LiveBatch]) -> bool {
    let (mut offset, mut position) = (extent.first_offset, u64::from(extent.position));
    for batch in batches {
        let here = batch.first_offset == offset && u64::from(batch.position) == position;
        if !here || batch.object != extent.object() {
            return false;
        }
        offset += i64::from(batch.records);
        position += u64::from(batch.bytes);
    }
    let max = batches.iter().map(|b| b.max_timestamp).max();
    offset == extent.last_offset + 1
        && position == u64::from(extent.position) + u64::from(extent.bytes)
        && max == Some(extent.max_timestamp)
}
