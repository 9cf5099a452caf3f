//! For the tests of the pure parts: a journal in a model of etcd, driven by the transactions themselves.

use bytes::Bytes;

use super::keys::Names;
use super::kv::{Get, Keys, Op, Range, Refusal, Txn, TxnReply};
use super::model::Store;
use super::stored::StoredPointer;
use super::tail::View;
use super::txns::{Append, Appended, Fenced, Guess, Life, Open, Opened, With};
use crate::Identity;

pub(super) const LIFE: u128 = 77;

pub(super) fn identity(broker_id: i32) -> Identity {
    Identity { broker_id, token: 1000 + u128::from(broker_id.unsigned_abs()) }
}

pub(super) fn bytes(nonce: u64, n: u64) -> Bytes {
    format!("entry {n} of {nonce}").into()
}

pub(super) struct Rig {
    pub(super) store: Store,
    pub(super) life: Life,
}

impl Rig {
    /// An empty journal whose first entry will have ordinal `base + 1`.
    pub(super) fn new(base: u64) -> Self {
        let life = Life { names: Names::new("t"), incarnation: LIFE };
        let mut rig = Self { store: Store::new(), life };
        rig.put(rig.life.names.pointer(), StoredPointer::first(LIFE, base).encode());
        rig
    }

    pub(super) fn run(&mut self, txn: &Txn) -> Result<TxnReply, Refusal> {
        self.store.txn(txn)
    }

    pub(super) fn put(&mut self, key: Bytes, value: Bytes) {
        self.run(&Txn { then: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() }).unwrap();
    }

    pub(super) fn delete(&mut self, keys: Keys) {
        self.run(&Txn { then: vec![Op::Delete(keys)], ..Txn::default() }).unwrap();
    }

    /// An opening with the guess that there is no journal yet.
    pub(super) fn opening(&mut self, broker_id: i32, nonce: u64) -> Open {
        let lease = self.store.grant(1000, std::time::Duration::ZERO).unwrap().id;
        let guess = Guess { older: None, empty: Some(2) };
        Open { identity: identity(broker_id), nonce, entry: bytes(nonce, 0), lease, guess }
    }

    pub(super) fn try_open(&mut self, open: &mut Open) -> Opened {
        loop {
            let reply = self.run(&open.txn(&self.life)).unwrap();
            let opened = open.read(&self.life, &reply);
            let Opened::Again(guess) = opened else { return opened };
            assert_ne!(guess, open.guess, "a wrong guess is answered by another");
            open.guess = guess;
        }
    }

    pub(super) fn open(&mut self, broker_id: i32, nonce: u64) -> Fenced {
        let mut open = self.opening(broker_id, nonce);
        let opened = self.try_open(&mut open);
        let Opened::Now { revision, .. } = opened else { panic!("not opened: {opened:?}") };
        Fenced { broker_id, nonce, fence: revision }
    }

    pub(super) fn append(&mut self, by: Fenced, n: u64) -> Appended {
        self.append_with(by, n, With::Nothing)
    }

    pub(super) fn append_with(&mut self, by: Fenced, n: u64, with: With) -> Appended {
        let append = Append { by, n, entry: bytes(by.nonce, n), with };
        let reply = self.run(&append.txn(&self.life)).unwrap();
        append.read(&self.life, &reply)
    }

    /// Everything, as it is now.
    pub(super) fn view(&self) -> View {
        let one = |key| self.get(Keys::One(key)).into_iter().next();
        let mut view = View {
            revision: self.store.revision(),
            pointer: one(self.life.names.pointer()),
            head: one(self.life.names.head()),
            entries: Vec::new(),
        };
        view.add(&self.life.names, self.get(self.life.names.entries()));
        view
    }

    pub(super) fn get(&self, keys: Keys) -> Vec<super::kv::KeyValue> {
        let get = Get { keys, keys_only: false, limit: 0 };
        self.store.range(&Range { get, revision: 0, serializable: false }).unwrap().found.kvs
    }
}

pub(super) fn is_now(appended: &Appended) -> bool {
    matches!(appended, Appended::Now { .. })
}
