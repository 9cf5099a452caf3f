//! A group that moves between brokers: it is let go when the fold gives it to another session, and taken over from the
//! state when the fold gives it to this one. Members keep their generation and their assignment; those who wait are
//! sent to the new coordinator, which they ask again.

use kafscale_metadata::{GroupStage, Outcome, Refusal, State};

use super::journal::{Failure, all_done};
use super::{Machine, Stage};
use crate::groups::NotDecided;
use crate::turn::Turn;
use crate::{Error, ProposalId};

impl Machine {
    /// Another session coordinates the group. Whoever waits is told so, but for those whose offsets are on their way:
    /// the fold has decided about these, or will, and the new coordinator cannot know.
    pub(crate) fn let_go(&mut self, turn: &mut Turn<'_>) {
        let failure = Failure::Refused(Refusal::NotCoordinator);
        let change = match std::mem::replace(&mut self.stage, Stage::Empty) {
            Stage::Journalling(_, change) => Some(change),
            Stage::Empty
            | Stage::Gathering(_)
            | Stage::Preparing { .. }
            | Stage::Completing { .. }
            | Stage::Stable { .. } => None,
        };
        self.refuse_waiting(turn, change, failure);
        for (token, request) in std::mem::take(&mut self.waiting) {
            turn.answer(token, request.refuse(Error::NotCoordinator));
        }
        self.members.clear();
        self.members.pending_clear();
        self.leader = None;
        self.protocol_type.clear();
        self.generation = 0;
        self.away = true;
    }

    /// The group is this session's, after it was another's or may have been.
    pub(crate) fn take_over(&mut self, turn: &mut Turn<'_>) {
        self.let_go(turn);
        self.reload(turn.state, turn.now);
    }

    /// Whether another session may have changed the group since it was here last. After one change of sessions
    /// (`once`) a group that was here and is here was nowhere else; after more of them it may have been, and what is
    /// in memory is worth something only if it is what the state says.
    pub(crate) fn is_outdated(&self, state: &State, once: bool) -> bool {
        self.away || !(once || self.agrees(state))
    }

    /// Whether the generation in memory is the stored one, with all its members, and as far.
    fn agrees(&self, state: &State) -> bool {
        let Some(stored) = state.group(&self.group) else { return self.generation == 0 };
        let unassigned = matches!(self.stage, Stage::Completing { .. });
        self.generation == stored.generation()
            && unassigned == (stored.stage() == GroupStage::Joined)
            && stored.members().all(|member| self.members.get(member.id()).is_some())
    }

    /// The verdict of offsets; or of a change that was on its way when the group left. If that one happened after the
    /// group had come back, memory does not know of it.
    pub(super) fn written_or_old(
        &mut self,
        turn: &mut Turn<'_>,
        id: ProposalId,
        verdict: Result<Vec<Outcome>, NotDecided>,
    ) {
        if self.writes.has(id) {
            return self.written(turn, id, verdict);
        }
        let happened = matches!(all_done(verdict), Ok(()) | Err(Failure::NotDecided(NotDecided::Unknown)));
        // What is being journalled now is refused by the fold, which knows the old one: then memory is mended.
        let journalling = matches!(self.stage, Stage::Journalling(..));
        if happened && !self.away && !journalling && !self.agrees(turn.state) {
            self.refuse_waiting(turn, None, Failure::NotDecided(NotDecided::NotWritten));
            self.reload(turn.state, turn.now);
        }
    }
}
