//! From "the members have to change" to the next generation: who is waited for, how long, and who is in it.
//!
//! - A group that was empty gathers: it waits the initial delay, extended by as much whenever a member came, up to the
//!   rebalance timeout in all.
//! - Any other waits until all members have joined again and every id that was given away is used or over, or for the
//!   longest rebalance timeout of its members. Who has not joined by then is removed, but static members stay until
//!   their session ends. If nobody joined, and only static members are left, it waits once more.
//! - Without any member there is nobody to wait for, whatever ids were given away.
//! - The leader stays if it joined; else the first by id that did.

use kafscale_metadata::{CompleteJoin, GroupMember, Part};

use super::journal::{Change, NextGeneration};
use super::{Gathering, Machine, Stage};
use crate::members::{Member, Phase};
use crate::turn::Turn;
use crate::{Answer, Error, Token, parts};

/// The shortest wait for static members of whom nobody came.
const SHORTEST_WAIT_MS: u64 = 1_000;

impl Machine {
    /// The members are not those of the generation any more.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match &self.stage {
            Stage::Empty => self.gather(turn),
            Stage::Completing { .. } | Stage::Stable { .. } => self.prepare(turn),
            Stage::Gathering(_) | Stage::Preparing { .. } => self.complete_if_all_joined(turn),
            Stage::Journalling(..) => {}
        }
    }

    fn gather(&mut self, turn: &Turn<'_>) {
        let step_ms = turn.settings.initial_delay_ms;
        let rest_ms = self.members.rebalance_ms().saturating_sub(step_ms);
        self.stage = Stage::Gathering(Gathering { until: turn.now + step_ms, step_ms, rest_ms, grown: false });
    }

    /// A wait for more members is over.
    pub(super) fn gathered(&mut self, turn: &mut Turn<'_>) {
        match &mut self.stage {
            Stage::Gathering(gathering) if gathering.grown && gathering.rest_ms > 0 && gathering.step_ms > 0 => {
                let step_ms = turn.settings.initial_delay_ms.min(gathering.rest_ms);
                gathering.rest_ms = gathering.rest_ms.saturating_sub(gathering.step_ms);
                gathering.step_ms = step_ms;
                gathering.grown = false;
                gathering.until = turn.now + step_ms;
            }
            Stage::Gathering(_)
            | Stage::Empty
            | Stage::Preparing { .. }
            | Stage::Completing { .. }
            | Stage::Stable { .. }
            | Stage::Journalling(..) => self.complete_join(turn),
        }
    }

    /// Everybody has to join again. Whose sync is parked hears it now, others with their next heartbeat.
    fn prepare(&mut self, turn: &mut Turn<'_>) {
        for token in self.parked_syncs() {
            turn.answer(token, Answer::Sync(Err(Error::RebalanceInProgress)));
        }
        self.members.each(turn.now, |phase| match phase {
            Phase::Joining { .. } | Phase::Joined | Phase::Synced => (phase, false),
            Phase::Syncing(_) => (Phase::Joined, true),
        });
        self.stage = Stage::Preparing { until: turn.now + self.members.rebalance_ms() };
        self.complete_if_all_joined(turn);
    }

    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let complete = match &self.stage {
            Stage::Preparing { .. } if self.members.pending() == 0 => self.members.all_joining(),
            Stage::Preparing { .. } | Stage::Gathering(_) => self.members.is_empty(),
            Stage::Empty | Stage::Completing { .. } | Stage::Stable { .. } | Stage::Journalling(..) => false,
        };
        if complete {
            self.complete_join(turn);
        }
    }

    /// The next generation, with whoever is there.
    pub(super) fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let joining = |m: &&Member| matches!(m.phase(), Phase::Joining { .. });
        let late = self.members.iter().filter(|m| !joining(m) && m.instance.is_none());
        let late: Vec<_> = late.map(|m| m.id.clone()).collect();
        for id in &late {
            self.remove_member(turn, id);
        }
        let led = self.leader.as_deref().and_then(|id| self.members.get(id)).filter(joining);
        let leader = led.or_else(|| self.members.iter().find(joining)).map(|m| m.id.clone());
        if leader.is_none() && !self.members.is_empty() {
            let wait = self.members.rebalance_ms().max(SHORTEST_WAIT_MS);
            self.stage = Stage::Preparing { until: turn.now + wait };
            return;
        }
        self.leader = leader;
        let stored = turn.state.group(&self.group);
        if self.members.is_empty() && stored.is_none_or(|group| group.members().len() == 0) {
            self.stage = Stage::Empty;
            return;
        }
        let next = self.next_generation(stored.map_or(0, |group| group.generation()).saturating_add(1));
        let change =
            NextGeneration { generation: next.generation, protocol: next.protocol.clone(), leavers: Vec::new() };
        let proposal = turn.propose(parts::join(next));
        self.stage = Stage::Journalling(proposal, Change::Join(change));
    }

    fn next_generation(&self, generation: i32) -> CompleteJoin {
        let protocol = self.members.vote();
        let member = |m: &Member| GroupMember {
            id: m.id.clone(),
            instance: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            session_timeout_ms: m.session_timeout_ms,
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            subscription: m.subscription(&protocol),
        };
        CompleteJoin {
            group: self.group.to_string(),
            generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            members: self.members.iter().map(member).collect(),
            protocol,
            part: Part::WHOLE,
        }
    }

    /// The fold has the generation: everybody who joined is told, and has to sync.
    pub(super) fn begin_generation(&mut self, turn: &mut Turn<'_>, next: NextGeneration) {
        self.generation = next.generation;
        self.protocol = next.protocol;
        let joined: Vec<_> =
            self.members.iter().filter_map(|m| parked_join(m).map(|token| (m.id.clone(), token))).collect();
        for (id, token) in joined {
            let mut answer = self.joined(&id, self.leader.clone(), false);
            if self.leader.as_ref() == Some(&id) {
                answer.members = self.joined_members();
            }
            turn.answer(token, Answer::Join(Ok(answer)));
        }
        for (token, answer) in next.leavers {
            turn.answer(token, answer);
        }
        // A static member that did not join is no more alive than before: groups that rebalance often would keep a dead
        // one for ever (Kafka does).
        self.members.each(turn.now, |phase| (Phase::Joined, matches!(phase, Phase::Joining { .. })));
        self.stage = if self.members.is_empty() {
            Stage::Empty
        } else {
            Stage::Completing { sync_until: turn.now + self.members.rebalance_ms() }
        };
    }

    pub(super) fn parked_syncs(&self) -> Vec<Token> {
        let token = |m: &Member| match m.phase() {
            Phase::Syncing(token) => Some(token),
            Phase::Joining { .. } | Phase::Joined | Phase::Synced => None,
        };
        self.members.iter().filter_map(token).collect()
    }
}

/// Whom to answer when the member's join is complete.
pub(super) fn parked_join(member: &Member) -> Option<Token> {
    match member.phase() {
        Phase::Joining { token, .. } => Some(token),
        Phase::Joined | Phase::Syncing(_) | Phase::Synced => None,
    }
}
