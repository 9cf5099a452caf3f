//! Objects as files of a directory. Owns the order of writes and fsyncs that makes "stored" mean durable, and what
//! each failure on the way means; does not own which objects there are, nor their deletion.
//!
//! A PUT is: make the missing directories, each one's parent fsynced; create the file, write it, fsync it; fsync its
//! directory. Two cases taught the rest:
//!
//! - An earlier life may have made a directory and died before its parent's fsync. The directory is there now and
//!   can be gone after the next power failure, with every object in it. So the first use of a directory in this
//!   life fsyncs its parent, whoever made it.
//! - A directory's failed fsync may have dropped any name in it, and a later fsync can succeed all the same
//!   (fsyncgate). So nothing is stored any more in a directory whose fsync failed, and the broker is told
//!   ([`DirectoryStore::wounded`]), so that it ends: only a new process finds out what is there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, OpenMode};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::list::{Cursor, Folder, ListError, ObjectLister, Page, cut};
use super::{GetError, ObjectName, ObjectStore, PutError};

/// Directories above an object's file, below the root (`name`).
const DIRECTORY_LEVELS: usize = 3;

/// A store on a directory.
pub struct DirectoryStore {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Directories that this life has used. At most one for each two hexadecimal digits and a few more.
    used: Mutex<BTreeMap<PathBuf, Trust>>,
    /// Has a permit once an fsync of a directory has failed.
    wound: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Its own name is durable.
    Durable,
    /// An fsync of it failed: which of its names are durable is not known.
    Doubtful,
}

impl DirectoryStore {
    /// A store on `root`, whose parent must exist; `root` itself is made with the first object.
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> Self {
        Self { disk, root, used: Mutex::default(), wound: Notify::new() }
    }

    /// Returns once an fsync of a directory has failed: from then on the store refuses more and more until the process
    /// restarts. For one caller.
    pub async fn wounded(&self) {
        self.wound.notified().await;
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.to_string())
    }

    /// Makes `directory` and what is missing above it, up to the root, and their names durable.
    async fn use_directory(&self, directory: &Path) -> io::Result<()> {
        if self.trust(directory) == Some(Trust::Durable) {
            return Ok(());
        }
        let below_root: Vec<&Path> = directory.ancestors().take_while(|a| a.starts_with(&self.root)).collect();
        for path in below_root.into_iter().rev() {
            match self.trust(path) {
                Some(Trust::Durable) => continue,
                Some(Trust::Doubtful) => return Err(doubtful(path)),
                None => {}
            }
            match self.disk.create_dir(path).await {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.sync_directory(parent(path)).await?;
            self.used.lock().entry(path.to_owned()).or_insert(Trust::Durable);
        }
        Ok(())
    }

    fn trust(&self, directory: &Path) -> Option<Trust> {
        self.used.lock().get(directory).copied()
    }

    async fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let synced = self.disk.sync_dir(directory).await;
        let mut used = self.used.lock();
        if synced.is_err() {
            used.insert(directory.to_owned(), Trust::Doubtful);
            self.wound.notify_one();
        }
        // Somebody else's failed fsync may have dropped the name that this one seems to have made durable.
        match used.get(directory) {
            Some(Trust::Doubtful) => Err(synced.err().unwrap_or_else(|| doubtful(directory))),
            Some(Trust::Durable) | None => synced,
        }
    }

    /// Writes a file that was just created.
    async fn fill(&self, file: &dyn DiskFile, path: &Path, body: Vec<Bytes>) -> Result<(), PutError> {
        match file.write_at(0, body).await {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                // The bytes are needed. If it stays, it is an orphan: nothing refers to it, and its name says so.
                if let Err(kept) = self.disk.remove(path).await {
                    tracing::warn!(path = %path.display(), error = %kept, "half an object stays on the full disk");
                }
                return Err(PutError::Refused(error));
            }
            Err(error) => return Err(PutError::Unknown(error)),
        }
        file.sync().await.map_err(PutError::Unknown)?;
        self.sync_directory(parent(path)).await.map_err(PutError::Unknown)
    }

    /// The keys below a directory of the store, `levels` deep, that begin with `prefix`.
    fn keys<'a>(&'a self, key: String, levels: usize, prefix: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        async move {
            let inside = match self.disk.read_dir(&self.root.join(&key)).await {
                Ok(inside) => inside,
                // Nothing was stored in it yet, or what has this name is not of the store.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(error),
            };
            let mut keys = Vec::new();
            for path in inside {
                let Some(file) = path.file_name().and_then(OsStr::to_str) else { continue };
                let path = if key.is_empty() { file.to_owned() } else { format!("{key}/{file}") };
                if levels == 0 {
                    keys.push(path);
                } else if prefix.starts_with(&path) || path.starts_with(prefix) {
                    keys.extend(self.keys(path, levels - 1, prefix).await?);
                }
            }
            keys.retain(|key| levels > 0 || key.starts_with(prefix));
            Ok(keys)
        }
        .boxed()
    }

    async fn open(&self, name: &ObjectName) -> Result<Arc<dyn DiskFile>, GetError> {
        let opened = self.disk.open(&self.path(name), OpenMode::Existing).await;
        opened.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                GetError::NotFound(name.to_string())
            } else {
                failed(name, error)
            }
        })
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let path = self.path(name);
        self.use_directory(parent(&path)).await.map_err(PutError::Refused)?;
        let file = match self.disk.open(&path, OpenMode::CreateNew).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(PutError::taken(name));
            }
            Err(error) => return Err(PutError::Refused(error)),
        };
        self.fill(file.as_ref(), &path, body).await
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        let file = self.open(name).await?;
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        file.read_at(range.start, len).await.map_err(|error| failed(name, error))
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        let file = self.open(name).await?;
        let size = file.size().await.map_err(|error| failed(name, error))?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        file.read_at(0, len).await.map_err(|error| failed(name, error))
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        match self.disk.remove(&self.path(name)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        match self.disk.free_bytes(&self.root).await {
            // Before the first object.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.free_bytes(parent(&self.root)).await,
            answer => answer,
        }
    }
}

#[async_trait]
impl ObjectLister for DirectoryStore {
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError> {
        let keys = self.keys(String::new(), DIRECTORY_LEVELS, folder.prefix()).await?;
        Ok(cut(keys, after, most))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn doubtful(directory: &Path) -> io::Error {
    io::Error::other(format!(
        "an earlier fsync of {} failed, so what it holds may not survive a power failure; check the disk and restart",
        directory.display()
    ))
}

fn failed(name: &ObjectName, source: io::Error) -> GetError {
    GetError::Failed { name: name.to_string(), source }
}
