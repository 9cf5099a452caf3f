//! Committed offsets of consumer groups in the fold: storing them, and forgetting them.

use std::sync::Arc;

use crate::command::{CommitOffsets, Entry, OffsetCommit, Outcome, Refusal, TopicId, TopicPartition};
use crate::limits::{GROUP_ID_BYTES, GROUPS, GROUPS_BYTES, OFFSET_METADATA_BYTES, OFFSET_WEIGHT};
use crate::state::{CommittedOffset, Group, GroupStage, State};

/// Whether groups may weigh `after` where they weigh `before` now. What becomes lighter always fits.
pub(super) fn fits(state: &State, before: u64, after: u64) -> Result<(), Refusal> {
    let all = state.groups.bytes().saturating_sub(before).saturating_add(after);
    if after <= before || all <= GROUPS_BYTES { Ok(()) } else { Err(Refusal::LimitReached) }
}

pub(super) fn commit(state: &mut State, entry: &Entry, commit: &CommitOffsets) -> Outcome {
    state.groups.take_unfinished(&commit.group);
    match may_commit(state, commit) {
        Ok(()) => Outcome::Offsets(store(state, entry, commit)),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn may_commit(state: &State, commit: &CommitOffsets) -> Result<(), Refusal> {
    let group = state.group(&commit.group);
    if commit.generation < 0 && commit.member.is_empty() {
        return match group {
            Some(group) if group.stage != GroupStage::Empty => Err(Refusal::UnknownMember),
            Some(_) => Ok(()),
            None if commit.group.len() > GROUP_ID_BYTES || state.groups.len() >= GROUPS => Err(Refusal::LimitReached),
            None => Ok(()),
        };
    }
    let group = group.ok_or(Refusal::IllegalGeneration)?;
    group.member(&commit.member).ok_or(Refusal::UnknownMember)?;
    if group.generation != commit.generation {
        return Err(Refusal::IllegalGeneration);
    }
    if group.stage == GroupStage::Joined { Err(Refusal::RebalanceInProgress) } else { Ok(()) }
}

fn store(state: &mut State, entry: &Entry, commit: &CommitOffsets) -> Vec<Option<Refusal>> {
    let id = commit.group.as_str();
    let mut verdicts = Vec::with_capacity(commit.offsets.len());
    for offset in &commit.offsets {
        let verdict = may_store(state, id, offset);
        if verdict.is_ok() {
            if state.group(id).is_none() {
                state.groups.insert(id, Group::empty(entry.time_ms));
            }
            state.groups.update(id, |group| set(group, offset, entry.time_ms));
        }
        verdicts.push(verdict.err());
    }
    verdicts
}

/// Whether an offset can be stored, and the group with it if it is not there yet.
fn may_store(state: &State, id: &str, offset: &OffsetCommit) -> Result<(), Refusal> {
    state.partition(offset.partition).ok_or(Refusal::UnknownTopicOrPartition)?;
    if offset.metadata.len() > OFFSET_METADATA_BYTES {
        return Err(Refusal::LimitReached);
    }
    let group = state.group(id);
    let before = group.and_then(|group| group.offset(offset.partition)).map_or(0, CommittedOffset::weight);
    let new_group = if group.is_none() { Group::empty(0).weight(id) } else { 0 };
    fits(state, before, new_group.saturating_add(OFFSET_WEIGHT + offset.metadata.len() as u64))
}

fn set(group: &mut Group, offset: &OffsetCommit, time_ms: i64) {
    let before = group.offset(offset.partition).map_or(i64::MIN, |before| before.committed_ms);
    let stored = CommittedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.as_str().into(),
        committed_ms: before.max(time_ms),
    };
    group.offsets.set(offset.partition, stored);
}

pub(super) fn delete(state: &mut State, id: &str, partitions: &[TopicPartition]) -> Result<(), Refusal> {
    state.groups.take_unfinished(id);
    let forget = |group: &mut Group| partitions.iter().for_each(|partition| group.offsets.remove(*partition));
    state.groups.update(id, forget).ok_or(Refusal::UnknownGroup)
}

/// Forgets each offset whose commit is still the one that the proposer saw, and a group that then holds nothing.
pub(super) fn expire(state: &mut State, id: &str, generation: i32, seen: &[(TopicPartition, i64)]) {
    state.groups.take_unfinished(id);
    if state.group(id).is_none_or(|group| group.generation != generation) {
        return;
    }
    let unchanged = |group: &Group, partition, seen| group.offset(partition).is_some_and(|o| o.committed_ms == seen);
    state.groups.update(id, |group| {
        for (partition, seen) in seen {
            if unchanged(group, *partition, *seen) {
                group.offsets.remove(*partition);
            }
        }
    });
    if state.group(id).is_some_and(|group| group.stage == GroupStage::Empty && group.offset_count() == 0) {
        state.groups.remove(id);
    }
}

/// A topic is gone, and with it the offsets of it in all groups.
pub(super) fn forget_topic(state: &mut State, topic: TopicId) {
    let holding: Vec<Arc<str>> = state.groups.with_offsets_of(topic);
    for id in holding {
        state.groups.update(&id, |group| group.offsets.remove_topic(topic));
    }
}
