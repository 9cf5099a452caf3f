//! What is read of the store: everything at one revision, and looks at the head. Owns the reading transaction of a look
//! and what its answer holds.

use bytes::Bytes;

use super::super::keys::{Named, Names};
use super::super::kv::{Get, KeyValue, Keys, Op, OpResult, Revision, Txn, TxnReply};
use super::super::stored::StoredPointer;
use super::super::txns::Life;
use super::{Halt, back};
use crate::Position;

/// All keys of the journal at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct View {
    pub(in super::super) revision: Revision,
    pub(in super::super) pointer: Option<KeyValue>,
    pub(in super::super) head: Option<KeyValue>,
    /// In any order.
    pub(in super::super) entries: Vec<KeyValue>,
}

impl View {
    /// The pointer and its mod-revision.
    pub(super) fn pointer(&self, life: &Life) -> Result<(StoredPointer, Revision), Halt> {
        let Some(kv) = &self.pointer else { return Err(back("the journal's pointer is gone".to_owned())) };
        let stored = StoredPointer::decode(&kv.value).map_err(|why| Halt::Stop(why.to_string()))?;
        if stored.incarnation == life.incarnation {
            Ok((stored, kv.mod_revision))
        } else {
            Err(back("the journal's pointer is of another incarnation".to_owned()))
        }
    }

    pub(super) fn holds(&self, anchor: &Anchor) -> bool {
        let is_it = |kv: &KeyValue| Some(&kv.key) == anchor.key.as_ref() && kv.mod_revision == anchor.applied.revision;
        anchor.key.is_none() || self.entries.iter().any(is_it)
    }

    /// The entries after `revision`, in their order.
    pub(super) fn newer_than(&self, revision: Revision) -> Vec<KeyValue> {
        let mut newer: Vec<KeyValue> = self.entries.iter().filter(|kv| kv.mod_revision > revision).cloned().collect();
        newer.sort_unstable_by_key(|kv| kv.mod_revision);
        newer
    }

    /// Adds a page of keys.
    pub(in super::super) fn add(&mut self, names: &Names, page: Vec<KeyValue>) {
        self.entries.extend(page.into_iter().filter(|kv| matches!(names.read(&kv.key), Named::Entry { .. })));
    }
}

/// What was known of the store when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Anchor {
    pub(in super::super) applied: Position,
    /// The key of the last applied entry, if there is one. It may have been truncated.
    pub(in super::super) key: Option<Bytes>,
    /// The mod-revision of the pointer.
    pub(in super::super) pointer: Revision,
}

/// A look at the head, and at what else one wants to know every second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Look {
    pub(in super::super) revision: Revision,
    pub(in super::super) head: Option<KeyValue>,
    /// The pointer's mod-revision.
    pub(in super::super) pointer: Revision,
    /// Each live session's broker id and fence.
    pub(in super::super) sessions: Vec<(i32, Revision)>,
    /// The mod-revision of the anchor's key; 0: it is gone, or was not asked for.
    pub(in super::super) anchor: Revision,
}

/// One read, linearizable, of few bytes.
pub(in super::super) fn look_txn(names: &Names, anchor: &Anchor) -> Txn {
    let keys_only = |keys: Keys| Op::Get(Get { keys, keys_only: true, limit: 0 });
    let mut then =
        vec![Op::Get(Get::one(names.head())), keys_only(Keys::One(names.pointer())), keys_only(names.sessions())];
    then.extend(anchor.key.clone().map(|key| keys_only(Keys::One(key))));
    Txn { then, ..Txn::default() }
}

/// `None`: no answer to that.
pub(in super::super) fn read_look(names: &Names, reply: TxnReply) -> Option<Look> {
    let mut found = reply.results.into_iter().map(|result| match result {
        OpResult::Got(found) => Some(found.kvs),
        OpResult::Put | OpResult::Deleted(_) => None,
    });
    let mut next = || found.next().flatten();
    let newest = |kvs: Vec<KeyValue>| kvs.first().map_or(0, |kv| kv.mod_revision);
    let head = next()?.into_iter().next();
    let pointer = newest(next()?);
    let sessions = next()?.iter().filter_map(|kv| Some((names.read_session(&kv.key)?, kv.mod_revision))).collect();
    Some(Look { revision: reply.revision, head, pointer, sessions, anchor: next().map_or(0, newest) })
}
