//! The file journal on the real disk: restarts, torn tails, damage, messages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kafscale_journal::file::{FileJournal, Limits, StartError};
use kafscale_journal::{AppendError, Identity, Journal, Pointer, ReadError, Record};
use kafscale_ports::disk::RealDisk;
use tempfile::TempDir;

const ME: Identity = Identity { broker_id: 1, token: 7 };
const SMALL: Limits = Limits { file_bytes: 400, tail_bytes: 600, read_bytes: 300 };

async fn start(dir: &Path) -> Result<FileJournal, StartError> {
    FileJournal::start_with(Arc::new(RealDisk), dir.to_owned(), 42, SMALL).await
}

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n} {}", "x".repeat(usize::try_from(n % 50).unwrap())))
}

async fn fill(journal: &FileJournal, nonce: u64, count: u64) {
    journal.open(ME, nonce, entry(0)).await.unwrap();
    for n in 1..count {
        journal.append(nonce, n, entry(n)).await.unwrap();
    }
}

async fn all(journal: &FileJournal, mut after: u64) -> Vec<Record> {
    let mut records = Vec::new();
    while after < journal.end().await.unwrap().ordinal {
        let more = journal.read(after).await.unwrap();
        assert!(!more.is_empty());
        for record in more {
            after += 1;
            assert_eq!(record.position.ordinal, after);
            records.push(record);
        }
    }
    records
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut logs: Vec<_> = names.filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs
}

async fn refused(dir: &Path) -> String {
    match start(dir).await {
        Ok(_) => panic!("a damaged journal must not start"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn entries_survive_restarts_and_rotations() {
    let dir = TempDir::new().unwrap();
    for session in 0..3 {
        let journal = start(dir.path()).await.unwrap();
        assert_eq!(journal.incarnation(), 42);
        fill(&journal, session, 30).await;
        let records = all(&journal, 0).await;
        assert_eq!(records.len() as u64, 30 * (session + 1));
        for (at, record) in (0u64..).zip(&records) {
            assert_eq!((record.nonce, record.n, &record.entry), (at / 30, at % 30, &entry(at % 30)));
        }
    }
    assert!(logs(dir.path()).len() > 5);
}

#[tokio::test]
async fn a_directory_is_locked_and_a_start_takes_the_session_over() {
    let dir = TempDir::new().unwrap();
    let first = start(dir.path()).await.unwrap();
    let in_use = refused(dir.path()).await;
    assert!(in_use.contains("held by another broker"), "{in_use}");
    fill(&first, 1, 3).await;
    drop(first);

    let second = start(dir.path()).await.unwrap();
    // The answer to the last append was lost, and its broker asks again.
    assert_eq!(second.append(1, 2, entry(2)).await.unwrap().ordinal, 3);
    second.open(Identity { broker_id: 2, token: 8 }, 2, entry(0)).await.unwrap();
    assert!(matches!(second.append(1, 3, entry(3)).await, Err(AppendError::Fenced)));
    assert_eq!(second.append(1, 2, entry(2)).await.unwrap().ordinal, 3, "committed before the fence");
    second.leave(2, 1, entry(1)).await.unwrap();
    assert!(matches!(second.append(2, 2, entry(2)).await, Err(AppendError::Fenced)));
    assert_eq!(second.leave(2, 1, entry(1)).await.unwrap().ordinal, 5);
}

#[tokio::test]
async fn the_last_frame_cut_anywhere_is_dropped() {
    let dir = TempDir::new().unwrap();
    fill(&start(dir.path()).await.unwrap(), 1, 9).await;
    let last = logs(dir.path()).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    let frame = frame_starts(&whole).pop().unwrap();
    let before = all(&start(dir.path()).await.unwrap(), 0).await;
    for cut in frame..whole.len() {
        for zeros in [0, whole.len() - cut, 5000] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            std::fs::write(&last, &bytes).unwrap();
            let journal = start(dir.path()).await.unwrap();
            assert_eq!(all(&journal, 0).await, before[..before.len() - 1]);
            let n = before.len() as u64 - 1;
            journal.append(1, n, entry(n)).await.unwrap();
            drop(journal);
            assert_eq!(std::fs::read(&last).unwrap(), whole, "cut at {cut}, {zeros} zeros");
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_is_a_torn_tail_in_the_last_frame_and_damage_before() {
    let dir = TempDir::new().unwrap();
    fill(&start(dir.path()).await.unwrap(), 1, 14).await;
    let files = logs(dir.path());
    assert!(files.len() > 2);
    for (at, path) in files.iter().enumerate() {
        let whole = std::fs::read(path).unwrap();
        let frame = frame_starts(&whole).pop().unwrap();
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 0x10;
            std::fs::write(path, &bytes).unwrap();
            if at + 1 == files.len() && byte >= frame {
                let journal = start(dir.path()).await.unwrap();
                assert_eq!(journal.end().await.unwrap().ordinal, 13);
            } else {
                let message = refused(dir.path()).await;
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(message.contains("damaged at byte") && message.contains("kafscale recover"), "{message}");
                assert!(message.contains(name) || byte < 64, "{message}");
                assert_eq!(std::fs::read(path).unwrap(), bytes, "nothing is changed");
            }
            std::fs::write(path, &whole).unwrap();
        }
    }
}

#[tokio::test]
async fn a_missing_file_or_a_foreign_one_is_damage() {
    let dir = TempDir::new().unwrap();
    fill(&start(dir.path()).await.unwrap(), 1, 20).await;
    let files = logs(dir.path());
    for gone in [0, 1] {
        let bytes = std::fs::read(&files[gone]).unwrap();
        std::fs::remove_file(&files[gone]).unwrap();
        let message = refused(dir.path()).await;
        assert!(message.contains("missing"), "{message}");
        std::fs::write(&files[gone], bytes).unwrap();
    }
    let other = TempDir::new().unwrap();
    let journal = FileJournal::start_with(Arc::new(RealDisk), other.path().to_owned(), 43, SMALL).await.unwrap();
    fill(&journal, 1, 20).await;
    std::fs::copy(&logs(other.path())[1], &files[1]).unwrap();
    assert!(refused(dir.path()).await.contains("another journal"));
}

#[tokio::test]
async fn a_half_made_last_file_is_made_anew() {
    let dir = TempDir::new().unwrap();
    for len in 0..=64 {
        let journal = start(dir.path()).await.unwrap();
        let end = journal.end().await.unwrap().ordinal;
        drop(journal);
        let next = dir.path().join(format!("{:020}.log", end + 1));
        std::fs::write(&next, vec![0; len]).unwrap();
        let journal = start(dir.path()).await.unwrap();
        fill(&journal, 100 + len as u64, 4).await;
        assert_eq!(all(&journal, 0).await.len() as u64, end + 4);
    }
    let next = dir.path().join(format!("{:020}.log", 65 * 4 + 1));
    std::fs::write(next, vec![0; 65]).unwrap();
    assert!(refused(dir.path()).await.contains("header is unreadable"));
}

#[tokio::test]
async fn a_newer_format_is_refused_before_anything_is_written() {
    let dir = TempDir::new().unwrap();
    fill(&start(dir.path()).await.unwrap(), 1, 14).await;
    for path in logs(dir.path()) {
        let whole = std::fs::read(&path).unwrap();
        let mut newer = whole.clone();
        newer[8] = 2;
        let check = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &newer[..60]);
        newer[60..64].copy_from_slice(&u32::try_from(check).unwrap().to_le_bytes());
        newer.truncate(newer.len() - 1);
        std::fs::write(&path, &newer).unwrap();
        assert!(matches!(start(dir.path()).await, Err(StartError::Newer { version: 2, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), newer);
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test]
async fn the_pointer_goes_up_and_truncation_follows_it() {
    let dir = TempDir::new().unwrap();
    let journal = start(dir.path()).await.unwrap();
    fill(&journal, 1, 30).await;
    let pointer = |ordinal, truncatable| Pointer { ordinal, truncatable, value: format!("{ordinal}").into() };
    journal.truncate().await.unwrap();
    assert_eq!(journal.publish(1, 30, entry(30), pointer(25, 20)).await.unwrap().ordinal, 31);
    assert_eq!(journal.publish(1, 30, entry(30), pointer(25, 20)).await.unwrap().ordinal, 31);
    journal.publish(1, 31, entry(31), pointer(24, 24)).await.unwrap();
    assert_eq!(journal.pointer().await.unwrap(), Some(pointer(25, 20)));
    journal.truncate().await.unwrap();
    let Err(ReadError::Truncated { first }) = journal.read(0).await else { panic!("entry 1 is gone") };
    assert!(first > 1 && first <= 21);
    drop(journal);

    let journal = start(dir.path()).await.unwrap();
    assert_eq!(journal.pointer().await.unwrap(), Some(pointer(25, 20)));
    assert_eq!(all(&journal, first - 1).await.len() as u64, 32 - (first - 1));
    journal.append(1, 32, entry(32)).await.unwrap();
    drop(journal);

    std::fs::remove_file(&logs(dir.path())[0]).unwrap();
    assert!(refused(dir.path()).await.contains("missing"));
}

#[tokio::test]
async fn an_old_copy_and_a_damaged_pointer_are_noticed() {
    let dir = TempDir::new().unwrap();
    let journal = start(dir.path()).await.unwrap();
    fill(&journal, 1, 30).await;
    let pointer = Pointer { ordinal: 30, truncatable: 0, value: Bytes::from_static(b"snapshot") };
    journal.publish(1, 30, entry(30), pointer).await.unwrap();
    drop(journal);
    let path = dir.path().join("pointer");
    let whole = std::fs::read(&path).unwrap();
    for byte in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(refused(dir.path()).await.contains("pointer is damaged"));
    }
    std::fs::write(&path, whole).unwrap();
    for last in logs(dir.path()).iter().rev() {
        std::fs::remove_file(last).unwrap();
        let message = refused(dir.path()).await;
        assert!(message.contains("went back in time") && message.contains("kafscale recover"), "{message}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let dir = TempDir::new().unwrap();
    let gone = dir.path().join("gone");
    assert!(refused(&gone).await.contains("gone"));
}

/// Where the frames of a file start, by their lengths.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut starts) = (64, Vec::new());
    while at < bytes.len() {
        starts.push(at);
        at += 32 + u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
    }
    starts
}
