//! A machine as the state has it: at start, when the group comes to this broker, on the first request for a group, and
//! after a change that was not written.

use std::collections::VecDeque;
use std::sync::Arc;

use kafscale_metadata::{GroupStage, State};

use super::offsets::Writes;
use super::{Machine, Stage};
use crate::members::{Member, Members, Phase};

impl Machine {
    /// Members get a full session timeout. A generation without an assignment goes on: its leader may still send one.
    pub(crate) fn load(group: Arc<str>, state: &State, now: u64) -> Self {
        let mut machine = Self {
            stage: Stage::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            members: Members::default(),
            waiting: VecDeque::new(),
            writes: Writes::default(),
            away: false,
            armed: None,
            group,
        };
        machine.reload(state, now);
        machine
    }

    /// Forgets what is not in the state. What waits, ids that were given away, and offsets under way, stay.
    pub(super) fn reload(&mut self, state: &State, now: u64) {
        self.away = false;
        self.members.clear();
        self.stage = Stage::Empty;
        self.leader = None;
        let Some(stored) = state.group(&self.group) else { return };
        self.generation = stored.generation();
        stored.protocol_type().clone_into(&mut self.protocol_type);
        stored.protocol().clone_into(&mut self.protocol);
        let phase = match stored.stage() {
            GroupStage::Empty => return,
            GroupStage::Joined => Phase::Joined,
            GroupStage::Assigned => Phase::Synced,
        };
        for member in stored.members() {
            self.members.insert(Member::loaded(member, stored.protocol(), phase, now));
        }
        self.leader = Some(stored.leader().into());
        self.stage = match phase {
            Phase::Joined => Stage::Completing { sync_until: now + self.members.rebalance_ms() },
            Phase::Joining { .. } | Phase::Syncing(_) | Phase::Synced => Stage::Stable { sync_until: None },
        };
    }
}
