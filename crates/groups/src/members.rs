//! The members of one group in memory, with the sums that follow from them: who has which instance id, how many support
//! each protocol, how many wait in a join, the bytes they take, and a lower bound of their deadlines. All changes go
//! through here, so the sums are always right; no rule of the protocol is here.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafscale_metadata::MemberId;

use crate::{Join, Token};

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    protocols: Protocols,
    phase: Phase,
    /// When it is evicted, unless something of it is parked.
    deadline: u64,
    /// Its commits that are being journalled: while one is, the member is alive.
    commits: u32,
}

/// Where a member is between two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its join is parked. The first one of a member is not protected from eviction.
    Joining {
        /// Whom to answer.
        token: Token,
        /// The member has never had an answer.
        first: bool,
    },
    /// It is in the generation, but has not sent its SyncGroup.
    Joined,
    /// Its sync is parked.
    Syncing(Token),
    /// It has sent its SyncGroup.
    Synced,
}

/// What a member can speak, the preferred one first. The stored state knows only the chosen one.
#[derive(Debug, Clone)]
enum Protocols {
    Known(Vec<(String, Bytes)>),
    Loaded(String, Bytes),
}

impl Protocols {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (many, one) = match self {
            Self::Known(list) => (list.as_slice(), None),
            Self::Loaded(name, _) => (&[][..], Some(name.as_str())),
        };
        many.iter().map(|(name, _)| name.as_str()).chain(one)
    }

    fn subscription(&self, protocol: &str) -> Option<&Bytes> {
        match self {
            Self::Known(list) => list.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata),
            Self::Loaded(name, metadata) => Some(metadata).filter(|_| name == protocol),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Known(list) => list.iter().map(|(name, metadata)| name.len() + metadata.len()).sum(),
            Self::Loaded(name, metadata) => name.len() + metadata.len(),
        }
    }
}

impl Member {
    /// A member whose first join is parked.
    pub(crate) fn joining(id: MemberId, join: Join, token: Token, deadline: u64) -> Self {
        Self {
            id,
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: Protocols::Known(join.protocols),
            phase: Phase::Joining { token, first: true },
            deadline,
            commits: 0,
        }
    }

    /// A static member that came back: it was in the group before, so its parked join protects it.
    pub(crate) fn returned(id: MemberId, join: Join, token: Token) -> Self {
        let mut member = Self::joining(id, join, token, 0);
        member.phase = Phase::Joining { token, first: false };
        member
    }

    /// A member as the state has it.
    pub(crate) fn loaded(stored: &kafscale_metadata::Member, protocol: &str, phase: Phase, now: u64) -> Self {
        let mut member = Self {
            id: stored.id().clone(),
            instance: stored.instance().map(str::to_owned),
            client_id: stored.client_id().to_owned(),
            client_host: stored.client_host().to_owned(),
            session_timeout_ms: stored.session_timeout_ms(),
            rebalance_timeout_ms: stored.rebalance_timeout_ms(),
            protocols: Protocols::Loaded(protocol.to_owned(), stored.subscription().clone()),
            phase,
            deadline: 0,
            commits: 0,
        };
        member.deadline = now + member.session_ms();
        member
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn session_ms(&self) -> u64 {
        u64::try_from(self.session_timeout_ms).unwrap_or(0)
    }

    /// Its metadata for a protocol; empty if it does not have it.
    pub(crate) fn subscription(&self, protocol: &str) -> Bytes {
        self.protocols.subscription(protocol).cloned().unwrap_or_default()
    }

    /// Whether a join says what is known already.
    pub(crate) fn matches(&self, protocols: &[(String, Bytes)]) -> bool {
        match &self.protocols {
            Protocols::Known(list) => list == protocols,
            Protocols::Loaded(name, metadata) => protocols.iter().any(|(n, m)| n == name && m == metadata),
        }
    }

    /// When silence becomes death. A parked request is a sign of life, but not a member's first join.
    fn evicted_at(&self) -> Option<u64> {
        let alive = self.commits > 0
            || match self.phase {
                Phase::Joining { first, .. } => !first,
                Phase::Syncing(_) => true,
                Phase::Joined | Phase::Synced => false,
            };
        (!alive).then_some(self.deadline)
    }

    pub(crate) fn bytes(&self) -> usize {
        let instance = self.instance.as_ref().map_or(0, |i| 2 * i.len());
        size_of::<Self>()
            + 2 * self.id.len()
            + instance
            + self.client_id.len()
            + self.client_host.len()
            + self.protocols.bytes()
    }
}

/// What a member would take that joins with this.
pub(crate) fn join_bytes(join: &Join) -> usize {
    let metadata = join.protocols.iter().map(|(_, metadata)| metadata.len()).sum::<usize>();
    size_of::<Member>() + 2 * join_names(join) + metadata
}

/// The part of it that is names.
pub(crate) fn join_names(join: &Join) -> usize {
    let id = if join.member_id.is_empty() { &join.new_id } else { &join.member_id };
    let names = [id, &join.client_id, &join.client_host, &join.protocol_type].into_iter().chain(&join.instance);
    let protocols = join.protocols.iter().map(|(name, _)| name);
    names.chain(protocols).map(String::len).sum()
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<MemberId, Member>,
    instances: BTreeMap<String, MemberId>,
    /// Ids that were given away and have not joined (KIP-394), with their end.
    pending: BTreeMap<MemberId, u64>,
    protocols: BTreeMap<String, usize>,
    joining: usize,
    absent_statics: usize,
    bytes: usize,
    /// Not later than the earliest deadline.
    bound: Option<u64>,
}

impl Members {
    pub(crate) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    /// By id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Who has this static instance id.
    pub(crate) fn instance(&self, instance: &str) -> Option<&MemberId> {
        self.instances.get(instance)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everybody's join is parked.
    pub(crate) fn all_joining(&self) -> bool {
        self.joining == self.by_id.len()
    }

    /// How many would be in a generation that began now: those in a join, and static members, which stay.
    pub(crate) fn staying(&self) -> usize {
        self.joining + self.absent_statics
    }

    /// How long a rebalance waits: the longest that any member wants.
    pub(crate) fn rebalance_ms(&self) -> u64 {
        let longest = self.iter().map(|m| m.rebalance_timeout_ms).max().unwrap_or(0);
        u64::try_from(longest).unwrap_or(0)
    }

    /// Whether all members support one of these.
    pub(crate) fn all_support_one_of(&self, protocols: &[(String, Bytes)]) -> bool {
        protocols.iter().any(|(name, _)| self.all_support(name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.protocols.get(protocol).copied().unwrap_or(0) == self.by_id.len()
    }

    /// Each member votes for the first on its list that all support; the most votes win, then the first by name.
    pub(crate) fn vote(&self) -> String {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.iter() {
            let choice = member.protocols.names().find(|name| self.all_support(name));
            *votes.entry(choice.unwrap_or("")).or_default() += 1;
        }
        votes.into_iter().rev().max_by_key(|(_, count)| *count).map_or_else(String::new, |(name, _)| name.to_owned())
    }

    pub(crate) fn insert(&mut self, member: Member) {
        self.pending_remove(&member.id);
        self.count(&member, true);
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), member.id.clone());
        }
        self.lower(member.evicted_at());
        self.by_id.insert(member.id.clone(), member);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.count(&member, false);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        Some(member)
    }

    /// Changes a member; the sums follow.
    pub(crate) fn change(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        let Some(mut member) = self.by_id.remove(id) else { return };
        self.count(&member, false);
        change(&mut member);
        self.count(&member, true);
        self.lower(member.evicted_at());
        self.by_id.insert(member.id.clone(), member);
    }

    /// A known member joins again.
    pub(crate) fn rejoin(&mut self, id: &str, join: Join, token: Token) {
        self.change(id, |member| {
            member.protocols = Protocols::Known(join.protocols);
            member.session_timeout_ms = join.session_timeout_ms;
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            let first = matches!(member.phase, Phase::Joining { first: true, .. });
            member.phase = Phase::Joining { token, first };
        });
    }

    /// Everything that it supports is known again after a start.
    pub(crate) fn learn(&mut self, id: &str, protocols: Vec<(String, Bytes)>) {
        self.change(id, |member| member.protocols = Protocols::Known(protocols));
    }

    pub(crate) fn set_phase(&mut self, id: &str, phase: Phase) {
        self.change(id, |member| member.phase = phase);
    }

    /// Applies a change of phase to all, and gives each a full session timeout if the change says so.
    pub(crate) fn each(&mut self, now: u64, change: impl Fn(Phase) -> (Phase, bool)) {
        (self.joining, self.absent_statics) = (0, 0);
        for member in self.by_id.values_mut() {
            let (phase, renew) = change(member.phase);
            member.phase = phase;
            if renew {
                member.deadline = now + member.session_ms();
            }
            match phase {
                Phase::Joining { .. } => self.joining += 1,
                Phase::Joined | Phase::Syncing(_) | Phase::Synced => {
                    self.absent_statics += usize::from(member.instance.is_some());
                }
            }
        }
        self.tighten();
    }

    /// A sign of life. Only ever moves the deadline away, so that no sum changes.
    pub(crate) fn touch(&mut self, id: &str, now: u64) {
        if let Some(member) = self.by_id.get_mut(id) {
            member.deadline = member.deadline.max(now + member.session_ms());
        }
    }

    /// A commit of this member is being journalled.
    pub(crate) fn commit_begins(&mut self, id: &str) {
        if let Some(member) = self.by_id.get_mut(id) {
            member.commits += 1;
        }
    }

    /// It has its verdict. (A group that was loaded anew meanwhile does not know of it.)
    pub(crate) fn commit_ends(&mut self, id: &str, now: u64) {
        self.touch(id, now);
        if let Some(member) = self.by_id.get_mut(id) {
            member.commits = member.commits.saturating_sub(1);
            let due = member.evicted_at();
            self.lower(due);
        }
    }

    pub(crate) fn is_pending(&self, id: &str) -> bool {
        self.pending.contains_key(id)
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn pending_add(&mut self, id: MemberId, deadline: u64) {
        self.bytes += pending_bytes(&id);
        self.lower(Some(deadline));
        self.pending.insert(id, deadline);
    }

    pub(crate) fn pending_remove(&mut self, id: &str) -> bool {
        let removed = self.pending.remove(id).is_some();
        if removed {
            self.bytes -= pending_bytes(id);
        }
        removed
    }

    /// No members, but the ids that were given away.
    pub(crate) fn clear(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        *self = Self::default();
        for (id, deadline) in pending {
            self.pending_add(id, deadline);
        }
    }

    pub(crate) fn pending_clear(&mut self) {
        self.bytes -= self.pending.keys().map(|id| pending_bytes(id)).sum::<usize>();
        self.pending.clear();
    }

    /// Ids that were given away and whose time is over.
    pub(crate) fn pending_due(&self, now: u64) -> Vec<MemberId> {
        self.pending.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect()
    }

    /// Members that were silent for too long.
    pub(crate) fn silent(&self, now: u64) -> Vec<MemberId> {
        self.iter().filter(|m| m.evicted_at().is_some_and(|at| at <= now)).map(|m| m.id.clone()).collect()
    }

    /// Not later than when the next member or pending id is due. It may be earlier: signs of life do not move it, so
    /// that a heartbeat costs the same in a group of any size.
    pub(crate) fn bound(&self) -> Option<u64> {
        self.bound
    }

    /// Makes the bound exact.
    pub(crate) fn tighten(&mut self) {
        let members = self.by_id.values().filter_map(Member::evicted_at);
        self.bound = members.chain(self.pending.values().copied()).min();
    }

    fn lower(&mut self, due: Option<u64>) {
        self.bound = self.bound.into_iter().chain(due).min();
    }

    fn count(&mut self, member: &Member, add: bool) {
        let step = |sum: &mut usize, by: usize| *sum = if add { *sum + by } else { *sum - by };
        for name in member.protocols.names() {
            let count = self.protocols.entry(name.to_owned()).or_default();
            step(count, 1);
            if *count == 0 {
                self.protocols.remove(name);
            }
        }
        step(&mut self.bytes, member.bytes());
        match member.phase {
            Phase::Joining { .. } => step(&mut self.joining, 1),
            Phase::Joined | Phase::Syncing(_) | Phase::Synced => {
                step(&mut self.absent_statics, usize::from(member.instance.is_some()));
            }
        }
    }
}

/// With the group that may be there for nothing else.
fn pending_bytes(id: &str) -> usize {
    id.len() + 256
}
