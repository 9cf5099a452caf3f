//! The groups that this broker coordinates: finds the machine of a request, keeps alarms and the owners of proposals,
//! forgets machines that hold nothing, takes over and lets go groups that move. Knows no rule of the protocol.
//!
//! A machine is there while it holds something that the state does not: members, ids given away, requests that wait.
//! For all other groups it is made from the state when a request comes, and dropped after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafscale_metadata::{Outcome, limits};

use crate::describe::{Description, Listed, StageName};
use crate::machine::Machine;
use crate::turn::Turn;
use crate::{Answer, Effect, Error, Now, ProposalId, Request, Settings, Token, View};

/// Why a proposal has no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDecided {
    /// It is certain that it is not in the journal, and will not be.
    #[error("not written")]
    NotWritten,
    /// The session is over, or the verdict cannot be known.
    #[error("not known")]
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub struct Groups {
    settings: Settings,
    machines: BTreeMap<Arc<str>, Machine>,
    /// For each machine with timers, a time at which it is to be looked at: not later than its earliest timer.
    alarms: BTreeSet<(u64, Arc<str>)>,
    proposals: BTreeMap<ProposalId, Arc<str>>,
    next_proposal: u64,
    /// How often sessions had changed at the last [`look`](Self::look).
    changes: Option<u64>,
    /// What the members of all groups take.
    bytes: usize,
}

impl Groups {
    /// No groups; the first [`look`](Self::look) takes over what there is.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            machines: BTreeMap::new(),
            alarms: BTreeSet::new(),
            proposals: BTreeMap::new(),
            next_proposal: 0,
            changes: None,
            bytes: 0,
        }
    }

    /// Groups that came to this broker, or left it, since the last look. Every other call begins with one; alone it is
    /// for when sessions have changed, so that timers run, and nobody waits here in vain.
    ///
    /// A group that came, with members, gets a machine, and each member a full session timeout: nobody has to join again
    /// because a broker was restarted, or another one has died.
    pub fn look(&mut self, view: View<'_>) -> Vec<Effect> {
        let changes = view.state.session_changes();
        let before = self.changes.replace(changes);
        if before == Some(changes) {
            return Vec::new();
        }
        let once = before.is_some_and(|before| before.checked_add(1) == Some(changes));
        let mut effects = Vec::new();
        let known: Vec<Arc<str>> = self.machines.keys().cloned().collect();
        for id in known {
            if !view.coordinates(&id) {
                effects.extend(self.step(view, &id, |machine, turn| machine.let_go(turn)));
            } else if self.machines.get(&id).is_some_and(|machine| machine.is_outdated(view.state, once)) {
                effects.extend(self.step(view, &id, |machine, turn| machine.take_over(turn)));
            }
        }
        let here = |id: &str| view.coordinates(id) && !self.machines.contains_key(id);
        let came = view.state.groups().filter(|(id, group)| group.members().len() > 0 && here(id));
        let came: Vec<Arc<str>> = came.map(|(id, _)| id.into()).collect();
        for id in came {
            self.step(view, &id, |_, _| {});
        }
        effects
    }

    /// Takes one request; its answer comes as an effect, now or from a later call.
    pub fn request(&mut self, view: View<'_>, token: Token, group: &str, request: Request) -> Vec<Effect> {
        let mut effects = self.look(view);
        let unnamed = matches!(request, Request::Commit(_) | Request::DeleteGroup | Request::DeleteOffsets(_));
        if group.len() > limits::GROUP_ID_BYTES || (group.is_empty() && !unnamed) {
            effects.push(Effect::Answer(token, request.refuse(Error::InvalidGroup)));
        } else if !view.coordinates(group) {
            effects.push(Effect::Answer(token, request.refuse(Error::NotCoordinator)));
        } else {
            effects.extend(self.step(view, group, |machine, turn| machine.request(turn, token, request)));
        }
        effects
    }

    /// The verdict of a proposal: an outcome for each of its commands, from the fold that is in `view`; or why there is
    /// none. A proposal that was reported already, or never made, is ignored.
    pub fn decided(
        &mut self,
        view: View<'_>,
        id: ProposalId,
        verdict: Result<Vec<Outcome>, NotDecided>,
    ) -> Vec<Effect> {
        let mut effects = self.look(view);
        let Some(group) = self.proposals.remove(&id) else { return effects };
        // Of a group that is elsewhere now only those who committed are still there.
        if self.machines.contains_key(&group) || view.coordinates(&group) {
            effects.extend(self.step(view, &group, |machine, turn| machine.decided(turn, id, verdict)));
        }
        effects
    }

    /// Everything that is due. What is not due costs nothing.
    pub fn tick(&mut self, view: View<'_>) -> Vec<Effect> {
        let mut effects = self.look(view);
        let due: Vec<Arc<str>> =
            self.alarms.iter().take_while(|(at, _)| *at <= view.now.ms).map(|(_, id)| id.clone()).collect();
        effects.extend(due.iter().flat_map(|group| self.step(view, group, |machine, turn| machine.tick(turn))));
        effects
    }

    /// When [`tick`](Self::tick) is to be called. It may find nothing to do then, but the next deadline is later.
    pub fn next_deadline(&self) -> Option<Now> {
        self.alarms.first().map(|(ms, _)| Now { ms: *ms })
    }

    /// One group, for DescribeGroups; `None` if there is no such group. After a [`look`](Self::look).
    pub fn describe(&self, view: View<'_>, group: &str) -> Result<Option<Description>, Error> {
        if !view.coordinates(group) {
            return Err(Error::NotCoordinator);
        }
        let state = view.state;
        let stored = state.group(group);
        Ok(match self.machines.get(group) {
            Some(machine) if machine.holds_members() || stored.is_some() => Some(machine.describe(state)),
            Some(_) | None => stored.map(|_| Machine::load(group.into(), state, 0).describe(state)),
        })
    }

    /// All groups that this broker coordinates, for ListGroups and metrics: the stored ones by id, then those that are
    /// not stored yet. After a [`look`](Self::look).
    pub fn list<'a>(&'a self, view: View<'a>) -> impl Iterator<Item = Listed<'a>> {
        let state = view.state;
        let stored = state.groups().filter(move |(id, _)| view.coordinates(id));
        let stored = stored.map(|(id, stored)| match self.machines.get(id) {
            Some(machine) => machine.listed(),
            None => Listed { group: id, stage: StageName::Empty, protocol_type: stored.protocol_type(), members: 0 },
        });
        let new = self.machines.values().filter(|m| m.holds_members() && state.group(m.group()).is_none());
        stored.chain(new.map(Machine::listed))
    }

    /// How many groups have something in memory.
    pub fn in_memory(&self) -> usize {
        self.machines.len()
    }

    /// One step of one machine, and what follows for the tables here.
    fn step(&mut self, view: View<'_>, group: &str, step: impl FnOnce(&mut Machine, &mut Turn<'_>)) -> Vec<Effect> {
        if !self.machines.contains_key(group) {
            let group: Arc<str> = group.into();
            let machine = Machine::load(Arc::clone(&group), view.state, view.now.ms);
            self.bytes += machine.bytes();
            self.machines.insert(group, machine);
        }
        let machine = self.machines.get_mut(group).expect("it was put there if it was missing");
        let mut turn = Turn::new(view, &self.settings, &mut self.next_proposal);
        turn.room = self.settings.max_bytes.saturating_sub(self.bytes);
        let before = machine.bytes();
        step(machine, &mut turn);
        self.bytes = self.bytes - before + machine.bytes();
        let idle = machine.is_idle();
        let alarm = if idle { None } else { machine.alarm() };
        let (effects, proposed) = (turn.effects, turn.proposed);
        self.proposals.extend(proposed.into_iter().map(|id| (id, Arc::clone(machine.group()))));
        if alarm != machine.armed {
            let group = machine.group();
            if let Some(old) = machine.armed {
                self.alarms.remove(&(old, Arc::clone(group)));
            }
            self.alarms.extend(alarm.map(|at| (at, Arc::clone(group))));
            machine.armed = alarm;
        }
        if idle {
            self.machines.remove(group);
        }
        effects
    }
}

impl Request {
    /// The answer that says no to the whole request.
    pub(crate) fn refuse(&self, error: Error) -> Answer {
        match self {
            Self::Join(_) => Answer::Join(Err(error)),
            Self::Sync(_) => Answer::Sync(Err(error)),
            Self::Heartbeat(_) => Answer::Heartbeat(Err(error)),
            Self::Leave(_) => Answer::Leave(Err(error)),
            Self::Commit(_) => Answer::Commit(Err(error)),
            Self::DeleteGroup => Answer::DeleteGroup(Err(error)),
            Self::DeleteOffsets(_) => Answer::DeleteOffsets(Err(error)),
        }
    }
}
