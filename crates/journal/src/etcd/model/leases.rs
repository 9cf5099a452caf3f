//! Leases of the model. Owns which keys live on which lease and until when; the clock is an argument, and a lease whose
//! time is over lives on until somebody looks, as in etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::super::kv::{Lease, LeaseId, Op, Refusal};

#[derive(Debug, Clone)]
struct Granted {
    ttl_s: u64,
    until: Duration,
    keys: BTreeSet<Bytes>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    last: LeaseId,
    alive: BTreeMap<LeaseId, Granted>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl_s: u64, now: Duration) -> Lease {
        self.last += 1;
        let until = now + Duration::from_secs(ttl_s);
        self.alive.insert(self.last, Granted { ttl_s, until, keys: BTreeSet::new() });
        Lease { id: self.last, ttl_s }
    }

    pub(super) fn renew(&mut self, id: LeaseId, now: Duration) -> Result<Lease, Refusal> {
        let lease = self.alive.get_mut(&id).ok_or(Refusal::NoLease)?;
        lease.until = now + Duration::from_secs(lease.ttl_s);
        Ok(Lease { id, ttl_s: lease.ttl_s })
    }

    pub(super) fn renew_all(&mut self, now: Duration) {
        for lease in self.alive.values_mut() {
            lease.until = now + Duration::from_secs(lease.ttl_s);
        }
    }

    /// The last id that was given.
    pub(super) fn last(&self) -> LeaseId {
        self.last
    }

    pub(super) fn skip_to(&mut self, last: LeaseId) {
        self.last = self.last.max(last);
    }

    /// Returns the keys that go with it, in order.
    pub(super) fn remove(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, Refusal> {
        Ok(self.alive.remove(&id).ok_or(Refusal::NoLease)?.keys)
    }

    pub(super) fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.alive.iter().filter(|(_, lease)| lease.until <= now).map(|(id, _)| *id).collect()
    }

    pub(super) fn ids(&self) -> Vec<LeaseId> {
        self.alive.keys().copied().collect()
    }

    /// Whether the lease that an operation names is there.
    pub(super) fn serve(&self, op: &Op) -> bool {
        match op {
            Op::Put { lease, .. } => *lease == 0 || self.alive.contains_key(lease),
            Op::Delete(_) | Op::Get(_) => true,
        }
    }

    /// A key moves from one lease to another; 0 is none.
    pub(super) fn attach(&mut self, key: &Bytes, from: LeaseId, to: LeaseId) {
        if let Some(lease) = self.alive.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.alive.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }
}
