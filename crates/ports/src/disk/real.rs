//! The operating system's disk. Owns the only `spawn_blocking` of the product: file I/O blocks, the runtime must
//! not.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::{Disk, DiskFile, DiskLock, OpenMode};

/// Files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// Runs a blocking call off the runtime's worker threads.
#[expect(clippy::disallowed_methods, reason = "this is the disk port")]
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => Err(io::Error::other(join)),
    }
}

#[async_trait]
impl Disk for RealDisk {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let path = path.to_owned();
        let create = mode == OpenMode::CreateNew;
        let file = blocking(move || OpenOptions::new().read(true).write(true).create_new(create).open(path)).await?;
        Ok(Arc::new(RealFile(Arc::new(file))))
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::create_dir(path)).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let path = path.to_owned();
        blocking(move || {
            let mut paths = std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
            paths.sort();
            Ok(paths)
        })
        .await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || std::fs::rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_file(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || File::open(path)?.sync_all()).await
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = path.to_owned();
        blocking(move || {
            let stat = rustix::fs::statvfs(&path)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        })
        .await
    }

    async fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let path = path.to_owned();
        let file = blocking(move || {
            // std opens files close-on-exec, so a child process never keeps the lock alive.
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        })
        .await?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

struct RealFile(Arc<File>);

struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

#[async_trait]
impl DiskFile for RealFile {
    async fn write_at(&self, offset: u64, slices: Vec<Bytes>) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        blocking(move || write_vectored_at(&file, offset, &slices)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = Arc::clone(&self.0);
        blocking(move || {
            // Never trust a length that may come from a damaged file: no more than what is there is allocated.
            let there = file.metadata()?.len().saturating_sub(offset);
            let mut buffer = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        })
        .await
    }

    async fn size(&self) -> io::Result<u64> {
        let file = Arc::clone(&self.0);
        blocking(move || Ok(file.metadata()?.len())).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        blocking(move || file.set_len(len)).await
    }

    async fn sync(&self) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        blocking(move || file.sync_data()).await
    }
}

/// One `pwritev` takes at most this many slices (IOV_MAX on Linux).
const MAX_SLICES: usize = 1024;

fn write_vectored_at(file: &File, mut offset: u64, slices: &[Bytes]) -> io::Result<()> {
    let mut all: Vec<IoSlice<'_>> = slices.iter().map(|s| IoSlice::new(s)).collect();
    let mut left: &mut [IoSlice<'_>] = &mut all;
    IoSlice::advance_slices(&mut left, 0); // drops leading empty slices, which would look like a full disk
    while !left.is_empty() {
        let batch = &left[..left.len().min(MAX_SLICES)];
        let written = match rustix::io::pwritev(file, batch, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        offset += written as u64;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}
