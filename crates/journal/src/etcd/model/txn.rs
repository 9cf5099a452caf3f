//! What a transaction of the model may hold, what it costs, and when its conditions hold.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::kv::{Compare, Get, Is, KeyValue, MAX_TXN_OPERATIONS, Op, Refusal, Target, Txn};
use super::history::History;
use super::{MAX_REQUEST_BYTES, PUT_OVERHEAD_BYTES};

fn invalid(what: &str) -> Refusal {
    Refusal::Invalid(what.to_owned())
}

/// What etcd refuses before it looks at any key.
pub(super) fn check(txn: &Txn) -> Result<(), Refusal> {
    for count in [txn.when.len(), txn.then.len(), txn.otherwise.len()] {
        if count > MAX_TXN_OPERATIONS {
            return Err(invalid("too many operations in a transaction"));
        }
    }
    check_keys(&txn.then)?;
    check_keys(&txn.otherwise)?;
    let bytes: usize = txn.then.iter().chain(&txn.otherwise).map(bytes).sum();
    if bytes > MAX_REQUEST_BYTES {
        return Err(invalid("the request is too large"));
    }
    Ok(())
}

/// A branch may put a key once, and may not remove what it puts.
fn check_keys(ops: &[Op]) -> Result<(), Refusal> {
    let mut put: BTreeSet<&Bytes> = BTreeSet::new();
    for op in ops {
        if let Op::Put { key, .. } = op
            && !put.insert(key)
        {
            return Err(invalid("a transaction puts a key twice"));
        }
    }
    for op in ops {
        if let Op::Delete(keys) = op
            && put.iter().any(|key| keys.contains(key))
        {
            return Err(invalid("a transaction removes a key that it puts"));
        }
    }
    Ok(())
}

fn bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete(_) | Op::Get(_) => 0,
    }
}

/// What the quota counts for it; `None` if it puts nothing. The branch that will be taken is not known yet.
pub(super) fn cost(txn: &Txn) -> Option<u64> {
    let of = |op: &Op| match op {
        Op::Put { .. } => PUT_OVERHEAD_BYTES + bytes(op) as u64,
        Op::Delete(_) | Op::Get(_) => 0,
    };
    let branch = |ops: &[Op]| ops.iter().map(of).sum::<u64>();
    Some(branch(&txn.then).max(branch(&txn.otherwise))).filter(|cost| *cost > 0)
}

pub(super) fn holds(compare: &Compare, history: &History) -> bool {
    // The newest there is: conditions are looked at before any operation.
    let found = history.get(&Get { keys: compare.keys.clone(), keys_only: false, limit: 0 }, u64::MAX).kvs;
    if found.is_empty() {
        let absent = KeyValue {
            key: Bytes::new(),
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: 0,
            version: 0,
            lease: 0,
        };
        return !matches!(compare.target, Target::Value(_)) && holds_for(compare, &absent);
    }
    found.iter().all(|kv| holds_for(compare, kv))
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        Target::Mod(revision) => kv.mod_revision.cmp(revision),
        Target::Create(revision) => kv.create_revision.cmp(revision),
        Target::Version(version) => kv.version.cmp(version),
        Target::Value(value) => kv.value.cmp(value),
    };
    match compare.is {
        Is::Equal => order.is_eq(),
        Is::NotEqual => order.is_ne(),
        Is::Less => order.is_lt(),
        Is::Greater => order.is_gt(),
    }
}
