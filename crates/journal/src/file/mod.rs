//! The journal of one broker, in a directory. Owns the port's contract over files; the bytes are in `format` and
//! `pointer`, the appender in `writer`, the start in `start`, what readers see in `kept`.
//!
//! ```text
//! dir/lock                        held by flock while the broker lives; its existence means nothing
//! dir/{first ordinal, 20 digits}.log   the entries, in frames, each chained to the one before
//! dir/pointer                     where a start begins: the newest snapshot
//! dir/pointer.tmp                 the next pointer while it is written
//! ```
//!
//! One broker: a start takes the kernel's lock, which proves that no other process lives here; so whoever opens a
//! session ends the one before, whatever its identity (a broker id that was changed in the configuration is no
//! reason to refuse: nobody else can be alive).
//!
//! A failed fsync is final: what it covered may or may not be durable, and asking again gives a false "ok". The
//! journal is then dead, every call says so, and the next start finds out what the disk really has.

mod error;
mod format;
mod kept;
mod pointer;
mod scan;
mod start;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskLock, OpenMode};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, watch};

pub use error::StartError;
pub use format::{MAX_ENTRY_BYTES, VERSION};
pub use kept::Held;

use self::format::{Entry, Kind};
use self::kept::{Kept, Mark, Plan, place, weight};
use self::pointer::{MAX_VALUE_BYTES, StoreError};
use self::scan::{Scan, Step};
use self::writer::{Claim, WriteError, Writer};
use crate::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};

/// Sizes. The default is what ships; tests make them small to meet their edges often.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A file that has reached this size gets no further frame; the next one goes to a new file.
    pub file_bytes: u64,
    /// Recent entries are kept in memory up to about this size.
    pub tail_bytes: usize,
    /// One read returns about this much at most.
    pub read_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 8 << 20, tail_bytes: 4 << 20, read_bytes: 4 << 20 }
    }
}

/// The journal of one broker, in a directory.
///
/// The futures of `open`, `append`, `leave` and `publish` must be driven to their end: one that was dropped in the
/// middle of a write leaves the disk doing who knows what, and the journal is dead from then on.
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    incarnation: u128,
    limits: Limits,
    kept: Mutex<Kept>,
    /// Changes with `kept`; carries nothing, so that there is one truth.
    changed: watch::Sender<()>,
    writer: AsyncMutex<Writer>,
    pointer: AsyncMutex<PointerSlot>,
    _lock: Box<dyn DiskLock>,
}

struct PointerSlot {
    stored: Option<Pointer>,
    /// A replacement is under way; see [`Writer`]'s.
    busy: bool,
}

impl FileJournal {
    /// Starts the journal in `dir`, which must exist durably; a new one gets `incarnation` (random). Mends what a
    /// crash left and refuses what is damaged.
    pub async fn start(disk: Arc<dyn Disk>, dir: PathBuf, incarnation: u128) -> Result<Self, StartError> {
        Self::start_with(disk, dir, incarnation, Limits::default()).await
    }

    /// As [`FileJournal::start`], with other sizes.
    pub async fn start_with(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        incarnation: u128,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let started = start::start(Arc::clone(&disk), dir.clone(), incarnation, &limits).await?;
        Ok(Self {
            disk,
            dir,
            incarnation: started.writer.home.incarnation,
            limits,
            kept: Mutex::new(started.kept),
            changed: watch::Sender::new(()),
            writer: AsyncMutex::new(started.writer),
            pointer: AsyncMutex::new(PointerSlot { stored: started.pointer, busy: false }),
            _lock: started.lock,
        })
    }

    /// The id of this journal's life: part of the names of snapshots.
    pub fn incarnation(&self) -> u128 {
        self.incarnation
    }

    /// How much it holds, for whoever watches it.
    pub fn held(&self) -> Held {
        self.kept.lock().held()
    }

    /// The journal's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn die(&self, error: &io::Error) {
        tracing::error!(dir = %self.dir.display(), %error, "the journal failed for good; the broker must end");
        self.kept.lock().fail(error);
        self.changed.send_replace(());
    }

    fn dead(&self, error: io::Error) -> AppendError {
        self.die(&error);
        AppendError::Dead(error)
    }

    /// What a dropped future left behind ends the journal.
    fn enter(&self, busy: &mut bool) -> Result<(), AppendError> {
        self.kept.lock().alive().map_err(AppendError::Dead)?;
        if std::mem::replace(busy, true) {
            return Err(self.dead(io::Error::other("a write to the journal was abandoned in the middle")));
        }
        Ok(())
    }

    fn failed(&self, error: WriteError) -> AppendError {
        match error {
            WriteError::Refused(error) => AppendError::Refused(error),
            WriteError::Dead(error) => self.dead(error),
        }
    }

    async fn commit(&self, entry: Entry) -> Result<Position, AppendError> {
        if entry.bytes.len() > MAX_ENTRY_BYTES {
            let detail = format!("an entry has {} bytes; the journal takes {MAX_ENTRY_BYTES}", entry.bytes.len());
            return Err(AppendError::Refused(io::Error::new(io::ErrorKind::InvalidInput, detail)));
        }
        let mut writer = self.writer.lock().await;
        self.kept.lock().alive().map_err(AppendError::Dead)?;
        match writer.sessions.claim(&entry) {
            Claim::Committed(position) => return Ok(position),
            Claim::Fenced => return Err(AppendError::Fenced),
            Claim::Next => {}
        }
        self.enter(&mut writer.busy)?;
        let result = self.write(&mut writer, entry).await;
        writer.busy = false;
        result.map_err(|error| self.failed(error))
    }

    async fn write(&self, writer: &mut Writer, entry: Entry) -> Result<Position, WriteError> {
        if let Some((path, start)) = writer.rotate().await? {
            self.kept.lock().add_file(path, start);
        }
        let start = writer.write(&entry).await?;
        let position = place(start.ordinal);
        let record = Record { position, nonce: entry.nonce, n: entry.n, entry: entry.bytes };
        self.kept.lock().add_frame(start, writer.at.offset, vec![record]);
        self.changed.send_replace(());
        Ok(position)
    }

    /// Whether the journal was truncated past `wanted` since a reader planned.
    fn vanished(&self, wanted: u64, path: &Path) -> ReadError {
        let first = self.kept.lock().first();
        if wanted < first {
            return ReadError::Truncated { first };
        }
        ReadError::Damaged { detail: format!("{} has vanished", path.display()) }
    }

    async fn read_file(&self, wanted: u64, path: &Path, mark: Mark, last: u64) -> Result<Vec<Record>, ReadError> {
        let file = match self.disk.open(path, OpenMode::Existing).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.vanished(wanted, path)),
            Err(error) => return Err(ReadError::Failed(error)),
        };
        let mut scan = Scan::new(file, self.incarnation);
        let (mut at, mut bytes, mut records) = (mark, 0, Vec::new());
        while at.ordinal <= last && bytes < self.limits.read_bytes {
            let (entries, next) = match scan.step(at).await.map_err(ReadError::Failed)? {
                Step::Frame { entries, next } => (entries, next),
                Step::End => return Err(damaged(path, at, "the file is shorter than it was")),
                Step::Bad(detail) | Step::Wrong(detail) => return Err(damaged(path, at, detail)),
            };
            for (entry, ordinal) in entries.into_iter().zip(at.ordinal..).filter(|(_, ordinal)| *ordinal >= wanted) {
                let record = Record { position: place(ordinal), nonce: entry.nonce, n: entry.n, entry: entry.bytes };
                bytes += weight(&record);
                records.push(record);
            }
            at = next;
        }
        Ok(records)
    }

    /// Puts the prepared pointer in place.
    async fn install(&self, slot: &mut PointerSlot, pointer: Pointer) -> Result<(), AppendError> {
        match pointer::install(&*self.disk, &self.dir).await {
            Ok(()) => {
                slot.stored = Some(pointer);
                Ok(())
            }
            // The entry is committed and the pointer is not: the repetition of this call does the rest.
            Err(StoreError::Failed(error)) => Err(AppendError::Unknown(error)),
            Err(StoreError::Sync(error)) => Err(self.dead(error)),
        }
    }

    async fn publish_up(
        &self,
        slot: &mut PointerSlot,
        entry: Entry,
        pointer: Pointer,
    ) -> Result<Position, AppendError> {
        if let Err(error) = pointer::prepare(&*self.disk, &self.dir, self.incarnation, &pointer).await {
            return Err(self.failed(error.into()));
        }
        let position = self.commit(entry).await?;
        self.install(slot, pointer).await?;
        self.writer.lock().await.is_file_done = true;
        Ok(position)
    }
}

fn damaged(path: &Path, at: Mark, detail: &str) -> ReadError {
    ReadError::Damaged { detail: format!("{} at byte {}: {detail}", path.display(), at.offset) }
}

#[async_trait]
impl Journal for FileJournal {
    async fn open(&self, _identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        match self.commit(Entry { kind: Kind::Open, nonce, n: 0, bytes: entry }).await {
            Ok(position) => Ok(position),
            Err(AppendError::Fenced) => unreachable!("an opening is never fenced"),
            Err(AppendError::Refused(error) | AppendError::Unknown(error) | AppendError::Dead(error)) => {
                Err(OpenError::Failed(error))
            }
        }
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.commit(Entry { kind: Kind::Append, nonce, n, bytes: entry }).await
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.commit(Entry { kind: Kind::Leave, nonce, n, bytes: entry }).await
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        let mut changed = self.changed.subscribe();
        loop {
            let plan = self.kept.lock().plan(after, self.limits.read_bytes)?;
            match plan {
                Plan::Tail(records) => return Ok(records),
                Plan::File { path, mark, last } => return self.read_file(after + 1, &path, mark, last).await,
                Plan::Wait => changed.changed().await.map_err(|gone| ReadError::Failed(io::Error::other(gone)))?,
            }
        }
    }

    async fn end(&self) -> Result<Position, ReadError> {
        let kept = self.kept.lock();
        kept.alive().map_err(ReadError::Failed)?;
        Ok(place(kept.end()))
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        self.kept.lock().alive().map_err(ReadError::Failed)?;
        Ok(self.pointer.lock().await.stored.clone())
    }

    /// The entry is durable before the pointer moves, never after: a crash in between leaves the older pointer,
    /// from which a start reads an older snapshot and a longer tail. The other way round a start could find a
    /// pointer beyond the journal's end, which is how a journal looks that went back in time. What can fail for
    /// want of space, the new pointer's bytes, is written aside before the entry, so that a full disk refuses the
    /// whole and not half of it.
    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        let entry = Entry { kind: Kind::Append, nonce, n, bytes: entry };
        assert!(pointer.truncatable <= pointer.ordinal, "a snapshot cannot need what is newer than itself");
        assert!(pointer.ordinal <= self.kept.lock().end(), "a snapshot cannot be newer than the journal");
        assert!(pointer.value.len() <= MAX_VALUE_BYTES, "a pointer's value is a few object names");
        let mut slot = self.pointer.lock().await;
        if slot.stored.as_ref().is_some_and(|stored| stored.ordinal >= pointer.ordinal) {
            return self.commit(entry).await;
        }
        self.enter(&mut slot.busy)?;
        let result = self.publish_up(&mut slot, entry, pointer).await;
        slot.busy = false;
        result
    }

    /// Oldest file first, and each removal durable before the next one: a crash may bring the newest of the removed
    /// names back, never one with a hole behind it.
    async fn truncate(&self) -> Result<(), ReadError> {
        let slot = self.pointer.lock().await;
        self.kept.lock().alive().map_err(ReadError::Failed)?;
        let Some(pointer) = &slot.stored else { return Ok(()) };
        loop {
            let oldest = self.kept.lock().drop_oldest(pointer.truncatable);
            let Some(file) = oldest else { return Ok(()) };
            match self.disk.remove(&file.path).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.kept.lock().put_back(file);
                    return Err(ReadError::Failed(error));
                }
            }
            self.disk.sync_dir(&self.dir).await.map_err(|error| {
                self.die(&error);
                ReadError::Failed(error)
            })?;
        }
    }
}
