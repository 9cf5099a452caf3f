//! The disk port: just what a log on a directory needs, so that a simulated disk can see every write, fsync,
//! rename and directory entry, and forget what was not made durable.
//!
//! Durability, as POSIX gives it: file data is durable after [`DiskFile::sync`]; a name (a file or directory that
//! was created, renamed or removed) is durable after [`Disk::sync_dir`] of its parent. Nothing else is promised.
//! A failed sync is final: what was written may be lost even if a later sync succeeds (fsyncgate, 2018), so
//! callers never retry one.

mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use real::RealDisk;

/// A file system. Paths are absolute or relative to the process; parents must exist.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing; fails with `NotFound` or `AlreadyExists` as `mode` says.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates one directory; fails with `AlreadyExists` if the name is taken.
    async fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Renames a file, replacing what has the new name.
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system that holds `path`.
    async fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes the kernel's exclusive lock (flock, close-on-exec) on a file, which is created if absent. Held until
    /// the returned value is dropped or the process ends; fails with `WouldBlock` if another holds it.
    async fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// What [`Disk::open`] expects of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file is there.
    Existing,
    /// The name is free: the file is created.
    CreateNew,
}

/// An open file. All methods take `&self`; callers order their own writes.
#[async_trait]
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all slices one after the other, starting at `offset`.
    async fn write_at(&self, offset: u64, slices: Vec<Bytes>) -> io::Result<()>;
    /// Reads `len` bytes at `offset`; fewer only where the file ends.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
    /// The file's length in bytes.
    async fn size(&self) -> io::Result<u64>;
    /// Cuts (or extends with zeros) the file to `len` bytes.
    async fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the file's data and length durable (fdatasync).
    async fn sync(&self) -> io::Result<()>;
}

/// A held lock on a file; dropping it gives it back.
pub trait DiskLock: Send + Sync {}
