//! Producer ids in the fold: allocating them, and forgetting those that were idle on all partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::Refusal;
use crate::limits::{LIVING_PRODUCERS, PRODUCER_IDS_PER_COMMAND};
use crate::state::{Partition, Producer, State, Topic};

/// Allocates `count` neighbouring ids, strict from now on; returns the first. Skips ids that a client brought from
/// elsewhere: an allocated id must have no state anywhere.
pub(super) fn allocate(state: &mut State, count: u32, time_ms: i64) -> Result<i64, Refusal> {
    if count == 0 || count > PRODUCER_IDS_PER_COMMAND {
        return Err(Refusal::NotAllowed);
    }
    if state.producers.len().saturating_add(count as usize) > LIVING_PRODUCERS {
        return Err(Refusal::LimitReached);
    }
    let mut first = state.next_producer_id;
    let end = loop {
        let end = first.checked_add(i64::from(count)).ok_or(Refusal::LimitReached)?;
        match state.producers.last_within(first, end - 1) {
            Some(taken) => first = taken.saturating_add(1),
            None => break end,
        }
    };
    for id in first..end {
        state.producers.insert(Producer { id, last_activity: time_ms, strict: true });
    }
    state.next_producer_id = end;
    Ok(first)
}

/// Forgets each id whose last activity is still the one that the proposer saw, with all it left in partitions. Which
/// partitions those are is not indexed: an index would cost each active producer more than this scan costs once an
/// hour, a few tens of nanoseconds a partition.
pub(super) fn expire(state: &mut State, idle: &[(i64, i64)]) {
    let unchanged = |(id, seen): &&(i64, i64)| state.producers.get(*id).is_some_and(|p| p.last_activity == *seen);
    let expired: BTreeSet<i64> = idle.iter().filter(unchanged).map(|(id, _)| *id).collect();
    if expired.is_empty() {
        return;
    }
    for id in &expired {
        state.producers.remove(*id);
    }
    for topic in state.topics.values_mut() {
        forget_in_topic(topic, &expired);
    }
}

fn forget_in_topic(topic: &mut Arc<Topic>, expired: &BTreeSet<i64>) {
    let knows_one = |p: &Arc<Partition>| p.producers.iter().any(|(id, _)| expired.contains(id));
    if !topic.partitions.iter().any(knows_one) {
        return;
    }
    for partition in Arc::make_mut(topic).partitions.iter_mut().filter(|p| knows_one(p)) {
        let partition = Arc::make_mut(partition);
        partition.producers.retain(|(id, _)| !expired.contains(id));
        partition.producers.shrink_to_fit();
    }
}
