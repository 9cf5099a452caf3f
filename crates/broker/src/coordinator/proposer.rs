//! The proposer: commands enter the journal exactly in the order in which the machines made them, and their verdicts
//! come back in that order. A verdict that is late does not hold up later proposals.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use kafscale_groups::{NotDecided, ProposalId};
use kafscale_log::CommitError;
use kafscale_metadata::{Command, Outcome};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Coordinator, Deciding};

/// One proposal of a machine.
pub(super) struct Proposal {
    pub(super) id: ProposalId,
    pub(super) commands: Vec<Command>,
}

pub(super) type Verdict = Result<Vec<Outcome>, NotDecided>;

pub(super) async fn run(coordinator: Arc<Coordinator>, mut queue: UnboundedReceiver<Proposal>) {
    let mut deciding = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some((id, completes, verdict)) = deciding.next() => {
                coordinator.counters.decided(completes, &verdict);
                coordinator.decided(id, verdict);
            }
            proposal = queue.recv() => {
                let Some(Proposal { id, commands }) = proposal else { return };
                let mut parts = Vec::with_capacity(commands.len());
                let completes = commands.iter().any(completes_generation);
                for command in commands {
                    parts.push(coordinator.ledger.submit(command).await);
                }
                deciding.push_back(async move { (id, completes, verdict(parts).await) });
            }
        }
    }
}

/// The verdict of all of its commands. One that may have been written makes all of them unknown.
async fn verdict(parts: Vec<Deciding>) -> Verdict {
    let mut outcomes = Vec::with_capacity(parts.len());
    let mut undecided = None;
    for part in parts {
        match part.await {
            Ok(outcome) => outcomes.push(outcome),
            Err(CommitError::Refused) => undecided = undecided.or(Some(NotDecided::NotWritten)),
            Err(CommitError::Unknown) => undecided = Some(NotDecided::Unknown),
        }
    }
    undecided.map_or(Ok(outcomes), Err)
}

/// Whether a generation with members is complete by this command.
fn completes_generation(command: &Command) -> bool {
    if let Command::CompleteJoin(join) = command { join.part.last && !join.members.is_empty() } else { false }
}

impl Coordinator {
    fn decided(&self, id: ProposalId, verdict: Verdict) {
        let mut table = self.table.lock();
        self.step(&mut table, |groups, view| groups.decided(view, id, verdict));
    }
}
