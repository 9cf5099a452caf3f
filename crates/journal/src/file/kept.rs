//! What is committed, as readers see it: the end, a bounded tail in memory, and where older entries are in the files.
//!
//! Owns no I/O and never waits: it is behind a plain lock, written by the one appender after an fsync and by the
//! start, read by everyone. Invariants: entries are contiguous from the first file's first ordinal to `end`; the
//! tail is a suffix of them.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use crate::{Position, ReadError, Record};

/// A place in a file is remembered every so many bytes.
const MARK_EVERY_BYTES: u64 = 64 << 10;

/// Where a frame starts, and the chain value before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) ordinal: u64,
    pub(super) offset: u64,
    pub(super) chain: u32,
}

/// A file and where to begin reading in it.
pub(super) struct KeptFile {
    pub(super) path: PathBuf,
    /// Never empty: the first one is the start of the frames.
    marks: Vec<Mark>,
    /// Where its frames end.
    bytes: u64,
}

/// How much a journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Files.
    pub files: usize,
    /// Entries in them.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
}

impl KeptFile {
    fn first(&self) -> u64 {
        self.marks[0].ordinal
    }
}

/// What is committed.
pub(super) struct Kept {
    end: u64,
    files: VecDeque<KeptFile>,
    tail: VecDeque<Record>,
    tail_bytes: usize,
    most_tail_bytes: usize,
    failure: Option<(io::ErrorKind, String)>,
}

/// How a read is to be answered.
pub(super) enum Plan {
    /// With these.
    Tail(Vec<Record>),
    /// From a file: begin at `mark`; the file's last committed ordinal is `last`.
    File { path: PathBuf, mark: Mark, last: u64 },
    /// There is nothing yet.
    Wait,
}

pub(super) fn place(ordinal: u64) -> Position {
    Position { ordinal, revision: ordinal }
}

/// What a record costs in memory, about.
pub(super) fn weight(record: &Record) -> usize {
    record.entry.len() + size_of::<Record>()
}

impl Kept {
    pub(super) fn new(most_tail_bytes: usize) -> Self {
        let (files, tail) = (VecDeque::new(), VecDeque::new());
        Self { end: 0, files, tail, tail_bytes: 0, most_tail_bytes, failure: None }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// How much there is.
    pub(super) fn held(&self) -> Held {
        let entries = (self.end + 1).saturating_sub(self.first());
        Held { files: self.files.len(), entries, bytes: self.files.iter().map(|file| file.bytes).sum() }
    }

    /// The first ordinal that can be read, or would be if it existed.
    pub(super) fn first(&self) -> u64 {
        self.files.front().map_or(1, KeptFile::first)
    }

    /// Adds a file whose frames start at `mark`.
    pub(super) fn add_file(&mut self, path: PathBuf, mark: Mark) {
        if self.files.is_empty() {
            self.end = mark.ordinal - 1;
        }
        assert_eq!(mark.ordinal, self.end + 1, "a journal file begins after the end of the one before");
        self.files.push_back(KeptFile { path, marks: vec![mark], bytes: mark.offset });
    }

    /// Adds a frame of the last file: `mark` is its start, `end` the offset behind it.
    pub(super) fn add_frame(&mut self, mark: Mark, end: u64, records: Vec<Record>) {
        assert_eq!(mark.ordinal, self.end + 1, "a frame begins after the end");
        let file = self.files.back_mut().expect("frames are in files");
        if file.marks.last().is_some_and(|last| mark.offset >= last.offset + MARK_EVERY_BYTES) {
            file.marks.push(mark);
        }
        file.bytes = end;
        for record in records {
            self.end += 1;
            assert_eq!(record.position.ordinal, self.end, "entries are contiguous");
            self.tail_bytes += weight(&record);
            self.tail.push_back(record);
        }
        while self.tail_bytes > self.most_tail_bytes
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_bytes -= weight(&oldest);
        }
    }

    /// How to answer a read of what follows `after`, with about `most_bytes` of it.
    pub(super) fn plan(&self, after: u64, most_bytes: usize) -> Result<Plan, ReadError> {
        self.alive().map_err(ReadError::Failed)?;
        if after > self.end {
            let detail = format!("entry {after} was seen, and the journal ends at {}", self.end);
            return Err(ReadError::Damaged { detail });
        }
        let (first, wanted) = (self.first(), after + 1);
        if wanted < first {
            return Err(ReadError::Truncated { first });
        }
        if after == self.end {
            return Ok(Plan::Wait);
        }
        match self.tail.front() {
            Some(oldest) if oldest.position.ordinal <= wanted => Ok(Plan::Tail(self.tail_from(wanted, most_bytes))),
            Some(_) | None => Ok(self.file_from(wanted)),
        }
    }

    fn tail_from(&self, wanted: u64, most_bytes: usize) -> Vec<Record> {
        let oldest = self.tail.front().map_or(wanted, |record| record.position.ordinal);
        let skip = usize::try_from(wanted - oldest).expect("the tail is in memory");
        let mut left = most_bytes;
        let mut records = Vec::new();
        for record in self.tail.iter().skip(skip) {
            if !records.is_empty() && weight(record) > left {
                break;
            }
            left = left.saturating_sub(weight(record));
            records.push(record.clone());
        }
        records
    }

    fn file_from(&self, wanted: u64) -> Plan {
        let at = self.files.partition_point(|file| file.first() <= wanted) - 1;
        let file = &self.files[at];
        let mark = file.marks[file.marks.partition_point(|mark| mark.ordinal <= wanted) - 1];
        let last = self.files.get(at + 1).map_or(self.end, |next| next.first() - 1);
        Plan::File { path: file.path.clone(), mark, last }
    }

    /// Takes the oldest file out if all its entries are at or below `truncatable`. The file with the newest entry
    /// always stays: it says which session is the last.
    pub(super) fn drop_oldest(&mut self, truncatable: u64) -> Option<KeptFile> {
        let last = self.files.get(1)?.first() - 1;
        if last > truncatable || last >= self.end {
            return None;
        }
        self.files.pop_front()
    }

    /// Takes back [`Kept::drop_oldest`]: the file could not be removed.
    pub(super) fn put_back(&mut self, file: KeptFile) {
        self.files.push_front(file);
    }

    /// Puts an end to everything: from now on every call says `why`.
    pub(super) fn fail(&mut self, why: &io::Error) {
        if self.failure.is_none() {
            self.failure = Some((why.kind(), why.to_string()));
        }
    }

    /// Fails if the journal has.
    pub(super) fn alive(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some((kind, why)) => Err(io::Error::new(*kind, format!("the journal failed earlier: {why}"))),
        }
    }
}
