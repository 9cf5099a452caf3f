//! Generations of consumer groups in the fold. A generation is one join and one sync, each whole or in parts; parts
//! are gathered beside the group and show in it with the last. Every command of a group, whatever becomes of it,
//! takes out what was gathered, and only a part that continues it puts it back.

use std::sync::Arc;

use bytes::Bytes;

use super::offsets::fits;
use crate::command::{CompleteJoin, CompleteSync, Entry, GroupMember, MemberId, Part, Refusal, ReplaceMember};
use crate::limits::{GROUP_BYTES, GROUP_ID_BYTES, GROUPS, MEMBERS_PER_GROUP};
use crate::state::{Gathered, Group, GroupStage, Member, Membership, State, Unfinished};

pub(super) fn complete_join(state: &mut State, entry: &Entry, join: &CompleteJoin) -> Result<(), Refusal> {
    let id = join.group.as_str();
    let begun = state.groups.take_unfinished(id);
    if id.len() > GROUP_ID_BYTES {
        return Err(Refusal::LimitReached);
    }
    let mut membership = match continued(begun, entry, join.generation, join.part)? {
        None => Membership {
            protocol_type: join.protocol_type.as_str().into(),
            protocol: join.protocol.as_str().into(),
            leader: join.leader.clone(),
            members: Arc::default(),
        },
        Some(Gathered::Join(membership)) => membership,
        Some(Gathered::Sync(_)) => return Err(Refusal::NotAllowed),
    };
    let known = state.group(id).map(|group| group.generation);
    if known.unwrap_or(0).checked_add(1) != Some(join.generation) {
        return Err(Refusal::IllegalGeneration);
    }
    if !join.members.iter().all(is_well_formed) {
        return Err(Refusal::NotAllowed);
    }
    Arc::make_mut(&mut membership.members).extend(join.members.iter().map(|m| Member::new(m, Bytes::new())));
    let full = known.is_none() && state.groups.len() >= GROUPS;
    if full || membership.members.len() > MEMBERS_PER_GROUP || membership.weight() > GROUP_BYTES {
        return Err(Refusal::LimitReached);
    }
    if !join.part.last {
        return keep(state, entry, id, (join.generation, join.part), Gathered::Join(membership));
    }
    if !membership.complete() {
        return Err(Refusal::NotAllowed);
    }
    let mut group = state.group(id).cloned().unwrap_or_else(|| Group::empty(entry.time_ms));
    group.generation = join.generation;
    group.stage = if membership.members.is_empty() { GroupStage::Empty } else { GroupStage::Joined };
    group.changed_ms = group.changed_ms.max(entry.time_ms);
    group.set_membership(membership);
    replace(state, id, group)
}

pub(super) fn complete_sync(state: &mut State, entry: &Entry, sync: &CompleteSync) -> Result<(), Refusal> {
    let id = sync.group.as_str();
    let begun = state.groups.take_unfinished(id);
    let mut group = state.group(id).cloned().ok_or(Refusal::UnknownGroup)?;
    let mut assignments = match continued(begun, entry, sync.generation, sync.part)? {
        None => Vec::new(),
        Some(Gathered::Sync(assignments)) => assignments,
        Some(Gathered::Join(_)) => return Err(Refusal::NotAllowed),
    };
    if group.generation != sync.generation {
        return Err(Refusal::IllegalGeneration);
    }
    if group.stage != GroupStage::Joined {
        return Err(Refusal::NotAllowed);
    }
    if sync.assignments.iter().any(|(member, _)| group.member(member).is_none()) {
        return Err(Refusal::UnknownMember);
    }
    assignments.extend(sync.assignments.iter().cloned());
    // More than there are members: one is named twice.
    if assignments.len() > group.members().len() {
        return Err(Refusal::NotAllowed);
    }
    let given: u64 = assignments.iter().map(|(_, assignment)| assignment.len() as u64).sum();
    if group.bytes().saturating_add(given) > GROUP_BYTES {
        return Err(Refusal::LimitReached);
    }
    if !sync.part.last {
        return keep(state, entry, id, (sync.generation, sync.part), Gathered::Sync(assignments));
    }
    let membership = assign(&group, &assignments).ok_or(Refusal::NotAllowed)?;
    group.stage = GroupStage::Assigned;
    group.changed_ms = group.changed_ms.max(entry.time_ms);
    group.set_membership(membership);
    replace(state, id, group)
}

pub(super) fn replace_member(state: &mut State, command: &ReplaceMember) -> Result<(), Refusal> {
    let id = command.group.as_str();
    state.groups.take_unfinished(id);
    let mut group = state.group(id).cloned().ok_or(Refusal::UnknownGroup)?;
    if group.generation != command.generation {
        return Err(Refusal::IllegalGeneration);
    }
    let mut membership = group.membership().clone();
    let place = membership.place(&command.old).ok_or(Refusal::UnknownMember)?;
    let members = Arc::make_mut(&mut membership.members);
    let old = &members[place];
    let same_instance = old.instance.is_some() && old.instance() == command.new.instance.as_deref();
    if !same_instance || !is_well_formed(&command.new) {
        return Err(Refusal::NotAllowed);
    }
    members[place] = Member::new(&command.new, old.assignment.clone());
    if membership.leader == command.old {
        membership.leader = command.new.id.clone();
    }
    if !membership.complete() {
        return Err(Refusal::NotAllowed);
    }
    if membership.weight() > GROUP_BYTES {
        return Err(Refusal::LimitReached);
    }
    group.set_membership(membership);
    replace(state, id, group)
}

pub(super) fn delete(state: &mut State, id: &str) -> Result<(), Refusal> {
    state.groups.take_unfinished(id);
    let group = state.group(id).ok_or(Refusal::UnknownGroup)?;
    if group.stage != GroupStage::Empty {
        return Err(Refusal::GroupNotEmpty);
    }
    state.groups.remove(id);
    Ok(())
}

fn is_well_formed(member: &GroupMember) -> bool {
    !member.id.is_empty() && member.session_timeout_ms >= 0 && member.rebalance_timeout_ms >= 0
}

/// What a part continues; nothing for the first. It continues only the part before it, of this session and generation.
fn continued(
    begun: Option<Unfinished>,
    entry: &Entry,
    generation: i32,
    part: Part,
) -> Result<Option<Gathered>, Refusal> {
    if part.index == 0 {
        return Ok(None);
    }
    let continues = |u: &Unfinished| (u.nonce, u.generation, u.next) == (entry.nonce, generation, part.index);
    begun.filter(continues).map(|begun| Some(begun.gathered)).ok_or(Refusal::NotAllowed)
}

/// Keeps what was gathered until the next part.
fn keep(
    state: &mut State,
    entry: &Entry,
    id: &str,
    (generation, part): (i32, Part),
    gathered: Gathered,
) -> Result<(), Refusal> {
    let next = part.index.checked_add(1).ok_or(Refusal::NotAllowed)?;
    let unfinished = Unfinished { nonce: entry.nonce, generation, next, gathered };
    fits(state, 0, unfinished.weight(id))?;
    state.groups.put_unfinished(id, unfinished);
    Ok(())
}

/// Puts a group in the place of what it was.
fn replace(state: &mut State, id: &str, group: Group) -> Result<(), Refusal> {
    let before = state.group(id).map_or(0, |before| before.weight(id));
    fits(state, before, group.weight(id))?;
    state.groups.insert(id, group);
    Ok(())
}

/// The group's members with what they were given. None if one was given something twice.
fn assign(group: &Group, assignments: &[(MemberId, Bytes)]) -> Option<Membership> {
    let mut membership = group.membership().clone();
    let mut given = vec![false; membership.members.len()];
    for (member, assignment) in assignments {
        let place = membership.place(member)?;
        if std::mem::replace(given.get_mut(place)?, true) {
            return None;
        }
        Arc::make_mut(&mut membership.members)[place].assignment = assignment.clone();
    }
    Some(membership)
}
