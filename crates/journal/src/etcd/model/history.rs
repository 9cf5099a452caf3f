//! Every key's past, back to the last compaction. Owns which value a key had at which revision.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::super::kv::{Found, Get, KeyValue, Keys, LeaseId, Revision};
use super::PUT_OVERHEAD_BYTES;

/// What became of a key at a revision: a value, or its removal.
#[derive(Debug, Clone)]
struct Step {
    revision: Revision,
    kv: Option<KeyValue>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Each key's steps, oldest first; never empty.
    keys: BTreeMap<Bytes, Vec<Step>>,
    bytes: u64,
}

fn weight(key: &Bytes, step: &Step) -> u64 {
    PUT_OVERHEAD_BYTES + (key.len() + step.kv.as_ref().map_or(0, |kv| kv.value.len())) as u64
}

impl History {
    /// What all of it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn newest(&self, key: &Bytes) -> Option<&KeyValue> {
        self.keys.get(key)?.last()?.kv.as_ref()
    }

    pub(super) fn put(&mut self, key: &Bytes, value: &Bytes, lease: LeaseId, revision: Revision) -> KeyValue {
        let older = self.newest(key);
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: older.map_or(revision, |older| older.create_revision),
            mod_revision: revision,
            version: older.map_or(1, |older| older.version + 1),
            lease,
        };
        self.step(key, Step { revision, kv: Some(kv.clone()) });
        kv
    }

    /// Removes a key that is there. Returns what a watch is told.
    pub(super) fn delete(&mut self, key: &Bytes, revision: Revision) -> KeyValue {
        self.step(key, Step { revision, kv: None });
        let (value, create_revision, version) = (Bytes::new(), 0, 0);
        KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease: 0 }
    }

    fn step(&mut self, key: &Bytes, step: Step) {
        self.bytes += weight(key, &step);
        self.keys.entry(key.clone()).or_default().push(step);
    }

    /// The keys of a range that are there now.
    pub(super) fn keys_now(&self, keys: &Keys) -> Vec<Bytes> {
        self.within(keys).filter(|(key, _)| self.newest(key).is_some()).map(|(key, _)| key.clone()).collect()
    }

    /// What a range held at a revision.
    pub(super) fn get(&self, get: &Get, at: Revision) -> Found {
        let then = |steps: &Vec<Step>| steps.iter().rev().find(|step| step.revision <= at).and_then(|s| s.kv.clone());
        let mut kvs: Vec<KeyValue> = self.within(&get.keys).filter_map(|(_, steps)| then(steps)).collect();
        let count = kvs.len() as u64;
        if get.limit > 0 {
            kvs.truncate(usize::try_from(get.limit).unwrap_or(usize::MAX));
        }
        if get.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Found { more: (kvs.len() as u64) < count, kvs, count }
    }

    /// Forgets what was replaced at or before `revision`, and keys that were gone by then.
    pub(super) fn compact(&mut self, revision: Revision) {
        for steps in self.keys.values_mut() {
            let old = steps.iter().take_while(|step| step.revision <= revision).count();
            let is_gone = old > 0 && steps[old - 1].kv.is_none();
            steps.drain(..if is_gone { old } else { old.saturating_sub(1) });
        }
        self.keys.retain(|_, steps| !steps.is_empty());
        let of = |(key, steps): (&Bytes, &Vec<Step>)| steps.iter().map(|step| weight(key, step)).sum::<u64>();
        self.bytes = self.keys.iter().map(of).sum();
    }

    fn within(&self, keys: &Keys) -> impl Iterator<Item = (&Bytes, &Vec<Step>)> {
        let (first, end) = match keys {
            Keys::One(key) => (key.clone(), Bound::Included(key.clone())),
            // An empty range, as etcd takes it; a map would take it for a mistake.
            Keys::Between(first, end) if first >= end => (first.clone(), Bound::Excluded(first.clone())),
            Keys::Between(first, end) => (first.clone(), Bound::Excluded(end.clone())),
        };
        self.keys.range((Bound::Included(first), end))
    }
}
