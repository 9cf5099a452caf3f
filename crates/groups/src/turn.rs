//! What a machine gets for one step, and what it leaves behind.

use kafscale_metadata::{Command, State};

use crate::{Answer, Effect, ProposalId, Settings, Token, View};

/// One step of one group.
pub(crate) struct Turn<'a> {
    pub(crate) now: u64,
    pub(crate) state: &'a State,
    pub(crate) settings: &'a Settings,
    /// Bytes that members of all groups may still take.
    pub(crate) room: usize,
    next_proposal: &'a mut u64,
    pub(crate) effects: Vec<Effect>,
    /// The proposals made in this step.
    pub(crate) proposed: Vec<ProposalId>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(view: View<'a>, settings: &'a Settings, next_proposal: &'a mut u64) -> Self {
        let View { now, state, .. } = view;
        Self { now: now.ms, state, settings, room: 0, next_proposal, effects: Vec::new(), proposed: Vec::new() }
    }

    pub(crate) fn answer(&mut self, token: Token, answer: Answer) {
        self.effects.push(Effect::Answer(token, answer));
    }

    pub(crate) fn propose(&mut self, commands: Vec<Command>) -> ProposalId {
        let id = ProposalId(*self.next_proposal);
        *self.next_proposal += 1;
        self.proposed.push(id);
        self.effects.push(Effect::Propose(id, commands));
        id
    }
}
