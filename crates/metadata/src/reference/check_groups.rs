//! Whether a state says the same of groups as the reference.

use super::Reference;
use super::groups::RefGroup;
use crate::state::{Gathered, Group, GroupStage, State};

impl Reference {
    pub(super) fn check_groups(&self, state: &State) -> Result<(), String> {
        let mut mine: Vec<&RefGroup> = self.groups.iter().collect();
        mine.sort_by(|a, b| a.id.cmp(&b.id));
        let theirs: Vec<&str> = state.groups().map(|(id, _)| id).collect();
        if mine.iter().map(|g| g.id.as_str()).collect::<Vec<_>>() != theirs {
            return Err(format!("groups {mine:?} and {theirs:?}"));
        }
        for group in mine {
            let other = state.group(&group.id).ok_or_else(|| format!("{} is missing", group.id))?;
            check(group, other).map_err(|what| format!("group {}: {what}", group.id))?;
        }
        self.check_parts(state)?;
        let weights = (self.groups_weight(), state.groups_bytes());
        if weights.0 == weights.1 { Ok(()) } else { Err(format!("groups weigh {weights:?}")) }
    }

    fn check_parts(&self, state: &State) -> Result<(), String> {
        let count = state.groups.unfinished().len();
        if count != self.parts.len() {
            return Err(format!("unfinished: {:?} and {count}", self.parts));
        }
        for parts in &self.parts {
            let of = parts.joins.first().map(|j| &j.group).or(parts.syncs.first().map(|s| &s.group));
            let of = of.ok_or("parts of nothing")?;
            let found = state.groups.unfinished().find(|(id, _)| id == of);
            let (_, found) = found.ok_or_else(|| format!("parts of {of} are missing"))?;
            let same = match &found.gathered {
                Gathered::Join(membership) => {
                    let mine = parts.joins.iter().flat_map(|j| &j.members).map(|m| m.id.clone());
                    mine.eq(membership.members.iter().map(|m| m.id().clone()))
                }
                Gathered::Sync(assignments) => parts.syncs.iter().flat_map(|s| &s.assignments).eq(assignments),
            };
            let next = parts.joins.len().max(parts.syncs.len());
            if !same || found.nonce != parts.nonce || found.next as usize != next {
                return Err(format!("parts of {of}: {parts:?} and {found:?}"));
            }
        }
        Ok(())
    }
}

fn check(mine: &RefGroup, theirs: &Group) -> Result<(), String> {
    let stage = match (mine.members().is_empty(), &mine.sync) {
        (true, _) => GroupStage::Empty,
        (false, None) => GroupStage::Joined,
        (false, Some(_)) => GroupStage::Assigned,
    };
    let place = (theirs.generation(), theirs.stage(), theirs.changed_ms());
    if place != (mine.generation, stage, mine.changed_ms) {
        return Err(format!("{mine:?} and {place:?}"));
    }
    let join = mine.join.as_ref();
    let names = join.map_or(("", "", ""), |j| (j.protocol_type.as_str(), j.protocol.as_str(), &*j.leader));
    if names != (theirs.protocol_type(), theirs.protocol(), theirs.leader()) || mine.members_weight() != theirs.bytes()
    {
        return Err(format!("{names:?} and {:?}", theirs.membership()));
    }
    let mut members = mine.members();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    let same = |(a, b): (&&crate::command::GroupMember, &crate::state::Member)| {
        let texts = (&a.id, a.instance.as_deref(), a.client_id.as_str(), a.client_host.as_str());
        texts == (b.id(), b.instance(), b.client_id(), b.client_host())
            && (a.session_timeout_ms, a.rebalance_timeout_ms) == (b.session_timeout_ms(), b.rebalance_timeout_ms())
            && a.subscription == *b.subscription()
            && mine.assignment(&a.id) == *b.assignment()
    };
    if members.len() != theirs.members().len() || !members.iter().zip(theirs.members()).all(same) {
        return Err(format!("{members:?} and {:?}", theirs.membership()));
    }
    let mut offsets: Vec<_> = mine.offsets.iter().map(|o| (&o.commit, o.committed_ms)).collect();
    offsets.sort_by_key(|(commit, _)| commit.partition);
    let same = offsets.iter().zip(theirs.offsets()).all(|((commit, at), (partition, stored))| {
        (commit.partition, commit.offset, commit.leader_epoch) == (partition, stored.offset, stored.leader_epoch)
            && commit.metadata == *stored.metadata
            && *at == stored.committed_ms
            && theirs.offset(partition) == Some(stored)
    });
    let count = theirs.offsets().count();
    if same && count == offsets.len() && count == theirs.offset_count() {
        Ok(())
    } else {
        Err(format!("offsets {offsets:?} and {:?}", theirs.offsets().collect::<Vec<_>>()))
    }
}
