//! The data directory: whose it is, of which format, and that nobody else uses it. Owns the directory itself, its
//! lock and its identity file; what is in `journal/` and `objects/` belongs to the journal and the store.
//!
//! ```text
//! DIR/lock        the kernel's lock on it is held while a broker runs; empty
//! DIR/identity    a few lines of text, see [`Identity`]; written once
//! DIR/journal/    made before objects/
//! DIR/objects/    not there if the objects are in a bucket
//! ```
//!
//! A crash at any moment of the first start leaves a directory that the next start completes. The order makes
//! loss visible: the identity is durable before `journal/` is made, and `journal/` before `objects/`; so a directory
//! that has a later one and lacks an earlier one has lost it, and is refused.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kafscale_ports::disk::{DiskLock, OpenMode};
use kafscale_ports::{Disk, Random};

/// The newest format that this release reads. A directory without objects is written in it; one with objects in format 1,
/// which older releases read.
pub const FORMAT: u32 = 2;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.tmp";
const JOURNAL: &str = "journal";
const OBJECTS: &str = "objects";
/// A line of the identity.
const IN_A_BUCKET: &str = "objects in a bucket";
/// What the root of a file system may hold that is of no concern.
const LOST_AND_FOUND: &str = "lost+found";

/// Whose directory it is.
///
/// As it is stored (format 1; every format begins with a line of this form and ends with such a checksum of all
/// bytes before its last line):
///
/// ```text
/// kafscale data directory, format 1
/// cluster 6b1f0f6ee9c94f5c8e1f3d2a7b5c4d3e
/// directory 0f1e2d3c4b5a69788796a5b4c3d2e1f0
/// crc32c 1c291ca3
/// ```
///
/// Format 2 is of a directory whose objects are in a bucket, and has the line `objects in a bucket` before its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u128,
    /// The directory's own id: the identity token of the broker that runs on it.
    pub directory: u128,
    /// Where the objects are.
    pub objects: ObjectsIn,
}

/// Where the objects are that a directory's journal refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectsIn {
    /// In the same directory.
    Directory,
    /// In a bucket.
    Bucket,
}

/// A data directory in use by this process.
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    _lock: Box<dyn DiskLock>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something else has the name.
    #[error("{path} is not a directory: choose another with --data-dir DIR")]
    NotADirectory {
        /// The data directory.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {doing} {path}: give this user the right to write there, or choose another with --data-dir DIR")]
    Unusable {
        /// What was attempted.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{path} is in use by another broker: stop that one, or choose another directory with --data-dir DIR")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// There is something in it that is not ours.
    #[error(
        "{path} is not empty and not a KafScale data directory (it has {found}): choose another with --data-dir DIR"
    )]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// One name in it.
        found: String,
    },
    /// A part of it is missing or is not what was written.
    #[error("{path} is damaged: {what}. Restore it from a copy, or start anew with another --data-dir DIR")]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A newer release wrote it.
    #[error(
        "{path} has format {found}, and this release reads formats up to {FORMAT}: run the release that wrote it, or a newer one"
    )]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl DataDir {
    /// Takes the directory for this process. At the first start it is made, for `objects`; later its identity says where
    /// they are, and the caller has to look.
    ///
    /// # Errors
    /// If it cannot be used; nothing in it was changed then, but that a lock file may have been made.
    pub async fn open(
        disk: &dyn Disk,
        random: &dyn Random,
        path: &Path,
        objects: ObjectsIn,
    ) -> Result<Self, DataDirError> {
        create_with_parents(disk, path).await?;
        let lock = lock(disk, path).await?;
        let names = names(disk, path).await?;
        let has = |name: &str| names.iter().any(|there| there == name);
        let identity = if has(IDENTITY) {
            if has(OBJECTS) && !has(JOURNAL) {
                return Err(DataDirError::Damaged { path: path.join(JOURNAL), what: "it is missing" });
            }
            read_identity(disk, path).await?
        } else {
            refuse_foreign(path, &names)?;
            let identity = Identity { cluster: random.u128(), directory: random.u128(), objects };
            write_identity(disk, path, identity, has(IDENTITY_TEMPORARY)).await?;
            identity
        };
        // The name of the identity may be one that a crash left before it was made durable.
        sync(disk, path).await?;
        let parts: &[&str] = match identity.objects {
            ObjectsIn::Directory => &[JOURNAL, OBJECTS],
            ObjectsIn::Bucket => &[JOURNAL],
        };
        for name in parts {
            create(disk, &path.join(name)).await?;
            sync(disk, path).await?;
        }
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Where the objects are.
    pub fn objects(&self) -> PathBuf {
        self.path.join(OBJECTS)
    }
}

fn unusable(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Unusable { doing, path, source }
}

/// The directory that holds the name `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes a directory and those above it that are missing, each name durable before the next is made in it.
async fn create_with_parents(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let mut missing = Vec::new();
    let mut next = path;
    while create_one(disk, next).await? == Made::ParentMissing {
        missing.push(next);
        next = parent(next);
    }
    for path in missing.into_iter().rev() {
        // There are places in which nothing can be made, such as /proc: they say "not found" for ever.
        if create_one(disk, path).await? == Made::ParentMissing {
            return Err(unusable("create", path)(io::ErrorKind::NotFound.into()));
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Made {
    There,
    ParentMissing,
}

async fn create_one(disk: &dyn Disk, path: &Path) -> Result<Made, DataDirError> {
    match disk.create_dir(path).await {
        Ok(()) => sync(disk, parent(path)).await?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Perhaps a crash left a name that is not durable yet. Where the system does not let us say so, the
            // directory was made by someone else, who has the right to.
            let _ = disk.sync_dir(parent(path)).await;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent(path) != path => {
            return Ok(Made::ParentMissing);
        }
        Err(error) => return Err(unusable("create", path)(error)),
    }
    Ok(Made::There)
}

async fn create(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    match disk.create_dir(path).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unusable("create", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn sync(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    disk.sync_dir(path).await.map_err(unusable("make durable the names in", path))
}

async fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskLock>, DataDirError> {
    let file = path.join(LOCK);
    disk.lock(&file).await.map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            DataDirError::InUse { path: path.to_owned() }
        } else if error.kind() == io::ErrorKind::NotADirectory {
            DataDirError::NotADirectory { path: path.to_owned() }
        } else {
            unusable("write", &file)(error)
        }
    })
}

async fn names(disk: &dyn Disk, path: &Path) -> Result<Vec<String>, DataDirError> {
    let paths = disk.read_dir(path).await.map_err(unusable("list", path))?;
    Ok(paths.iter().filter_map(|p| p.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
}

/// A directory without identity is taken only if nothing is in it but what an interrupted first start left.
fn refuse_foreign(path: &Path, names: &[String]) -> Result<(), DataDirError> {
    let harmless = |name: &str| [LOCK, IDENTITY_TEMPORARY, LOST_AND_FOUND].contains(&name);
    if names.iter().any(|name| name == JOURNAL || name == OBJECTS) {
        return Err(DataDirError::Damaged { path: path.join(IDENTITY), what: "it is missing" });
    }
    match names.iter().find(|name| !harmless(name)) {
        Some(found) => Err(DataDirError::Foreign { path: path.to_owned(), found: found.clone() }),
        None => Ok(()),
    }
}

async fn write_identity(disk: &dyn Disk, path: &Path, identity: Identity, leftover: bool) -> Result<(), DataDirError> {
    let (temporary, file) = (path.join(IDENTITY_TEMPORARY), path.join(IDENTITY));
    if leftover {
        disk.remove(&temporary).await.map_err(unusable("remove", &temporary))?;
    }
    let write = async {
        let open = disk.open(&temporary, OpenMode::CreateNew).await?;
        open.write_at(0, vec![Bytes::from(identity.encode())]).await?;
        open.sync().await?;
        disk.rename(&temporary, &file).await
    };
    write.await.map_err(unusable("write", &file))?;
    sync(disk, path).await
}

async fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Identity, DataDirError> {
    let file = path.join(IDENTITY);
    let read = async { disk.open(&file, OpenMode::Existing).await?.read_at(0, 4096).await };
    let bytes = read.await.map_err(unusable("read", &file))?;
    Identity::decode(&bytes).map_err(|refusal| match refusal {
        Refusal::Damaged(what) => DataDirError::Damaged { path: file, what },
        Refusal::Newer(found) => DataDirError::Newer { path: path.to_owned(), found },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Damaged(&'static str),
    Newer(u32),
}

fn crc(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("CRC-32C has 32 bits")
}

impl Identity {
    fn encode(&self) -> String {
        let Self { cluster, directory, objects } = self;
        let (format, rest) = match objects {
            ObjectsIn::Directory => (1, String::new()),
            ObjectsIn::Bucket => (FORMAT, format!("{IN_A_BUCKET}\n")),
        };
        let text = format!(
            "kafscale data directory, format {format}\ncluster {cluster:032x}\ndirectory {directory:032x}\n{rest}"
        );
        let crc = crc(text.as_bytes());
        format!("{text}crc32c {crc:08x}\n")
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Damaged("it is not text"))?;
        let (body, last) = split_last_line(text).ok_or(Refusal::Damaged("it is cut off"))?;
        let stored = last.strip_prefix("crc32c ").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if stored != Some(crc(body.as_bytes())) {
            return Err(Refusal::Damaged("its checksum is wrong"));
        }
        let mut lines = body.lines();
        let format = lines.next().and_then(|line| line.strip_prefix("kafscale data directory, format "));
        let objects = match format.and_then(|format| format.parse::<u32>().ok()) {
            Some(1) => ObjectsIn::Directory,
            Some(FORMAT) => ObjectsIn::Bucket,
            Some(found) if found > FORMAT => return Err(Refusal::Newer(found)),
            Some(_) | None => return Err(Refusal::Damaged("its first line is none of ours")),
        };
        let mut field = |name: &str| {
            let value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
            u128::from_str_radix(value, 16).ok()
        };
        let (Some(cluster), Some(directory)) = (field("cluster"), field("directory")) else {
            return Err(Refusal::Damaged("a line is missing"));
        };
        if objects == ObjectsIn::Bucket && lines.next() != Some(IN_A_BUCKET) {
            return Err(Refusal::Damaged("it does not say where the objects are"));
        }
        Ok(Self { cluster, directory, objects })
    }
}

/// The text up to its last line, and that line without its end.
fn split_last_line(text: &str) -> Option<(&str, &str)> {
    let whole = text.strip_suffix('\n')?;
    let at = whole.rfind('\n')? + 1;
    Some((&text[..at], &whole[at..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_identity_is_read_as_written(cluster: u128, directory: u128, in_bucket: bool) {
            let objects = if in_bucket { ObjectsIn::Bucket } else { ObjectsIn::Directory };
            let identity = Identity { cluster, directory, objects };
            prop_assert_eq!(Identity::decode(identity.encode().as_bytes()), Ok(identity));
        }

        #[test]
        fn any_changed_byte_is_noticed(cluster: u128, at in 0..1000_usize, with in 1..=255_u8) {
            let identity = Identity { cluster, directory: 1, objects: ObjectsIn::Bucket };
            let mut bytes = identity.encode().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= with;
            // Upper-case hex digits in the checksum's own line are the one change that changes nothing.
            if let Ok(read) = Identity::decode(&bytes) {
                prop_assert_eq!(read, identity);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Identity::decode(&bytes);
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let body = "kafscale data directory, format 3\nsomething else\n";
        let text = format!("{body}crc32c {:08x}\n", crc(body.as_bytes()));
        assert_eq!(Identity::decode(text.as_bytes()), Err(Refusal::Newer(3)));
        assert_eq!(Identity::decode(b""), Err(Refusal::Damaged("it is cut off")));
    }
}
