//! One model of etcd and its clients, with every fault of the way between them. Owns when a call reaches the store,
//! what its caller learns, and what a watch tells; what the store answers is the store's.
//!
//! No fault comes unasked: each client has its own [`Faults`], which decide over every call and every part of a watch.
//! Nothing here draws a random number or waits by itself.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafscale_ports::Clock;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::super::kv::{
    Failure, Kv, Lease, LeaseId, Range, RangeReply, Refusal, Revision, Txn, TxnReply, Watch, WatchReply, WatchStream,
};
use super::{Backup, Store};

/// A request on its way.
#[derive(Debug, Clone)]
pub enum Call {
    /// [`Kv::txn`].
    Txn(Txn),
    /// [`Kv::range`].
    Range(Range),
    /// [`Kv::watch`].
    Watch(Watch),
    /// [`Kv::lease_grant`].
    Grant(u64),
    /// [`Kv::lease_keep_alive`].
    KeepAlive(LeaseId),
    /// [`Kv::lease_revoke`].
    Revoke(LeaseId),
    /// [`Kv::compact`].
    Compact(Revision),
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFault {
    /// Nothing bad.
    None,
    /// It is not done, and the caller is told so.
    Refuse(Refusal),
    /// It is not done, and the caller does not know.
    LoseRequest,
    /// It is done, and the caller does not know.
    LoseReply,
    /// The caller does not know, and it is delivered by [`World::deliver_late`].
    Delay,
    /// It is done and answered, and arrives once more at [`World::deliver_late`].
    Duplicate,
    /// It is done, and answered after so long.
    LateReply(Duration),
    /// It is not done, and the caller waits for ever.
    Hang,
    /// It is done, and the caller waits for ever.
    HangAfter,
}

/// What happens to one part of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFault {
    /// Nothing bad.
    None,
    /// It is lost; the watch goes on behind it.
    Lose,
    /// One of its events is lost.
    LoseEvent(usize),
    /// It comes twice.
    Repeat,
    /// It comes, and then the watch tells the last so many revisions again.
    Rewind(u64),
    /// It comes in two fragments, the first with so many events.
    Split(usize),
    /// The watch ends instead.
    Close,
    /// The watch says nothing more, and does not end.
    Stall,
}

/// Who decides over the faults of one client.
pub trait Faults: Send {
    /// Over a call.
    fn call(&mut self, _call: &Call) -> CallFault {
        CallFault::None
    }

    /// Over a part of a watch.
    fn reply(&mut self, _reply: &WatchReply) -> WatchFault {
        WatchFault::None
    }
}

/// No faults.
impl Faults for () {}

type SharedFaults = Arc<Mutex<Box<dyn Faults>>>;

/// See the module's documentation.
pub struct World {
    inside: Mutex<Inside>,
    changed: watch::Sender<()>,
    clock: Arc<dyn Clock>,
    began: Instant,
}

struct Inside {
    store: Store,
    late: VecDeque<Call>,
    /// Grows when all watches end.
    life: u64,
    /// A watch tells at most so many revisions at once.
    batch: usize,
}

/// What the store answers to a call.
enum Answer {
    Txn(TxnReply),
    Range(RangeReply),
    Lease(Lease),
    Done,
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer (a fault of the model)")
}

fn closed() -> Failure {
    Failure::Unknown(io::Error::new(io::ErrorKind::ConnectionReset, "the watch was closed (a fault of the model)"))
}

impl World {
    /// A new, empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let inside = Inside { store: Store::new(), late: VecDeque::new(), life: 0, batch: 1000 };
        let began = clock.now();
        Arc::new(Self { inside: Mutex::new(inside), changed: watch::Sender::new(()), clock, began })
    }

    /// A client of it.
    pub fn client(self: &Arc<Self>, faults: impl Faults + 'static) -> Client {
        Client { world: Arc::clone(self), faults: Arc::new(Mutex::new(Box::new(faults))) }
    }

    /// Looks at the store, or changes it behind everybody's back.
    pub fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        self.change(|inside| act(&mut inside.store))
    }

    /// A watch tells at most so many revisions at once; 1000 as it is made.
    pub fn set_batch(&self, revisions: usize) {
        self.change(|inside| inside.batch = revisions.max(1));
    }

    /// Delivers what was delayed or doubled, in order. Returns how many of these calls changed the store.
    pub fn deliver_late(&self) -> usize {
        let mut changed = 0;
        while self.change(|inside| !inside.late.is_empty()) {
            changed += usize::from(self.deliver_one_late(0));
        }
        changed
    }

    /// Delivers one of the calls that were delayed or doubled. Whether it changed the store.
    pub fn deliver_one_late(&self, index: usize) -> bool {
        let now = self.now();
        self.change(|inside| {
            let before = inside.store.revision();
            if let Some(call) = inside.late.remove(index) {
                // Nobody waits for what it says.
                let _unheard = inside.apply(&call, now);
            }
            inside.store.revision() != before
        })
    }

    /// How many calls were delayed or doubled.
    pub fn late(&self) -> usize {
        self.inside.lock().late.len()
    }

    /// All watches end, as when the members restart.
    pub fn close_watches(&self) {
        self.change(|inside| inside.life += 1);
    }

    /// What [`World::restore`] goes back to.
    pub fn backup(&self) -> Backup {
        self.inside.lock().store.backup()
    }

    /// The store goes back in time, as when its members were restored from a backup: all watches end.
    pub fn restore(&self, backup: &Backup) {
        let now = self.now();
        self.change(|inside| {
            inside.store.restore(backup, now);
            inside.life += 1;
        });
    }

    /// Ends a lease, as when its time was over.
    pub fn expire(&self, id: LeaseId) {
        self.change(|inside| {
            // It may be gone already.
            let _known = inside.store.revoke(id);
        });
    }

    fn now(&self) -> Duration {
        self.clock.now() - self.began
    }

    fn change<T>(&self, act: impl FnOnce(&mut Inside) -> T) -> T {
        let result = act(&mut self.inside.lock());
        self.changed.send_replace(());
        result
    }

    fn apply(&self, call: &Call) -> Result<Answer, Failure> {
        let now = self.now();
        self.change(|inside| inside.apply(call, now)).map_err(Failure::Refused)
    }
}

impl Inside {
    fn apply(&mut self, call: &Call, now: Duration) -> Result<Answer, Refusal> {
        let store = &mut self.store;
        store.expire(now);
        match call {
            Call::Txn(txn) => store.txn(txn).map(Answer::Txn),
            Call::Range(range) => store.range(range).map(Answer::Range),
            Call::Watch(_) => Ok(Answer::Done),
            Call::Grant(ttl_s) => store.grant(*ttl_s, now).map(Answer::Lease),
            Call::KeepAlive(id) => store.keep_alive(*id, now).map(Answer::Lease),
            Call::Revoke(id) => store.revoke(*id).map(|()| Answer::Done),
            Call::Compact(revision) => store.compact(*revision).map(|()| Answer::Done),
        }
    }
}

/// One client's way to the store.
#[derive(Clone)]
pub struct Client {
    world: Arc<World>,
    faults: SharedFaults,
}

impl Client {
    /// From now on these decide, over open watches too.
    pub fn set_faults(&self, faults: impl Faults + 'static) {
        *self.faults.lock() = Box::new(faults);
    }

    async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let fault = self.faults.lock().call(&call);
        match fault {
            CallFault::None => return self.world.apply(&call),
            CallFault::Refuse(refusal) => return Err(Failure::Refused(refusal)),
            CallFault::LoseRequest => {}
            CallFault::LoseReply => drop(self.world.apply(&call)),
            CallFault::Delay => self.world.change(|inside| inside.late.push_back(call)),
            CallFault::Duplicate => {
                self.world.change(|inside| inside.late.push_back(call.clone()));
                return self.world.apply(&call);
            }
            CallFault::LateReply(after) => {
                let answer = self.world.apply(&call);
                sleep(after).await;
                return answer;
            }
            CallFault::Hang => pending::<()>().await,
            CallFault::HangAfter => {
                drop(self.world.apply(&call));
                pending::<()>().await;
            }
        }
        Err(Failure::Unknown(lost()))
    }

    async fn lease(&self, call: Call) -> Result<Lease, Failure> {
        match self.call(call).await? {
            Answer::Lease(lease) => Ok(lease),
            Answer::Txn(_) | Answer::Range(_) | Answer::Done => unreachable!("a lease was asked for"),
        }
    }
}

#[async_trait]
impl Kv for Client {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure> {
        match self.call(Call::Txn(txn)).await? {
            Answer::Txn(reply) => Ok(reply),
            Answer::Range(_) | Answer::Lease(_) | Answer::Done => unreachable!("a transaction was asked for"),
        }
    }

    async fn range(&self, range: Range) -> Result<RangeReply, Failure> {
        match self.call(Call::Range(range)).await? {
            Answer::Range(reply) => Ok(reply),
            Answer::Txn(_) | Answer::Lease(_) | Answer::Done => unreachable!("a range was asked for"),
        }
    }

    async fn watch(&self, watch: Watch) -> Result<Box<dyn WatchStream>, Failure> {
        assert!(watch.from > 0, "a watch begins at a revision");
        self.call(Call::Watch(watch.clone())).await?;
        Ok(Box::new(Watching {
            changed: self.world.changed.subscribe(),
            life: self.world.inside.lock().life,
            world: Arc::clone(&self.world),
            faults: Arc::clone(&self.faults),
            next: watch.from,
            watch,
            queue: VecDeque::new(),
            stalled: false,
        }))
    }

    async fn lease_grant(&self, ttl_s: u64) -> Result<Lease, Failure> {
        self.lease(Call::Grant(ttl_s)).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Failure> {
        self.lease(Call::KeepAlive(id)).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Failure> {
        self.call(Call::Revoke(id)).await.map(drop)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        self.call(Call::Compact(revision)).await.map(drop)
    }
}

/// One open watch.
struct Watching {
    world: Arc<World>,
    faults: SharedFaults,
    watch: Watch,
    /// The first revision that was not told.
    next: Revision,
    life: u64,
    /// What is on its way to the client.
    queue: VecDeque<WatchReply>,
    stalled: bool,
    changed: watch::Receiver<()>,
}

impl Watching {
    /// The next part, if there is one.
    fn look(&mut self) -> Result<Option<WatchReply>, Failure> {
        if let Some(reply) = self.queue.pop_front() {
            return Ok(Some(reply));
        }
        let inside = self.world.inside.lock();
        if inside.life != self.life {
            return Err(closed());
        }
        let groups = inside.store.events(&self.watch, self.next, inside.batch).map_err(Failure::Refused)?;
        let revision = inside.store.revision();
        drop(inside);
        let Some((last, _)) = groups.last() else { return Ok(None) };
        self.next = last + 1;
        let events = groups.into_iter().flat_map(|(_, events)| events).collect();
        self.disturb(WatchReply { revision, events, fragment: false })?;
        Ok(self.queue.pop_front())
    }

    fn disturb(&mut self, mut reply: WatchReply) -> Result<(), Failure> {
        let fault = self.faults.lock().reply(&reply);
        match fault {
            WatchFault::None => {}
            WatchFault::Lose => return Ok(()),
            WatchFault::LoseEvent(index) => drop(reply.events.remove(index % reply.events.len())),
            WatchFault::Repeat => self.queue.push_back(reply.clone()),
            WatchFault::Rewind(revisions) => self.next = self.next.saturating_sub(revisions).max(1),
            WatchFault::Split(at) => {
                let rest = reply.events.split_off(at.min(reply.events.len()));
                let first = std::mem::replace(&mut reply.events, rest);
                self.queue.push_back(WatchReply { revision: reply.revision, events: first, fragment: true });
            }
            WatchFault::Close => return Err(closed()),
            WatchFault::Stall => {
                self.stalled = true;
                return Ok(());
            }
        }
        self.queue.push_back(reply);
        Ok(())
    }
}

#[async_trait]
impl WatchStream for Watching {
    async fn next(&mut self) -> Result<WatchReply, Failure> {
        loop {
            if self.stalled {
                pending::<()>().await;
            }
            self.changed.mark_unchanged();
            let before = self.next;
            if let Some(reply) = self.look()? {
                return Ok(reply);
            }
            // A lost part moved the watch on: there may be more behind it.
            if self.next == before && !self.stalled {
                self.changed.changed().await.map_err(|_gone| closed())?;
            }
        }
    }
}
