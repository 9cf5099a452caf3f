//! The target of the journal's directory: a start on whatever files there are.
//!
//! It starts, or says why not. If it does not, it changed nothing; if it does, all its entries can be read, more can be
//! appended, and the next start finds them all.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kafscale_journal::file::{FileJournal, Limits, StartError};
use kafscale_journal::{Identity, Journal, ReadError, Record};

use crate::disk::{DIR, MemoryDisk};
use crate::outcome::{Outcome, Way};
use crate::repair::Files;

/// Small, so that the edges of files and reads are met often.
pub const LIMITS: Limits = Limits { file_bytes: 600, tail_bytes: 600, read_bytes: 300 };
/// Where appending is tried up to. Above it ordinals run out, which takes a broker longer than there are brokers.
const MOST_ORDINAL: u64 = 1 << 62;

/// The files, as [`Files::parse`] reads them.
pub fn journal(input: &[u8]) -> Outcome {
    let mut way = Way::default();
    let files = Files::parse(input);
    let disk = MemoryDisk::default();
    for (name, bytes) in &files.named {
        disk.put(name, bytes);
    }
    let mut before = disk.contents();
    let journal = match now(start(&disk)) {
        Ok(journal) => journal,
        Err(error) => {
            if !matches!(error, StartError::Io { .. }) {
                // The lock file is left, and means nothing.
                before.insert("lock".to_owned(), Vec::new());
                assert_eq!(disk.contents(), before, "{error}: and something was changed");
            }
            return refused(way, files.named.len(), &error);
        }
    };
    let records = all(&journal);
    let pointer = now(journal.pointer()).expect("it was read");
    way.found(&(records.len(), pointer.as_ref().map(|p| p.value.len()), disk.contents().len()));
    let ordinal = now(journal.end()).expect("it is alive").ordinal;
    let mut end = ordinal;
    if ordinal < MOST_ORDINAL {
        end = append(&journal, ordinal);
    }
    drop(journal);
    let again = now(start(&disk)).expect("what was started starts again");
    let read = all(&again);
    assert!(read.starts_with(&records), "entries that were read are there after a restart");
    assert_eq!(now(again.end()).expect("it is alive").ordinal, end);
    assert_eq!(now(again.pointer()).expect("it was read"), pointer);
    way.accepted(&"started")
}

/// Every message names a file and a place; the kind of trouble is what tells inputs apart.
fn refused(mut way: Way, files: usize, error: &StartError) -> Outcome {
    way.found(&files);
    match error {
        StartError::Damaged { detail, .. } => way.refused(detail),
        StartError::InUse { .. } | StartError::Io { .. } | StartError::Newer { .. } | StartError::WentBack { .. } => {
            way.refused(&error)
        }
    }
}

/// Starts the journal that is on the disk.
pub async fn start(disk: &MemoryDisk) -> Result<FileJournal, StartError> {
    FileJournal::start_with(Arc::new(disk.clone()), PathBuf::from(DIR), 42, LIMITS).await
}

/// The result of a future that nobody else has to do anything for.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits, and nobody is there to wake it"),
    }
}

/// All entries, which follow one another.
fn all(journal: &FileJournal) -> Vec<Record> {
    let end = now(journal.end()).expect("it is alive").ordinal;
    let mut records: Vec<Record> = Vec::new();
    let mut after = 0;
    while after < end {
        match now(journal.read(after)) {
            Ok(more) => {
                assert!(!more.is_empty(), "a read brings something");
                for record in more {
                    after += 1;
                    assert_eq!(record.position.ordinal, after, "entries follow one another");
                    records.push(record);
                }
            }
            Err(ReadError::Truncated { first }) if records.is_empty() && first > after + 1 => after = first - 1,
            Err(error) => panic!("entries after {after} of {end} cannot be read: {error}"),
        }
    }
    records
}

/// Opens a session and appends to it; returns the new end.
fn append(journal: &FileJournal, end: u64) -> u64 {
    let identity = Identity { broker_id: 1, token: 7 };
    let nonce = 0x0ddba11;
    let opened = now(journal.open(identity, nonce, Bytes::from_static(b"opening")));
    assert_eq!(opened.expect("the disk does not fail").ordinal, end + 1);
    let entry = Bytes::from_static(b"more");
    let appended = now(journal.append(nonce, 1, entry.clone())).expect("the disk does not fail");
    assert_eq!(appended.ordinal, end + 2);
    let read = now(journal.read(end + 1)).expect("it was appended");
    assert_eq!(read.first().map(|r| (r.nonce, r.n, r.entry.clone())), Some((nonce, 1, entry)));
    end + 2
}
