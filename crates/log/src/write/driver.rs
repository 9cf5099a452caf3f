//! Runs the write path: one task that asks the pure parts what to do (Plan), starts it (Do), and tells them how it
//! went (Answer). Owns the running calls to store and ledger; decides nothing. Time comes from the clock port, so a
//! paused runtime or the simulator drives it; a task that is dropped tells every waiter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kafscale_metadata::{CommitBundle, ObjectId, ObjectKind, TopicPartition, Verdict};
use kafscale_ports::Env;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::admit::{Admission, compact, turn_away};
use super::buffer::{BundleLimits, Pending};
use super::flush::{Cause, Decision, FlushBudget};
use super::metrics::Metrics;
use super::pipeline::{BundleId, Effect, Pipeline, UploadError};
use super::space::Room;
use super::ticket::{Dropped, Hold, Receipt};
use super::validate::ValidBatch;
use crate::ledger::{CommitError, Ledger, Stopped};
use crate::limits::{FREE_RESERVE_BYTES, MAX_BUNDLE_BATCHES, MAX_BUNDLE_BYTES, MAX_WAITING_BYTES, UPLOAD_WINDOW};
use crate::read::Cache;
use crate::store::{ObjectName, ObjectStore, PutError};

/// How long the store may take to say how much room it has.
const SPACE_CHECK_LIMIT: Duration = Duration::from_secs(1);

/// What the write path is told once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The cluster's id: part of every object's name and header.
    pub cluster: u128,
    /// The flush budget: bundles a second that are sealed before they are full.
    pub flushes_per_second: u32,
    /// How many of them an idle broker has saved.
    pub flush_burst: u32,
    /// A bundle is full with this many bytes of records.
    pub bundle_bytes: usize,
    /// Or with this many batches.
    pub bundle_batches: usize,
    /// Uploads that may run at a time.
    pub upload_window: usize,
    /// Bytes of records that may wait, from the buffer to the verdict. Beyond it a request is refused, so it should
    /// be no less than the memory budget of Produce, which makes sockets wait instead.
    pub max_waiting_bytes: usize,
    /// Produce is refused while the store has less room than this, in bytes.
    pub free_reserve: u64,
}

/// The write path of a broker.
pub struct Writer {
    shared: Arc<Shared>,
    clock: Arc<dyn kafscale_ports::Clock>,
    /// Its other end is dropped with the driver.
    ended: watch::Receiver<()>,
}

struct Shared {
    admission: Mutex<Admission>,
    wake: Notify,
    metrics: Arc<Metrics>,
}

/// What ended.
enum Event {
    Numbered(BundleId, Result<ObjectId, Stopped>),
    Uploaded(BundleId, Result<(), UploadError>),
    Committed(BundleId, Result<Vec<Vec<Verdict>>, CommitError>),
    Free(io::Result<u64>),
    /// Something was submitted, or a time has come.
    Woken,
}

struct Driver {
    env: Env,
    store: Arc<dyn ObjectStore>,
    ledger: Arc<dyn Ledger>,
    cache: Arc<Cache>,
    settings: Settings,
    shared: Arc<Shared>,
    budget: FlushBudget,
    pipeline: Pipeline,
    space_check: SpaceCheck,
    running: FuturesUnordered<BoxFuture<'static, Event>>,
    _ended: watch::Sender<()>,
}

/// Whether the store was asked for its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpaceCheck {
    Idle,
    Running,
}

/// What to do with the buffer.
enum Plan {
    Seal(Cause, Vec<Pending>),
    Wait(Option<Instant>),
}

impl Settings {
    /// For a store on a local directory.
    pub fn directory(cluster: u128) -> Self {
        Self {
            cluster,
            flushes_per_second: 100,
            flush_burst: 4,
            bundle_bytes: MAX_BUNDLE_BYTES as usize,
            bundle_batches: MAX_BUNDLE_BATCHES,
            upload_window: UPLOAD_WINDOW,
            max_waiting_bytes: MAX_WAITING_BYTES,
            free_reserve: FREE_RESERVE_BYTES,
        }
    }

    /// For a store where each PUT costs money.
    pub fn object_store(cluster: u128) -> Self {
        Self { flushes_per_second: 5, flush_burst: 2, free_reserve: 0, ..Self::directory(cluster) }
    }

    fn limits(&self) -> BundleLimits {
        BundleLimits { bytes: self.bundle_bytes, batches: self.bundle_batches }
    }
}

impl Writer {
    /// Starts the write path.
    ///
    /// # Panics
    /// If a setting that must be positive is zero.
    pub fn start(
        env: Env,
        store: Arc<dyn ObjectStore>,
        ledger: Arc<dyn Ledger>,
        cache: Arc<Cache>,
        settings: Settings,
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::default());
        let shared = Arc::new(Shared {
            admission: Mutex::new(Admission::new(settings.max_waiting_bytes, settings.free_reserve)),
            wake: Notify::new(),
            metrics: Arc::clone(&metrics),
        });
        let (ended_sender, ended) = watch::channel(());
        let driver = Driver {
            store,
            ledger,
            cache,
            settings,
            shared: Arc::clone(&shared),
            budget: FlushBudget::new(settings.flushes_per_second, settings.flush_burst, env.clock.now()),
            pipeline: Pipeline::new(settings.cluster, settings.upload_window, metrics),
            space_check: SpaceCheck::Idle,
            running: FuturesUnordered::new(),
            _ended: ended_sender,
            env: env.clone(),
        };
        env.tasks.spawn("log-write", driver.run().boxed());
        Arc::new(Self { shared, clock: env.clock, ended })
    }

    /// Takes the valid batches of one Produce request, in the order of calls, and returns a receipt for each. Never
    /// waits: the memory budget has held back the socket before. All batches of a connection keep their order.
    ///
    /// `frame_bytes` is the length of the buffer that the batches are slices of. `hold`, the request's share of the
    /// memory budget, is dropped when the last of the batches has its outcome.
    pub fn submit(
        &self,
        connection: u64,
        frame_bytes: usize,
        batches: Vec<(TopicPartition, ValidBatch)>,
        hold: impl Send + 'static,
    ) -> Vec<Receipt> {
        if batches.is_empty() {
            return Vec::new();
        }
        let batches = compact(frame_bytes, batches);
        let receipts = self.shared.admission.lock().enter(self.clock.now(), connection, batches, Hold::new(hold));
        self.shared.wake.notify_one();
        receipts
    }

    /// Lets nothing more in, writes what waits without regard to the flush budget, and returns when every waiter has
    /// been told (or the driver has died).
    pub async fn close(&self) {
        self.shared.close();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        self.admission.lock().close();
        self.wake.notify_one();
    }
}

impl Driver {
    async fn run(mut self) {
        loop {
            let wake_at = self.act();
            if self.is_finished() {
                return;
            }
            let event = self.next_event(wake_at).await;
            self.answer(event);
        }
    }

    /// Does all that can be done now; returns when there will be more.
    fn act(&mut self) -> Option<Instant> {
        let now = self.env.clock.now();
        self.pipeline.advance(now);
        self.start_effects();
        let mut buffer_wakes = None;
        while self.pipeline.has_room() {
            match self.plan(now) {
                Plan::Wait(until) => {
                    buffer_wakes = until;
                    break;
                }
                Plan::Seal(cause, batches) => {
                    let bytes = batches.iter().map(Pending::bytes).sum();
                    self.shared.metrics.sealed(cause, batches.len(), bytes);
                    self.pipeline.seal(now, batches);
                    self.start_effects();
                }
            }
        }
        self.shared.admission.lock().sealed_bytes = self.pipeline.bytes();
        [buffer_wakes, self.pipeline.wake_at(now)].into_iter().flatten().min()
    }

    fn plan(&mut self, now: Instant) -> Plan {
        let mut admission = self.shared.admission.lock();
        let waiting = admission.waiting(self.settings.limits());
        match admission.space.room(now) {
            _ if admission.buffer.is_empty() => return Plan::Wait(None),
            Room::Enough => {}
            Room::TooLittle => {
                let dropped = admission.turn_away(Dropped::StoreFull);
                self.shared.metrics.dropped.add(dropped);
                return Plan::Wait(None);
            }
            Room::Stale => {
                drop(admission);
                self.check_space();
                return Plan::Wait(None);
            }
        }
        match self.budget.decide(now, waiting) {
            Decision::Sleep => Plan::Wait(None),
            Decision::WakeAt(then) => Plan::Wait(Some(then)),
            Decision::Seal(cause) => {
                let batches = admission.buffer.seal(self.settings.limits());
                let bytes: usize = batches.iter().map(Pending::bytes).sum();
                admission.space.spend(bytes as u64);
                admission.sealed_bytes += bytes;
                Plan::Seal(cause, batches)
            }
        }
    }

    fn start_effects(&mut self) {
        while let Some(effect) = self.pipeline.poll() {
            match effect {
                Effect::Number(bundle) => {
                    let ledger = Arc::clone(&self.ledger);
                    let number = async move { Event::Numbered(bundle, ledger.next_object(ObjectKind::Bundle).await) };
                    self.running.push(number.boxed());
                }
                Effect::Upload { bundle, object, slices, deadline } => {
                    self.start_upload(bundle, object, slices, deadline);
                }
                Effect::Commit { bundle, command } => self.start_commit(bundle, command),
                Effect::Settle(object) => self.ledger.settle(object),
                Effect::TakeAlong(numberings) => {
                    let taken = self.shared.admission.lock().buffer.take(&numberings);
                    self.shared.metrics.dropped.add(turn_away(taken, Dropped::Predecessor));
                }
            }
        }
    }

    fn start_upload(&mut self, bundle: BundleId, object: ObjectId, slices: Vec<Bytes>, deadline: Instant) {
        let name = ObjectName::bundle(self.settings.cluster, object);
        let (store, cache) = (Arc::clone(&self.store), Arc::clone(&self.cache));
        let upload = async move {
            let result = match timeout_at(deadline, store.put(&name, slices.clone())).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    tracing::warn!(object = %name, %error, cause = %error.cause(), "upload failed");
                    Err(upload_error(&error))
                }
                Err(_) => {
                    tracing::warn!(object = %name, "upload abandoned: it took too long");
                    Err(UploadError::Unknown)
                }
            };
            if result.is_ok() {
                // Before the commit: a consumer that the fold wakes finds the bundle hot.
                cache.insert(object, slices);
            }
            Event::Uploaded(bundle, result)
        };
        self.running.push(upload.boxed());
    }

    fn start_commit(&mut self, bundle: BundleId, command: CommitBundle) {
        let ledger = Arc::clone(&self.ledger);
        let mut commit = async move { Event::Committed(bundle, ledger.commit(command).await) }.boxed();
        // The ledger takes commits in the order of their first poll: poll now, rather than trust the order in which
        // a set of futures polls its members.
        match (&mut commit).now_or_never() {
            Some(event) => self.running.push(futures::future::ready(event).boxed()),
            None => self.running.push(commit),
        }
    }

    /// Asks the store for its room, unless it was asked already.
    fn check_space(&mut self) {
        if self.space_check == SpaceCheck::Idle {
            self.space_check = SpaceCheck::Running;
            let store = Arc::clone(&self.store);
            // Nothing is sealed meanwhile, so it must end.
            let deadline = self.env.clock.now() + SPACE_CHECK_LIMIT;
            let check = async move {
                let answer = timeout_at(deadline, store.free_bytes()).await;
                Event::Free(answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
            };
            self.running.push(check.boxed());
        }
    }

    async fn next_event(&mut self, wake_at: Option<Instant>) -> Event {
        let alarm = async {
            match wake_at {
                Some(then) => sleep_until(then).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(event) = self.running.next(), if !self.running.is_empty() => event,
            () = self.shared.wake.notified() => Event::Woken,
            () = alarm => Event::Woken,
        }
    }

    fn answer(&mut self, event: Event) {
        let now = self.env.clock.now();
        match event {
            Event::Numbered(bundle, Ok(object)) => self.pipeline.numbered(now, bundle, object),
            Event::Numbered(_, Err(Stopped)) => {
                let dropped = self.shared.admission.lock().shut();
                self.shared.metrics.dropped.add(dropped);
                self.pipeline.stop();
            }
            Event::Uploaded(bundle, result) => {
                if result == Err(UploadError::Full) {
                    self.shared.admission.lock().space.learn(now, 0);
                }
                self.pipeline.uploaded(now, bundle, result);
            }
            Event::Committed(bundle, result) => self.pipeline.committed(now, bundle, result),
            Event::Free(free) => {
                self.space_check = SpaceCheck::Idle;
                // A store that cannot say is asked again in a second; if it is full, the PUT will say so.
                let free = free.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the store does not say how much room it has");
                    u64::MAX
                });
                self.shared.admission.lock().space.learn(now, free);
            }
            Event::Woken => {}
        }
    }

    fn is_finished(&self) -> bool {
        let admission = self.shared.admission.lock();
        !admission.is_open() && admission.buffer.is_empty() && self.pipeline.is_empty()
    }
}

impl Drop for Driver {
    /// Also when the task is dropped or panics: what was in the buffer is told that it was not written; tickets in
    /// the pipeline say "unknown" by being dropped.
    fn drop(&mut self) {
        self.shared.admission.lock().shut();
    }
}

fn upload_error(error: &PutError) -> UploadError {
    match error {
        PutError::Refused(cause) if is_full(cause) => UploadError::Full,
        PutError::Refused(_) => UploadError::Refused,
        PutError::Unknown(_) => UploadError::Unknown,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
