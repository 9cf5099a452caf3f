//! Brokers over one model of etcd, and faults by script.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::etcd::kv::{Op, Watch, WatchReply};
use kafscale_journal::etcd::model::{Call, CallFault, Client, Faults, WatchFault, World};
use kafscale_journal::etcd::{EtcdJournal, Settings};
use kafscale_journal::{Identity, Journal, Pointer, Position, ReadError, Record};
use kafscale_ports::Env;
use tokio::time::timeout;

/// Longer than anything takes to notice: calls end after 3 s, looks come every second, patience lasts one.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn world() -> Arc<World> {
    World::new(Env::real().clock)
}

pub(crate) fn settings() -> Settings {
    Settings { page_entries: 3, ..Settings::new("lab") }
}

pub(crate) fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n}"))
}

pub(crate) fn identity(broker_id: i32) -> Identity {
    Identity { broker_id, token: 100 + u128::from(broker_id.unsigned_abs()) }
}

/// A process: a client of its own, and the journal over it.
pub(crate) struct Broker {
    pub(crate) client: Client,
    pub(crate) journal: Arc<EtcdJournal>,
}

impl Broker {
    pub(crate) async fn start(world: &Arc<World>) -> Self {
        Self::start_with(world, settings()).await.unwrap()
    }

    pub(crate) async fn start_with(world: &Arc<World>, settings: Settings) -> Result<Self, ReadError> {
        let client = world.client(());
        let journal = EtcdJournal::start(Arc::new(client.clone()), Env::real(), settings, 42).await?;
        Ok(Self { client, journal: Arc::new(journal) })
    }

    /// One with an open session, and entries up to number `last` in it.
    pub(crate) async fn opened(world: &Arc<World>, broker_id: i32, nonce: u64, last: u64) -> Self {
        let broker = Self::start(world).await;
        broker.journal.open(identity(broker_id), nonce, entry(0)).await.unwrap();
        for n in 1..=last {
            broker.append(nonce, n).await;
        }
        broker
    }

    pub(crate) async fn append(&self, nonce: u64, n: u64) -> Position {
        self.journal.append(nonce, n, entry(n)).await.unwrap()
    }

    /// Every entry after `after`, up to the journal's end.
    pub(crate) async fn all(&self, after: u64) -> Vec<Record> {
        let end = self.journal.end().await.unwrap().ordinal;
        self.read(after, end).await
    }

    /// The entries after `after` up to `until`.
    pub(crate) async fn read(&self, after: u64, until: u64) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        while after + (records.len() as u64) < until {
            let more = timeout(LONG, self.journal.read(after + records.len() as u64));
            for record in more.await.expect("entries arrive").unwrap() {
                assert_eq!(record.position.ordinal, after + records.len() as u64 + 1);
                records.push(record);
            }
        }
        records
    }

    /// Publishes and truncates.
    pub(crate) async fn truncate(&self, nonce: u64, n: u64, ordinal: u64, truncatable: u64) {
        let pointer = Pointer { ordinal, truncatable, value: Bytes::from_static(b"snapshots") };
        self.journal.publish(nonce, n, entry(n), pointer).await.unwrap();
        self.journal.truncate().await.unwrap();
    }
}

/// `(nonce, n)` of each.
pub(crate) fn names(records: &[Record]) -> Vec<(u64, u64)> {
    records.iter().map(|record| (record.nonce, record.n)).collect()
}

/// Faults that are decided by closures.
pub(crate) struct Hook<C, W> {
    pub(crate) call: C,
    pub(crate) reply: W,
}

impl<C: FnMut(&Call) -> CallFault + Send, W: FnMut(&WatchReply) -> WatchFault + Send> Faults for Hook<C, W> {
    fn call(&mut self, call: &Call) -> CallFault {
        (self.call)(call)
    }

    fn reply(&mut self, reply: &WatchReply) -> WatchFault {
        (self.reply)(reply)
    }
}

/// Whether a call puts an entry.
pub(crate) fn is_append(call: &Call) -> bool {
    let puts = |op: &Op| matches!(op, Op::Put { .. });
    matches!(call, Call::Txn(txn) if txn.then.iter().any(puts))
}

/// The next appends and openings fare like this, one each; nothing else has a fault.
pub(crate) fn on_appends(faults: impl IntoIterator<Item = CallFault>) -> impl Faults {
    let mut faults: VecDeque<CallFault> = faults.into_iter().collect();
    let call = move |call: &Call| {
        let fault = is_append(call).then(|| faults.pop_front()).flatten();
        fault.unwrap_or(CallFault::None)
    };
    Hook { call, reply: |_: &WatchReply| WatchFault::None }
}

/// The next parts of a watch fare like this.
pub(crate) fn on_watch(faults: impl IntoIterator<Item = WatchFault>) -> impl Faults {
    let mut faults: VecDeque<WatchFault> = faults.into_iter().collect();
    Hook {
        call: |_: &Call| CallFault::None,
        reply: move |_: &WatchReply| faults.pop_front().unwrap_or(WatchFault::None),
    }
}

/// Cut off from etcd: no call is answered, and open watches say nothing more.
pub(crate) fn cut_off() -> impl Faults {
    Hook { call: |_: &Call| CallFault::Hang, reply: |_: &WatchReply| WatchFault::Stall }
}

/// A watch of everything.
pub(crate) fn everything() -> Watch {
    Watch { keys: kafscale_journal::etcd::kv::Keys::prefix(Bytes::from_static(b"lab")), from: 1, deletes: true }
}
