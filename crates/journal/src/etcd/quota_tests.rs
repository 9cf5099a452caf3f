//! Room: the decisions, and the task over a model of etcd that fills up.

use std::collections::BTreeMap;

use kafscale_ports::Env;
use parking_lot::Mutex;

use super::super::model::{Store, World};
use super::*;

fn member(name: &str, is_leader: bool, physical: u64, in_use: u64) -> Member {
    Member { name: name.to_owned(), sizes: Some(Sizes { is_leader, physical, in_use, quota: 0, alarm: false }) }
}

/// In percent of a quota of 100.
fn one(physical: u64, in_use: u64) -> Vec<Member> {
    vec![member("a", true, physical, in_use)]
}

#[test]
fn produce_is_refused_when_the_file_is_full_and_little_of_it_is_free() {
    for (physical, in_use, expected) in [
        (80, 80, Room::Ample),
        (81, 81, Room::Short),
        (90, 72, Room::Ample),
        (90, 73, Room::Short),
        (99, 50, Room::Ample),
        (50, 50, Room::Ample),
    ] {
        assert_eq!(judge(Room::Ample, &one(physical, in_use), 100), expected, "{physical} {in_use}");
    }
}

#[test]
fn it_is_taken_again_only_by_a_margin() {
    for (physical, in_use, expected) in
        [(76, 76, Room::Short), (75, 75, Room::Ample), (90, 70, Room::Short), (90, 67, Room::Ample)]
    {
        assert_eq!(judge(Room::Short, &one(physical, in_use), 100), expected, "{physical} {in_use}");
    }
}

#[test]
fn the_fullest_member_counts_and_its_own_quota() {
    let mut members = vec![member("a", true, 10, 10), member("b", false, 90, 90)];
    assert_eq!(judge(Room::Ample, &members, 100), Room::Short);
    members[1].sizes.as_mut().unwrap().quota = 200;
    assert_eq!(judge(Room::Ample, &members, 100), Room::Ample);
    let silent = vec![Member { name: "a".to_owned(), sizes: None }];
    assert_eq!(judge(Room::Short, &silent, 100), Room::Short, "no news");
    assert_eq!(judge(Room::Short, &[], 100), Room::Short);
}

#[test]
fn followers_are_defragmented_before_the_leader_and_nobody_while_one_is_silent() {
    let mut members = vec![member("a", true, 90, 10), member("b", false, 90, 60), member("c", false, 90, 30)];
    let mut done: Vec<String> = Vec::new();
    for expected in ["c", "b", "a"] {
        let rested = |name: &str| !done.iter().any(|done| done == name);
        let next = next_to_defragment(&members, 100, rested).unwrap().to_owned();
        assert_eq!(next, expected);
        done.push(next);
    }
    assert_eq!(next_to_defragment(&members, 100, |_| false), None);
    assert_eq!(next_to_defragment(&one(60, 1), 100, |_| true), None, "not large");
    assert_eq!(next_to_defragment(&one(90, 80), 100, |_| true), None, "little to give back");
    let mut full = one(99, 98);
    full[0].sizes.as_mut().unwrap().alarm = true;
    assert_eq!(next_to_defragment(&full, 100, |_| true), Some("a"), "what is free does not show under the alarm");
    members[1].sizes = None;
    assert_eq!(next_to_defragment(&members, 100, |_| true), None);
}

/// Three members with files of their own over one model; `a` leads, and its file is the model's.
struct Cluster {
    world: Arc<World>,
    calls: Mutex<Vec<String>>,
    files: Mutex<BTreeMap<&'static str, u64>>,
}

impl Cluster {
    fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), calls: Mutex::default(), files: Mutex::default() })
    }
}

#[async_trait]
impl Members for Cluster {
    async fn members(&self) -> Vec<Member> {
        let size = self.world.with(|store| store.size());
        let mut files = self.files.lock();
        let mut of = |name: &'static str| {
            let file = files.entry(name).or_default();
            *file = (*file).max(if name == "a" { size.physical } else { size.in_use });
            let mut member = member(name, name == "a", *file, size.in_use);
            member.sizes.as_mut().unwrap().alarm = size.alarm;
            member
        };
        vec![of("a"), of("b"), of("c")]
    }

    async fn defragment(&self, name: &str) -> Result<(), Failure> {
        self.calls.lock().push(name.to_owned());
        sleep(Duration::from_secs(20)).await;
        self.files.lock().retain(|file, _| *file != name);
        if name == "a" {
            self.world.with(Store::defragment);
        }
        Ok(())
    }

    async fn disarm(&self) -> Result<(), Failure> {
        self.world.with(|store| store.set_quota(store.size().quota));
        Ok(())
    }
}

fn fill(world: &World, bytes: usize) -> bool {
    let then = vec![Op::Put { key: "t/filling".into(), value: vec![0; bytes].into(), lease: 0 }];
    world.with(|store| store.txn(&Txn { then, ..Txn::default() })).is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_full_etcd_refuses_produce_and_comes_back_by_itself() {
    let env = Env::real();
    let world = World::new(env.clock.clone());
    let quota = 10 << 20;
    world.with(|store| store.set_quota(quota));
    let cluster = Cluster::new(&world);
    let settings = Settings::new("t");
    // Two brokers watch.
    let start = || {
        let (members, kv) = (Arc::clone(&cluster) as Arc<dyn Members>, Arc::new(world.client(())));
        Watchman::start(members, kv, &env, &settings, quota)
    };
    let (a, b) = (start(), start());
    let room = || (*a.room().borrow(), *b.room().borrow());
    sleep(INTERVAL * 2).await;
    assert_eq!(room(), (Room::Ample, Room::Ample));
    for _ in 0..8 {
        assert!(fill(&world, 1 << 20));
    }
    assert!(!world.with(|store| store.size()).alarm);
    fill(&world, 300 << 10);
    sleep(INTERVAL * 2).await;
    assert_eq!(room(), (Room::Short, Room::Short));
    assert!(cluster.calls.lock().is_empty(), "there is nothing to give back");

    // Somebody writes all the same, until the alarm.
    while fill(&world, 300 << 10) {}
    assert!(world.with(|store| store.size()).alarm);
    world.with(|store| store.compact(store.revision())).unwrap();
    sleep(INTERVAL * 30).await;
    assert_eq!(room(), (Room::Ample, Room::Ample));
    assert!(!world.with(|store| store.size()).alarm && fill(&world, 1));
    // At the alarm there is no lease, and so no lock: both ask at once.
    let mut calls = cluster.calls.lock().clone();
    calls.dedup();
    assert_eq!(calls.pop().as_deref(), Some("a"), "the leader is last");
    calls.sort();
    assert_eq!(calls, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn one_broker_defragments_one_member_at_a_time() {
    let env = Env::real();
    let world = World::new(env.clock.clone());
    let settings = Settings::new("t");
    let cluster = Cluster::new(&world);
    for _ in 0..8 {
        fill(&world, 1 << 20);
        cluster.members().await;
    }
    world.with(|store| store.compact(store.revision())).unwrap();
    let start = || {
        let (members, kv) = (Arc::clone(&cluster) as Arc<dyn Members>, Arc::new(world.client(())));
        Watchman::start(members, kv, &env, &settings, 10 << 20)
    };
    let _watchmen = [start(), start(), start()];
    sleep(Duration::from_secs(15)).await;
    assert_eq!(cluster.calls.lock().len(), 1, "the others wait");
    sleep(ALL_THREE).await;
    let mut calls = cluster.calls.lock().clone();
    assert_eq!(calls.pop().as_deref(), Some("a"), "the leader is last");
    calls.sort();
    assert_eq!(calls, ["b", "c"]);
    assert!(world.with(|store| store.leases()).is_empty(), "the lock is released");
}

/// As long as three members take.
const ALL_THREE: Duration = Duration::from_secs(300);
