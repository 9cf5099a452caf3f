//! What stands between the coordinator of groups, its machines and the journal: the listening chronicle, and planted
//! bugs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use kafscale_broker::coordinator::{Deciding, GroupLedger};
use kafscale_groups::{Answer, Error, Request, Token};
use kafscale_log::Stopped;
use kafscale_metadata::{Command, CommitOffsets, Nonce, Outcome, Session, State};
use kafscale_ports::Spawn;
use parking_lot::{Mutex, RwLockReadGuard};
use tokio::time::{Duration, sleep};

use super::{Bug, LATE};
use crate::chronicle::Chronicle;

/// As good as for ever; Kafka's longest session timeout.
const FOR_EVER_MS: i32 = 30 * 60 * 1000;

/// A coordinator's ledger that tells the chronicle what the machines are asked and answer.
pub(super) struct Listening {
    ledger: Arc<dyn GroupLedger>,
    chronicle: Arc<Chronicle>,
    session: Nonce,
    /// The commits under way, by their places in the chronicle.
    commits: Mutex<BTreeMap<Token, usize>>,
}

impl Listening {
    /// Over another one, whose fold has passed the session's opening.
    pub(super) fn new(ledger: Arc<dyn GroupLedger>, chronicle: Arc<Chronicle>) -> Self {
        // There is one broker, and with it one session that lives.
        let session = ledger.state().live_sessions().last().map_or(0, Session::nonce);
        Self { ledger, chronicle, session, commits: Mutex::default() }
    }
}

#[async_trait]
impl GroupLedger for Listening {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.ledger.state()
    }

    async fn submit(&self, command: Command) -> Deciding {
        self.ledger.submit(command).await
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.ledger.barrier().await
    }

    async fn fresh(&self, max_age: Duration) -> Result<(), Stopped> {
        self.ledger.fresh(max_age).await
    }

    fn asked(&self, token: Token, group: &str, request: Request) -> Request {
        if let Request::Commit(commit) = &request {
            let index = self.chronicle.commit_enters(self.session, group, commit);
            self.commits.lock().insert(token, index);
        }
        self.ledger.asked(token, group, request)
    }

    fn answered(&self, token: Token, answer: Answer) -> Answer {
        let answer = self.ledger.answered(token, answer);
        let index = self.commits.lock().remove(&token);
        if let (Some(index), Answer::Commit(result)) = (index, &answer) {
            let stored = result.as_ref().map(|parts| parts.iter().map(Result::is_ok).collect());
            self.chronicle.commit_leaves(index, stored.unwrap_or_default());
        }
        answer
    }
}

/// A coordinator's ledger, with a bug.
pub(super) struct Lying {
    ledger: Arc<dyn GroupLedger>,
    bug: Bug,
    tasks: Arc<dyn Spawn>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Held while a late command is written.
    order: tokio::sync::Mutex<()>,
    /// The generations of this life's start.
    loaded: BTreeMap<String, i32>,
    /// Requests of those generations that wait.
    old: Mutex<BTreeSet<Token>>,
}

impl Lying {
    /// Over the true one, whose fold has passed the session's opening.
    pub(super) fn new(ledger: Arc<dyn GroupLedger>, bug: Bug, tasks: Arc<dyn Spawn>) -> Self {
        let loaded = ledger.state().groups().map(|(id, group)| (id.to_owned(), group.generation())).collect();
        Self { ledger, bug, tasks, shared: Arc::new(Shared { loaded, ..Shared::default() }) }
    }

    /// Says "done", and does it later, in order.
    fn later(&self, command: Command, claimed: Outcome) -> Deciding {
        let (ledger, shared) = (Arc::clone(&self.ledger), Arc::clone(&self.shared));
        let late = async move {
            let _one_by_one = shared.order.lock().await;
            sleep(LATE).await;
            let _nobody_asks = ledger.submit(command).await.await;
        };
        self.tasks.spawn("late command", Box::pin(late));
        std::future::ready(Ok(claimed)).boxed()
    }

    /// All offsets as they are stored.
    fn is_stored(&self, commit: &CommitOffsets) -> bool {
        let state = self.ledger.state();
        let Some(group) = state.group(&commit.group) else { return false };
        commit.offsets.iter().all(|offset| {
            let stored = group.offset(offset.partition);
            stored.is_some_and(|stored| stored.offset == offset.offset && *stored.metadata == *offset.metadata)
        })
    }
}

#[async_trait]
impl GroupLedger for Lying {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.ledger.state()
    }

    async fn submit(&self, command: Command) -> Deciding {
        match (self.bug, &command) {
            (Bug::GenerationBeforeJournal, Command::CompleteJoin(_) | Command::CompleteSync(_)) => {
                self.later(command, Outcome::Done)
            }
            (Bug::CommitBeforeFold, Command::CommitOffsets(commit)) => {
                let claimed = Outcome::Offsets(vec![None; commit.offsets.len()]);
                self.later(command, claimed)
            }
            (Bug::EqualSkipped, Command::CommitOffsets(commit)) if self.is_stored(commit) => {
                let claimed = Outcome::Offsets(vec![None; commit.offsets.len()]);
                std::future::ready(Ok(claimed)).boxed()
            }
            _ => {
                // Behind what is late.
                let _one_by_one = self.shared.order.lock().await;
                self.ledger.submit(command).await
            }
        }
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.ledger.barrier().await
    }

    async fn fresh(&self, max_age: Duration) -> Result<(), Stopped> {
        self.ledger.fresh(max_age).await
    }

    fn asked(&self, token: Token, group: &str, mut request: Request) -> Request {
        let loaded = self.shared.loaded.get(group).copied();
        let of_old = match &request {
            Request::Sync(sync) => loaded == Some(sync.generation),
            Request::Heartbeat(heartbeat) => loaded == Some(heartbeat.generation),
            Request::Join(_)
            | Request::Leave(_)
            | Request::Commit(_)
            | Request::DeleteGroup
            | Request::DeleteOffsets(_) => false,
        };
        if of_old {
            self.shared.old.lock().insert(token);
        }
        if let Request::Join(join) = &mut request
            && self.bug == Bug::MemberKept
        {
            join.session_timeout_ms = FOR_EVER_MS;
        }
        if let Request::Commit(commit) = &mut request
            && self.bug == Bug::OldGenerationCommits
            && !commit.member_id.is_empty()
        {
            let state = self.ledger.state();
            let Some(group) = state.group(group) else { return request };
            if let Some(member) = group.members().next() {
                (commit.generation, commit.member_id) = (group.generation(), member.id().to_string());
                commit.instance = None;
            }
        }
        request
    }

    fn answered(&self, token: Token, mut answer: Answer) -> Answer {
        let old = self.shared.old.lock().remove(&token);
        if let Answer::Sync(Ok(synced)) = &mut answer
            && old
            && self.bug == Bug::AssignmentLost
        {
            synced.assignment.clear();
        }
        if let Answer::Heartbeat(result) = &mut answer {
            if old && self.bug == Bug::MembersForgotten {
                *result = Err(Error::UnknownMember);
            }
            if self.bug == Bug::DeadAnswered {
                *result = Ok(());
            }
        }
        answer
    }
}
