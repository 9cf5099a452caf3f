//! The simulated disk forgets what was not fsynced, keeps what was, and says what it is told to say.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, OpenMode};
use kafscale_sim::disk::{Op, Rule, SimDisk};
use kafscale_sim::rng::Rng;

async fn create(disk: &SimDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), OpenMode::CreateNew).await.unwrap()
}

async fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Existing).await.ok()?;
    Some(file.read_at(0, 1 << 20).await.unwrap().to_vec())
}

fn bytes(byte: u8, len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; len])]
}

/// After 200 crashes of a disk on which `script` ran: every content of `/d/f` that was seen.
async fn outcomes<F: Future<Output = ()>>(script: impl Fn(SimDisk) -> F) -> Vec<Option<Vec<u8>>> {
    let mut seen = Vec::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new("/d")).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        script(disk.clone()).await;
        disk.crash(&mut Rng::new(seed));
        let found = read(&disk.remount(), "/d/f").await;
        if !seen.contains(&found) {
            seen.push(found);
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn what_was_synced_is_there_whatever_happens() {
    let seen = outcomes(|disk| async move {
        let file = create(&disk, "/d/f").await;
        file.write_at(0, bytes(7, 10_000)).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_dir(Path::new("/d")).await.unwrap();
    })
    .await;
    assert_eq!(seen, [Some(vec![7; 10_000])]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_synced_survives_in_any_part() {
    let seen = outcomes(|disk| async move {
        let file = create(&disk, "/d/f").await;
        file.write_at(0, bytes(7, 10_000)).await.unwrap();
        disk.sync_dir(Path::new("/d")).await.unwrap();
    })
    .await;
    let seen: Vec<Vec<u8>> = seen.into_iter().map(|found| found.expect("the name was synced")).collect();
    assert!(seen.contains(&Vec::new()) && seen.contains(&vec![7; 10_000]));
    assert!(seen.iter().any(|f| f.len() == 10_000 && f[..4096].iter().all(|b| *b == 0)), "pages in any order");
    assert!(seen.iter().any(|f| f.contains(&7) && f.contains(&0)), "torn");
    assert!(seen.len() > 50);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_not_synced_may_vanish_or_come_back() {
    let created = outcomes(|disk| async move {
        let file = create(&disk, "/d/f").await;
        file.sync().await.unwrap();
    })
    .await;
    assert!(created.contains(&None) && created.contains(&Some(Vec::new())));
    let renamed = outcomes(|disk| async move {
        for (name, byte) in [("/d/f", 1), ("/d/g", 2)] {
            let file = create(&disk, name).await;
            file.write_at(0, bytes(byte, 1)).await.unwrap();
            file.sync().await.unwrap();
        }
        disk.sync_dir(Path::new("/d")).await.unwrap();
        disk.rename(Path::new("/d/g"), Path::new("/d/f")).await.unwrap();
    })
    .await;
    assert!(renamed.len() == 2 && renamed.contains(&Some(vec![1])) && renamed.contains(&Some(vec![2])));
    let removed = outcomes(|disk| async move {
        create(&disk, "/d/f").await.sync().await.unwrap();
        disk.sync_dir(Path::new("/d")).await.unwrap();
        disk.remove(Path::new("/d/f")).await.unwrap();
    })
    .await;
    assert!(removed.contains(&None) && removed.contains(&Some(Vec::new())));
    let nested = outcomes(|disk| async move {
        disk.remove(Path::new("/d/f")).await.unwrap_err();
        disk.create_dir(Path::new("/d/e")).await.unwrap();
        let file = create(&disk, "/d/e/f").await;
        file.sync().await.unwrap();
        disk.sync_dir(Path::new("/d/e")).await.unwrap();
    })
    .await;
    assert_eq!(nested, [None]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_that_was_not_synced_may_be_undone() {
    let seen = outcomes(|disk| async move {
        let file = create(&disk, "/d/f").await;
        file.write_at(0, bytes(7, 100)).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_dir(Path::new("/d")).await.unwrap();
        file.set_len(40).await.unwrap();
    })
    .await;
    assert!(seen.contains(&Some(vec![7; 40])) && seen.contains(&Some(vec![7; 100])));
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_loses_and_the_next_one_says_ok() {
    let seen = outcomes(|disk| async move {
        let file = create(&disk, "/d/f").await;
        disk.sync_dir(Path::new("/d")).await.unwrap();
        disk.add(Rule::fail_once(Op::Sync, "/d/f"));
        file.write_at(0, bytes(7, 100)).await.unwrap();
        file.sync().await.unwrap_err();
        assert_eq!(file.read_at(0, 100).await.unwrap(), vec![7; 100]);
        file.sync().await.unwrap();
    })
    .await;
    assert!(seen.contains(&Some(vec![0; 100])), "{:?}", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f").await;
    disk.set_capacity(1000);
    file.write_at(0, bytes(1, 900)).await.unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).await.unwrap(), 100);
    let full = file.write_at(900, bytes(2, 200)).await.unwrap_err();
    assert_eq!((full.kind(), file.size().await.unwrap()), (io::ErrorKind::StorageFull, 1000));
    file.write_at(0, bytes(3, 1000)).await.unwrap();
    disk.remove(Path::new("/f")).await.unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).await.unwrap(), 1000);
}

#[tokio::test(start_paused = true)]
async fn locks_end_with_their_holder_and_with_the_machine() {
    let disk = SimDisk::new(1);
    let path = Path::new("/lock");
    let held = disk.lock(path).await.unwrap();
    assert_eq!(disk.lock(path).await.err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    drop(held);
    let held = disk.lock(path).await.unwrap();
    disk.kill();
    let disk = disk.remount();
    let next = disk.lock(path).await.unwrap();
    drop(held);
    assert!(disk.lock(path).await.is_err(), "the dead holder's end frees nothing");
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_disk_never_answers() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f").await;
    disk.crash_at(disk.ops() + 2);
    file.write_at(0, bytes(1, 1)).await.unwrap();
    tokio::select! {
        biased;
        _ = file.sync() => panic!("the disk is frozen"),
        () = disk.frozen() => {}
    }
    disk.crash(&mut Rng::new(1));
    tokio::select! {
        biased;
        _ = file.size() => panic!("this life is over"),
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    }
}

async fn write_and_sync(disk: &SimDisk, name: &str) {
    let file = create(disk, name).await;
    for at in 0..20 {
        // Some of them fail, as the rule says.
        let _ = file.write_at(at * 100, bytes(1, 100)).await;
        file.sync().await.unwrap();
    }
}

async fn trace(seed: u64) -> Vec<u8> {
    let disk = SimDisk::new(seed);
    disk.start_trace();
    disk.set_latency_us(1, 500);
    disk.set_write_back(3);
    disk.add(Rule { times: 3, skip: 2, ..Rule::fail_once(Op::Write, "b") });
    tokio::join!(biased; write_and_sync(&disk, "/a"), write_and_sync(&disk, "/b"), write_and_sync(&disk, "/c"));
    disk.crash(&mut Rng::new(seed));
    disk.take_trace()
}

#[tokio::test(start_paused = true)]
async fn one_seed_one_trace() {
    let first = trace(7).await;
    assert!(first.len() > 2000);
    assert_eq!(first, trace(7).await);
    assert_ne!(first, trace(8).await);
}
