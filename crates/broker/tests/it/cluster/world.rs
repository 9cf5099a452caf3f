//! Several brokers over one journal and one store in memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_broker::Between;
use kafscale_journal::memory::MemoryJournal;
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};
use kafscale_log::Ledger;
use kafscale_log::store::{MemoryStore, ObjectStore};
use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{Command, Entry, Listener, Nonce, OpenSession, Standing};
use kafscale_wire::find_coordinator::FindCoordinatorRequest;
use kafscale_wire::{ErrorCode, Text};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::groups::world::{GROUP, Life};

/// What all brokers stand on.
pub(crate) struct Cluster {
    pub(crate) journal: Arc<MemoryJournal>,
    store: Arc<MemoryStore>,
    directories: Vec<TempDir>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { journal: MemoryJournal::new(), store: Arc::new(MemoryStore::new()), directories: Vec::new() }
    }

    pub(crate) async fn start(&mut self, id: i32) -> Life {
        self.start_late(id).await.0
    }

    /// A broker whose reading of the journal can be held up.
    pub(crate) async fn start_late(&mut self, id: i32) -> (Life, Gate) {
        let directory = tempfile::tempdir().unwrap();
        let between = Shared {
            journal: Arc::clone(&self.journal),
            store: Arc::clone(&self.store),
            open: watch::Sender::new(true),
        };
        let life = Life::start_as(id, directory.path(), &between).await;
        self.directories.push(directory);
        (life, Gate(between.open))
    }

    /// The broker dies, and its session is ended, as its lease would.
    pub(crate) async fn kill(&self, life: Life) {
        let nonce = life.broker.replica().nonce();
        let n = life.broker.replica().state().session(nonce).unwrap().next_n();
        life.kill().await;
        let entry = entry(nonce, n, vec![Command::EndSession { nonce }]);
        self.journal.end_session(nonce, entry).unwrap();
    }

    /// A broker of another machine, of which there is only what the journal says of it.
    pub(crate) async fn open_elsewhere(&self, id: i32, listener: &str, rack: &str) {
        let nonce = 0xe15e_0000 + u64::from(id.unsigned_abs());
        let listeners = vec![Listener { name: listener.to_owned(), host: "elsewhere.example".to_owned(), port: 9092 }];
        let open = OpenSession { broker_id: id, identity: 3, listeners, rack: Some(rack.to_owned()) };
        let opening = entry(nonce, 0, vec![Command::OpenSession(open)]);
        self.journal.open(Identity { broker_id: id, token: 3 }, nonce, opening).await.unwrap();
    }
}

fn entry(nonce: Nonce, n: u64, commands: Vec<Command>) -> Bytes {
    let (feature_level, reserved) = (FEATURE_LEVEL, Vec::new());
    Entry { feature_level, nonce, n, time_ms: 0, reserved, low: 0, commands }.encode().into()
}

/// Puts a shared journal and a shared store under a broker.
struct Shared {
    journal: Arc<MemoryJournal>,
    store: Arc<MemoryStore>,
    open: watch::Sender<bool>,
}

/// What holds up a broker's reading.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn close(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

impl Between for Shared {
    fn journal(&self, _: Arc<dyn Journal>) -> Arc<dyn Journal> {
        Arc::new(Gated { inner: Arc::clone(&self.journal), open: self.open.subscribe() })
    }

    fn store(&self, _: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::<MemoryStore>::clone(&self.store)
    }
}

struct Gated {
    inner: Arc<MemoryJournal>,
    open: watch::Receiver<bool>,
}

#[async_trait]
impl Journal for Gated {
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        self.inner.open(identity, nonce, entry).await
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.inner.append(nonce, n, entry).await
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.inner.leave(nonce, n, entry).await
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        let records = self.inner.read(after).await?;
        let mut open = self.open.clone();
        // Whoever held the gate is gone: it stays as it is.
        let _gone = open.wait_for(|open| *open).await;
        Ok(records)
    }

    async fn end(&self) -> Result<Position, ReadError> {
        self.inner.end().await
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        self.inner.pointer().await
    }

    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        self.inner.publish(nonce, n, entry, pointer).await
    }

    async fn truncate(&self) -> Result<(), ReadError> {
        self.inner.truncate().await
    }
}

/// Who coordinates the group, as this broker tells a client; behind a barrier, so that it has seen all.
pub(crate) async fn coordinator(life: &Life) -> Result<i32, ErrorCode> {
    let request = FindCoordinatorRequest { key: Text::from(GROUP), ..Default::default() };
    let answer = life.client().call(2, request).await;
    if answer.error_code == 0 { Ok(answer.node_id) } else { Err(answer.error_code.into()) }
}

/// What this broker's fold has of itself.
pub(crate) fn standing(life: &Life) -> Standing {
    let replica = life.broker.replica();
    replica.state().session(replica.nonce()).unwrap().standing()
}
