//! What a group has in the journal: the one change of membership that may be on its way, and its verdict. If it came to
//! nothing, everybody who waits is told, and memory is made anew from the state.

use kafscale_metadata::{Command, GroupMember, MemberId, Outcome, Refusal, ReplaceMember};

use super::rebalance::parked_join;
use super::{Machine, Stage};
use crate::groups::NotDecided;
use crate::members::Phase;
use crate::turn::Turn;
use crate::{Answer, Error, Joined, ProposalId, Token};

/// What is being journalled, and what is needed to go on after it.
#[derive(Debug)]
pub(super) enum Change {
    /// A generation; an empty one too.
    Join(NextGeneration),
    /// The leader's assignment.
    Sync { sync_until: u64 },
    /// A static member's new id.
    Replace(Replacement),
    /// The end of the group.
    Delete(Token),
}

#[derive(Debug)]
pub(super) struct NextGeneration {
    pub(super) generation: i32,
    pub(super) protocol: String,
    /// Those whose leaving made the group empty.
    pub(super) leavers: Vec<(Token, Answer)>,
}

#[derive(Debug)]
pub(super) struct Replacement {
    /// The new one.
    pub(super) id: MemberId,
    pub(super) answer: Joined,
    /// Its former self had sent its SyncGroup.
    pub(super) synced: bool,
    pub(super) sync_until: Option<u64>,
}

impl Machine {
    pub(super) fn propose_replacement(&mut self, turn: &mut Turn<'_>, old: MemberId, replacement: Replacement) {
        let Some(new) = self.members.get(&replacement.id) else { return };
        let new = GroupMember {
            id: new.id.clone(),
            instance: new.instance.clone(),
            client_id: new.client_id.clone(),
            client_host: new.client_host.clone(),
            session_timeout_ms: new.session_timeout_ms,
            rebalance_timeout_ms: new.rebalance_timeout_ms,
            subscription: new.subscription(&self.protocol),
        };
        let command = ReplaceMember { group: self.group.to_string(), generation: self.generation, old, new };
        let proposal = turn.propose(vec![Command::ReplaceMember(command)]);
        self.stage = Stage::Journalling(proposal, Change::Replace(replacement));
    }

    /// Groups without members only. Ids that were given away do not keep a group alive.
    pub(super) fn delete_group(&mut self, turn: &mut Turn<'_>, token: Token) {
        let stored = turn.state.group(&self.group).is_some();
        let answer = match &self.stage {
            Stage::Empty if stored => {
                self.members.pending_clear();
                let proposal = turn.propose(vec![Command::DeleteGroup { group: self.group.to_string() }]);
                self.stage = Stage::Journalling(proposal, Change::Delete(token));
                return;
            }
            Stage::Empty if self.holds_members() => {
                self.members.pending_clear();
                Ok(())
            }
            Stage::Empty => Err(Error::NotFound),
            Stage::Gathering(_)
            | Stage::Preparing { .. }
            | Stage::Completing { .. }
            | Stage::Stable { .. }
            | Stage::Journalling(..) => Err(Error::NotEmpty),
        };
        turn.answer(token, Answer::DeleteGroup(answer));
    }

    /// The verdict of one of this group's proposals.
    pub(crate) fn decided(&mut self, turn: &mut Turn<'_>, id: ProposalId, verdict: Result<Vec<Outcome>, NotDecided>) {
        if !matches!(&self.stage, Stage::Journalling(proposal, _) if *proposal == id) {
            return self.written_or_old(turn, id, verdict);
        }
        let Stage::Journalling(_, change) = std::mem::replace(&mut self.stage, Stage::Empty) else { return };
        match all_done(verdict) {
            Ok(()) => self.happened(turn, change),
            Err(failure) => self.came_to_nothing(turn, change, failure),
        }
        self.resume(turn);
    }

    fn happened(&mut self, turn: &mut Turn<'_>, change: Change) {
        match change {
            Change::Join(next) => self.begin_generation(turn, next),
            Change::Sync { sync_until } => self.begin_stable(turn, sync_until),
            Change::Replace(replacement) => {
                if let Some(token) = self.members.get(&replacement.id).and_then(parked_join) {
                    turn.answer(token, Answer::Join(Ok(replacement.answer)));
                }
                let phase = if replacement.synced { Phase::Synced } else { Phase::Joined };
                self.members.set_phase(&replacement.id, phase);
                self.members.touch(&replacement.id, turn.now);
                self.stage = Stage::Stable { sync_until: replacement.sync_until };
            }
            Change::Delete(token) => turn.answer(token, Answer::DeleteGroup(Ok(()))),
        }
    }

    fn came_to_nothing(&mut self, turn: &mut Turn<'_>, change: Change, failure: Failure) {
        self.refuse_waiting(turn, Some(change), failure);
        self.reload(turn.state, turn.now);
    }

    /// Tells everybody who waits for what members do, or for the change.
    pub(super) fn refuse_waiting(&mut self, turn: &mut Turn<'_>, change: Option<Change>, failure: Failure) {
        let stored = turn.state.group(&self.group);
        for member in self.members.iter() {
            // What does not fit are the new ones: without them the others can go on.
            let new = stored.is_none_or(|group| group.member(&member.id).is_none());
            let beyond = if new { Error::GroupFull } else { Error::Retry };
            match member.phase() {
                Phase::Joining { token, .. } => turn.answer(token, Answer::Join(Err(failure.error_of_join(beyond)))),
                Phase::Syncing(token) => turn.answer(token, Answer::Sync(Err(failure.error(Error::TooLarge)))),
                Phase::Joined | Phase::Synced => {}
            }
        }
        let error = failure.error(Error::TooLarge);
        match change {
            Some(Change::Join(next)) => {
                for (token, _) in next.leavers {
                    turn.answer(token, Answer::Leave(Err(error.clone())));
                }
            }
            Some(Change::Delete(token)) => turn.answer(token, Answer::DeleteGroup(Err(error))),
            Some(Change::Sync { .. } | Change::Replace(_)) | None => {}
        }
    }
}

/// Why a proposal came to nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    NotDecided(NotDecided),
    Refused(Refusal),
}

impl Failure {
    /// What those whose join waits are told. They have no generation yet: that the group is in another than memory had
    /// it is nothing that they could do something about, and clients end on it.
    fn error_of_join(self, beyond: Error) -> Error {
        match self {
            Self::NotDecided(_) | Self::Refused(Refusal::LimitReached | Refusal::NotCoordinator) => self.error(beyond),
            Self::Refused(_) => Error::Retry,
        }
    }

    /// What the waiters are told; `beyond` if a bound of the state is reached.
    pub(super) fn error(self, beyond: Error) -> Error {
        match self {
            Self::NotDecided(NotDecided::NotWritten) => Error::Retry,
            Self::NotDecided(NotDecided::Unknown) => Error::NotCoordinator,
            Self::Refused(refusal) => match refusal {
                Refusal::LimitReached => beyond,
                Refusal::UnknownTopicOrPartition => Error::UnknownPartition,
                Refusal::UnknownGroup => Error::NotFound,
                Refusal::UnknownMember => Error::UnknownMember,
                Refusal::IllegalGeneration => Error::IllegalGeneration,
                Refusal::RebalanceInProgress => Error::RebalanceInProgress,
                Refusal::GroupNotEmpty => Error::NotEmpty,
                Refusal::NotCoordinator => Error::NotCoordinator,
                // Not said of groups, but "not allowed": memory and state differed. They do not any more.
                Refusal::NotAllowed
                | Refusal::TopicExists
                | Refusal::InvalidTopicName
                | Refusal::InvalidPartitions
                | Refusal::OutOfOrderSequence
                | Refusal::FencedEpoch
                | Refusal::DuplicateSequence => Error::Retry,
            },
        }
    }
}

/// All commands of a proposal were done, or the first that was not says why.
pub(super) fn all_done(verdict: Result<Vec<Outcome>, NotDecided>) -> Result<(), Failure> {
    let refusal = |outcome: &Outcome| if let Outcome::Refused(refusal) = outcome { Some(*refusal) } else { None };
    match verdict.map_err(Failure::NotDecided)?.iter().find_map(refusal) {
        Some(refusal) => Err(Failure::Refused(refusal)),
        None => Ok(()),
    }
}
