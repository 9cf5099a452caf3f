//! Groups that move: whenever the fold has seen sessions change, the machines look who coordinates what now. So timers
//! run for groups that came, and nobody waits at this broker for a group that is elsewhere.

use std::sync::Arc;

use super::Coordinator;
use crate::ledger::Replica;

pub(super) async fn run(coordinator: Arc<Coordinator>, replica: Arc<Replica>) {
    let mut progress = replica.progress();
    loop {
        let seen = coordinator.look();
        tokio::select! {
            biased;
            _over = replica.ended() => return,
            changed = progress.wait_for(|now| now.session_changes > seen) => if changed.is_err() { return },
        }
    }
}
