//! What an operator watches: how many of this broker's groups are where. How far each is behind is in the
//! state alone.

use kafscale_groups::StageName;

use super::Coordinator;

/// How many groups and members there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// Groups by stage.
    pub groups: [(StageName, usize); StageName::ALL.len()],
    /// Members of all groups.
    pub members: usize,
}

impl Coordinator {
    /// Counts the groups that this broker coordinates.
    pub fn stages(&self) -> Stages {
        let mut stages = Stages { groups: StageName::ALL.map(|stage| (stage, 0)), members: 0 };
        self.looked(|groups, view| {
            for listed in groups.list(view) {
                stages.members += listed.members;
                for (_, count) in stages.groups.iter_mut().filter(|(stage, _)| *stage == listed.stage) {
                    *count += 1;
                }
            }
        });
        stages
    }
}
