//! JoinGroup: who may join, under which id, and whether that needs a new generation.
//!
//! - An empty id makes a new member: a static one at once; a dynamic one at once too (below version 4), or after it has
//!   come back with the id that it is given (KIP-394).
//! - A static instance that comes back without an id takes the place of its former self, which is fenced (KIP-345). In
//!   a stable group whose protocol would not change, that is all that happens: no rebalance.
//! - A known member that says nothing new is answered with the present generation (it may have missed the answer),
//!   but a leader that joins a stable group again wants a rebalance.
//! - A join that replaces a parked one of the same member (its connection was cut) leaves that one with "rebalance
//!   in progress". Kafka forgets it unanswered.

use std::collections::BTreeSet;

use kafscale_metadata::MemberId;

use super::journal::Replacement;
use super::{Machine, Stage};
use crate::members::{Member, Phase, join_bytes, join_names};
use crate::settings::{FIRST_JOIN_MS, MEMBER_BYTES, NAME_BYTES};
use crate::turn::Turn;
use crate::{Answer, Error, Join, Joined, JoinedMember, Token};

impl Machine {
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, token: Token, mut join: Join) {
        let mut seen = BTreeSet::new();
        join.protocols.retain(|(name, _)| seen.insert(name.clone()));
        join.rebalance_timeout_ms = join.rebalance_timeout_ms.max(0);
        let refused = match self.admit(turn, &join) {
            Err(error) => Some(error),
            Ok(()) if join.member_id.is_empty() => self.join_new(turn, token, join),
            Ok(()) => self.join_known(turn, token, join),
        };
        if let Some(error) = refused {
            turn.answer(token, Answer::Join(Err(error)));
        }
    }

    /// What is refused whoever asks.
    fn admit(&mut self, turn: &mut Turn<'_>, join: &Join) -> Result<(), Error> {
        let bounds = turn.settings.min_session_timeout_ms..=turn.settings.max_session_timeout_ms;
        if !bounds.contains(&join.session_timeout_ms) {
            return Err(Error::InvalidSessionTimeout);
        }
        if !self.has_room(turn, join) {
            self.expel(turn, &join.member_id);
            return Err(Error::GroupFull);
        }
        let suits = if self.members.is_empty() {
            !join.protocol_type.is_empty() && !join.protocols.is_empty()
        } else {
            join.protocol_type == self.protocol_type && self.members.all_support_one_of(&join.protocols)
        };
        if suits { Ok(()) } else { Err(Error::InconsistentProtocol) }
    }

    /// A group that shrank its bound, or grew beyond it while it rebalances, lets in those who come first.
    fn has_room(&self, turn: &Turn<'_>, join: &Join) -> bool {
        let former = match &join.instance {
            Some(instance) if join.member_id.is_empty() => self.members.instance(instance).map(|id| &**id),
            Some(_) | None => Some(&*join.member_id),
        };
        let member = former.and_then(|id| self.members.get(id));
        let joining = member.is_some_and(|m| matches!(m.phase(), Phase::Joining { .. }));
        let max = turn.settings.max_members;
        let fits = match &self.stage {
            Stage::Empty => true,
            Stage::Gathering(_) | Stage::Preparing { .. } => {
                let absent_static = member.is_some_and(|m| m.instance.is_some());
                joining || self.members.staying() - usize::from(absent_static) < max
            }
            Stage::Completing { .. } | Stage::Stable { .. } | Stage::Journalling(..) => {
                member.is_some() || self.members.len() < max
            }
        };
        let given_away = self.members.pending() < max || !(join.requires_known_id && join.member_id.is_empty());
        let bytes = join_bytes(join).saturating_sub(member.map_or(0, Member::bytes));
        let small = join_names(join) <= NAME_BYTES
            && join.protocols.iter().all(|(_, metadata)| metadata.len() <= MEMBER_BYTES)
            && self.members.bytes() + bytes <= turn.settings.max_group_bytes
            && bytes <= turn.room;
        fits && given_away && small
    }

    /// A member for which the group has no room any more is out of it.
    fn expel(&mut self, turn: &mut Turn<'_>, id: &str) {
        let pending = self.members.pending_remove(id);
        let member = self.remove_member(turn, id);
        if pending || member {
            self.after_removal(turn, member);
        }
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, token: Token, join: Join) -> Option<Error> {
        let id: MemberId = join.new_id.as_str().into();
        if self.members.get(&id).is_some() || self.members.is_pending(&id) {
            return Some(Error::Retry); // A random id that exists: the caller makes another one.
        }
        let former = join.instance.as_deref().and_then(|instance| self.members.instance(instance)).cloned();
        match former {
            Some(former) => self.replace_static(turn, token, join, &former),
            None if join.instance.is_none() && join.requires_known_id => {
                let session = u64::try_from(join.session_timeout_ms).unwrap_or(0);
                self.members.pending_add(id.clone(), turn.now + session);
                return Some(Error::MemberIdRequired(id));
            }
            None => self.add(turn, token, join, id),
        }
        None
    }

    fn join_known(&mut self, turn: &mut Turn<'_>, token: Token, join: Join) -> Option<Error> {
        if join.instance.is_none() && self.members.is_pending(&join.member_id) {
            let id = join.member_id.as_str().into();
            self.add(turn, token, join, id);
            return None;
        }
        if let Err(error) = self.check_member(&join.member_id, join.instance.as_deref()) {
            return Some(error);
        }
        let member = self.members.get(&join.member_id)?;
        let says_nothing_new = member.matches(&join.protocols);
        let leads = self.leader.as_deref() == Some(&*join.member_id);
        match &self.stage {
            Stage::Completing { .. } if says_nothing_new => self.tell_again(turn, token, join),
            Stage::Stable { .. } if says_nothing_new && !leads => self.tell_again(turn, token, join),
            Stage::Gathering(_) | Stage::Preparing { .. } | Stage::Completing { .. } | Stage::Stable { .. } => {
                self.supersede(turn, &join.member_id);
                let id = join.member_id.clone();
                self.members.rejoin(&id, join, token);
                self.rebalance(turn);
            }
            Stage::Empty | Stage::Journalling(..) => return Some(Error::UnknownMember),
        }
        None
    }

    /// A first join: the member is in the group, and needs a generation.
    fn add(&mut self, turn: &mut Turn<'_>, token: Token, join: Join, id: MemberId) {
        if self.members.is_empty() {
            join.protocol_type.clone_into(&mut self.protocol_type);
            self.leader = Some(id.clone());
        }
        self.members.insert(Member::joining(id, join, token, turn.now + FIRST_JOIN_MS));
        if let Stage::Gathering(gathering) = &mut self.stage {
            gathering.grown = true;
        }
        self.rebalance(turn);
    }

    /// A static member under a new id, in the place of the former one.
    fn replace_static(&mut self, turn: &mut Turn<'_>, token: Token, join: Join, former: &MemberId) {
        let skips = join.can_skip_assignment;
        let id: MemberId = join.new_id.as_str().into();
        let Some(old) = self.remove_fenced(turn, former) else { return };
        let old_leader = self.leader.clone();
        if self.leader.as_ref() == Some(former) {
            self.leader = Some(id.clone());
        }
        self.members.insert(Member::returned(id.clone(), join, token));
        match &self.stage {
            Stage::Stable { sync_until } if self.members.vote() == self.protocol => {
                let sync_until = *sync_until;
                let synced = !matches!(old.phase(), Phase::Joined);
                let leader = if skips { self.leader.clone() } else { old_leader };
                let answer = self.joined(&id, leader, skips);
                self.propose_replacement(turn, former.clone(), Replacement { id, answer, synced, sync_until });
            }
            Stage::Stable { .. } | Stage::Completing { .. } | Stage::Gathering(_) | Stage::Preparing { .. } => {
                self.rebalance(turn);
            }
            Stage::Empty | Stage::Journalling(..) => {}
        }
    }

    /// The former self of a static member hears at once that it is fenced, whatever it waits for.
    fn remove_fenced(&mut self, turn: &mut Turn<'_>, former: &str) -> Option<Member> {
        let old = self.members.remove(former)?;
        match old.phase() {
            Phase::Joining { token, .. } => turn.answer(token, Answer::Join(Err(Error::FencedInstance))),
            Phase::Syncing(token) => turn.answer(token, Answer::Sync(Err(Error::FencedInstance))),
            Phase::Joined | Phase::Synced => {}
        }
        Some(old)
    }

    /// A later request of the same member took the place of what it has parked.
    pub(super) fn supersede(&mut self, turn: &mut Turn<'_>, id: &str) {
        match self.members.get(id).map(Member::phase) {
            Some(Phase::Joining { token, .. }) => turn.answer(token, Answer::Join(Err(Error::RebalanceInProgress))),
            Some(Phase::Syncing(token)) => turn.answer(token, Answer::Sync(Err(Error::RebalanceInProgress))),
            Some(Phase::Joined | Phase::Synced) | None => {}
        }
    }

    /// The present generation, to a member that may have missed it.
    fn tell_again(&mut self, turn: &mut Turn<'_>, token: Token, join: Join) {
        let id: MemberId = join.member_id.as_str().into();
        self.members.learn(&id, join.protocols);
        self.members.touch(&id, turn.now);
        let all = matches!(self.stage, Stage::Completing { .. });
        let mut joined = self.joined(&id, self.leader.clone(), false);
        if all && self.leader.as_ref() == Some(&id) {
            joined.members = self.joined_members();
        }
        turn.answer(token, Answer::Join(Ok(joined)));
    }

    /// The answer for one member. With `skips`, a leader hears of all members and that it has nothing to assign.
    pub(super) fn joined(&self, id: &MemberId, leader: Option<MemberId>, skips: bool) -> Joined {
        let skip_assignment = skips && leader.as_ref() == Some(id);
        Joined {
            member_id: id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: leader.unwrap_or_else(|| "".into()),
            skip_assignment,
            members: if skip_assignment { self.joined_members() } else { Vec::new() },
        }
    }

    /// What the leader is told of all members.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let one = |m: &Member| JoinedMember {
            id: m.id.clone(),
            instance: m.instance.clone(),
            subscription: m.subscription(&self.protocol),
        };
        self.members.iter().map(one).collect()
    }
}
