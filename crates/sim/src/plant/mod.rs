//! Planted bugs: each breaks one rule of the product from the outside, so that the checks can show that they see it.
//! A fsync that is left out is a rule of the disk; the others stand between the broker and its store, its journal or
//! its replica.

mod groups;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_broker::Between;
use kafscale_broker::coordinator::GroupLedger;
use kafscale_broker::ledger::{OffsetExpiry, SnapshotSettings};
use kafscale_journal::file::Limits;
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};
use kafscale_log::read::Waiters;
use kafscale_log::store::{GetError, ObjectName, ObjectStore, PutError};
use kafscale_log::{CommitError, Ledger, Stopped};
use kafscale_metadata::{CommitBundle, ObjectId, ObjectKind, State, Verdict};
use kafscale_ports::Spawn;
use parking_lot::{Mutex, RwLockReadGuard};
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};

use self::groups::{Listening, Lying};
use crate::chronicle::Chronicle;
use crate::disk::{Op, Rule};

/// How late a planted bug does what it said it had done.
const LATE: Duration = Duration::from_millis(30);

/// How often a broker looks for offsets that have expired.
const EXPIRY_EVERY: Duration = Duration::from_secs(4);

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Fsyncs of this kind, on paths that contain this, are left out.
    NoFsync(Op, &'static str),
    /// The store says "stored" and begins to store: the entry goes before the object.
    EntryBeforeObject,
    /// The journal says "written", and shows the entry, before it is on the disk.
    AcknowledgeBeforeFsync,
    /// The writer answers from a guess, not from the fold's verdicts.
    AcknowledgeBeforeFold,
    /// The fold is not told of the producers' numbering: duplicates are served as data.
    ServeDeadBatches,
    /// Fetches do not hear from the fold: a session never tells again of what was read up once.
    ForgetChanges,
    /// JoinGroup and SyncGroup are answered when the journal was asked to write the generation, and it is not written.
    GenerationBeforeJournal,
    /// A commit is acknowledged when the journal was asked to write it.
    CommitBeforeFold,
    /// A member's commit is taken in whatever generation the group is.
    OldGenerationCommits,
    /// After a restart SyncGroup does not know what was assigned before.
    AssignmentLost,
    /// A member that is silent stays for ever.
    MemberKept,
    /// After a restart nobody knows the members that were there before.
    MembersForgotten,
    /// Whoever asks is told that it is a member.
    DeadAnswered,
    /// A commit that equals what is stored is not written, although another is on its way.
    EqualSkipped,
    /// Offsets expire long before their time.
    ExpiredTooEarly,
}

impl Bug {
    /// Whether it is one of the coordinator of groups.
    fn is_of_groups(self) -> bool {
        match self {
            Self::NoFsync(..)
            | Self::EntryBeforeObject
            | Self::AcknowledgeBeforeFsync
            | Self::AcknowledgeBeforeFold
            | Self::ServeDeadBatches
            | Self::ForgetChanges
            | Self::ExpiredTooEarly => false,
            Self::GenerationBeforeJournal
            | Self::CommitBeforeFold
            | Self::OldGenerationCommits
            | Self::AssignmentLost
            | Self::MemberKept
            | Self::MembersForgotten
            | Self::DeadAnswered
            | Self::EqualSkipped => true,
        }
    }

    /// What the disk has to do for it.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Self::NoFsync(op, path) => Some(Rule::without(op, path)),
            Self::EntryBeforeObject
            | Self::AcknowledgeBeforeFsync
            | Self::AcknowledgeBeforeFold
            | Self::ServeDeadBatches
            | Self::ForgetChanges
            | Self::GenerationBeforeJournal
            | Self::CommitBeforeFold
            | Self::OldGenerationCommits
            | Self::AssignmentLost
            | Self::MemberKept
            | Self::MembersForgotten
            | Self::DeadAnswered
            | Self::EqualSkipped
            | Self::ExpiredTooEarly => None,
        }
    }
}

/// What stands between a broker and its stores: the listening chronicle, and a bug if there is one.
pub struct Planted {
    /// Listens to the journal.
    pub chronicle: Arc<Chronicle>,
    /// The bug.
    pub bug: Option<Bug>,
    /// Where the bug's own tasks run: they die with the broker.
    pub tasks: Arc<dyn Spawn>,
    /// When snapshots are due.
    pub snapshots: SnapshotSettings,
    /// When the journal begins another file.
    pub journal_file_bytes: u64,
    /// How long an offset is kept that nobody commits anew.
    pub offsets_retention: Duration,
}

impl Between for Planted {
    fn upkeep(&self, _: SnapshotSettings, _: OffsetExpiry) -> (SnapshotSettings, OffsetExpiry) {
        let early = if self.bug == Some(Bug::ExpiredTooEarly) { 4 } else { 1 };
        (self.snapshots, OffsetExpiry { retention: self.offsets_retention / early, every: EXPIRY_EVERY })
    }

    fn journal_limits(&self) -> Limits {
        Limits { file_bytes: self.journal_file_bytes, ..Limits::default() }
    }

    fn journal(&self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        if self.bug == Some(Bug::AcknowledgeBeforeFsync) {
            return self.chronicle.tap(acknowledge_early(journal, Arc::clone(&self.tasks)));
        }
        self.chronicle.tap(journal)
    }

    fn group_ledger(&self, ledger: Arc<dyn GroupLedger>) -> Arc<dyn GroupLedger> {
        let ledger = match self.bug {
            Some(bug) if bug.is_of_groups() => Arc::new(Lying::new(ledger, bug, Arc::clone(&self.tasks))),
            Some(_) | None => ledger,
        };
        Arc::new(Listening::new(ledger, Arc::clone(&self.chronicle)))
    }

    fn store(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        if self.bug == Some(Bug::EntryBeforeObject) {
            return Arc::new(LateStore { store, tasks: Arc::clone(&self.tasks) });
        }
        store
    }

    fn waiters(&self, waiters: Waiters) -> Waiters {
        if self.bug == Some(Bug::ForgetChanges) { Waiters::new() } else { waiters }
    }

    fn ledger(&self, ledger: Arc<dyn Ledger>) -> Arc<dyn Ledger> {
        match self.bug {
            Some(Bug::AcknowledgeBeforeFold) => Arc::new(Guessing { ledger, tasks: Arc::clone(&self.tasks) }),
            Some(Bug::ServeDeadBatches) => Arc::new(Forgetful { ledger }),
            _ => ledger,
        }
    }
}

struct LateStore {
    store: Arc<dyn ObjectStore>,
    tasks: Arc<dyn Spawn>,
}

#[async_trait]
impl ObjectStore for LateStore {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        if !name.to_string().contains("/bundle/") {
            return self.store.put(name, body).await;
        }
        let (store, name) = (Arc::clone(&self.store), *name);
        let late = async move {
            sleep(LATE).await;
            let _nobody_asks = store.put(&name, body).await;
        };
        self.tasks.spawn("late store", Box::pin(late));
        Ok(())
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        self.store.get(name, range).await
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        self.store.get_all(name).await
    }

    async fn delete(&self, name: &ObjectName) -> std::io::Result<()> {
        self.store.delete(name).await
    }

    async fn free_bytes(&self) -> std::io::Result<u64> {
        self.store.free_bytes().await
    }
}

/// `journal`, with the bug [`Bug::AcknowledgeBeforeFsync`].
pub fn acknowledge_early(journal: Arc<dyn Journal>, tasks: Arc<dyn Spawn>) -> Arc<dyn Journal> {
    Arc::new(Early { journal, shared: Arc::default(), tasks })
}

/// A journal that shows entries before they are written.
struct Early {
    journal: Arc<dyn Journal>,
    shared: Arc<Shown>,
    tasks: Arc<dyn Spawn>,
}

#[derive(Default)]
struct Shown {
    /// The entries of this life, from its opening on.
    records: Mutex<Vec<Record>>,
    /// Held while one is written.
    order: tokio::sync::Mutex<()>,
    added: Notify,
}

impl Early {
    fn show(&self, nonce: u64, n: u64, entry: Bytes) -> Position {
        let mut records = self.shared.records.lock();
        let last = records.last().map_or(0, |record| record.position.ordinal);
        let position = Position { ordinal: last + 1, revision: last + 1 };
        records.push(Record { position, nonce, n, entry });
        self.shared.added.notify_waiters();
        position
    }
}

#[async_trait]
impl Journal for Early {
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        let position = self.journal.open(identity, nonce, entry.clone()).await?;
        self.shared.records.lock().push(Record { position, nonce, n: 0, entry });
        self.shared.added.notify_waiters();
        Ok(position)
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        let position = self.show(nonce, n, entry.clone());
        let (journal, shared) = (Arc::clone(&self.journal), Arc::clone(&self.shared));
        let late = async move {
            let _one_by_one = shared.order.lock().await;
            sleep(LATE).await;
            let _nobody_asks = journal.append(nonce, n, entry).await;
        };
        self.tasks.spawn("early journal", Box::pin(late));
        Ok(position)
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        let _written = self.shared.order.lock().await;
        let position = self.journal.leave(nonce, n, entry.clone()).await?;
        self.show(nonce, n, entry);
        Ok(position)
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        loop {
            let added = self.shared.added.notified();
            let (first, shown) = {
                let records = self.shared.records.lock();
                let first = records.first().map_or(u64::MAX, |record| record.position.ordinal);
                (first, records.iter().filter(|record| record.position.ordinal > after).cloned().collect::<Vec<_>>())
            };
            if after + 1 >= first && !shown.is_empty() {
                return Ok(shown);
            }
            if after + 1 < first {
                return self.journal.read(after).await;
            }
            added.await;
        }
    }

    async fn end(&self) -> Result<Position, ReadError> {
        let shown = self.shared.records.lock().last().map(|record| record.position);
        match shown {
            Some(position) => Ok(position),
            None => self.journal.end().await,
        }
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        self.journal.pointer().await
    }

    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        let _written = self.shared.order.lock().await;
        let position = self.journal.publish(nonce, n, entry.clone(), pointer).await?;
        self.show(nonce, n, entry);
        Ok(position)
    }

    async fn truncate(&self) -> Result<(), ReadError> {
        self.journal.truncate().await
    }
}

/// A replica whose commits are answered from a guess.
struct Guessing {
    ledger: Arc<dyn Ledger>,
    tasks: Arc<dyn Spawn>,
}

#[async_trait]
impl Ledger for Guessing {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.ledger.state()
    }

    async fn next_object(&self, kind: ObjectKind) -> Result<ObjectId, Stopped> {
        self.ledger.next_object(kind).await
    }

    fn settle(&self, object: ObjectId) {
        self.ledger.settle(object);
    }

    async fn commit(&self, bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError> {
        let guess = {
            let state = self.ledger.state();
            let guess_run = |run: &kafscale_metadata::Run| {
                let mut next = state.partition(run.partition).map_or(0, kafscale_metadata::Partition::high_watermark);
                let guess_batch = |batch: &kafscale_metadata::BatchMeta| {
                    let first_offset = next;
                    next += i64::from(batch.records);
                    Verdict::Accepted { first_offset, log_start: 0 }
                };
                run.batches.iter().map(guess_batch).collect()
            };
            bundle.runs.iter().map(guess_run).collect()
        };
        let ledger = Arc::clone(&self.ledger);
        let commit = async move {
            let _nobody_asks = ledger.commit(bundle).await;
        };
        self.tasks.spawn("guessed commit", Box::pin(commit));
        Ok(guess)
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.ledger.barrier().await
    }
}

/// A replica that does not tell the fold who produced.
struct Forgetful {
    ledger: Arc<dyn Ledger>,
}

#[async_trait]
impl Ledger for Forgetful {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.ledger.state()
    }

    async fn next_object(&self, kind: ObjectKind) -> Result<ObjectId, Stopped> {
        self.ledger.next_object(kind).await
    }

    fn settle(&self, object: ObjectId) {
        self.ledger.settle(object);
    }

    async fn commit(&self, mut bundle: CommitBundle) -> Result<Vec<Vec<Verdict>>, CommitError> {
        for batch in bundle.runs.iter_mut().flat_map(|run| &mut run.batches) {
            batch.producer = None;
        }
        self.ledger.commit(bundle).await
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.ledger.barrier().await
    }
}
