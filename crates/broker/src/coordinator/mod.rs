//! The driver of the group coordinators (`kafscale-groups`): carries requests into the machines and their effects out.
//!
//! ```text
//! API ─▶ Coordinator ─▶ Groups::request ─┬▶ answer ─▶ the request that waits
//!              ▲                         └▶ commands ─▶ proposer ─▶ journal ─▶ fold
//!              │                                           │
//!   timer ─────┴─ Groups::tick       Groups::decided ◀─────┘ verdicts, in the same order
//! ```
//!
//! Owns: who waits for which answer, the order of proposals, the timer, the graceful stop, and freshness: which answers
//! pass a barrier first (DESIGN §9). Owns no rule of the protocol, and no state of a group.
//!
//! Invariants: effects are carried out in the order in which they came out, under the lock under which they came out;
//! a request whose connection is gone changes nothing for the machine (its answer goes nowhere); whoever waits is
//! answered, also by a stop. The lock is taken before the state's, never after it.

mod counters;
mod ledger;
mod moves;
mod proposer;
mod stages;
mod timer;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafscale_groups::{
    Answer, Commit, Description, Effect, Error, Groups, Heartbeat, Join, Joined, Leaver, Listed, Now, Request,
    Settings, Sync, Synced, Token, View,
};
use kafscale_log::{Reservation, Stopped};
use kafscale_metadata::{Nonce, State, TopicPartition};
use kafscale_ports::Env;
use parking_lot::{Mutex, RwLockReadGuard};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

pub use self::counters::Counters;
pub use self::ledger::{Deciding, GroupLedger};
use self::proposer::Proposal;
pub use self::stages::Stages;
use crate::ledger::Replica;
use crate::limits::MAX_GROUP_REQUESTS;

/// A heartbeat may be answered from a fold that was fresh so long ago: members send several in a session timeout.
const HEARTBEAT_AGE: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct Coordinator {
    env: Env,
    ledger: Arc<dyn GroupLedger>,
    /// This broker's session.
    session: Nonce,
    /// The zero of the machines' time.
    origin: Instant,
    table: Mutex<Table>,
    /// The next deadline is earlier than what the timer sleeps for, or there is to be no timer any more.
    earlier: Notify,
    counters: Counters,
}

/// What the lock is for.
struct Table {
    groups: Groups,
    waiting: BTreeMap<Token, Waiter>,
    next_token: u64,
    /// Unbounded, but filled by requests that wait only, whose number is bounded. None once nobody asks any more.
    proposals: Option<mpsc::UnboundedSender<Proposal>>,
    /// What the timer sleeps for; none: for ever.
    armed: Option<Now>,
    stage: Stage,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Serving,
    /// Nobody joins or leaves any more; commits and heartbeats are still answered.
    Stopping,
}

/// A request that waits.
struct Waiter {
    answer: oneshot::Sender<Answer>,
    /// It may wait for what other members do.
    parked: bool,
    /// The memory of what it gave to the machine.
    _hold: Option<Reservation>,
}

type Waiting = oneshot::Receiver<Answer>;

impl Coordinator {
    /// Takes over the groups that are this broker's, and starts the tasks. The replica's fold has passed the opening of its session.
    pub fn start(replica: &Arc<Replica>, ledger: Arc<dyn GroupLedger>, env: Env, settings: Settings) -> Arc<Self> {
        let (proposals, queue) = mpsc::unbounded_channel();
        let table = Table {
            groups: Groups::new(settings),
            waiting: BTreeMap::new(),
            next_token: 0,
            proposals: Some(proposals),
            armed: None,
            stage: Stage::Serving,
        };
        let coordinator = Arc::new(Self {
            origin: env.clock.now(),
            env,
            ledger,
            session: replica.nonce(),
            table: Mutex::new(table),
            earlier: Notify::new(),
            counters: Counters::default(),
        });
        coordinator.look();
        replica.spawn("group moves", moves::run(Arc::clone(&coordinator), Arc::clone(replica)));
        replica.spawn("group proposals", proposer::run(Arc::clone(&coordinator), queue));
        replica.spawn("group timers", timer::run(Arc::clone(&coordinator)));
        coordinator
    }

    /// Groups may have moved. How often sessions had changed then.
    fn look(&self) -> u64 {
        let mut table = self.table.lock();
        let mut seen = 0;
        self.step(&mut table, |groups, view| {
            seen = view.state.session_changes();
            groups.look(view)
        });
        seen
    }

    /// Whether this broker coordinates the group, in this state.
    pub(crate) fn coordinates(&self, state: &State, group: &str) -> bool {
        state.coordinates(self.session, group)
    }

    /// Answers those who wait for other members, and takes no change of membership any more, so that a stop does not
    /// wait for them. Members stay: they find the next coordinator, or this one after its restart.
    pub fn stop(&self) {
        let mut table = self.table.lock();
        table.stage = Stage::Stopping;
        // Dropped without an answer, which reads NOT_COORDINATOR. What the machine answers later goes nowhere.
        table.waiting.retain(|_, waiter| !waiter.parked);
        self.earlier.notify_one();
    }

    /// Ends the last task, when all requests are answered.
    pub fn close(&self) {
        self.table.lock().proposals = None;
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.ledger.state()
    }

    /// Before an answer that is read off the state or the machines.
    pub(crate) async fn barrier(&self) -> Result<(), Stopped> {
        self.ledger.barrier().await
    }
}

/// The requests. Each is answered with what the API files turn into error codes; `NotCoordinator` also stands for "the
/// broker stops".
impl Coordinator {
    /// The reservation is given back as soon as the machine has the request: from there on the machine's own bounds
    /// hold.
    pub(crate) async fn join(&self, group: &str, join: Join, hold: Reservation) -> Result<Joined, Error> {
        self.pass_barrier().await?;
        let waiting = self.enter(group, Request::Join(join), None)?;
        drop(hold);
        let answered = answered(waiting).await?;
        if let Answer::Join(result) = answered { result } else { Err(Error::NotCoordinator) }
    }

    /// As [`Coordinator::join`].
    pub(crate) async fn sync(&self, group: &str, sync: Sync, hold: Reservation) -> Result<Synced, Error> {
        self.pass_barrier().await?;
        let waiting = self.enter(group, Request::Sync(sync), None)?;
        drop(hold);
        let answered = answered(waiting).await?;
        if let Answer::Sync(result) = answered { result } else { Err(Error::NotCoordinator) }
    }

    pub(crate) async fn heartbeat(&self, group: &str, heartbeat: Heartbeat) -> Result<(), Error> {
        self.ledger.fresh(HEARTBEAT_AGE).await.map_err(|_stopped| Error::NotCoordinator)?;
        let answered = answered(self.enter(group, Request::Heartbeat(heartbeat), None)?).await?;
        if let Answer::Heartbeat(result) = answered { result } else { Err(Error::NotCoordinator) }
    }

    /// For each leaver, in order.
    pub(crate) async fn leave(&self, group: &str, leavers: Vec<Leaver>) -> Result<Vec<Result<(), Error>>, Error> {
        self.pass_barrier().await?;
        let answered = answered(self.enter(group, Request::Leave(leavers), None)?).await?;
        if let Answer::Leave(result) = answered { result } else { Err(Error::NotCoordinator) }
    }

    /// For each offset, in order. Only what the journal decides needs no fresh fold: a commit that repeats what is
    /// stored, so that nothing may have to be written, passes a barrier first; and one that the machine refuses by
    /// itself is asked again behind one.
    pub(crate) async fn commit(
        &self,
        group: &str,
        mut commit: Commit,
        hold: Reservation,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let mut hold = Some(hold);
        if !self.repeats(group, &commit) {
            let mut waiting = self.enter(group, Request::Commit(commit.clone()), hold.take())?;
            match waiting.try_recv() {
                Ok(_not_journalled) => {}
                Err(_not_yet) => return self.committed(waiting).await,
            }
        }
        self.pass_barrier().await?;
        commit.fresh_at_ms = Some(self.env.clock.wall_ms());
        let waiting = self.enter(group, Request::Commit(commit), hold)?;
        self.committed(waiting).await
    }

    /// Whether an offset of the commit equals what is stored.
    fn repeats(&self, group: &str, commit: &Commit) -> bool {
        let state = self.ledger.state();
        let Some(group) = state.group(group) else { return false };
        commit.offsets.iter().any(|offset| {
            let stored = group.offset(offset.partition);
            stored.is_some_and(|stored| stored.offset == offset.offset && *stored.metadata == *offset.metadata)
        })
    }

    async fn committed(&self, waiting: Waiting) -> Result<Vec<Result<(), Error>>, Error> {
        let answered = answered(waiting).await;
        let result = answered
            .and_then(|answer| if let Answer::Commit(result) = answer { result } else { Err(Error::NotCoordinator) });
        self.counters.committed(&result);
        result
    }

    /// Enters the deletion of a group; several can be under way.
    pub(crate) fn delete_group(&self, group: &str) -> impl Future<Output = Result<(), Error>> + use<> {
        let waiting = self.enter(group, Request::DeleteGroup, None);
        async move {
            let answered = answered(waiting?).await?;
            if let Answer::DeleteGroup(result) = answered { result } else { Err(Error::NotCoordinator) }
        }
    }

    /// For each partition, in order.
    pub(crate) async fn delete_offsets(
        &self,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.pass_barrier().await?;
        let answered = answered(self.enter(group, Request::DeleteOffsets(partitions), None)?).await?;
        if let Answer::DeleteOffsets(result) = answered { result } else { Err(Error::NotCoordinator) }
    }

    /// One group as it is now; none if there is no such group.
    pub(crate) fn describe(&self, group: &str) -> Result<Option<Description>, Error> {
        self.looked(|groups, view| groups.describe(view, group))
    }

    /// What `pick` makes of each group that this broker coordinates.
    pub(crate) fn list<T>(&self, pick: impl FnMut(Listed<'_>) -> Option<T>) -> Vec<T> {
        self.looked(|groups, view| groups.list(view).filter_map(pick).collect())
    }

    async fn pass_barrier(&self) -> Result<(), Error> {
        self.ledger.barrier().await.map_err(|_stopped| Error::NotCoordinator)
    }
}

/// The steps of the machines.
impl Coordinator {
    fn now(&self) -> Now {
        let since = self.env.clock.now() - self.origin;
        Now { ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Gives a request to the machine of its group.
    fn enter(&self, group: &str, request: Request, hold: Option<Reservation>) -> Result<Waiting, Error> {
        let mut table = self.table.lock();
        if table.stage == Stage::Stopping && !matches!(request, Request::Commit(_) | Request::Heartbeat(_)) {
            return Err(Error::NotCoordinator);
        }
        if table.waiting.len() >= MAX_GROUP_REQUESTS {
            return Err(Error::Retry);
        }
        let token = Token(table.next_token);
        table.next_token += 1;
        let (answer, waiting) = oneshot::channel();
        let parked = matches!(request, Request::Join(_) | Request::Sync(_));
        table.waiting.insert(token, Waiter { answer, parked, _hold: hold });
        let request = self.ledger.asked(token, group, request);
        self.step(&mut table, |groups, view| groups.request(view, token, group, request));
        Ok(waiting)
    }

    /// What is to be read off the machines, once they know what the fold knows.
    fn looked<T>(&self, read: impl FnOnce(&Groups, View<'_>) -> T) -> T {
        let mut table = self.table.lock();
        let mut found = None;
        self.step(&mut table, |groups, view| {
            let effects = groups.look(view);
            found = Some(read(groups, view));
            effects
        });
        found.expect("a step is taken")
    }

    /// One step, and all that follows from it.
    fn step(&self, table: &mut Table, step: impl FnOnce(&mut Groups, View<'_>) -> Vec<Effect>) {
        let effects = {
            let state = self.ledger.state();
            step(&mut table.groups, View { now: self.now(), state: &state, session: self.session })
        };
        for effect in effects {
            match effect {
                Effect::Answer(token, answer) => table.answer(token, self.ledger.answered(token, answer)),
                Effect::Propose(id, commands) => {
                    // Without a proposer the broker is ending, and nobody waits any more.
                    let _ending = table.proposals.as_ref().map(|queue| queue.send(Proposal { id, commands }));
                }
            }
        }
        let next = table.groups.next_deadline();
        if next.is_some_and(|next| table.armed.is_none_or(|armed| next < armed)) {
            table.armed = next;
            self.earlier.notify_one();
        }
    }
}

impl Table {
    fn answer(&mut self, token: Token, answer: Answer) {
        if let Some(waiter) = self.waiting.remove(&token) {
            // Whoever asked may have gone.
            let _gone = waiter.answer.send(answer);
        }
    }
}

/// A waiter that was let go reads NOT_COORDINATOR.
async fn answered(waiting: Waiting) -> Result<Answer, Error> {
    waiting.await.map_err(|_let_go| Error::NotCoordinator)
}
