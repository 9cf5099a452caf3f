//! A broker's data path without a broker: a ledger over the real fold, a store with faults, and beside them a model
//! of the log as a list of batches, to compare answers with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kafscale_log::read::{
    Cache, CacheSettings, FetchAnswer, FetchLimits, FetchPartition, FetchRequest, PartitionData, Reader, Waiters,
};
use kafscale_log::segment::{SealedBatch, Section, assemble};
use kafscale_log::store::{MemoryStore, ObjectName, ObjectStore};
use kafscale_log::{CommitError, Ledger, MemoryBudget, Stopped};
use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, ObjectId, ObjectKind, OpenSession, Outcome, ProducerBatch,
    Reservation, State, TopicId, TopicPartition, Verdict, apply,
};
use kafscale_ports::Env;
use kafscale_wire::records::{BatchView, TimestampType};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

pub(crate) const CLUSTER: u128 = 77;
pub(crate) const NONCE: u64 = 5;
pub(crate) const TOPIC: TopicId = TopicId(1);

pub(crate) fn partition(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// The state, and entries that are in the journal and not yet folded: a barrier folds them.
pub(crate) struct FakeLedger {
    state: RwLock<State>,
    next_n: AtomicU64,
    behind: Mutex<VecDeque<Command>>,
    waiters: Waiters,
    pub(crate) barriers: AtomicU64,
}

impl FakeLedger {
    fn new(waiters: Waiters) -> Self {
        let ledger = Self {
            state: RwLock::new(State::new()),
            next_n: AtomicU64::new(0),
            behind: Mutex::default(),
            waiters,
            barriers: AtomicU64::new(0),
        };
        let open = OpenSession { broker_id: 1, identity: 1, listeners: Vec::new(), rack: None };
        ledger.fold(Command::OpenSession(open));
        ledger
    }

    /// Applies one entry and wakes who waits for it, as the fold's driver does.
    pub(crate) fn fold(&self, command: Command) -> Outcome {
        let n = self.next_n.fetch_add(1, Ordering::SeqCst);
        let reserved = vec![Reservation { kind: ObjectKind::Bundle, end: 1_000_000 }];
        let entry = Entry {
            feature_level: FEATURE_LEVEL,
            nonce: NONCE,
            n,
            time_ms: 1,
            reserved: if n == 0 { reserved } else { Vec::new() },
            low: 0,
            commands: vec![command],
        };
        let mut applied = {
            let mut state = self.state.write();
            let ordinal = state.ordinal() + 1;
            apply(&mut state, ordinal, &entry).unwrap()
        };
        self.waiters.wake(&applied.advanced);
        applied.deleted.iter().for_each(|topic| self.waiters.wake_topic(*topic));
        applied.outcomes.remove(0)
    }

    /// The entry is in the journal, and this broker has not folded it.
    pub(crate) fn fold_later(&self, command: Command) {
        self.behind.lock().push_back(command);
    }
}

#[async_trait]
impl Ledger for FakeLedger {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    async fn next_object(&self, _kind: ObjectKind) -> Result<ObjectId, Stopped> {
        unreachable!("the read path writes nothing")
    }

    fn settle(&self, _object: ObjectId) {}

    async fn commit(&self, _bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError> {
        unreachable!("the read path writes nothing")
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        loop {
            let Some(command) = self.behind.lock().pop_front() else { return Ok(()) };
            self.fold(command);
        }
    }
}

/// How large the world's memory is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) tail: u64,
    pub(crate) fetched: u64,
    pub(crate) answers: u64,
}

pub(crate) const PLENTY: Memory = Memory { tail: 64 << 20, fetched: 64 << 20, answers: 64 << 20 };

/// A batch as the model knows it.
#[derive(Debug, Clone)]
pub(crate) struct ModelBatch {
    pub(crate) first_offset: i64,
    pub(crate) records: i64,
    /// As it must be served.
    pub(crate) served: Bytes,
}

pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) waiters: Waiters,
    pub(crate) answers: MemoryBudget,
    pub(crate) reader: Arc<Reader>,
    pub(crate) model: BTreeMap<TopicPartition, Vec<ModelBatch>>,
    next_object: u32,
}

/// A batch to be written: as a client made it, and the broker's time for it where the topic wants that.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) partition: TopicPartition,
    pub(crate) batch: Bytes,
    pub(crate) append_time: Option<i64>,
}

impl World {
    /// A world with one topic of eight partitions.
    pub(crate) fn new(memory: Memory) -> Self {
        let store = Arc::new(MemoryStore::new());
        let waiters = Waiters::new();
        let ledger = Arc::new(FakeLedger::new(waiters.clone()));
        let settings = CacheSettings { tail_bytes: memory.tail, fetched_bytes: memory.fetched, concurrent_loads: 4 };
        let cache = Arc::new(Cache::new(CLUSTER, Arc::clone(&store) as Arc<dyn ObjectStore>, settings));
        let answers = MemoryBudget::new(memory.answers);
        let as_ledger = Arc::clone(&ledger) as Arc<dyn Ledger>;
        let reader = Reader::new(&Env::real(), as_ledger, Arc::clone(&cache), waiters.clone(), answers.clone());
        let world = Self {
            store,
            ledger,
            cache,
            waiters,
            answers,
            reader: Arc::new(reader),
            model: BTreeMap::new(),
            next_object: 0,
        };
        world.ledger.fold(create_topic());
        world
    }

    /// Stores a bundle, and says how to commit it.
    pub(crate) async fn upload(&mut self, sent: &[Sent], keep_in_tail: bool) -> (ObjectName, CommitBundle) {
        let object = ObjectId { nonce: NONCE, number: self.next_object };
        self.next_object += 1;
        let mut sections: BTreeMap<TopicPartition, Vec<SealedBatch>> = BTreeMap::new();
        for sent in sent {
            sections.entry(sent.partition).or_default().push(seal(sent));
        }
        let sections = sections.into_iter().map(|(partition, batches)| Section { partition, batches }).collect();
        let assembled = assemble(CLUSTER, object, sections);
        let name = ObjectName::bundle(CLUSTER, object);
        self.store.put(&name, assembled.slices.clone()).await.unwrap();
        if keep_in_tail {
            self.cache.insert(object, assembled.slices);
        }
        (name, CommitBundle { number: object.number, runs: assembled.runs })
    }

    /// Writes a bundle: stores it, commits it, and adds what was accepted to the model.
    pub(crate) async fn write(&mut self, sent: &[Sent], keep_in_tail: bool) -> ObjectName {
        let (name, commit) = self.upload(sent, keep_in_tail).await;
        let Outcome::Bundle(verdicts) = self.ledger.fold(Command::CommitBundle(commit.clone())) else { panic!() };
        for (run, verdicts) in commit.runs.iter().zip(verdicts) {
            let of_partition = sent.iter().filter(|sent| sent.partition == run.partition);
            for (sent, verdict) in of_partition.zip(verdicts) {
                if let Verdict::Accepted { first_offset, .. } = verdict {
                    let served = served(sent, first_offset);
                    let records = i64::from(BatchView::first(served.clone()).unwrap().0.count());
                    let batch = ModelBatch { first_offset, records, served };
                    self.model.entry(run.partition).or_default().push(batch);
                }
            }
        }
        name
    }

    pub(crate) fn end(&self, partition: TopicPartition) -> i64 {
        self.model.get(&partition).and_then(|log| log.last()).map_or(0, |b| b.first_offset + b.records)
    }

    pub(crate) async fn fetch(&self, request: FetchRequest) -> FetchAnswer {
        self.reader.fetch(request).await
    }

    /// One partition, at once, without limits.
    pub(crate) async fn read_from(&self, partition: TopicPartition, offset: i64) -> PartitionData {
        let mut answer = self.fetch(one(partition, offset, 1 << 40)).await;
        answer.partitions.remove(0)
    }
}

/// A fetch of one partition that does not wait.
pub(crate) fn one(partition: TopicPartition, offset: i64, max_bytes: u64) -> FetchRequest {
    let partitions = vec![FetchPartition { partition, offset, max_bytes }];
    FetchRequest { partitions, limits: FetchLimits { max_bytes, min_bytes: 1, max_wait: Duration::ZERO } }
}

pub(crate) fn create_topic() -> Command {
    Command::CreateTopic(CreateTopic {
        topic: TOPIC,
        name: "topic".to_owned(),
        partitions: 8,
        configs: BTreeMap::new(),
    })
}

fn seal(sent: &Sent) -> SealedBatch {
    let (batch, rest) = BatchView::first(sent.batch.clone()).unwrap();
    assert!(rest.is_empty());
    let producer = (batch.producer_id() >= 0).then(|| ProducerBatch {
        id: batch.producer_id(),
        epoch: batch.producer_epoch(),
        first_sequence: batch.base_sequence(),
    });
    let meta = BatchMeta {
        bytes: batch.bytes().len() as u32,
        records: batch.count() as u32,
        max_timestamp: sent.append_time.unwrap_or(batch.max_timestamp()),
        producer,
        transactional: false,
    };
    match sent.append_time {
        None => SealedBatch::whole(sent.batch.clone(), meta),
        Some(time) => {
            let [header, records] = batch.with_append_time(time, &mut BytesMut::new());
            SealedBatch::with_header(header, records, meta)
        }
    }
}

fn served(sent: &Sent, first_offset: i64) -> Bytes {
    let mut bytes = seal(sent).slices().map(|s| s.to_vec()).collect::<Vec<_>>().concat();
    bytes[..8].copy_from_slice(&first_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    let (view, _) = BatchView::first(bytes.clone().into()).unwrap();
    view.check_crc().unwrap();
    assert_eq!(view.timestamp_type() == TimestampType::LogAppend, sent.append_time.is_some());
    bytes.into()
}

/// Runs a test on a paused clock.
pub(crate) fn on_paused_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}
