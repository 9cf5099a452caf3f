//! The machine, as an operator sees it.

use kafscale_metadata::State;

use super::journal::Change;
use super::{Machine, Stage};
use crate::describe::{DescribedMember, Description, Listed, StageName};
use crate::members::Member;

impl Machine {
    /// What is being journalled shows as what it was before: nobody has been told yet.
    fn stage_name(&self) -> StageName {
        match &self.stage {
            Stage::Empty | Stage::Journalling(_, Change::Delete(_)) => StageName::Empty,
            Stage::Gathering(_) | Stage::Preparing { .. } | Stage::Journalling(_, Change::Join(_)) => {
                StageName::PreparingRebalance
            }
            Stage::Completing { .. } | Stage::Journalling(_, Change::Sync { .. }) => StageName::CompletingRebalance,
            Stage::Stable { .. } | Stage::Journalling(_, Change::Replace(_)) => StageName::Stable,
        }
    }

    pub(crate) fn listed(&self) -> Listed<'_> {
        let (group, stage) = (&**self.group(), self.stage_name());
        Listed { group, stage, protocol_type: &self.protocol_type, members: self.members.len() }
    }

    pub(crate) fn describe(&self, state: &State) -> Description {
        let stage = self.stage_name();
        let stable = stage == StageName::Stable;
        let member = |m: &Member| DescribedMember {
            id: m.id.clone(),
            instance: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            subscription: if stable { m.subscription(&self.protocol) } else { Default::default() },
            assignment: match self.assignment(state, &m.id) {
                Ok(synced) if stable => synced.assignment,
                Ok(_) | Err(_) => Default::default(),
            },
        };
        Description {
            stage,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: if stable { self.protocol.clone() } else { String::new() },
            members: self.members.iter().map(member).collect(),
        }
    }
}
