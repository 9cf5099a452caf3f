//! The model of etcd answers as etcd does: random operations go to both, and every answer is compared. This is what
//! makes every other test on the model mean something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use kafscale_journal::etcd::kv::{
    Compare, Event, Failure, Get, Is, Keys, Kv, LeaseId, Op, OpResult, Range, Refusal, Target, Txn, TxnReply, Watch,
};
use kafscale_journal::etcd::model::World;
use kafscale_ports::clock::SystemClock;
use tokio::time::timeout;

use super::server::{Binary, Server, binaries, skipped};

/// SplitMix64: the same operations for the same seed.
struct Rng(u64);

impl Rng {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.u64() % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

const STEPS: u32 = 1500;

/// What is done to both.
#[derive(Debug, Clone)]
enum Step {
    Txn(Txn),
    Range(Range),
    Watch(Watch),
    Grant,
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Compact(u64),
}

/// Leases by the model's ids.
struct Random {
    rng: Rng,
    leases: Vec<LeaseId>,
    revision: u64,
}

impl Random {
    fn key(&mut self) -> Bytes {
        self.rng.pick(&["a", "b", "ba", "bb", "c", "d"]).into()
    }

    fn keys(&mut self) -> Keys {
        match self.rng.below(3) {
            0 | 1 => Keys::One(self.key()),
            // Ends before its beginning now and then.
            _ => Keys::Between(self.key(), self.key()),
        }
    }

    fn value(&mut self) -> Bytes {
        self.rng.pick(&["", "x", "y", "yy"]).into()
    }

    fn lease(&mut self) -> LeaseId {
        if self.rng.below(3) > 0 || self.leases.is_empty() {
            return 0;
        }
        let leases = self.leases.clone();
        self.rng.pick(&leases)
    }

    fn compare(&mut self) -> Compare {
        let number = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(4),
            _ => self.revision.saturating_sub(self.rng.below(6)),
        };
        let target = match self.rng.below(4) {
            0 => Target::Mod(number),
            1 => Target::Create(number),
            2 => Target::Version(number),
            _ => Target::Value(self.value()),
        };
        Compare { keys: self.keys(), is: self.rng.pick(&[Is::Equal, Is::NotEqual, Is::Less, Is::Greater]), target }
    }

    fn get(&mut self) -> Get {
        Get { keys: self.keys(), keys_only: self.rng.below(3) == 0, limit: self.rng.below(3) }
    }

    fn op(&mut self) -> Op {
        match self.rng.below(5) {
            0 | 1 => Op::Put { key: self.key(), value: self.value(), lease: self.lease() },
            2 => Op::Delete(self.keys()),
            _ => Op::Get(self.get()),
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        (0..self.rng.below(5)).map(|_| self.op()).collect()
    }

    fn txn(&mut self) -> Txn {
        let mut txn = Txn { when: Vec::new(), then: self.ops(), otherwise: self.ops() };
        for _ in 0..self.rng.below(3) {
            txn.when.push(self.compare());
        }
        match self.rng.below(60) {
            0 => txn.then = vec![Op::Get(self.get()); 129],
            1 => txn.when = vec![self.compare(); 128],
            2 => {
                let value = Bytes::from(vec![7; 1600 << 10]);
                txn.otherwise.push(Op::Put { key: "e".into(), value, lease: 0 });
            }
            _ => {}
        }
        txn
    }

    fn watch(&mut self, from: u64) -> Watch {
        let (key, deletes) = (self.key(), self.rng.below(2) == 0);
        // etcd refuses to watch an empty range.
        let keys = self.rng.pick(&[Keys::One(key.clone()), Keys::Between(key.clone(), "e".into()), Keys::prefix(key)]);
        Watch { keys, from, deletes }
    }

    fn step(&mut self) -> Step {
        let back = self.rng.below(25);
        let revision = self.revision.saturating_sub(back).max(1);
        match self.rng.below(40) {
            0 => Step::Grant,
            1 => Step::KeepAlive(self.lease().max(1)),
            2 => Step::Revoke(self.lease().max(1)),
            3 => Step::Compact(if self.rng.below(9) == 0 { self.revision + 1 } else { revision }),
            4..=12 => {
                let revision = match self.rng.below(4) {
                    0 => 0,
                    1 => self.revision + self.rng.below(3),
                    _ => revision,
                };
                Step::Range(Range { get: self.get(), revision, serializable: self.rng.below(2) == 0 })
            }
            13..=15 => Step::Watch(self.watch(revision)),
            _ => Step::Txn(self.txn()),
        }
    }
}

/// One of the two.
struct Side {
    kv: Arc<dyn Kv>,
    /// The model's lease ids to this side's.
    leases: BTreeMap<LeaseId, LeaseId>,
}

/// An answer in words, without what may differ.
type Said = String;

fn refused(failure: &Failure) -> Said {
    match failure {
        Failure::Refused(Refusal::Invalid(_)) => "invalid".to_owned(),
        Failure::Refused(refusal) => format!("{refusal:?}"),
        Failure::Unknown(why) => format!("no answer: {why:?}"),
    }
}

impl Side {
    fn lease(&self, id: LeaseId) -> LeaseId {
        // One that neither side knows.
        self.leases.get(&id).copied().unwrap_or(id)
    }

    fn model_lease(&self, id: LeaseId) -> LeaseId {
        self.leases.iter().find(|(_, own)| **own == id).map_or(id, |(model, _)| *model)
    }

    fn txn(&self, mut txn: Txn) -> Txn {
        for op in txn.then.iter_mut().chain(&mut txn.otherwise) {
            if let Op::Put { lease, .. } = op {
                *lease = self.lease(*lease);
            }
        }
        txn
    }

    fn answer(&self, mut reply: TxnReply) -> Said {
        for result in &mut reply.results {
            if let OpResult::Got(found) = result {
                found.kvs.iter_mut().for_each(|kv| kv.lease = self.model_lease(kv.lease));
            }
        }
        format!("{reply:?}")
    }

    async fn watch(&self, watch: Watch, until: u64) -> Said {
        let mut stream = self.kv.watch(watch).await.unwrap();
        let mut events: Vec<Event> = Vec::new();
        while events.last().is_none_or(|event| event.kv.mod_revision < until) {
            match timeout(Duration::from_secs(20), stream.next()).await.expect("the watch says something") {
                Ok(reply) => events.extend(reply.events),
                Err(failure) => return refused(&failure),
            }
        }
        events.iter_mut().for_each(|event| event.kv.lease = self.model_lease(event.kv.lease));
        format!("{events:?}")
    }

    /// `until`: the last revision that a watch has to tell of.
    async fn apply(&mut self, step: Step, until: u64) -> Said {
        match step {
            Step::Txn(txn) => match self.kv.txn(self.txn(txn)).await {
                Ok(reply) => self.answer(reply),
                Err(failure) => refused(&failure),
            },
            Step::Range(range) => match self.kv.range(range).await {
                Ok(mut reply) => {
                    reply.found.kvs.iter_mut().for_each(|kv| kv.lease = self.model_lease(kv.lease));
                    format!("{reply:?}")
                }
                Err(failure) => refused(&failure),
            },
            Step::Watch(watch) => self.watch(watch, until).await,
            Step::Grant => {
                let lease = self.kv.lease_grant(1000).await.unwrap();
                let model = self.leases.len() as LeaseId + 1;
                self.leases.insert(model, lease.id);
                format!("{}", lease.ttl_s)
            }
            Step::KeepAlive(id) => match self.kv.lease_keep_alive(self.lease(id)).await {
                Ok(lease) => format!("{}", lease.ttl_s),
                Err(failure) => refused(&failure),
            },
            Step::Revoke(id) => match self.kv.lease_revoke(self.lease(id)).await {
                Ok(()) => "revoked".to_owned(),
                Err(failure) => refused(&failure),
            },
            Step::Compact(revision) => match self.kv.compact(revision).await {
                Ok(()) => "compacted".to_owned(),
                Err(failure) => refused(&failure),
            },
        }
    }
}

async fn compare(binary: &Binary, seed: u64, steps: u32) {
    let server = Server::start(binary, &[]).await;
    let world = World::new(Arc::new(SystemClock));
    let mut model = Side { kv: Arc::new(world.client(())), leases: BTreeMap::new() };
    let mut etcd = Side { kv: Arc::new(server.client()), leases: BTreeMap::new() };
    let mut random = Random { rng: Rng(seed), leases: Vec::new(), revision: 1 };
    let mut said = BTreeMap::<&str, u32>::new();
    for number in 0..steps {
        let step = random.step();
        let (mut until, mut kind) = (0, "");
        if let Step::Watch(watch) = &step {
            match world.with(|store| store.events(watch, watch.from, 1000)) {
                // A watch that has nothing to tell says nothing.
                Ok(groups) if groups.is_empty() => continue,
                Ok(groups) => until = groups.last().unwrap().0,
                Err(_) => kind = "old watch",
            }
        }
        let expected = model.apply(step.clone(), until).await;
        let got = etcd.apply(step.clone(), until).await;
        assert_eq!(got, expected, "etcd {}, seed {seed}, step {number}: {step:?}", binary.version);
        if let Step::Grant = step {
            random.leases.push(model.leases.len() as LeaseId);
        }
        random.revision = world.with(|store| store.revision());
        if kind.is_empty() {
            kind = match (&step, expected.as_str()) {
                (_, "Compacted") => "compacted",
                (_, "Future") => "future",
                (_, "NoLease") => "no lease",
                (_, "invalid") => "invalid",
                (Step::Watch(_), _) => "watched",
                (Step::Txn(_), _) => "transaction",
                (Step::Range(_), _) => "range",
                _ => "other",
            };
        }
        *said.entry(kind).or_default() += 1;
    }
    let kinds = ["compacted", "future", "no lease", "invalid", "old watch", "watched", "transaction", "range", "other"];
    for kind in kinds {
        assert!(said.get(kind).is_some_and(|times| *times > 2), "{kind} hardly occurred: {said:?}");
    }
}

#[tokio::test]
async fn the_model_answers_as_etcd_does() {
    let binaries = binaries();
    if binaries.is_empty() {
        return skipped("the model answers as etcd does");
    }
    join_all(binaries.iter().zip(1..).map(|(binary, seed)| compare(binary, seed, STEPS))).await;
}
