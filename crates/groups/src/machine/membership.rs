//! Signs of life, and the ways out of a group: LeaveGroup, silence, and the time of an id that was given away.

use super::journal::Change;
use super::{Machine, Stage};
use crate::members::Phase;
use crate::turn::Turn;
use crate::{Answer, Error, Heartbeat, Leaver, Token};

impl Machine {
    /// There is somebody who is not in the state, or may not be.
    pub(crate) fn holds_members(&self) -> bool {
        !self.members.is_empty() || self.members.pending() > 0
    }

    pub(super) fn heartbeat(&mut self, turn: &mut Turn<'_>, heartbeat: &Heartbeat) -> Result<(), Error> {
        self.check_member(&heartbeat.member_id, heartbeat.instance.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.members.touch(&heartbeat.member_id, turn.now);
        match &self.stage {
            Stage::Gathering(_) | Stage::Preparing { .. } | Stage::Journalling(_, Change::Join(_)) => {
                Err(Error::RebalanceInProgress)
            }
            Stage::Empty | Stage::Completing { .. } | Stage::Stable { .. } | Stage::Journalling(..) => Ok(()),
        }
    }

    /// Each leaver by itself; then one rebalance for all. The answer does not wait for it, unless the group is empty
    /// now: who closed the last consumer may want to delete the group next.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, token: Token, leavers: &[Leaver]) {
        let before = self.members.len();
        let answers = leavers.iter().map(|leaver| self.leave_one(turn, leaver)).collect();
        let left = self.members.len() < before;
        self.after_removal(turn, left);
        let answer = Answer::Leave(Ok(answers));
        match &mut self.stage {
            Stage::Journalling(_, Change::Join(next)) if left && self.members.is_empty() => {
                next.leavers.push((token, answer));
            }
            Stage::Empty
            | Stage::Gathering(_)
            | Stage::Preparing { .. }
            | Stage::Completing { .. }
            | Stage::Stable { .. }
            | Stage::Journalling(..) => turn.answer(token, answer),
        }
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaver: &Leaver) -> Result<(), Error> {
        let id = match &leaver.instance {
            Some(instance) if leaver.member_id.is_empty() => {
                self.members.instance(instance).cloned().ok_or(Error::UnknownMember)?
            }
            Some(_) | None => leaver.member_id.as_str().into(),
        };
        if self.members.pending_remove(&id) {
            return Ok(());
        }
        let instance = leaver.instance.as_deref();
        self.check_member(&id, instance)?;
        self.remove_member(turn, &id);
        Ok(())
    }

    /// Takes a member out; what it has parked says that it is unknown, so that it joins anew if it is still there.
    pub(super) fn remove_member(&mut self, turn: &mut Turn<'_>, id: &str) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        match member.phase() {
            Phase::Joining { token, .. } => turn.answer(token, Answer::Join(Err(Error::UnknownMember))),
            Phase::Syncing(token) => turn.answer(token, Answer::Sync(Err(Error::UnknownMember))),
            Phase::Joined | Phase::Synced => {}
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.iter().next().map(|m| m.id.clone());
        }
        true
    }

    /// Somebody is gone: a member, or only an id for which a rebalance may have waited.
    pub(super) fn after_removal(&mut self, turn: &mut Turn<'_>, member: bool) {
        if member {
            self.rebalance(turn);
        } else {
            self.complete_if_all_joined(turn);
        }
    }

    /// Everybody whose time is over.
    pub(super) fn evict(&mut self, turn: &mut Turn<'_>) {
        let over = self.members.pending_due(turn.now);
        for id in &over {
            self.members.pending_remove(id);
        }
        let silent = self.members.silent(turn.now);
        for id in &silent {
            self.remove_member(turn, id);
        }
        if !over.is_empty() || !silent.is_empty() {
            self.after_removal(turn, !silent.is_empty());
        }
    }
}
