//! The file journal on the simulated disk: a crash at every operation, every failure, and every fsync taken out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_journal::conformance::{self, Backend};
use kafscale_journal::file::{FileJournal, Limits};
use kafscale_journal::{AppendError, Identity, Journal, Pointer, ReadError};
use kafscale_ports::Disk;
use kafscale_sim::disk::{Op, Rule, SimDisk};
use kafscale_sim::rng::Rng;

use crate::journal_world::{Case, DIR, run};

/// The first case of those that fails.
fn find_failure(cases: impl IntoIterator<Item = Case>) -> Option<String> {
    cases.into_iter().find_map(|case| run(&case).err().map(|error| format!("seed {}: {error:#}", case.seed)))
}

/// A crash at every operation of the first life, for some seeds.
fn crashes(seeds: u64, base: &Case) -> impl Iterator<Item = Case> {
    let base = base.clone();
    (0..seeds).flat_map(move |seed| {
        let base = Case { seed, ..base.clone() };
        let ops =
            run(&Case { freeze_at: None, bugs: Vec::new(), faults: Vec::new(), ..base.clone() }).expect("no fault");
        assert!(ops > 40, "the workload has {ops} operations");
        (1..=ops).map(move |at| Case { freeze_at: Some(at), later_freezes: at % 2 == 0, ..base.clone() })
    })
}

#[test]
fn a_crash_at_every_operation_loses_nothing() {
    assert_eq!(find_failure(crashes(12, &Case::default())), None);
    assert_eq!(find_failure(crashes(6, &Case { kill_first: true, ..Case::default() })), None);
}

#[test]
fn every_operation_may_fail() {
    let ops = [
        Op::Open,
        Op::Create,
        Op::Rename,
        Op::Remove,
        Op::Write,
        Op::Read,
        Op::SetLen,
        Op::Sync,
        Op::SyncDir,
        Op::ReadDir,
        Op::Lock,
    ];
    for op in ops {
        for skip in 0..40 {
            for seed in 0..6 {
                let faults = vec![Rule { skip, ..Rule::fail_once(op, "") }];
                let case = Case { seed: seed + 100 * skip, faults, ..Case::default() };
                if let Err(error) = run(&case) {
                    panic!("{op:?} number {skip} failed, seed {}: {error:#}", case.seed);
                }
            }
        }
    }
}

#[test]
fn failing_writes_and_cuts_with_crashes_lose_nothing_and_revive_nothing() {
    for skip in [3, 7, 12] {
        let write = Rule { skip, times: 2, ..Rule::fail_once(Op::Write, ".log") };
        let cut = Rule { skip: 1, ..Rule::fail_once(Op::SetLen, ".log") };
        let base = Case { faults: vec![write, cut], ..Case::default() };
        assert_eq!(find_failure(crashes(3, &base)), None);
    }
}

#[test]
fn a_failed_fsync_and_a_restart_on_the_same_page_cache_lose_nothing() {
    let cases = (0..600).map(|seed| {
        let faults = vec![Rule { skip: seed % 30, ..Rule::fail_once(Op::Sync, "") }];
        Case { seed, faults, ..Case::default() }
    });
    assert_eq!(find_failure(cases), None);
}

/// Without this fsync some crash must break something, or the fsync (or this test) is good for nothing.
fn is_needed(bug: Rule, base: &Case) -> String {
    let bugs = vec![bug.clone()];
    let missed = find_failure(crashes(40, &Case { bugs, ..base.clone() }));
    let missed = missed.unwrap_or_else(|| panic!("nobody misses {bug:?}"));
    println!("without {:?} of {}: {missed}", bug.op, bug.path);
    missed
}

#[test]
fn the_frames_fsync_is_needed() {
    is_needed(Rule::without(Op::SyncData, ".log"), &Case::default());
}

#[test]
fn the_new_files_fsync_is_needed() {
    is_needed(Rule::without(Op::SyncNew, ".log"), &Case::default());
}

#[test]
fn the_new_files_directory_fsync_is_needed() {
    is_needed(Rule::without(Op::SyncDir, ".log"), &Case::default());
}

#[test]
fn the_pointers_fsync_is_needed() {
    let missed = is_needed(Rule::without(Op::SyncNew, "pointer.tmp"), &Case::default());
    assert!(missed.contains("pointer"), "{missed}");
}

#[test]
fn the_pointers_directory_fsync_is_needed() {
    let missed = is_needed(Rule::without(Op::SyncDir, "/pointer"), &Case::default());
    assert!(missed.contains("pointer") || missed.contains("missing"), "{missed}");
}

#[test]
fn the_fsyncs_of_a_start_are_needed() {
    // The process was killed between a write and its fsync: readers of the next life act on what the page cache has.
    let killed = Case { kill_first: true, ..Case::default() };
    for op in [Op::Sync, Op::SyncDir] {
        let lie = Rule { times: 1, ..Rule::without(op, "") };
        let lost = find_failure(crashes(40, &Case { second_life: vec![lie], ..killed.clone() }));
        let lost = lost.unwrap_or_else(|| panic!("nobody misses the {op:?} of a start"));
        println!("without {op:?} of a start: {lost}");
    }
}

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n} {}", "x".repeat(100)))
}

const ME: Identity = Identity { broker_id: 1, token: 1 };
const SMALL: Limits = Limits { file_bytes: 300, tail_bytes: 300, read_bytes: 300 };

async fn new_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    for dir in ["/data", DIR] {
        disk.create_dir(Path::new(dir)).await.unwrap();
        disk.sync_dir(Path::new(dir).parent().unwrap()).await.unwrap();
    }
    disk
}

async fn start(disk: &SimDisk) -> FileJournal {
    FileJournal::start_with(Arc::new(disk.clone()), PathBuf::from(DIR), 42, SMALL).await.unwrap()
}

async fn fill(journal: &FileJournal, count: u64) {
    journal.open(ME, 1, entry(0)).await.unwrap();
    for n in 1..count {
        journal.append(1, n, entry(n)).await.unwrap();
    }
}

/// Truncates several files at once, with or without its fsyncs; says in how many of 100 crashes no start followed.
async fn truncations_that_broke(rules: &[Rule]) -> usize {
    let mut broken = 0;
    for seed in 0..100 {
        let disk = new_disk(seed).await;
        let journal = start(&disk).await;
        fill(&journal, 30).await;
        let pointer = Pointer { ordinal: 25, truncatable: 25, value: Bytes::new() };
        journal.publish(1, 30, entry(30), pointer).await.unwrap();
        rules.iter().for_each(|rule| disk.add(rule.clone()));
        disk.crash_at(disk.ops() + seed % 12);
        tokio::select! {
            biased;
            truncated = journal.truncate() => truncated.unwrap(),
            () = disk.frozen() => {}
        }
        disk.crash(&mut Rng::new(seed));
        let disk = Arc::new(disk.remount());
        broken += usize::from(FileJournal::start_with(disk, PathBuf::from(DIR), 42, SMALL).await.is_err());
    }
    broken
}

#[tokio::test(start_paused = true)]
async fn a_truncations_fsyncs_are_needed() {
    assert_eq!(truncations_that_broke(&[]).await, 0);
    assert!(truncations_that_broke(&[Rule::without(Op::SyncDir, ".log")]).await > 0);
}

/// A write fails, the entry is refused, the power fails. In how many of 300 worlds is the entry there?
async fn refusals_that_came_back(rules: &[Rule]) -> usize {
    let mut back = 0;
    for seed in 0..300 {
        let disk = new_disk(seed).await;
        let journal = start(&disk).await;
        fill(&journal, 3).await;
        disk.add(Rule::fail_once(Op::Write, ".log"));
        disk.set_write_back(2);
        rules.iter().for_each(|rule| disk.add(rule.clone()));
        assert!(matches!(journal.append(1, 3, entry(3)).await, Err(AppendError::Refused(_))));
        disk.crash(&mut Rng::new(seed));
        back += usize::from(start(&disk.remount()).await.end().await.unwrap().ordinal > 3);
    }
    back
}

#[tokio::test(start_paused = true)]
async fn the_fsync_of_a_refused_frames_cut_is_needed() {
    assert_eq!(refusals_that_came_back(&[]).await, 0);
    let back = refusals_that_came_back(&[Rule::without(Op::SyncCut, ".log")]).await;
    assert!(back > 0, "nobody misses it");
    println!("a refused frame came back {back} times");
}

/// A start cuts a torn tail, and the next frame goes to a new file (this release's files are smaller than the last
/// one's), so that no other fsync covers the cut. In how many of 100 worlds does the torn tail come back, in a file
/// that is not the last any more?
async fn torn_tails_that_came_back(rules: &[Rule]) -> usize {
    let mut back = 0;
    for seed in 0..100 {
        let disk = new_disk(seed).await;
        let journal = FileJournal::start(Arc::new(disk.clone()), PathBuf::from(DIR), 42).await.unwrap();
        fill(&journal, 5).await;
        disk.crash_at(disk.ops() + 2);
        tokio::select! {
            biased;
            _ = journal.append(1, 5, entry(5)) => panic!("the disk is frozen"),
            () = disk.frozen() => {}
        }
        disk.crash(&mut Rng::new(seed));
        let disk = disk.remount();
        rules.iter().for_each(|rule| disk.add(rule.clone()));
        let journal = start(&disk).await;
        journal.open(ME, 2, entry(9)).await.unwrap();
        disk.crash(&mut Rng::new(seed + 1000));
        let disk = Arc::new(disk.remount());
        back += usize::from(FileJournal::start_with(disk, PathBuf::from(DIR), 42, SMALL).await.is_err());
    }
    back
}

#[tokio::test(start_paused = true)]
async fn the_fsync_of_a_torn_tails_cut_is_needed() {
    assert_eq!(torn_tails_that_came_back(&[]).await, 0);
    assert!(torn_tails_that_came_back(&[Rule::without(Op::SyncCut, ".log")]).await > 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fsync_is_the_end_and_is_never_repeated() {
    let disk = new_disk(1).await;
    let journal = start(&disk).await;
    fill(&journal, 3).await;
    disk.add(Rule::fail_once(Op::Sync, ".log"));
    let waiting = journal.read(3);
    let (read, dead) = tokio::join!(biased; waiting, journal.append(1, 3, entry(3)));
    assert!(matches!(dead, Err(AppendError::Dead(_))));
    assert!(matches!(read, Err(ReadError::Failed(_))), "who waits is told");
    let syncs = disk.counts();
    assert!(matches!(journal.append(1, 3, entry(3)).await, Err(AppendError::Dead(_))));
    assert!(journal.open(ME, 2, entry(0)).await.is_err());
    assert!(journal.read(0).await.is_err() && journal.end().await.is_err() && journal.truncate().await.is_err());
    assert_eq!(disk.counts(), syncs, "a dead journal leaves the disk alone");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_and_serves_again() {
    let disk = new_disk(1).await;
    let journal = start(&disk).await;
    fill(&journal, 10).await;
    let pointer = Pointer { ordinal: 9, truncatable: 9, value: Bytes::new() };
    for room in 0..140 {
        disk.heal();
        let used = u64::MAX - disk.free_bytes(Path::new("/")).await.unwrap();
        disk.set_capacity(used + room);
        let Err(AppendError::Refused(error)) = journal.append(1, 10, entry(10)).await else { panic!("room {room}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        if room < 40 {
            let published = journal.publish(1, 10, entry(10), pointer.clone()).await;
            assert!(matches!(published, Err(AppendError::Refused(_))));
        }
        assert_eq!(journal.end().await.unwrap().ordinal, 10);
        assert!(!journal.read(0).await.unwrap().is_empty());
    }
    disk.heal();
    journal.publish(1, 10, entry(10), pointer).await.unwrap();
    journal.truncate().await.unwrap();
    drop(journal);
    assert_eq!(start(&disk).await.end().await.unwrap().ordinal, 11);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_was_abandoned_ends_the_journal() {
    let disk = new_disk(1).await;
    let journal = start(&disk).await;
    fill(&journal, 3).await;
    disk.set_latency_us(100, 100);
    tokio::select! {
        biased;
        _ = journal.append(1, 3, entry(3)) => panic!("the disk is slower"),
        () = tokio::time::sleep(std::time::Duration::from_micros(150)) => {}
    }
    assert!(matches!(journal.append(1, 3, entry(3)).await, Err(AppendError::Dead(_))));
}

#[tokio::test(start_paused = true)]
async fn an_append_waits_for_its_fsync_and_for_nothing_else() {
    let disk = new_disk(1).await;
    let journal = start(&disk).await;
    journal.open(ME, 1, entry(0)).await.unwrap();
    let before = disk.ops();
    journal.append(1, 1, entry(1)).await.unwrap();
    assert_eq!(disk.ops() - before, 2, "a write and an fsync");
    journal.read(1).await.unwrap();
    assert_eq!(disk.ops() - before, 2, "what is new is read from memory");
}

/// The conformance suite on this disk.
struct Simulated {
    disk: SimDisk,
    made: u32,
}

impl Simulated {
    async fn start(&self) -> Arc<dyn Journal> {
        let dir = PathBuf::from(format!("/{}", self.made));
        Arc::new(FileJournal::start(Arc::new(self.disk.clone()), dir, 42).await.unwrap())
    }
}

#[async_trait]
impl Backend for Simulated {
    async fn fresh(&mut self) -> Arc<dyn Journal> {
        self.made += 1;
        self.disk.create_dir(Path::new(&format!("/{}", self.made))).await.unwrap();
        self.disk.sync_dir(Path::new("/")).await.unwrap();
        self.start().await
    }

    async fn restart(&mut self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        drop(journal);
        self.disk.crash(&mut Rng::new(u64::from(self.made)));
        self.disk = self.disk.remount();
        self.start().await
    }

    fn is_for_one_broker(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn the_file_journal_conforms_across_crashes() {
    let disk = SimDisk::new(3);
    disk.set_latency_us(1, 50);
    conformance::run(&mut Simulated { disk, made: 0 }).await;
}
