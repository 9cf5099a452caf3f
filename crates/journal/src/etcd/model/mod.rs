//! A model of etcd: what its answers are, as a pure state machine, and a [`World`] in which several clients reach one
//! such store through every fault.
//!
//! [`Store`] owns revisions and what follows from them: transactions, reads at old revisions, compaction, leases (the
//! clock is an argument), the quota, and going back to a backup. It decides nothing by itself: leases expire when it
//! is told to look, nothing is lost or repeated. That it answers as etcd does is tested against real ones, operation
//! by operation. [`World`] owns the way to it.
//!
//! ```text
//! Client (Kv) ─▶ faults of the way ─▶ Store ─▶ faults of the way back ─▶ Client
//! ```
//!
//! Left out, since the journal does not use it: nested transactions, reads at old revisions inside of transactions,
//! sort orders, previous values, users, members.

mod history;
mod leases;
mod txn;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::history::History;
use self::leases::Leases;
use super::kv::{
    Event, Found, Get, Keys, Lease, LeaseId, Op, OpResult, Range, RangeReply, Refusal, Revision, Txn, TxnReply, Watch,
};
pub use world::{Call, CallFault, Client, Faults, WatchFault, World};

/// etcd's default limit for one request.
pub const MAX_REQUEST_BYTES: usize = 1536 << 10;

/// What etcd's quota adds for each put.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// One etcd: see the module's documentation.
#[derive(Debug, Clone)]
pub struct Store {
    revision: Revision,
    compacted: Revision,
    history: History,
    leases: Leases,
    /// The events of each revision that is not compacted, in order.
    log: BTreeMap<Revision, Vec<Event>>,
    size: Size,
}

/// How large the store's file is, and how large it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The file; it never shrinks but by defragmentation.
    pub physical: u64,
    /// What of it is in use.
    pub in_use: u64,
    /// At this size of the file the store takes nothing more.
    pub quota: u64,
    /// The quota was met: only removals and reads are taken until the alarm is put out.
    pub alarm: bool,
}

/// A store as it was at some moment, to go back to.
#[derive(Debug, Clone)]
pub struct Backup(Box<Store>);

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            history: History::default(),
            leases: Leases::default(),
            log: BTreeMap::new(),
            size: Size { physical: 0, in_use: 0, quota: 2 << 30, alarm: false },
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// See [`Size`].
    pub fn size(&self) -> Size {
        self.size
    }

    /// Sets the quota; puts the alarm out.
    pub fn set_quota(&mut self, quota: u64) {
        self.size.quota = quota;
        self.size.alarm = false;
    }

    /// Gives free pages back.
    pub fn defragment(&mut self) {
        self.size.physical = self.size.in_use;
    }

    /// Applies a transaction.
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnReply, Refusal> {
        txn::check(txn)?;
        self.make_room(txn::cost(txn))?;
        let succeeded = txn.when.iter().all(|compare| txn::holds(compare, &self.history));
        let branch = if succeeded { &txn.then } else { &txn.otherwise };
        if !branch.iter().all(|op| self.leases.serve(op)) {
            return Err(Refusal::NoLease);
        }
        let mut results = Vec::with_capacity(branch.len());
        let mut events = Vec::new();
        for op in branch {
            results.push(self.apply(op, &mut events));
        }
        self.finish(events);
        Ok(TxnReply { revision: self.revision, succeeded, results })
    }

    /// Reads keys.
    pub fn range(&self, range: &Range) -> Result<RangeReply, Refusal> {
        if range.revision > self.revision {
            return Err(Refusal::Future);
        }
        let at = if range.revision == 0 { self.revision } else { range.revision };
        if at < self.compacted {
            return Err(Refusal::Compacted);
        }
        Ok(RangeReply { revision: self.revision, found: self.history.get(&range.get, at) })
    }

    /// What a watch is told of the revisions from `from` on: each revision's events, at most `max` revisions.
    pub fn events(&self, watch: &Watch, from: Revision, max: usize) -> Result<Vec<(Revision, Vec<Event>)>, Refusal> {
        if from < self.compacted {
            return Err(Refusal::Compacted);
        }
        let wanted = |event: &&Event| watch.keys.contains(&event.kv.key) && (watch.deletes || !event.deleted);
        let of = |events: &Vec<Event>| events.iter().filter(wanted).cloned().collect::<Vec<_>>();
        let groups = self.log.range(from..).map(|(revision, events)| (*revision, of(events)));
        Ok(groups.filter(|(_, events)| !events.is_empty()).take(max).collect())
    }

    /// Makes a lease.
    pub fn grant(&mut self, ttl_s: u64, now: Duration) -> Result<Lease, Refusal> {
        if self.size.alarm {
            return Err(Refusal::NoSpace);
        }
        Ok(self.leases.grant(ttl_s, now))
    }

    /// Renews a lease.
    pub fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Lease, Refusal> {
        self.leases.renew(id, now)
    }

    /// Ends a lease and removes its keys, as one revision.
    pub fn revoke(&mut self, id: LeaseId) -> Result<(), Refusal> {
        let keys = self.leases.remove(id)?;
        let mut events = Vec::new();
        for key in keys {
            self.delete(&Keys::One(key), &mut events);
        }
        self.finish(events);
        Ok(())
    }

    /// Ends the leases whose time is over.
    pub fn expire(&mut self, now: Duration) {
        for id in self.leases.expired(now) {
            // It is there: it was found a moment ago.
            let _known = self.revoke(id);
        }
    }

    /// The leases that are alive.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.leases.ids()
    }

    /// Forgets what was replaced before `revision`.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::Future);
        }
        self.compacted = revision;
        self.history.compact(revision);
        self.log = self.log.split_off(&revision);
        if let Some(events) = self.log.get_mut(&revision) {
            events.retain(|event| !event.deleted);
        }
        self.size.in_use = self.history.bytes();
        Ok(())
    }

    /// What [`Store::restore`] goes back to.
    pub fn backup(&self) -> Backup {
        Backup(Box::new(self.clone()))
    }

    /// Goes back. Leases that the backup knows live on for their whole time from now.
    pub fn restore(&mut self, backup: &Backup, now: Duration) {
        let granted = self.leases.last();
        *self = (*backup.0).clone();
        self.leases.renew_all(now);
        // Ids are never given twice: in etcd they hold the time.
        self.leases.skip_to(granted);
    }

    fn make_room(&mut self, cost: Option<u64>) -> Result<(), Refusal> {
        let Some(cost) = cost else { return Ok(()) };
        if !self.size.alarm && self.size.physical + cost < self.size.quota {
            return Ok(());
        }
        self.size.alarm = true;
        Err(Refusal::NoSpace)
    }

    fn apply(&mut self, op: &Op, events: &mut Vec<Event>) -> OpResult {
        match op {
            Op::Put { key, value, lease } => {
                let revision = self.revision + 1;
                let before = self.history.newest(key).map_or(0, |kv| kv.lease);
                let kv = self.history.put(key, value, *lease, revision);
                self.leases.attach(key, before, *lease);
                events.push(Event { kv, deleted: false });
                OpResult::Put
            }
            Op::Delete(keys) => OpResult::Deleted(self.delete(keys, events)),
            Op::Get(get) => OpResult::Got(self.read_own(get)),
        }
    }

    /// A read inside of a transaction sees what the transaction did before it.
    fn read_own(&self, get: &Get) -> Found {
        self.history.get(get, self.revision + 1)
    }

    fn delete(&mut self, keys: &Keys, events: &mut Vec<Event>) -> u64 {
        let gone: Vec<Bytes> = self.history.keys_now(keys);
        for key in &gone {
            let lease = self.history.newest(key).map_or(0, |kv| kv.lease);
            self.leases.attach(key, lease, 0);
            events.push(Event { kv: self.history.delete(key, self.revision + 1), deleted: true });
        }
        gone.len() as u64
    }

    fn finish(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision += 1;
        self.log.insert(self.revision, events);
        self.size.in_use = self.history.bytes();
        self.size.physical = self.size.physical.max(self.size.in_use);
    }
}
