//! What the tests of the write path stand on: a ledger over the real fold and a store, both with planned faults, and
//! a builder of record batches. Each batch has a timestamp of its own, by which the tests find it in the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use kafscale_log::read::{Cache, CacheSettings};
use kafscale_log::store::{GetError, MemoryStore, ObjectName, ObjectStore, PutError};
use kafscale_log::write::{Receipt, Settings, TimestampRule, TopicRules, ValidBatch, Writer, validate};
use kafscale_log::{CommitError, Ledger, Stopped};
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, ObjectId, ObjectKind, OpenSession, Outcome, ProducerBatch,
    Reservation, State, TopicId, TopicPartition, Verdict, apply,
};
use kafscale_ports::Env;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

const CLUSTER: u128 = 9;
const NONCE: u64 = 77;
const PARTITIONS: u32 = 8;
const TOPIC: TopicId = TopicId(5);

pub(crate) fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// What goes wrong with a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CommitFault {
    None,
    Refused,
    UnknownLanded,
    UnknownLost,
}

/// A batch in the log, as the fold judged it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) meta: BatchMeta,
    pub(crate) verdict: Verdict,
}

/// A ledger over the real fold. An entry is applied when `commit` is first polled, its verdicts come later.
pub(crate) struct FoldLedger {
    state: RwLock<State>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    n: u64,
    next: u32,
    unsettled: BTreeSet<u32>,
    commits: Vec<CommitBundle>,
    judged: Vec<Judged>,
    latency: Duration,
    faults: VecDeque<CommitFault>,
    stopped: bool,
}

impl FoldLedger {
    pub(crate) fn new() -> Arc<Self> {
        let ledger = Self { state: RwLock::new(State::new()), inner: Mutex::default() };
        let open = OpenSession { broker_id: 1, identity: 1, listeners: Vec::new(), rack: None };
        ledger.append(vec![Command::OpenSession(open)]);
        let topic = CreateTopic { topic: TOPIC, name: "t".into(), partitions: PARTITIONS, configs: BTreeMap::new() };
        let outcomes = ledger.append(vec![Command::CreateTopic(topic), Command::AllocateProducerIds { count: 100 }]);
        assert_eq!(outcomes, [Outcome::Done, Outcome::ProducerIds { first: first_producer(&outcomes) }]);
        Arc::new(ledger)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.inner.lock().latency = latency;
    }

    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.inner.lock().faults.extend(faults);
    }

    pub(crate) fn stop(&self) {
        self.inner.lock().stopped = true;
    }

    pub(crate) fn commits(&self) -> Vec<CommitBundle> {
        self.inner.lock().commits.clone()
    }

    /// Everything that was committed, in order, with its verdicts.
    pub(crate) fn judged(&self) -> Vec<Judged> {
        self.inner.lock().judged.clone()
    }

    pub(crate) fn unsettled(&self) -> BTreeSet<u32> {
        self.inner.lock().unsettled.clone()
    }

    fn append(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let mut inner = self.inner.lock();
        let entry = Entry {
            feature_level: 1,
            nonce: NONCE,
            n: inner.n,
            time_ms: 0,
            reserved: if inner.n == 0 {
                vec![Reservation { kind: ObjectKind::Bundle, end: 1 << 20 }]
            } else {
                Vec::new()
            },
            low: inner.unsettled.first().copied().unwrap_or(inner.next),
            commands,
        };
        inner.n += 1;
        let mut state = self.state.write();
        let ordinal = state.ordinal() + 1;
        apply(&mut state, ordinal, &entry).expect("the next entry").outcomes
    }

    fn fold(&self, bundle: CommitBundle) -> Vec<Vec<Verdict>> {
        let outcomes = self.append(vec![Command::CommitBundle(bundle.clone())]);
        let [Outcome::Bundle(verdicts)] = &outcomes[..] else { panic!("the fold refused a bundle: {outcomes:?}") };
        let mut inner = self.inner.lock();
        for (run, verdicts) in bundle.runs.iter().zip(verdicts) {
            for (meta, verdict) in run.batches.iter().zip(verdicts) {
                inner.judged.push(Judged { meta: *meta, verdict: *verdict });
            }
        }
        inner.commits.push(bundle);
        verdicts.clone()
    }
}

fn first_producer(outcomes: &[Outcome]) -> i64 {
    match outcomes.last() {
        Some(Outcome::ProducerIds { first }) => *first,
        other => panic!("no producer ids: {other:?}"),
    }
}

#[async_trait]
impl Ledger for FoldLedger {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    async fn next_object(&self, kind: ObjectKind) -> Result<ObjectId, Stopped> {
        assert_eq!(kind, ObjectKind::Bundle);
        let mut inner = self.inner.lock();
        if inner.stopped {
            return Err(Stopped);
        }
        let number = inner.next;
        inner.next += 1;
        inner.unsettled.insert(number);
        Ok(ObjectId { nonce: NONCE, number })
    }

    fn settle(&self, object: ObjectId) {
        assert!(self.inner.lock().unsettled.remove(&object.number), "{object:?} was settled twice");
    }

    async fn commit(&self, bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError> {
        assert!(!bundle.runs.is_empty(), "a commit of nothing");
        let (latency, fault) = {
            let mut inner = self.inner.lock();
            (inner.latency, inner.faults.pop_front().unwrap_or(CommitFault::None))
        };
        let result = match fault {
            CommitFault::None => Ok(self.fold(bundle)),
            CommitFault::Refused => Err(CommitError::Refused),
            CommitFault::UnknownLost => Err(CommitError::Unknown),
            CommitFault::UnknownLanded => {
                self.fold(bundle);
                Err(CommitError::Unknown)
            }
        };
        tokio::time::sleep(latency).await;
        result
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// What goes wrong with a PUT.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PutFault {
    None,
    Refused,
    Full,
    UnknownLanded,
    UnknownLost,
    Hangs,
}

/// A store with planned faults, latencies and room.
pub(crate) struct FaultyStore {
    pub(crate) objects: MemoryStore,
    plan: Mutex<VecDeque<(Duration, PutFault)>>,
    pub(crate) free: AtomicU64,
    pub(crate) asked: AtomicU64,
    /// Numbers whose PUT has no definite outcome.
    pub(crate) unknown: Mutex<BTreeSet<u32>>,
}

impl FaultyStore {
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = (u64, PutFault)>) {
        self.plan.lock().extend(faults.into_iter().map(|(ms, fault)| (Duration::from_millis(ms), fault)));
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let (latency, fault) = self.plan.lock().pop_front().unwrap_or((Duration::ZERO, PutFault::None));
        tokio::time::sleep(latency).await;
        if matches!(fault, PutFault::UnknownLanded | PutFault::UnknownLost | PutFault::Hangs) {
            self.unknown.lock().insert(name.object().number);
        }
        match fault {
            PutFault::None => self.objects.put(name, body).await,
            PutFault::Refused => Err(PutError::Refused(io::ErrorKind::Other.into())),
            PutFault::Full => Err(PutError::Refused(io::ErrorKind::StorageFull.into())),
            PutFault::UnknownLost => Err(PutError::Unknown(io::ErrorKind::TimedOut.into())),
            PutFault::UnknownLanded => {
                self.objects.put(name, body).await?;
                Err(PutError::Unknown(io::ErrorKind::TimedOut.into()))
            }
            PutFault::Hangs => std::future::pending().await,
        }
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        self.objects.get(name, range).await
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        self.objects.get_all(name).await
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        self.objects.delete(name).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.free.load(Ordering::Relaxed))
    }
}

/// A writer on a faulty store and the real fold.
pub(crate) struct World {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) ledger: Arc<FoldLedger>,
    pub(crate) writer: Arc<Writer>,
}

impl World {
    /// Call it in a paused runtime.
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with_env(Env::real(), settings)
    }

    pub(crate) fn with_env(env: Env, settings: Settings) -> Self {
        let store = Arc::new(FaultyStore {
            objects: MemoryStore::new(),
            plan: Mutex::default(),
            free: AtomicU64::new(u64::MAX),
            asked: AtomicU64::new(0),
            unknown: Mutex::default(),
        });
        let ledger = FoldLedger::new();
        let writer = Writer::start(env, store.clone(), ledger.clone(), cache(store.clone()), settings);
        Self { store, ledger, writer }
    }

    /// Submits batches, whole frame and all.
    pub(crate) fn submit(&self, connection: u64, batches: Vec<(TopicPartition, ValidBatch)>) -> Vec<Receipt> {
        let bytes = batches.iter().map(|(_, batch)| batch.bytes()).sum();
        self.writer.submit(connection, bytes, batches, ())
    }

    pub(crate) fn submit_one(&self, connection: u64, to: u32, batch: &Batch) -> Receipt {
        self.submit(connection, vec![(partition(to), batch.valid())]).remove(0)
    }
}

fn cache(store: Arc<dyn ObjectStore>) -> Arc<Cache> {
    let settings = CacheSettings { tail_bytes: 64 << 20, fetched_bytes: 64 << 20, concurrent_loads: 1 };
    Arc::new(Cache::new(CLUSTER, store, settings))
}

pub(crate) fn settings() -> Settings {
    Settings { flushes_per_second: 1000, flush_burst: 1000, ..Settings::directory(CLUSTER) }
}

/// A record batch to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// Its timestamp, by which it is found again.
    pub(crate) tag: i64,
    pub(crate) records: i32,
    pub(crate) producer: Option<ProducerBatch>,
    pub(crate) attributes: i16,
    pub(crate) payload: usize,
}

impl Batch {
    pub(crate) fn new(tag: i64) -> Self {
        Self { tag, records: 1, producer: None, attributes: 0, payload: 20 }
    }

    pub(crate) fn of(mut self, id: i64, first_sequence: i32) -> Self {
        self.producer = Some(ProducerBatch { id, epoch: 0, first_sequence });
        self
    }

    pub(crate) fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(i32::try_from(49 + self.payload).unwrap());
        out.put_i32(-1);
        out.put_i8(2);
        out.put_u32(0);
        out.put_i16(self.attributes);
        out.put_i32(self.records - 1);
        out.put_i64(self.tag);
        out.put_i64(self.tag);
        out.put_i64(self.producer.map_or(-1, |p| p.id));
        out.put_i16(self.producer.map_or(-1, |p| p.epoch));
        out.put_i32(self.producer.map_or(-1, |p| p.first_sequence));
        out.put_i32(self.records);
        out.put_bytes(0x5a, self.payload);
        seal_crc(&mut out);
        out
    }

    pub(crate) fn valid(&self) -> ValidBatch {
        validate(self.encode().freeze(), 9, &any_time(), 0).unwrap()
    }
}

/// Makes a batch's CRC right after a change.
pub(crate) fn seal_crc(batch: &mut [u8]) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]);
    batch[17..21].copy_from_slice(&u32::try_from(crc).unwrap().to_be_bytes());
}

pub(crate) fn any_time() -> TopicRules {
    let timestamps = TimestampRule::CreateTime { before_max_ms: i64::MAX, after_max_ms: i64::MAX };
    TopicRules { max_message_bytes: 1_048_588, timestamps }
}
