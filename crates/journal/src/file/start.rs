//! Starting on a directory: look at everything, judge it, and only then change anything.
//!
//! What can be unfinished after a crash, and what is done about it (why nothing else can be is in `writer`):
//!
//! - **The last frame of the last file is torn**: cut off, and the cut is fsynced. Pages reach the disk in any
//!   order, so a torn frame may lack its header and have its body, may be zeros, or may have its full length. It is
//!   told from damage by what follows: the next frame is written only after the fsync of this one, so if the header
//!   of a frame beyond it is found anywhere later in the file, this one was whole once, and it is damage.
//! - **The last file has no readable header and is no longer than one**: a crash while it was created; made anew.
//!   With more bytes it once had a durable header (frames come only after it): damage.
//! - **The last frame is whole but was never fsynced**: a killed process, or a failed fsync and a page cache that
//!   does not tell. Readers are about to act on it, so it is written again, the same bytes in the same place, and
//!   fsynced: an fsync alone says "ok" and does nothing when the pages were marked clean by the fsync that failed.
//!   The same goes for the names: the directory is fsynced.
//! - **`pointer.tmp`** is left: removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, DiskLock, OpenMode};

use super::Limits;
use super::error::StartError;
use super::format::{Entry, FILE_HEADER_BYTES, FileHeader, HeaderFault, first_chain};
use super::kept::{Kept, Mark, place};
use super::pointer::{self, StoreError};
use super::scan::{Scan, Step};
use super::writer::{Home, Sessions, Writer, file_start};
use crate::{Pointer, Record};

/// A journal that was started.
pub(super) struct Started {
    pub(super) lock: Box<dyn DiskLock>,
    pub(super) kept: Kept,
    pub(super) writer: Writer,
    pub(super) pointer: Option<Pointer>,
}

/// One file as its name and its header say.
struct LogFile {
    path: PathBuf,
    first: u64,
    bytes: u64,
    /// `None` if unreadable.
    header: Option<FileHeader>,
}

impl LogFile {
    fn is_half_made(&self) -> bool {
        self.header.is_none() && self.bytes <= FILE_HEADER_BYTES as u64
    }
}

/// What the end of the last file needs.
enum Repair {
    /// Make the file anew: it is half made, or not there at all.
    Create,
    /// Cut a torn frame off.
    Cut(Arc<dyn DiskFile>),
    /// Write the last frame (or the header, if there is none) again; it begins here.
    Rewrite(Arc<dyn DiskFile>, u64),
}

/// Locks the directory, verifies the journal in it, mends its end.
pub(super) async fn start(
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    new: u128,
    limits: &Limits,
) -> Result<Started, StartError> {
    let lock = take_lock(&*disk, &dir).await?;
    let stored = pointer::load(&*disk, &dir).await?;
    let files = survey(&*disk, &dir).await?;
    let incarnation = files.iter().find_map(|file| file.header.map(|h| h.incarnation)).unwrap_or(new);
    let mut verify = Verify {
        home: Home { disk, dir, incarnation },
        kept: Kept::new(limits.tail_bytes),
        sessions: Sessions::default(),
        at: file_start(files.first().map_or(1, |file| file.first), first_chain(incarnation)),
    };
    let repair = verify.files(&files).await?;
    let pointer = verify.check_pointer(stored)?;
    let file = verify.repair(repair).await?;
    let Verify { home, kept, sessions, at } = verify;
    let writer =
        Writer { home, file, at, most_file_bytes: limits.file_bytes, is_file_done: false, sessions, busy: false };
    Ok(Started { lock, kept, writer, pointer })
}

async fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, StartError> {
    let lock = dir.join("lock");
    match disk.lock(&lock).await {
        Ok(held) => Ok(held),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StartError::InUse { lock }),
        Err(error) => Err(StartError::io("lock the journal's directory", &lock)(error)),
    }
}

/// All files in order, with their headers. A newer one is an error before anything is judged or changed.
async fn survey(disk: &dyn Disk, dir: &Path) -> Result<Vec<LogFile>, StartError> {
    let names = disk.read_dir(dir).await.map_err(StartError::io("list the journal's directory", dir))?;
    let mut files = Vec::new();
    for name in names {
        let Some(first) = name.file_name().and_then(|name| ordinal_of(name.to_str()?)) else { continue };
        let path = dir.join(name.file_name().unwrap_or_default());
        let file = open(disk, &path).await?;
        let bytes = file.size().await.map_err(StartError::io("read the size of", &path))?;
        let head = file.read_at(0, FILE_HEADER_BYTES).await.map_err(StartError::io("read", &path))?;
        let header = match FileHeader::decode(&head) {
            Ok(header) => Some(header),
            Err(HeaderFault::Unreadable) => None,
            Err(HeaderFault::Newer(version)) => return Err(StartError::Newer { path, version }),
        };
        files.push(LogFile { path, first, bytes, header });
    }
    files.sort_by_key(|file| file.first);
    Ok(files)
}

fn ordinal_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?.filter(|n| *n > 0)
}

async fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, StartError> {
    disk.open(path, OpenMode::Existing).await.map_err(StartError::io("open", path))
}

struct Verify {
    home: Home,
    kept: Kept,
    sessions: Sessions,
    at: Mark,
}

impl Verify {
    /// Reads the whole chain, and says what its end needs.
    async fn files(&mut self, files: &[LogFile]) -> Result<Repair, StartError> {
        let Some((last, before)) = files.split_last() else { return Ok(Repair::Create) };
        for log in before {
            self.check_header(log)?;
            self.file(log, false).await?;
        }
        if last.is_half_made() {
            self.check_name(last)?;
            return Ok(Repair::Create);
        }
        self.check_header(last)?;
        self.file(last, true).await
    }

    fn check_name(&self, log: &LogFile) -> Result<(), StartError> {
        if log.first == self.at.ordinal {
            return Ok(());
        }
        let detail =
            format!("it should begin with entry {}: a file before it is missing or too short", self.at.ordinal);
        Err(StartError::damaged(&log.path, 0, detail))
    }

    fn check_header(&mut self, log: &LogFile) -> Result<(), StartError> {
        self.check_name(log)?;
        let Some(header) = log.header else {
            return Err(StartError::damaged(&log.path, 0, "the file's header is unreadable"));
        };
        if header.incarnation != self.home.incarnation {
            return Err(StartError::damaged(&log.path, 0, "the file belongs to another journal"));
        }
        if header.first != log.first {
            let detail = format!("its name is not its own: it begins with entry {}", header.first);
            return Err(StartError::damaged(&log.path, 0, detail));
        }
        // The first file kept may follow truncated ones: its own word is then the start of the chain.
        let follows_truncated = self.kept.end() == 0 && header.first > 1;
        if !follows_truncated && header.chain != self.at.chain {
            return Err(StartError::damaged(&log.path, 0, "it does not follow the file before it"));
        }
        self.at = file_start(header.first, header.chain);
        self.kept.add_file(log.path.clone(), self.at);
        Ok(())
    }

    /// Reads the frames of one file.
    async fn file(&mut self, log: &LogFile, is_last: bool) -> Result<Repair, StartError> {
        let file = open(&*self.home.disk, &log.path).await?;
        let mut scan = Scan::new(Arc::clone(&file), self.home.incarnation);
        let mut newest = 0;
        loop {
            let offset = self.at.offset;
            let detail = match scan.step(self.at).await.map_err(StartError::io("read", &log.path))? {
                Step::Frame { entries, next } => {
                    newest = offset;
                    self.frame(&entries, next);
                    continue;
                }
                Step::End => return Ok(Repair::Rewrite(file, newest)),
                Step::Wrong(detail) => return Err(StartError::damaged(&log.path, offset, detail)),
                Step::Bad(detail) => detail,
            };
            if !is_last {
                return Err(StartError::damaged(&log.path, offset, detail));
            }
            let later = scan.find_beyond(offset, self.at.ordinal).await;
            if let Some(at) = later.map_err(StartError::io("read", &log.path))? {
                let detail = format!("{detail}, and a later frame is whole at byte {at}");
                return Err(StartError::damaged(&log.path, offset, detail));
            }
            let (path, end) = (log.path.display(), self.kept.end());
            tracing::warn!(%path, offset, end, "the journal's last frame was torn by a crash; cutting it off");
            return Ok(Repair::Cut(file));
        }
    }

    fn frame(&mut self, entries: &[Entry], next: Mark) {
        let mut records = Vec::with_capacity(entries.len());
        for (entry, ordinal) in entries.iter().zip(self.at.ordinal..) {
            self.sessions.note(entry, ordinal);
            let position = place(ordinal);
            records.push(Record { position, nonce: entry.nonce, n: entry.n, entry: entry.bytes.clone() });
        }
        self.kept.add_frame(self.at, next.offset, records);
        self.at = next;
    }

    /// Holds the entries against the pointer.
    fn check_pointer(&self, stored: Option<(u128, Pointer)>) -> Result<Option<Pointer>, StartError> {
        let dir = &self.home.dir;
        // With no readable file there is nothing but a new incarnation that the pointer could be held against.
        let has_entries = self.kept.end() > 0;
        let needed = match &stored {
            None => 1,
            Some((incarnation, _)) if has_entries && *incarnation != self.home.incarnation => {
                return Err(StartError::damaged(&pointer::path(dir), 16, "the pointer belongs to another journal"));
            }
            Some((_, pointer)) if pointer.ordinal > self.kept.end() => {
                let (end, snapshot) = (self.kept.end(), pointer.ordinal);
                return Err(StartError::WentBack { dir: dir.clone(), end, snapshot });
            }
            Some((_, pointer)) => pointer.truncatable + 1,
        };
        let first = self.kept.first().max(if has_entries { 1 } else { self.at.ordinal });
        if first > needed {
            let detail = format!("entries {needed} to {} are missing before it", first - 1);
            return Err(StartError::damaged(&super::writer::file_path(dir, first), 0, detail));
        }
        Ok(stored.map(|(_, pointer)| pointer))
    }

    /// The first changes to the directory: mends the end and makes durable what was found.
    async fn repair(&mut self, repair: Repair) -> Result<Arc<dyn DiskFile>, StartError> {
        let Home { disk, dir, .. } = &self.home;
        let temp = pointer::temp_path(dir);
        match disk.remove(&temp).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StartError::io("remove", &temp)(error)),
        }
        let mend = StartError::io("make the end of the journal durable in", dir);
        let file = match repair {
            Repair::Create => {
                let start = file_start(self.at.ordinal, self.at.chain);
                let made = self.home.create_file(start).await;
                let (path, file) = made.map_err(|(StoreError::Failed(error) | StoreError::Sync(error))| mend(error))?;
                self.at = start;
                self.kept.add_file(path, start);
                return Ok(file);
            }
            Repair::Cut(file) => file.set_len(self.at.offset).await.map(|()| file),
            Repair::Rewrite(file, from) => {
                let mut scan = Scan::new(Arc::clone(&file), self.home.incarnation);
                match scan.raw(from, self.at.offset).await {
                    Ok(bytes) => file.write_at(from, vec![bytes]).await.map(|()| file),
                    Err(error) => Err(error),
                }
            }
        };
        let mended = match file {
            Ok(file) => file.sync().await.map(|()| file),
            Err(error) => Err(error),
        };
        let file = mended.map_err(mend)?;
        disk.sync_dir(dir).await.map_err(StartError::io("fsync the names in", dir))?;
        Ok(file)
    }
}
