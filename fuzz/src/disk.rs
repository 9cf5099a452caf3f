//! A disk of a few files in memory: no faults, no durability, and nothing ever waits.
//!
//! It holds what an input says, and shows afterwards what was made of it. The simulator's disk, which forgets and fails,
//! would bring the whole broker into this crate.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;

/// The only directory.
pub const DIR: &str = "/journal";

type Contents = Arc<Mutex<Vec<u8>>>;

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Contents>>>,
}

impl MemoryDisk {
    /// Puts a file into [`DIR`].
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.files.lock().insert(Path::new(DIR).join(name), Arc::new(Mutex::new(bytes.to_vec())));
    }

    /// All files, by name.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.lock().iter().map(|(path, contents)| (name(path), contents.lock().clone())).collect()
    }
}

#[async_trait]
impl Disk for MemoryDisk {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        let contents = match (mode, files.get(path)) {
            (OpenMode::Existing, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Existing, Some(contents)) => contents.clone(),
            (OpenMode::CreateNew, None) => files.entry(path.to_owned()).or_default().clone(),
        };
        Ok(Arc::new(MemoryFile(contents)))
    }

    async fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.lock().keys().filter(|file| file.parent() == Some(path)).cloned().collect())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let contents = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), contents);
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    async fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.files.lock().entry(path.to_owned()).or_default();
        Ok(Box::new(Held))
    }
}

struct Held;

impl DiskLock for Held {}

struct MemoryFile(Contents);

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory")
}

#[async_trait]
impl DiskFile for MemoryFile {
    async fn write_at(&self, offset: u64, slices: Vec<Bytes>) -> io::Result<()> {
        let (data, start) = (slices.concat(), place(offset));
        let mut file = self.0.lock();
        if file.len() < start + data.len() {
            file.resize(start + data.len(), 0);
        }
        file[start..start + data.len()].copy_from_slice(&data);
        Ok(())
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let file = self.0.lock();
        let start = place(offset).min(file.len());
        let end = start.saturating_add(len).min(file.len());
        Ok(Bytes::copy_from_slice(&file[start..end]))
    }

    async fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().resize(place(len), 0);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
