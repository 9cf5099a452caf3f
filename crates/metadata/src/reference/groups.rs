//! Consumer groups, naively: lists that are searched, parts kept as the commands that they were, and weights added up
//! anew whenever one is asked for.

use bytes::Bytes;

use super::Reference;
use crate::command::{
    CommitOffsets, CompleteJoin, CompleteSync, Entry, GroupMember, OffsetCommit, Outcome, Refusal, ReplaceMember,
    TopicId, TopicPartition,
};
use crate::limits;

/// A group.
#[derive(Debug, Clone)]
pub(super) struct RefGroup {
    pub(super) id: String,
    pub(super) generation: i32,
    /// The join of the generation, all parts in one; none of a group that nobody joined.
    pub(super) join: Option<CompleteJoin>,
    /// The assignment of the generation, all parts in one.
    pub(super) sync: Option<CompleteSync>,
    pub(super) changed_ms: i64,
    pub(super) offsets: Vec<RefOffset>,
}

#[derive(Debug, Clone)]
pub(super) struct RefOffset {
    pub(super) commit: OffsetCommit,
    pub(super) committed_ms: i64,
}

/// Parts that wait for their last one: of a join or of a sync, never of both.
#[derive(Debug, Clone, Default)]
pub(super) struct RefParts {
    pub(super) nonce: u64,
    pub(super) joins: Vec<CompleteJoin>,
    pub(super) syncs: Vec<CompleteSync>,
}

impl RefGroup {
    fn new(id: &str, time_ms: i64) -> RefGroup {
        RefGroup { id: id.to_owned(), generation: 0, join: None, sync: None, changed_ms: time_ms, offsets: vec![] }
    }

    pub(super) fn members(&self) -> Vec<&GroupMember> {
        self.join.iter().flat_map(|join| &join.members).collect()
    }

    pub(super) fn assignment(&self, member: &str) -> Bytes {
        let given = self.sync.iter().flat_map(|sync| &sync.assignments).find(|(id, _)| &**id == member);
        given.map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    pub(super) fn members_weight(&self) -> u64 {
        let given: usize = self.sync.iter().flat_map(|sync| &sync.assignments).map(|(_, bytes)| bytes.len()).sum();
        self.join.as_ref().map_or(0, join_weight) + given as u64
    }

    fn weight(&self) -> u64 {
        let offsets = self.offsets.iter().map(|o| limits::OFFSET_WEIGHT + o.commit.metadata.len() as u64);
        limits::GROUP_WEIGHT + self.id.len() as u64 + self.members_weight() + offsets.sum::<u64>()
    }
}

impl RefParts {
    pub(super) fn group(&self) -> &str {
        let join = self.joins.first().map(|j| j.group.as_str());
        join.or(self.syncs.first().map(|s| s.group.as_str())).unwrap_or_default()
    }

    fn weight(&self) -> u64 {
        let join = if self.joins.is_empty() { 0 } else { join_weight(&all_joins(&self.joins)) };
        let given = self.syncs.iter().flat_map(|s| &s.assignments).map(|(id, bytes)| id.len() + bytes.len());
        limits::GROUP_WEIGHT + self.group().len() as u64 + join + given.sum::<usize>() as u64
    }
}

fn join_weight(join: &CompleteJoin) -> u64 {
    let mut weight = join.protocol_type.len() + join.protocol.len() + join.leader.len();
    for m in &join.members {
        weight += limits::MEMBER_WEIGHT as usize;
        weight += m.id.len() + m.client_id.len() + m.client_host.len() + m.subscription.len();
        weight += m.instance.as_deref().unwrap_or("").len();
    }
    weight as u64
}

fn all_joins(parts: &[CompleteJoin]) -> CompleteJoin {
    let members = parts.iter().flat_map(|p| p.members.clone()).collect();
    CompleteJoin { members, ..parts[0].clone() }
}

fn odd(member: &GroupMember) -> bool {
    member.id.is_empty() || member.session_timeout_ms < 0 || member.rebalance_timeout_ms < 0
}

/// Whether an id or an instance is there twice, or the leader is not there.
fn impossible(join: &CompleteJoin) -> bool {
    let twice = join.members.iter().enumerate().any(|(at, a)| {
        join.members[..at].iter().any(|b| a.id == b.id || (a.instance.is_some() && a.instance == b.instance))
    });
    let led = join.members.iter().any(|m| m.id == join.leader) || (join.members.is_empty() && join.leader.is_empty());
    twice || !led
}

fn done(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}

fn must(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

impl Reference {
    fn find_group(&self, id: &str) -> Option<&RefGroup> {
        self.groups.iter().find(|g| g.id == id)
    }

    /// What all groups and all parts weigh.
    pub(super) fn groups_weight(&self) -> u64 {
        self.groups.iter().map(RefGroup::weight).sum::<u64>() + self.parts.iter().map(RefParts::weight).sum::<u64>()
    }

    fn grown_too_large(&self, before: u64, after: u64) -> bool {
        after > before && self.groups_weight() - before + after > limits::GROUPS_BYTES
    }

    fn take_parts(&mut self, group: &str) -> RefParts {
        let at = self.parts.iter().position(|p| p.group() == group);
        at.map(|at| self.parts.remove(at)).unwrap_or_default()
    }

    pub(super) fn session_ended(&mut self, nonce: u64) {
        self.parts.retain(|p| p.nonce != nonce);
    }

    pub(super) fn delete_offsets(&mut self, id: &str, partitions: &[TopicPartition]) -> Outcome {
        self.take_parts(id);
        let mut found = Outcome::Refused(Refusal::UnknownGroup);
        for group in self.groups.iter_mut().filter(|g| g.id == id) {
            group.offsets.retain(|o| !partitions.contains(&o.commit.partition));
            found = Outcome::Done;
        }
        found
    }

    pub(super) fn expire_offsets(&mut self, id: &str, generation: i32, seen: &[(TopicPartition, i64)]) -> Outcome {
        self.take_parts(id);
        let Some(at) = self.groups.iter().position(|g| g.id == id && g.generation == generation) else {
            return Outcome::Done;
        };
        self.groups[at].offsets.retain(|o| !seen.contains(&(o.commit.partition, o.committed_ms)));
        if self.groups[at].offsets.is_empty() && self.groups[at].members().is_empty() {
            self.groups.remove(at);
        }
        Outcome::Done
    }

    pub(super) fn delete_group(&mut self, id: &str) -> Outcome {
        self.take_parts(id);
        match self.find_group(id).map(|g| g.members().len()) {
            None => Outcome::Refused(Refusal::UnknownGroup),
            Some(0) => {
                self.groups.retain(|g| g.id != id);
                Outcome::Done
            }
            Some(_) => Outcome::Refused(Refusal::GroupNotEmpty),
        }
    }

    pub(super) fn join(&mut self, entry: &Entry, join: &CompleteJoin) -> Outcome {
        let parts = self.take_parts(&join.group);
        done(self.try_join(entry, join, parts))
    }

    fn try_join(&mut self, entry: &Entry, join: &CompleteJoin, mut parts: RefParts) -> Result<(), Refusal> {
        must(join.group.len() <= limits::GROUP_ID_BYTES, Refusal::LimitReached)?;
        if join.part.index == 0 {
            parts = RefParts { nonce: entry.nonce, ..RefParts::default() };
        }
        let same = parts.nonce == entry.nonce && parts.joins.iter().all(|p| p.generation == join.generation);
        let in_order = parts.joins.len() == join.part.index as usize && parts.syncs.is_empty();
        must(same && in_order, Refusal::NotAllowed)?;
        let known = self.find_group(&join.group).cloned();
        let stored = known.as_ref().map_or(0, |g| i64::from(g.generation));
        must(i64::from(join.generation) == stored + 1, Refusal::IllegalGeneration)?;
        must(!join.members.iter().any(odd), Refusal::NotAllowed)?;
        parts.joins.push(join.clone());
        let whole = all_joins(&parts.joins);
        let too_many = known.is_none() && self.groups.len() >= limits::GROUPS;
        let too_large = whole.members.len() > limits::MEMBERS_PER_GROUP || join_weight(&whole) > limits::GROUP_BYTES;
        must(!too_many && !too_large, Refusal::LimitReached)?;
        if !join.part.last {
            must(!self.grown_too_large(0, parts.weight()), Refusal::LimitReached)?;
            self.parts.push(parts);
            return Ok(());
        }
        must(!impossible(&whole), Refusal::NotAllowed)?;
        let before = known.as_ref().map_or(0, RefGroup::weight);
        let mut group = known.unwrap_or_else(|| RefGroup::new(&join.group, entry.time_ms));
        group.generation = join.generation;
        group.join = Some(whole);
        group.sync = None;
        group.changed_ms = group.changed_ms.max(entry.time_ms);
        self.put(group, before)
    }

    fn put(&mut self, group: RefGroup, before: u64) -> Result<(), Refusal> {
        must(!self.grown_too_large(before, group.weight()), Refusal::LimitReached)?;
        self.groups.retain(|g| g.id != group.id);
        self.groups.push(group);
        Ok(())
    }

    pub(super) fn sync(&mut self, entry: &Entry, sync: &CompleteSync) -> Outcome {
        let parts = self.take_parts(&sync.group);
        done(self.try_sync(entry, sync, parts))
    }

    fn try_sync(&mut self, entry: &Entry, sync: &CompleteSync, mut parts: RefParts) -> Result<(), Refusal> {
        let mut group = self.find_group(&sync.group).cloned().ok_or(Refusal::UnknownGroup)?;
        if sync.part.index == 0 {
            parts = RefParts { nonce: entry.nonce, ..RefParts::default() };
        }
        let same = parts.nonce == entry.nonce && parts.syncs.iter().all(|p| p.generation == sync.generation);
        let in_order = parts.syncs.len() == sync.part.index as usize && parts.joins.is_empty();
        must(same && in_order, Refusal::NotAllowed)?;
        must(group.generation == sync.generation, Refusal::IllegalGeneration)?;
        must(!group.members().is_empty() && group.sync.is_none(), Refusal::NotAllowed)?;
        let is_member = |id: &str| group.members().iter().any(|m| &*m.id == id);
        must(sync.assignments.iter().all(|(id, _)| is_member(id)), Refusal::UnknownMember)?;
        parts.syncs.push(sync.clone());
        let all: Vec<_> = parts.syncs.iter().flat_map(|p| p.assignments.clone()).collect();
        must(all.len() <= group.members().len(), Refusal::NotAllowed)?;
        let twice = all.iter().enumerate().any(|(at, (id, _))| all[..at].iter().any(|(other, _)| id == other));
        let before = group.weight();
        group.sync = Some(CompleteSync { assignments: all, ..sync.clone() });
        must(group.members_weight() <= limits::GROUP_BYTES, Refusal::LimitReached)?;
        if !sync.part.last {
            must(!self.grown_too_large(0, parts.weight()), Refusal::LimitReached)?;
            self.parts.push(parts);
            return Ok(());
        }
        must(!twice, Refusal::NotAllowed)?;
        group.changed_ms = group.changed_ms.max(entry.time_ms);
        self.put(group, before)
    }

    pub(super) fn replace(&mut self, command: &ReplaceMember) -> Outcome {
        self.take_parts(&command.group);
        done(self.try_replace(command))
    }

    fn try_replace(&mut self, command: &ReplaceMember) -> Result<(), Refusal> {
        let mut group = self.find_group(&command.group).cloned().ok_or(Refusal::UnknownGroup)?;
        let before = group.weight();
        must(group.generation == command.generation, Refusal::IllegalGeneration)?;
        let join = group.join.as_mut().ok_or(Refusal::UnknownMember)?;
        let old = join.members.iter_mut().find(|m| m.id == command.old).ok_or(Refusal::UnknownMember)?;
        must(old.instance.is_some() && old.instance == command.new.instance, Refusal::NotAllowed)?;
        must(!odd(&command.new), Refusal::NotAllowed)?;
        *old = command.new.clone();
        if join.leader == command.old {
            join.leader = command.new.id.clone();
        }
        must(!impossible(join), Refusal::NotAllowed)?;
        for (id, _) in group.sync.iter_mut().flat_map(|sync| &mut sync.assignments) {
            if *id == command.old {
                *id = command.new.id.clone();
            }
        }
        must(group.members_weight() <= limits::GROUP_BYTES, Refusal::LimitReached)?;
        self.put(group, before)
    }

    pub(super) fn commit_offsets(&mut self, entry: &Entry, commit: &CommitOffsets) -> Outcome {
        self.take_parts(&commit.group);
        let group = self.find_group(&commit.group);
        let too_many = commit.group.len() > limits::GROUP_ID_BYTES || self.groups.len() >= limits::GROUPS;
        let refusal = match group {
            None if commit.generation >= 0 || !commit.member.is_empty() => Some(Refusal::IllegalGeneration),
            None => too_many.then_some(Refusal::LimitReached),
            Some(group) => refusal_of_commit(group, commit),
        };
        if let Some(refusal) = refusal {
            return Outcome::Refused(refusal);
        }
        Outcome::Offsets(commit.offsets.iter().map(|o| self.store(entry, &commit.group, o).err()).collect())
    }

    fn store(&mut self, entry: &Entry, id: &str, commit: &OffsetCommit) -> Result<(), Refusal> {
        must(self.find(commit.partition).is_some(), Refusal::UnknownTopicOrPartition)?;
        must(commit.metadata.len() <= limits::OFFSET_METADATA_BYTES, Refusal::LimitReached)?;
        let known = self.find_group(id).cloned();
        let mut group = known.clone().unwrap_or_else(|| RefGroup::new(id, entry.time_ms));
        let before = known.as_ref().map_or(0, RefGroup::weight);
        let old = group.offsets.iter().find(|o| o.commit.partition == commit.partition).map(|o| o.committed_ms);
        group.offsets.retain(|o| o.commit.partition != commit.partition);
        let committed_ms = old.map_or(entry.time_ms, |old| old.max(entry.time_ms));
        group.offsets.push(RefOffset { commit: commit.clone(), committed_ms });
        self.put(group, before)
    }

    pub(super) fn topic_deleted(&mut self, topic: TopicId) {
        for group in &mut self.groups {
            group.offsets.retain(|o| o.commit.partition.topic != topic);
        }
    }

    /// The committed offset of a partition in a group: what a client must be told.
    #[must_use]
    pub fn committed(&self, group: &str, partition: TopicPartition) -> Option<i64> {
        let group = self.find_group(group)?;
        group.offsets.iter().find(|o| o.commit.partition == partition).map(|o| o.commit.offset)
    }
}

fn refusal_of_commit(group: &RefGroup, commit: &CommitOffsets) -> Option<Refusal> {
    let members = group.members();
    if commit.generation < 0 && commit.member.is_empty() {
        return (!members.is_empty()).then_some(Refusal::UnknownMember);
    }
    if !members.iter().any(|m| *m.id == *commit.member) {
        return Some(Refusal::UnknownMember);
    }
    if commit.generation != group.generation {
        return Some(Refusal::IllegalGeneration);
    }
    group.sync.is_none().then_some(Refusal::RebalanceInProgress)
}
