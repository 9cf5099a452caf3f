//! From frames to groups: each is checked as a whole once its last frame was read.

use std::sync::Arc;

use super::SnapshotError;
use super::SnapshotError::Damaged;
use super::read::{COLUMNS, ORDER};
use crate::encode::columns::undo_deltas;
use crate::encode::groups::{assignment_from, commit_from, member_from};
use crate::encode::proto;
use crate::limits::{GROUP_BYTES, GROUP_ID_BYTES, GROUPS, GROUPS_BYTES, MEMBERS_PER_GROUP, OFFSET_METADATA_BYTES};
use crate::state::{CommittedOffset, Gathered, Group, GroupStage, Member, Membership, State, Unfinished};

/// What the next frames belong to.
#[derive(Default)]
pub(super) struct Reading {
    group: Option<(String, Group, Membership)>,
    unfinished: Option<(String, Unfinished)>,
}

impl Reading {
    pub(super) fn group(&mut self, state: &mut State, message: proto::GroupState) -> Result<(), SnapshotError> {
        self.close(state)?;
        let stage = match proto::Stage::try_from(message.stage) {
            Ok(proto::Stage::Empty) => GroupStage::Empty,
            Ok(proto::Stage::Joined) => GroupStage::Joined,
            Ok(proto::Stage::Assigned) => GroupStage::Assigned,
            Ok(proto::Stage::Unspecified) | Err(_) => return Err(Damaged("an unknown stage of a group")),
        };
        let mut group = Group::empty(message.changed_ms);
        (group.generation, group.stage) = (message.generation, stage);
        let membership = membership_from(message.protocol_type, message.protocol, message.leader);
        if state.group(&message.group).is_some() || state.groups.len() >= GROUPS {
            return Err(Damaged("a group came twice, or there are too many"));
        }
        self.group = Some((message.group, group, membership));
        Ok(())
    }

    pub(super) fn members(&mut self, message: proto::GroupMembers) -> Result<(), SnapshotError> {
        let unfinished = self.unfinished.as_mut().and_then(|(_, unfinished)| match &mut unfinished.gathered {
            Gathered::Join(membership) => Some(membership),
            Gathered::Sync(_) => None,
        });
        let membership = self.group.as_mut().map(|(_, _, membership)| membership).or(unfinished).ok_or(ORDER)?;
        let members = Arc::make_mut(&mut membership.members);
        for message in message.members {
            let joined = member_from(message.member.ok_or(Damaged("a member without itself"))?);
            members.push(Member::new(&joined, message.assignment.into()));
        }
        if members.len() > MEMBERS_PER_GROUP { Err(Damaged("too many members of a group")) } else { Ok(()) }
    }

    pub(super) fn offsets(&mut self, state: &State, message: proto::GroupOffsets) -> Result<(), SnapshotError> {
        let (_, group, _) = self.group.as_mut().ok_or(ORDER)?;
        let commit = commit_from(message.offsets.unwrap_or_default())?;
        if commit.offsets.len() != message.committed.len() {
            return Err(COLUMNS);
        }
        for (stored, committed_ms) in commit.offsets.into_iter().zip(undo_deltas(&message.committed)) {
            let known = group.offset(stored.partition).is_some();
            let bad = known || stored.metadata.len() > OFFSET_METADATA_BYTES;
            if bad || state.partition(stored.partition).is_none() {
                return Err(Damaged("the offsets of a group"));
            }
            let metadata = stored.metadata.into();
            let (offset, leader_epoch) = (stored.offset, stored.leader_epoch);
            group.offsets.set(stored.partition, CommittedOffset { offset, leader_epoch, metadata, committed_ms });
        }
        Ok(())
    }

    pub(super) fn unfinished(
        &mut self,
        state: &mut State,
        message: proto::UnfinishedState,
    ) -> Result<(), SnapshotError> {
        self.close(state)?;
        let gathered = if message.sync {
            Gathered::Sync(Vec::new())
        } else {
            Gathered::Join(membership_from(message.protocol_type, message.protocol, message.leader))
        };
        let (nonce, generation, next) = (message.nonce, message.generation, message.next);
        if state.groups.is_unfinished(&message.group) {
            return Err(Damaged("an unfinished generation came twice"));
        }
        self.unfinished = Some((message.group, Unfinished { nonce, generation, next, gathered }));
        Ok(())
    }

    pub(super) fn assignments(&mut self, message: proto::GroupAssignments) -> Result<(), SnapshotError> {
        let Some((_, Unfinished { gathered: Gathered::Sync(assignments), .. })) = &mut self.unfinished else {
            return Err(ORDER);
        };
        assignments.extend(message.assignments.into_iter().map(assignment_from));
        if assignments.len() > MEMBERS_PER_GROUP { Err(Damaged("too many members of a group")) } else { Ok(()) }
    }

    /// The last frame of a group, or of an unfinished generation, was read.
    pub(super) fn close(&mut self, state: &mut State) -> Result<(), SnapshotError> {
        if let Some((id, mut group, mut membership)) = self.group.take() {
            let complete = membership.complete();
            group.set_membership(membership);
            if !complete || !is_group(&id, &group) {
                return Err(Damaged("a group that cannot be"));
            }
            state.groups.insert(&id, group);
        }
        if let Some((id, unfinished)) = self.unfinished.take() {
            if !is_unfinished(state, &id, &unfinished) {
                return Err(Damaged("an unfinished generation that cannot be"));
            }
            state.groups.put_unfinished(&id, unfinished);
        }
        if state.groups.bytes() > GROUPS_BYTES { Err(Damaged("too many bytes of groups")) } else { Ok(()) }
    }
}

fn membership_from(protocol_type: String, protocol: String, leader: String) -> Membership {
    let (protocol_type, protocol, leader) = (protocol_type.into(), protocol.into(), leader.into());
    Membership { protocol_type, protocol, leader, members: Arc::default() }
}

fn is_member(member: &Member) -> bool {
    !member.id().is_empty() && member.session_timeout_ms() >= 0 && member.rebalance_timeout_ms() >= 0
}

fn is_group(id: &str, group: &Group) -> bool {
    let empty = group.members().len() == 0;
    let unassigned = group.stage() == GroupStage::Joined;
    let never_joined = group.generation() == 0;
    id.len() <= GROUP_ID_BYTES
        && group.generation() >= 0
        && group.bytes() <= GROUP_BYTES
        && (group.stage() == GroupStage::Empty) == empty
        && (!never_joined || (empty && group.bytes() == 0))
        && group.members().all(|m| is_member(m) && (!unassigned || m.assignment().is_empty()))
}

fn is_unfinished(state: &State, id: &str, unfinished: &Unfinished) -> bool {
    let group = state.group(id);
    let fits = match &unfinished.gathered {
        Gathered::Join(membership) => {
            let generation = group.map_or(0, Group::generation).checked_add(1);
            let members = membership.members.iter().all(|m| is_member(m) && m.assignment().is_empty());
            generation == Some(unfinished.generation) && members && membership.weight() <= GROUP_BYTES
        }
        Gathered::Sync(assignments) => group.is_some_and(|group| {
            let given: u64 = assignments.iter().map(|(_, assignment)| assignment.len() as u64).sum();
            let known = assignments.iter().all(|(member, _)| group.member(member).is_some());
            let count = assignments.len() <= group.members().len();
            let of_it = (group.generation(), group.stage()) == (unfinished.generation, GroupStage::Joined);
            of_it && known && count && group.bytes().saturating_add(given) <= GROUP_BYTES
        }),
    };
    fits && id.len() <= GROUP_ID_BYTES && unfinished.next > 0 && state.sessions.is_live(unfinished.nonce)
}

#[cfg(test)]
#[path = "read_groups_tests.rs"]
mod tests;
