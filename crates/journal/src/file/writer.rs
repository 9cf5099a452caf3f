//! The one appender: frames, rotation, and which session may append. Owns the end of the last file.
//!
//! The order that everything rests on: a frame is written only after the fsync of the one before returned; a file
//! gets its first frame only after its header was fsynced and then its name. So of everything on the disk only the
//! last frame of the last file, or a last file that is no more than a header, can be unfinished.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, OpenMode};

use super::format::{Entry, FILE_HEADER_BYTES, FileHeader, Kind, crc, encode_frame};
use super::kept::{Mark, place};
use super::pointer::StoreError;
use crate::Position;

/// So many committed appends are remembered, to answer their repetition.
const REMEMBERED: usize = 16;

/// The last session, and the last few appends. Made of nothing but the entries, so a start finds it again.
#[derive(Default)]
pub(super) struct Sessions {
    current: Option<Current>,
    recent: VecDeque<Done>,
}

#[derive(Clone, Copy)]
struct Current {
    nonce: u64,
    next_n: u64,
    left: bool,
}

#[derive(Clone, Copy)]
struct Done {
    nonce: u64,
    n: u64,
    ordinal: u64,
    check: u32,
}

/// What an append is to the session that it names.
pub(super) enum Claim {
    /// It was committed before, here.
    Committed(Position),
    /// It is the session's next.
    Next,
    /// The session is over, or never was.
    Fenced,
}

impl Sessions {
    /// Judges an append.
    pub(super) fn claim(&self, entry: &Entry) -> Claim {
        let same = |done: &&Done| done.nonce == entry.nonce && done.n == entry.n;
        if let Some(done) = self.recent.iter().find(same) {
            assert_eq!(done.check, crc(&[&entry.bytes]), "a repeated append has the bytes of the first one");
            return Claim::Committed(place(done.ordinal));
        }
        if entry.kind == Kind::Open {
            assert_eq!(entry.n, 0, "an opening is entry 0 of its session");
            return Claim::Next;
        }
        match self.current {
            Some(session) if session.nonce == entry.nonce && !session.left => {
                assert_eq!(entry.n, session.next_n, "a session's entries are numbered without gaps");
                Claim::Next
            }
            Some(_) | None => Claim::Fenced,
        }
    }

    /// Takes note of a committed entry.
    pub(super) fn note(&mut self, entry: &Entry, ordinal: u64) {
        self.current =
            Some(Current { nonce: entry.nonce, next_n: entry.n.saturating_add(1), left: entry.kind == Kind::Leave });
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Done { nonce: entry.nonce, n: entry.n, ordinal, check: crc(&[&entry.bytes]) });
    }
}

/// What became of a frame that was not committed.
pub(super) enum WriteError {
    /// It is not on the disk, durably so.
    Refused(io::Error),
    /// Nobody knows, and nothing more may be written.
    Dead(io::Error),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed(error) => Self::Refused(error),
            StoreError::Sync(error) => Self::Dead(error),
        }
    }
}

/// What a journal's files have in common.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) incarnation: u128,
}

impl Home {
    /// Makes the file that begins at `mark`'s ordinal, with its header and its name durable. What a failed or
    /// crashed attempt left under that name is wiped: no entry was ever in it.
    pub(super) async fn create_file(&self, mark: Mark) -> Result<(PathBuf, Arc<dyn DiskFile>), StoreError> {
        let path = file_path(&self.dir, mark.ordinal);
        let file = match self.disk.open(&path, OpenMode::CreateNew).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(&path, OpenMode::Existing).await.map_err(StoreError::Failed)?;
                file.set_len(0).await.map_err(StoreError::Failed)?;
                file
            }
            Err(error) => return Err(StoreError::Failed(error)),
        };
        let header = FileHeader { incarnation: self.incarnation, first: mark.ordinal, chain: mark.chain };
        file.write_at(0, vec![header.encode()]).await.map_err(StoreError::Failed)?;
        file.sync().await.map_err(StoreError::Sync)?;
        self.disk.sync_dir(&self.dir).await.map_err(StoreError::Sync)?;
        Ok((path, file))
    }
}

/// The name of the file whose first entry has this ordinal.
pub(super) fn file_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The place before the first frame of a file.
pub(super) fn file_start(ordinal: u64, chain: u32) -> Mark {
    Mark { ordinal, offset: FILE_HEADER_BYTES as u64, chain }
}

/// The end of the last file.
pub(super) struct Writer {
    pub(super) home: Home,
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(super) at: Mark,
    pub(super) most_file_bytes: u64,
    /// A snapshot was published: the next frame begins a file, so that this one can go as a whole once the snapshot
    /// after it is published. Files that only grew full would keep entries that nobody needs for long.
    pub(super) is_file_done: bool,
    pub(super) sessions: Sessions,
    /// An append is under way. If the next one finds it so, a caller dropped the future in the middle: what the
    /// disk does with the write that was left behind cannot be known.
    pub(super) busy: bool,
}

impl Writer {
    /// Begins the next file if this one is full; returns it.
    pub(super) async fn rotate(&mut self) -> Result<Option<(PathBuf, Mark)>, WriteError> {
        let is_full = self.at.offset >= self.most_file_bytes;
        if !(is_full || self.is_file_done) || self.at.offset == FILE_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let start = file_start(self.at.ordinal, self.at.chain);
        let (path, file) = self.home.create_file(start).await?;
        (self.file, self.at, self.is_file_done) = (file, start, false);
        Ok(Some((path, start)))
    }

    /// Writes and fsyncs the next frame, and returns where it began.
    pub(super) async fn write(&mut self, entry: &Entry) -> Result<Mark, WriteError> {
        let start = self.at;
        let frame = encode_frame(self.home.incarnation, start.chain, start.ordinal, std::slice::from_ref(entry));
        if let Err(error) = self.file.write_at(start.offset, frame.slices).await {
            return Err(self.cut_back(error).await);
        }
        self.file.sync().await.map_err(WriteError::Dead)?;
        self.at = Mark { ordinal: start.ordinal + 1, offset: start.offset + frame.bytes, chain: frame.chain };
        self.sessions.note(entry, start.ordinal);
        Ok(start)
    }

    /// After a failed write: any part of the frame, even all of it, may be in the file. It is refused only when it
    /// is gone for good; without the fsync a crash could bring a refused entry back to life.
    async fn cut_back(&mut self, error: io::Error) -> WriteError {
        if let Err(cut) = self.file.set_len(self.at.offset).await {
            return WriteError::Dead(cut);
        }
        match self.file.sync().await {
            Ok(()) => WriteError::Refused(error),
            Err(cut) => WriteError::Dead(cut),
        }
    }
}
