//! How a replica starts: pointer → snapshot → tail → opening of the session → the fold passes the opening. Nothing is
//! served before that.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kafscale_journal::etcd::quota::Room;
use kafscale_journal::sessions::Sessions;
use kafscale_journal::{Identity, Journal, OpenError, Position};
use kafscale_log::read::Waiters;
use kafscale_log::store::{ObjectLister, ObjectStore};
use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{Command, Entry, Nonce, OpenSession, State};
use kafscale_ports::Env;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::barrier::Barrier;
use super::committer::Committer;
use super::expiry::OffsetExpiry;
use super::numbers::{Numbers, SharedNumbers};
use super::pending::Pending;
use super::snapshots::{NotLoaded, Shelf, SnapshotSettings, Snapshots, catch_up, decode_kept};
use super::{End, Life, Order, Progress, Replica, expiry, follower, ready, roster, sweep, went_back};
use crate::metrics::Metrics;

/// Commands that wait for the committer, at most; who comes later waits to enter.
const MAX_PROPOSALS: usize = 4096;

/// How long the opening of a session is tried: a lease runs out in less.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);
const OPEN_RETRY: Duration = Duration::from_secs(1);

/// How long a start waits for a store that fails while the state is read, and how often it tries. That both answer has
/// been seen just before; this is for what fails a moment later.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);
const LOAD_RETRY: Duration = Duration::from_secs(2);

/// Why the state could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The journal cannot be read, or contradicts itself.
    #[error("the journal cannot be followed: {0}")]
    Journal(String),
    /// Neither of the kept snapshots can be read.
    #[error("no kept snapshot can be read ({0}); restore the file from a backup, or run `kafscale recover`")]
    Snapshot(String),
    /// A store failed for longer than a start waits.
    #[error("the state could not be read: {0}")]
    Failed(String),
    /// The session was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The session was over before it had begun.
    #[error("{0}")]
    Ended(End),
}

/// What a replica is made of.
pub struct Parts {
    /// Time, randomness, tasks.
    pub env: Env,
    /// The order of everything.
    pub journal: Arc<dyn Journal>,
    /// The sessions of all brokers, if the journal is one of several.
    pub sessions: Option<Arc<dyn Sessions>>,
    /// Whether the journal has room for produce, if it has bounds of its own.
    pub room: Option<watch::Receiver<Room>>,
    /// Where snapshots are.
    pub store: Arc<dyn ObjectStore>,
    /// Lists them, where other brokers may still read what is superseded.
    pub lister: Option<Arc<dyn ObjectLister>>,
    /// The cluster's id: object names begin with it.
    pub cluster: u128,
    /// The journal's life: snapshot names have it.
    pub incarnation: u128,
    /// What the session's opening says of this broker.
    pub broker: OpenSession,
    /// When snapshots are due.
    pub snapshots: SnapshotSettings,
    /// When committed offsets are forgotten.
    pub offsets: OffsetExpiry,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The state as it was loaded.
struct Loaded {
    state: State,
    tail_bytes: u64,
}

impl Replica {
    /// Loads the state, opens a session, and starts the tasks. Returns once this broker's fold has passed its own
    /// opening.
    pub async fn start(parts: Parts) -> Result<Arc<Self>, LoadError> {
        let shelf = Shelf { store: Arc::clone(&parts.store), cluster: parts.cluster, incarnation: parts.incarnation };
        let Loaded { state, tail_bytes } = load_patiently(&parts, &shelf).await?;
        let snapshot = state.snapshot().map_or(0, |snapshot| snapshot.ordinal);
        info!(ordinal = state.ordinal(), snapshot, tail_bytes, "state loaded");
        let (nonce, opened) = open(&parts).await?;

        let progress = Progress {
            ordinal: state.ordinal(),
            bytes: tail_bytes,
            snapshot,
            snapshot_bytes: 0,
            session_changes: state.session_changes(),
        };
        let (proposals, queue) = mpsc::channel(MAX_PROPOSALS);
        let replica = Arc::new(Self {
            env: parts.env.clone(),
            order: Order { journal: parts.journal, sessions: parts.sessions, room: parts.room },
            nonce,
            state: RwLock::new(state),
            progress: watch::Sender::new(progress),
            proposals,
            pending: Mutex::new(Pending::default()),
            numbers: SharedNumbers::opened(),
            barrier: Barrier::default(),
            waiters: Waiters::new(),
            metrics: parts.metrics,
            life: Life { end: watch::Sender::new(None), ready_wanted: watch::Sender::new(true) },
        });
        let snapshots = Snapshots::new(Arc::clone(&replica), shelf.clone(), parts.snapshots);
        let committer = Committer::new(Arc::clone(&replica), queue);
        replica.spawn("follower", follower::run(Arc::clone(&replica)));
        replica.spawn("committer", committer.run());
        replica.spawn("snapshots", snapshots.run());
        if let Some(lister) = parts.lister {
            replica.spawn("snapshot sweep", sweep::run(Arc::clone(&replica), shelf, lister));
        }
        replica.spawn("roster", roster::run(Arc::clone(&replica)));
        replica.spawn("producer expiry", expiry::producers(Arc::clone(&replica)));
        replica.spawn("offset expiry", expiry::offsets(Arc::clone(&replica), parts.offsets));
        replica.passed(opened.ordinal).await?;
        replica.spawn("readiness", ready::run(Arc::clone(&replica)));
        Ok(replica)
    }

    /// Starts a task without which the broker cannot go on: if it panics, the broker ends. A broker that goes on
    /// without its follower, or without snapshots, would be found out much later.
    pub(crate) fn spawn(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let replica = Arc::clone(self);
        let guarded = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                replica
                    .finish(End::Failed(format!("the broker's task '{name}' panicked; its last words are in the log")));
            }
        };
        self.env.tasks.spawn(name, Box::pin(guarded));
    }

    async fn passed(&self, ordinal: u64) -> Result<(), LoadError> {
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            end = self.ended() => Err(LoadError::Ended(end)),
            _reached = progress.wait_for(|now| now.ordinal >= ordinal) => Ok(()),
        }
    }
}

/// Opens a session; each attempt is one under a nonce of its own. A broker of the same id that has died without a word, and
/// whose identity is not ours, lives on for the time of its lease.
async fn open(parts: &Parts) -> Result<(Nonce, Position), LoadError> {
    let identity = Identity { broker_id: parts.broker.broker_id, token: parts.broker.identity };
    let begun = parts.env.clock.now();
    loop {
        let nonce = parts.env.random.u64();
        match parts.journal.open(identity, nonce, opening(parts, nonce).encode().into()).await {
            Ok(opened) => return Ok((nonce, opened)),
            // A directory's journal has no leases, and a disk that failed does not mend.
            Err(error) if parts.sessions.is_none() || parts.env.clock.now() - begun >= OPEN_PATIENCE => {
                return Err(error.into());
            }
            Err(error) => {
                warn!(%error, "the session could not be opened yet; trying again in {OPEN_RETRY:?}");
                sleep(OPEN_RETRY).await;
            }
        }
    }
}

fn opening(parts: &Parts, nonce: Nonce) -> Entry {
    Entry {
        feature_level: FEATURE_LEVEL,
        nonce,
        n: 0,
        time_ms: parts.env.clock.wall_ms(),
        reserved: Numbers::opening(),
        low: 0,
        commands: vec![Command::OpenSession(parts.broker.clone())],
    }
}

async fn load_patiently(parts: &Parts, shelf: &Shelf) -> Result<Loaded, LoadError> {
    let begun = parts.env.clock.now();
    loop {
        match load(&*parts.journal, shelf).await {
            Err(LoadError::Failed(why)) if parts.env.clock.now() - begun < LOAD_PATIENCE => {
                warn!(error = %why, "the state could not be read yet; trying again in {LOAD_RETRY:?}");
                sleep(LOAD_RETRY).await;
            }
            loaded => return loaded,
        }
    }
}

async fn load(journal: &dyn Journal, shelf: &Shelf) -> Result<Loaded, LoadError> {
    let of_journal = |why| match why {
        NotLoaded::Failed(why) => LoadError::Failed(why),
        NotLoaded::Wrong(why) => LoadError::Journal(why),
    };
    let mut state = match journal.pointer().await.map_err(|why| of_journal(why.into()))? {
        Some(pointer) => newest_readable(shelf, &pointer.value).await?,
        None => State::new(),
    };
    let end = journal.end().await.map_err(|why| of_journal(why.into()))?;
    if end.ordinal < state.ordinal() {
        return Err(LoadError::Journal(went_back(end.ordinal, state.ordinal())));
    }
    let tail_bytes = catch_up(journal, &mut state, end.ordinal).await.map_err(of_journal)?;
    Ok(Loaded { state, tail_bytes })
}

/// The newest of the kept snapshots that can be read; the journal still has what follows the older one.
async fn newest_readable(shelf: &Shelf, value: &[u8]) -> Result<State, LoadError> {
    let kept = decode_kept(value).ok_or_else(|| LoadError::Snapshot("the pointer names none".to_owned()))?;
    let (mut failures, mut may_pass) = (Vec::new(), false);
    for snapshot in kept {
        match shelf.load(snapshot).await {
            Ok(state) => return Ok(state),
            Err(why) => {
                warn!(error = %why, "a snapshot cannot be read; trying the one before it");
                may_pass |= matches!(why, NotLoaded::Failed(_));
                failures.push(why.to_string());
            }
        }
    }
    // Nobody is sent to their backups because a store was away for a moment.
    let why = failures.join("; ");
    Err(if may_pass { LoadError::Failed(why) } else { LoadError::Snapshot(why) })
}
