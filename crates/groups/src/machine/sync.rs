//! SyncGroup: everybody waits for the leader's assignment; when the fold has it, each is handed its bytes, untouched.
//! A stable group answers at once. Who has joined a generation and does not sync within the rebalance timeout is
//! removed, as it would hold partitions that nobody reads.

use std::collections::BTreeMap;

use kafscale_metadata::State;

use super::journal::Change;
use super::{Machine, Stage};
use crate::members::{Member, Phase};
use crate::settings::MEMBER_BYTES;
use crate::turn::Turn;
use crate::{Answer, Error, Sync, Synced, Token, parts};

impl Machine {
    pub(super) fn sync(&mut self, turn: &mut Turn<'_>, token: Token, sync: Sync) {
        let answer = match (self.check_sync(&sync), &self.stage) {
            (Err(error), _) => Err(error),
            (Ok(()), Stage::Completing { sync_until }) => {
                let sync_until = *sync_until;
                self.supersede(turn, &sync.member_id);
                self.members.set_phase(&sync.member_id, Phase::Syncing(token));
                if self.leader.as_deref() == Some(&*sync.member_id) {
                    self.propose_assignment(turn, sync, sync_until);
                }
                return;
            }
            (Ok(()), Stage::Stable { .. }) => {
                self.members.set_phase(&sync.member_id, Phase::Synced);
                self.members.touch(&sync.member_id, turn.now);
                self.assignment(turn.state, &sync.member_id)
            }
            (Ok(()), Stage::Empty | Stage::Gathering(_) | Stage::Preparing { .. } | Stage::Journalling(..)) => {
                Err(Error::RebalanceInProgress)
            }
        };
        turn.answer(token, Answer::Sync(answer));
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), Error> {
        self.check_member(&sync.member_id, sync.instance.as_deref())?;
        let differs = |said: &Option<String>, is: &str| said.as_deref().is_some_and(|said| said != is);
        if sync.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        // Before its first generation a group has a protocol type, but has not chosen a protocol.
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(Error::InconsistentProtocol);
        }
        Ok(())
    }

    /// What the leader says of others than members is left out; a member that it does not mention gets nothing.
    fn propose_assignment(&mut self, turn: &mut Turn<'_>, sync: Sync, sync_until: u64) {
        let mut assigned: BTreeMap<_, _> = sync.assignments.into_iter().collect();
        let all = self.members.iter().map(|m| (m.id.clone(), assigned.remove(&*m.id).unwrap_or_default()));
        let all: Vec<_> = all.collect();
        let bytes: usize = all.iter().map(|(id, assignment)| id.len() + assignment.len()).sum();
        if all.iter().any(|(_, assignment)| assignment.len() > MEMBER_BYTES) || bytes > turn.settings.max_group_bytes {
            return self.refuse_assignment(turn);
        }
        let proposal = turn.propose(parts::sync(&self.group, self.generation, all));
        self.stage = Stage::Journalling(proposal, Change::Sync { sync_until });
    }

    /// Nothing can be made of this assignment; whoever waited for it hears so, and the group tries anew.
    fn refuse_assignment(&mut self, turn: &mut Turn<'_>) {
        for token in self.parked_syncs() {
            turn.answer(token, Answer::Sync(Err(Error::TooLarge)));
        }
        self.members.each(turn.now, |_| (Phase::Joined, true));
        self.rebalance(turn);
    }

    /// The fold has the assignment.
    pub(super) fn begin_stable(&mut self, turn: &mut Turn<'_>, sync_until: u64) {
        let waited = self.members.iter().filter_map(|m| match m.phase() {
            Phase::Syncing(token) => Some((token, self.assignment(turn.state, &m.id))),
            Phase::Joining { .. } | Phase::Joined | Phase::Synced => None,
        });
        for (token, answer) in waited.collect::<Vec<_>>() {
            turn.answer(token, Answer::Sync(answer));
        }
        self.members.each(turn.now, |phase| match phase {
            Phase::Syncing(_) | Phase::Synced => (Phase::Synced, true),
            Phase::Joining { .. } | Phase::Joined => (phase, false),
        });
        self.stage = Stage::Stable { sync_until: Some(sync_until) };
    }

    /// From the state: memory does not keep assignments twice.
    pub(super) fn assignment(&self, state: &State, member: &str) -> Result<Synced, Error> {
        let stored = state.group(&self.group).filter(|group| group.generation() == self.generation);
        let member = stored.and_then(|group| group.member(member)).ok_or(Error::RebalanceInProgress)?;
        Ok(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment().clone(),
        })
    }

    /// The time to sync is over.
    pub(super) fn sync_due(&mut self, turn: &mut Turn<'_>) {
        if let Stage::Stable { sync_until } = &mut self.stage {
            *sync_until = None;
        }
        let silent = |m: &&Member| matches!(m.phase(), Phase::Joined);
        let silent: Vec<_> = self.members.iter().filter(silent).map(|m| m.id.clone()).collect();
        for id in &silent {
            self.remove_member(turn, id);
        }
        if !silent.is_empty() {
            self.rebalance(turn);
        }
    }
}
