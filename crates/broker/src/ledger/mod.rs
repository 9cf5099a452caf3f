//! This broker's replica of the cluster's state: the journal on one side, the fold on the other.
//!
//! ```text
//! propose ─▶ committer ─▶ journal.append ─▶ journal.read ─▶ follower ─▶ fold ─▶ outcome to whoever proposed
//!                                                                         └──▶ waiting fetches and barriers
//! ```
//!
//! Owns: the state, this session (its numbering of entries and objects), the waiters for outcomes, barriers and
//! snapshots. Does not own: what commands mean (`kafscale-metadata`), where entries live (`kafscale-journal`), and
//! the record path (`kafscale-log`), to which it is a [`Ledger`].
//!
//! Invariants: one append is in flight; an outcome is what *this* broker's fold of *that* entry said, and waiters
//! are bound to (session, n), never to a position; the state is only written by the follower.

mod barrier;
mod committer;
mod expiry;
mod follower;
mod numbers;
mod pending;
mod ready;
mod roster;
mod snapshots;
mod start;
mod sweep;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafscale_journal::etcd::quota::Room;
use kafscale_journal::sessions::{Sessions, Victim};
use kafscale_journal::{Journal, Pointer};
use kafscale_log::read::Waiters;
use kafscale_log::{CommitError, Ledger, Stopped};
use kafscale_metadata::{Command, CommitBundle, Nonce, ObjectId, ObjectKind, Outcome, State, Verdict};
use kafscale_ports::{Env, Spawn};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use self::barrier::Barrier;
pub use self::expiry::OffsetExpiry;
use self::numbers::SharedNumbers;
use self::pending::Pending;
pub use self::snapshots::SnapshotSettings;
pub use self::start::{LoadError, Parts};
use crate::metrics::Metrics;

/// Why a broker's session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// It was asked to stop, and has ended its session in the journal.
    #[error("stopped")]
    Stopped,
    /// Another process took the session over, or the other brokers ended it.
    #[error(
        "the journal ended this broker's session: another process of the same identity has started, or the other brokers expelled it; restart the broker"
    )]
    Fenced,
    /// The journal can no longer be written or read.
    #[error("{0}")]
    Failed(String),
}

/// How a group of commands goes into the journal.
#[derive(Debug)]
enum Proposal {
    /// A command; it may share its entry with others.
    Command(Command, oneshot::Sender<Result<Outcome, CommitError>>),
    /// A snapshot's publication, alone in its entry.
    Publish(Command, Pointer, oneshot::Sender<Result<Outcome, CommitError>>),
    /// The end of another broker's session, alone in its entry.
    End(Victim, oneshot::Sender<Result<Outcome, CommitError>>),
    /// The end of the session, and the last entry of it.
    Leave,
}

/// How far the fold is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last applied entry.
    pub ordinal: u64,
    /// Bytes of entries that were applied since the snapshot that this life began with.
    pub bytes: u64,
    /// The last entry in the newest snapshot that was published.
    pub snapshot: u64,
    /// What `bytes` was when it was.
    pub snapshot_bytes: u64,
    /// How often sessions have changed, as the state counts it.
    pub session_changes: u64,
}

/// What is to become of this session.
struct Life {
    /// It is over, for this reason.
    end: watch::Sender<Option<End>>,
    /// It wants to coordinate groups.
    ready_wanted: watch::Sender<bool>,
}

/// The journal, and what comes with one of several brokers.
struct Order {
    journal: Arc<dyn Journal>,
    /// The sessions of all brokers.
    sessions: Option<Arc<dyn Sessions>>,
    /// Whether there is room for produce.
    room: Option<watch::Receiver<Room>>,
}

/// See the module's documentation.
pub struct Replica {
    env: Env,
    order: Order,
    nonce: Nonce,
    state: RwLock<State>,
    progress: watch::Sender<Progress>,
    proposals: mpsc::Sender<Proposal>,
    pending: Mutex<Pending>,
    numbers: SharedNumbers,
    barrier: Barrier,
    waiters: Waiters,
    metrics: Arc<Metrics>,
    life: Life,
}

impl Replica {
    /// Appends a command and returns what this broker's fold decided about it.
    pub async fn propose(&self, command: Command) -> Result<Outcome, CommitError> {
        self.submit(command).await.await
    }

    /// Gives a command its place in the journal's order: commands that one task gives one after the other are appended
    /// in that order. The future that comes back is the fold's decision; the command is on its way also without it.
    pub async fn submit(&self, command: Command) -> impl Future<Output = Result<Outcome, CommitError>> + Send + use<> {
        let (reply, outcome) = oneshot::channel();
        let sent = self.send(Proposal::Command(command, reply)).await;
        async move {
            sent?;
            // A dropped reply is one that nobody will ever answer: the entry may still be in the journal.
            outcome.await.unwrap_or(Err(CommitError::Unknown))
        }
    }

    /// Returns once the fold is known to have been at the journal's end at some moment of the last `max_age`: at once
    /// if it was. What is read then is at most that old.
    pub async fn fresh(&self, max_age: Duration) -> Result<(), Stopped> {
        self.barrier.fresh(&*self.env.clock, max_age, || self.reach_end()).await
    }

    /// This session.
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// Where tasks are started.
    pub(crate) fn tasks(&self) -> &dyn Spawn {
        &*self.env.tasks
    }

    /// How far the fold is, as it goes on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Where fetches wait for the fold.
    pub fn waiters(&self) -> Waiters {
        self.waiters.clone()
    }

    /// Ends the session in the journal; nothing can be proposed afterwards. Returns once it is over.
    pub async fn leave(&self) -> End {
        // If the committer has ended already, the reason is there to be read.
        let _ended_already = self.send(Proposal::Leave).await;
        self.ended().await
    }

    /// Returns when the session is over.
    pub async fn ended(&self) -> End {
        let mut end = self.life.end.subscribe();
        let reason = end.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or(End::Stopped)
    }

    /// Ends the session from this side at once, for a reason that lies outside of journal and fold.
    pub fn fail(&self, reason: &str) {
        self.finish(End::Failed(reason.to_owned()));
    }

    async fn send(&self, proposal: Proposal) -> Result<(), CommitError> {
        self.proposals.send(proposal).await.map_err(|_closed| CommitError::Refused)
    }

    /// The first reason is the one that counts.
    fn finish(&self, reason: End) {
        self.life.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(reason);
            first
        });
        self.pending.lock().abandon();
        self.numbers.wake_all();
        self.waiters.wake_all();
    }

    /// Why the session is over, if it is.
    pub fn over(&self) -> Option<End> {
        self.life.end.borrow().clone()
    }
}

/// How long a barrier asks a journal that does not answer, and how often.
const BARRIER_PATIENCE: Duration = Duration::from_secs(5);
const BARRIER_RETRY: Duration = Duration::from_millis(100);

/// Why the journal's end was not reached.
enum NotReached {
    JournalFailed,
    Over,
}

/// What to say of a journal that ends before what was already applied.
fn went_back(end: u64, applied: u64) -> String {
    format!(
        "the journal went back in time: it ends at entry {end}, and entry {applied} was applied; run `kafscale recover`"
    )
}

#[async_trait]
impl Ledger for Replica {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    async fn next_object(&self, kind: ObjectKind) -> Result<ObjectId, Stopped> {
        loop {
            // Registered before the look, so that a reservation in between is not missed.
            let changed = self.numbers.changed();
            if self.over().is_some() {
                return Err(Stopped);
            }
            if let Some(number) = self.numbers.take(kind) {
                return Ok(ObjectId { nonce: self.nonce, number });
            }
            changed.await;
        }
    }

    fn settle(&self, object: ObjectId) {
        self.numbers.settle(object.number);
    }

    async fn commit(&self, bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError> {
        if self.order.room.as_ref().is_some_and(|room| *room.borrow() == Room::Short) {
            return Err(CommitError::Refused);
        }
        let begun = self.env.clock.now();
        let outcome = self.propose(Command::CommitBundle(bundle)).await;
        self.metrics.journal.committed(self.env.clock.now() - begun);
        match outcome? {
            Outcome::Bundle(verdicts) => Ok(verdicts),
            // The fold refused the whole command: none of its batches is in the log.
            Outcome::Done | Outcome::Refused(_) | Outcome::ProducerIds { .. } | Outcome::Offsets(_) => {
                Err(CommitError::Refused)
            }
        }
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.barrier.pass(&*self.env.clock, || self.reach_end()).await
    }
}

impl Replica {
    /// Learns the journal's end and waits until the fold has reached it. A journal that does not answer is asked for as
    /// long as a client may wait; after that it finds another broker that can tell.
    async fn reach_end(&self) -> Result<(), Stopped> {
        let asked = self.env.clock.now();
        loop {
            match self.try_to_reach_end().await {
                Err(NotReached::JournalFailed) if self.env.clock.now() - asked < BARRIER_PATIENCE => {
                    sleep(BARRIER_RETRY).await;
                }
                reached => return reached.map_err(|_stopped_or_failed| Stopped),
            }
        }
    }

    async fn try_to_reach_end(&self) -> Result<(), NotReached> {
        let mut progress = self.progress.subscribe();
        // As of before the question: the fold goes on while the answer is on its way, and is beyond it then.
        let applied = progress.borrow().ordinal;
        let mut over = self.life.end.subscribe();
        let end = tokio::select! {
            biased;
            _over = over.wait_for(Option::is_some) => return Err(NotReached::Over),
            end = self.order.journal.end() => end.map_err(|_failed| NotReached::JournalFailed)?,
        };
        if end.ordinal < applied {
            self.finish(End::Failed(went_back(end.ordinal, applied)));
            return Err(NotReached::Over);
        }
        tokio::select! {
            biased;
            reached = progress.wait_for(|now| now.ordinal >= end.ordinal) => {
                reached.map(drop).map_err(|_gone| NotReached::Over)
            }
            _over = over.wait_for(Option::is_some) => Err(NotReached::Over),
        }
    }
}
