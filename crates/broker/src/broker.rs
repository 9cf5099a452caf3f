//! A broker: what is joined to what, and in which order it starts and stops.
//!
//! ```text
//! storage (journal, objects) ─▶ replica ─▶ writer, reader ─▶ API ─▶ Kafka listener
//!                                                                 HTTP listener
//! ```
//!
//! Start: nothing listens to clients before the fold has passed this session's opening. Stop (SIGTERM): no new
//! connections, no new requests; what was taken in is flushed, committed and answered; then the session ends in the
//! journal. Before all that groups go to other brokers, if there are any. A kill at any moment loses nothing: the same
//! start follows.

use std::sync::Arc;

use kafscale_groups::Settings as GroupSettings;
use kafscale_journal::Journal;
use kafscale_journal::file::Limits as JournalLimits;
use kafscale_log::read::{Cache, CacheSettings, Reader, Waiters};
use kafscale_log::store::{ObjectStore, ReadReplica};
use kafscale_log::write::{Settings as WriteSettings, Writer};
use kafscale_log::{Ledger, MemoryBudget};
use kafscale_metadata::{Listener, OpenSession};
use kafscale_ports::{Connect, Disk, Env, Listen};
use kafscale_wire::{Text, Uuid};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::api::{Api, ApiSettings, Context};
use crate::config::{HostPort, KafkaListener, Objects, Settings};
use crate::connection::{ConnectionSettings, Server};
use crate::coordinator::{Coordinator, GroupLedger};
use crate::fetch_sessions::FetchSessions;
use crate::health::{Health, Serving};
use crate::http::{self, LogControl};
use crate::ledger::{End, LoadError, OffsetExpiry, Parts, Replica, SnapshotSettings};
use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::storage::{Storage, StorageError, Whose};
use crate::timed::Timed;

/// What a broker gets from the outside.
pub struct Outside {
    /// Time, randomness, tasks.
    pub env: Env,
    /// Where the data directory is.
    pub disk: Arc<dyn Disk>,
    /// The bound Kafka listeners, one for each of the settings, in that order.
    pub kafka: Vec<Arc<dyn Listen>>,
    /// The way to the other brokers, if there may be any.
    pub connect: Option<Arc<dyn Connect>>,
    /// The bound HTTP listener, if there is to be one.
    pub http: Option<Arc<dyn Listen>>,
    /// What writes the log, if it can be changed.
    pub logs: Option<Arc<dyn LogControl>>,
}

/// What may be put between a broker and what it stands on. The simulator listens there, plants bugs that its checks
/// must find, and makes sizes small so that their edges are met often; the product puts nothing there.
pub trait Between: Send + Sync {
    /// What the broker stands on, in place of what its settings name.
    fn storage(&self) -> Option<Storage> {
        None
    }
    /// Between the replica and its journal.
    fn journal(&self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        journal
    }
    /// Between everybody and the store.
    fn store(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        store
    }
    /// Between the record path and the replica.
    fn ledger(&self, ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        ledger
    }
    /// Between the coordinator of groups and the replica.
    fn group_ledger(&self, ledger: Arc<dyn GroupLedger>) -> Arc<dyn GroupLedger> {
        ledger
    }
    /// Between the fold and the fetches that wait for it.
    fn waiters(&self, waiters: Waiters) -> Waiters {
        waiters
    }
    /// The journal's sizes.
    fn journal_limits(&self) -> JournalLimits {
        JournalLimits::default()
    }
    /// When snapshots are due, and when committed offsets are forgotten.
    fn upkeep(&self, snapshots: SnapshotSettings, offsets: OffsetExpiry) -> (SnapshotSettings, OffsetExpiry) {
        (snapshots, offsets)
    }
}

/// What the product puts there.
struct Nothing;

impl Between for Nothing {}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to stand on.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A listener has no address.
    #[error("the Kafka listener {name} has no address")]
    Listener {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A running broker.
pub struct Broker {
    replica: Arc<Replica>,
    writer: Arc<Writer>,
    groups: Arc<Coordinator>,
    health: Arc<Health>,
    budgets: Budgets,
    /// Cancelled first: no new connections, no new requests.
    intake: CancellationToken,
    /// Cancelled last, so that `/readyz` says "stopping" while it is.
    http: CancellationToken,
    servers: TaskTracker,
    _storage: Storage,
}

/// The memory of requests and of answers. Two budgets, so that half-sent requests cannot keep consumers from being
/// answered.
#[derive(Clone)]
pub(crate) struct Budgets {
    requests: MemoryBudget,
    answers: MemoryBudget,
}

impl Budgets {
    fn of(total_bytes: u64) -> Self {
        Self { requests: MemoryBudget::new(total_bytes / 2), answers: MemoryBudget::new(total_bytes / 2) }
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.requests.total_bytes() + self.answers.total_bytes()
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.total_bytes() - self.requests.free_bytes() - self.answers.free_bytes()
    }

    /// Each with its name in the metrics.
    pub(crate) fn named(&self) -> [(&'static str, &MemoryBudget); 2] {
        [("requests", &self.requests), ("answers", &self.answers)]
    }
}

/// The record path, joined.
struct RecordPath {
    cache: Arc<Cache>,
    writer: Arc<Writer>,
    reader: Arc<Reader>,
}

impl Broker {
    /// Starts a broker; returns once it serves.
    pub async fn start(settings: Settings, outside: Outside) -> Result<Self, StartError> {
        Self::start_between(settings, outside, &Nothing).await
    }

    /// As [`Broker::start`], with something in between.
    pub async fn start_between(
        settings: Settings,
        outside: Outside,
        between: &dyn Between,
    ) -> Result<Self, StartError> {
        let Outside { env, disk, kafka, connect, http, logs } = outside;
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::starting());
        let (intake, http_stop, servers) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        if let Some(listener) = http {
            let routes = http::routes(health.clone(), Arc::clone(&metrics), logs);
            let serve = http::serve(routes, listener, env.clone(), http_stop.clone());
            env.tasks.spawn("http", Box::pin(serve));
        }
        let budgets = Budgets::of(settings.memory.budget_bytes);
        let storage = match between.storage() {
            Some(storage) => storage,
            None => Storage::open(&settings.places, (&env, &disk), between.journal_limits()).await?,
        };
        let whose = storage.whose;
        let store = between.store(timed(&env, &storage, &metrics));
        let listeners = listeners(&settings, &kafka)?;
        let replica = replica(&settings, &env, (listeners, between), &storage, (Arc::clone(&store), &metrics)).await?;
        let reads = read_from(&env, &storage, &store);
        let path = RecordPath::start(&settings, &env, &replica, (store, reads), (whose, &budgets, between));

        env.tasks.spawn("store guard", Box::pin(guard(storage.wounded(), Arc::clone(&replica))));
        let groups = coordinator(&settings, &env, &replica, between);
        let peers = Arc::new(Peers::default());
        if let Some(connect) = connect.filter(|_| storage.sessions.is_some()) {
            env.tasks.spawn("peers", Box::pin(Arc::clone(&peers).watch(Arc::clone(&replica), connect)));
        }
        let context = context(&settings, &env, (&replica, &path, &groups, &peers), (whose, &metrics));
        let context = Arc::new(context);
        let service = Arc::new(Api::new(Arc::clone(&context)));
        let connections =
            ConnectionSettings { answers: Some(budgets.answers.clone()), ..ConnectionSettings::default() };
        let server = Server::new(service, env.clone(), budgets.requests.clone(), metrics, connections);
        for (listener, bound) in settings.addresses.kafka.iter().zip(kafka) {
            let serve = Arc::clone(&server).serve(bound, listener.name.as_str().into(), intake.clone());
            env.tasks.spawn("kafka listener", Box::pin(servers.track_future(serve)));
        }
        servers.close();

        let RecordPath { cache, writer, .. } = path;
        let files = storage.files.clone();
        health.serving(Serving { context, cache, budgets: budgets.clone(), files });
        info!(broker = settings.broker_id, session = format_args!("{:016x}", replica.nonce()), "serving");
        Ok(Self { replica, writer, groups, health, budgets, intake, http: http_stop, servers, _storage: storage })
    }

    /// Returns when the broker has ended by itself, or was stopped: why.
    pub async fn ended(&self) -> End {
        self.replica.ended().await
    }

    /// Stops: takes nothing in any more, finishes what was taken in, ends the session.
    pub async fn stop(&self) -> End {
        self.health.stopping();
        self.replica.withdraw().await;
        self.intake.cancel();
        self.groups.stop();
        self.servers.wait().await;
        self.groups.close();
        self.writer.close().await;
        let end = self.replica.leave().await;
        self.http.cancel();
        end
    }

    /// The state, for whoever checks it.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Bytes of requests and answers under way.
    pub fn memory_used(&self) -> u64 {
        self.budgets.used_bytes()
    }
}

/// Ends the broker when its store is damaged: it would refuse produce for ever.
async fn guard(wounded: impl Future<Output = ()>, replica: Arc<Replica>) {
    tokio::select! {
        biased;
        _over = replica.ended() => {}
        () = wounded => {
            replica.fail("an fsync of a directory of objects has failed; check the disk and restart the broker");
        }
    }
}

fn timed(env: &Env, storage: &Storage, metrics: &Arc<Metrics>) -> Arc<dyn ObjectStore> {
    let inner = Arc::clone(&storage.store);
    Arc::new(Timed { inner, clock: Arc::clone(&env.clock), metrics: Arc::clone(metrics) })
}

/// Where records are read: in the replica first, if there is one.
fn read_from(env: &Env, storage: &Storage, store: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let (primary, replica) = (Arc::clone(store), storage.replica.clone());
    match replica {
        Some(replica) => Arc::new(ReadReplica::new(primary, replica, Arc::clone(&env.clock))),
        None => primary,
    }
}

/// What clients are told, for each listener.
fn listeners(settings: &Settings, bound: &[Arc<dyn Listen>]) -> Result<Vec<Listener>, StartError> {
    let listeners = &settings.addresses.kafka;
    assert_eq!(listeners.len(), bound.len(), "one bound listener for each that is set");
    let told = |(listener, bound): (&KafkaListener, &Arc<dyn Listen>)| {
        let name = listener.name.clone();
        match bound.local_addr() {
            Ok(at) => {
                let HostPort { host, port } = listener.advertised(at);
                Ok(Listener { name, host, port })
            }
            Err(source) => Err(StartError::Listener { name, source }),
        }
    };
    listeners.iter().zip(bound).map(told).collect()
}

async fn replica(
    settings: &Settings,
    env: &Env,
    (listeners, between): (Vec<Listener>, &dyn Between),
    storage: &Storage,
    (store, metrics): (Arc<dyn ObjectStore>, &Arc<Metrics>),
) -> Result<Arc<Replica>, LoadError> {
    let Whose { cluster, incarnation, token } = storage.whose;
    let broker = OpenSession { broker_id: settings.broker_id, identity: token, listeners, rack: settings.rack.clone() };
    let (snapshots, offsets) = between.upkeep(
        SnapshotSettings { every_entries: settings.snapshot_entries, ..SnapshotSettings::default() },
        OffsetExpiry { retention: settings.offsets_retention, ..OffsetExpiry::default() },
    );
    let parts = Parts {
        env: env.clone(),
        store,
        lister: storage.lister.clone(),
        cluster,
        incarnation,
        journal: between.journal(Arc::clone(&storage.journal)),
        sessions: storage.sessions.clone(),
        room: storage.room(),
        broker,
        snapshots,
        offsets,
        metrics: Arc::clone(metrics),
    };
    Replica::start(parts).await
}

impl RecordPath {
    fn start(
        settings: &Settings,
        env: &Env,
        replica: &Arc<Replica>,
        (store, reads): (Arc<dyn ObjectStore>, Arc<dyn ObjectStore>),
        (Whose { cluster, .. }, budgets, between): (Whose, &Budgets, &dyn Between),
    ) -> Self {
        let half = settings.memory.cache_bytes / 2;
        let sizes = CacheSettings { tail_bytes: half, fetched_bytes: half, concurrent_loads: 4 };
        let cache = Arc::new(Cache::new(cluster, reads, sizes));
        let ledger = between.ledger(Arc::clone(replica) as Arc<dyn Ledger>);
        let fitting = match settings.places.objects {
            Objects::Directory => WriteSettings::directory(cluster),
            Objects::S3(..) => WriteSettings::object_store(cluster),
        };
        let flushes_per_second = settings.flush_per_second.unwrap_or(fitting.flushes_per_second);
        let write = WriteSettings { flushes_per_second, ..fitting };
        let writer = Writer::start(env.clone(), store, Arc::clone(&ledger), Arc::clone(&cache), write);
        let answers = budgets.answers.clone();
        let reader = Reader::new(env, ledger, Arc::clone(&cache), between.waiters(replica.waiters()), answers);
        Self { cache, writer, reader: Arc::new(reader) }
    }
}

/// The coordinator of groups, with what the state has of them.
fn coordinator(settings: &Settings, env: &Env, replica: &Arc<Replica>, between: &dyn Between) -> Arc<Coordinator> {
    let ledger = between.group_ledger(Arc::new(Arc::clone(replica)));
    let initial_delay_ms = settings.groups.initial_rebalance_delay_ms.into();
    let defaults = GroupSettings::default();
    // An offset that is committed again and again must never look old to its expiry.
    let half = i64::try_from(settings.offsets_retention.as_millis() / 2).unwrap_or(i64::MAX);
    let commit_refresh_ms = defaults.commit_refresh_ms.min(half);
    let settings = GroupSettings { initial_delay_ms, commit_refresh_ms, ..defaults };
    Coordinator::start(replica, ledger, env.clone(), settings)
}

fn context(
    settings: &Settings,
    env: &Env,
    (replica, path, groups, peers): (&Arc<Replica>, &RecordPath, &Arc<Coordinator>, &Arc<Peers>),
    (whose, metrics): (Whose, &Arc<Metrics>),
) -> Context {
    Context {
        env: env.clone(),
        replica: Arc::clone(replica),
        writer: Arc::clone(&path.writer),
        reader: Arc::clone(&path.reader),
        fetch_sessions: FetchSessions::new(env.clone()),
        groups: Arc::clone(groups),
        peers: Arc::clone(peers),
        broker_id: settings.broker_id,
        cluster_id: Text::from(Uuid(whose.cluster).to_string()),
        settings: ApiSettings {
            auto_create_topics: settings.topics.auto_create,
            default_partitions: settings.topics.auto_create_partitions.unsigned_abs(),
            slow_request: settings.log.slow_request,
        },
        metrics: Arc::clone(metrics),
        transactional: Lines::default(),
    }
}
