//! One group. This file has its parts, the order of requests while something is being journalled, and its timers; the
//! rules of the protocol are in the files next to it, in the order of a group's life:
//! [`join`], [`rebalance`], [`sync`], [`membership`], [`offsets`], [`journal`], [`moving`].

mod describe;
mod join;
mod journal;
mod load;
mod membership;
mod moving;
mod offsets;
mod rebalance;
mod sync;

use std::collections::VecDeque;
use std::sync::Arc;

use kafscale_metadata::MemberId;

use crate::members::Members;
use crate::turn::Turn;
use crate::{Answer, Error, ProposalId, Request, Token};

use journal::Change;
use offsets::Writes;

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    group: Arc<str>,
    stage: Stage,
    /// Of the last generation that the fold decided.
    generation: i32,
    protocol_type: String,
    /// The chosen protocol of this generation.
    protocol: String,
    leader: Option<MemberId>,
    members: Members,
    /// Requests that came while a change was being journalled, in order.
    waiting: VecDeque<(Token, Request)>,
    /// Offsets that are being journalled.
    writes: Writes,
    /// The group has left this broker; what is in here are offsets on their way.
    away: bool,
    /// The alarm that is set for this machine; kept here for the table of alarms.
    pub(crate) armed: Option<u64>,
}

/// Where the group is. Times are when the stage ends by itself.
#[derive(Debug)]
enum Stage {
    /// No members. (There may be ids that were given away.)
    Empty,
    /// The first generation of an empty group waits for members until then, even if all that are known have joined.
    Gathering(Gathering),
    /// Members have to join again, until then.
    Preparing { until: u64 },
    /// The generation is known; the leader's assignment is not. Who has not sent its SyncGroup by then is removed.
    Completing { sync_until: u64 },
    /// Everything is decided. Some may not have sent their SyncGroup yet: they are removed then.
    Stable { sync_until: Option<u64> },
    /// A change of membership is on its way through the journal. Nothing else changes meanwhile.
    Journalling(ProposalId, Change),
}

/// The initial delay (KIP-134): as long as members keep coming it is extended, up to the rebalance timeout.
#[derive(Debug)]
struct Gathering {
    until: u64,
    /// How long the present wait is.
    step_ms: u64,
    /// How much may be added to it.
    rest_ms: u64,
    /// A member came during the present wait.
    grown: bool,
}

impl Machine {
    pub(crate) fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// What its members take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.members.bytes()
    }

    /// Nothing is in here that is not in the state. (Nobody waits in an empty group: it is not being journalled.)
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Empty) && !self.holds_members() && self.writes.is_empty()
    }

    /// Takes a request, or has it wait behind the change that is being journalled.
    pub(crate) fn request(&mut self, turn: &mut Turn<'_>, token: Token, request: Request) {
        match (&self.stage, request) {
            (_, Request::Heartbeat(heartbeat)) => {
                let answer = Answer::Heartbeat(self.heartbeat(turn, &heartbeat));
                turn.answer(token, answer);
            }
            (Stage::Journalling(..), request) => self.waiting.push_back((token, request)),
            (_, request) => self.take(turn, token, request),
        }
    }

    fn take(&mut self, turn: &mut Turn<'_>, token: Token, request: Request) {
        match request {
            Request::Join(join) => self.join(turn, token, join),
            Request::Sync(sync) => self.sync(turn, token, sync),
            Request::Heartbeat(heartbeat) => {
                let answer = Answer::Heartbeat(self.heartbeat(turn, &heartbeat));
                turn.answer(token, answer);
            }
            Request::Leave(leavers) => self.leave(turn, token, &leavers),
            Request::Commit(commit) => self.commit(turn, token, commit),
            Request::DeleteGroup => self.delete_group(turn, token),
            Request::DeleteOffsets(partitions) => self.delete_offsets(turn, token, &partitions),
        }
    }

    /// After a verdict: what waited goes on, until one of them starts the next change.
    fn resume(&mut self, turn: &mut Turn<'_>) {
        while !matches!(self.stage, Stage::Journalling(..)) {
            let Some((token, request)) = self.waiting.pop_front() else { break };
            self.take(turn, token, request);
        }
    }

    /// When it wants to be looked at; it may be too early, never too late. Not while a change is being journalled: a slow
    /// journal must not cost anybody its membership.
    pub(crate) fn alarm(&self) -> Option<u64> {
        let stage = match &self.stage {
            Stage::Journalling(..) => return None,
            Stage::Empty => None,
            Stage::Gathering(gathering) => Some(gathering.until),
            Stage::Preparing { until } => Some(*until),
            Stage::Completing { sync_until } => Some(*sync_until),
            Stage::Stable { sync_until } => *sync_until,
        };
        self.members.bound().into_iter().chain(stage).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.evict(turn);
        self.stage_due(turn);
        self.members.tighten();
    }

    /// The stage's own timer.
    fn stage_due(&mut self, turn: &mut Turn<'_>) {
        match &self.stage {
            Stage::Gathering(gathering) if gathering.until <= turn.now => self.gathered(turn),
            Stage::Preparing { until } if *until <= turn.now => self.complete_join(turn),
            Stage::Completing { sync_until } if *sync_until <= turn.now => self.sync_due(turn),
            Stage::Stable { sync_until: Some(until) } if *until <= turn.now => self.sync_due(turn),
            Stage::Empty
            | Stage::Gathering(_)
            | Stage::Preparing { .. }
            | Stage::Completing { .. }
            | Stage::Stable { .. }
            | Stage::Journalling(..) => {}
        }
    }

    /// Whether a member is who it says (KIP-345): the instance id, if it gives one, must be its own.
    fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), Error> {
        if let Some(instance) = instance {
            match self.members.instance(instance) {
                None => return Err(Error::UnknownMember),
                Some(owner) if **owner != *id => return Err(Error::FencedInstance),
                Some(_) => {}
            }
        }
        self.members.get(id).map(|_| ()).ok_or(Error::UnknownMember)
    }
}
