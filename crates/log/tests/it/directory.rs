//! The directory store: on a real disk, and on one that records what is made durable and fails where it is told to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_log::store::{DirectoryStore, Folder, GetError, ObjectName, ObjectStore, PutError, list_all};
use kafscale_metadata::ObjectId;
use kafscale_ports::disk::{Disk, DiskFile, DiskLock, OpenMode, RealDisk};
use parking_lot::Mutex;

fn name(number: u32) -> ObjectName {
    ObjectName::bundle(1, ObjectId { nonce: 2, number })
}

fn body() -> Vec<Bytes> {
    vec![Bytes::from_static(b"hello "), Bytes::new(), Bytes::from_static(b"world")]
}

/// The real disk, with a record of calls and planned failures of them.
#[derive(Default)]
struct Watched {
    log: Mutex<Vec<String>>,
    failures: Mutex<BTreeMap<&'static str, io::ErrorKind>>,
    root: Mutex<PathBuf>,
}

impl Watched {
    fn note(&self, call: &'static str, path: &Path) -> io::Result<()> {
        let root = self.root.lock().clone();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        self.log.lock().push(format!("{call} /{shown}"));
        self.failures.lock().get(call).map_or(Ok(()), |kind| Err((*kind).into()))
    }
}

#[derive(Clone)]
struct WatchedDisk(Arc<Watched>);

struct WatchedFile(Arc<Watched>, Arc<dyn DiskFile>, PathBuf);

#[async_trait]
impl Disk for WatchedDisk {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.0.note("open", path)?;
        let file = RealDisk.open(path, mode).await?;
        Ok(Arc::new(WatchedFile(Arc::clone(&self.0), file, path.to_owned())))
    }
    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.note("mkdir", path)?;
        RealDisk.create_dir(path).await
    }
    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.read_dir(path).await
    }
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to).await
    }
    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.note("remove", path)?;
        RealDisk.remove(path).await
    }
    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.note("syncdir", path)
    }
    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path).await
    }
    async fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path).await
    }
}

#[async_trait]
impl DiskFile for WatchedFile {
    async fn write_at(&self, offset: u64, slices: Vec<Bytes>) -> io::Result<()> {
        self.0.note("write", &self.2)?;
        self.1.write_at(offset, slices).await
    }
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.1.read_at(offset, len).await
    }
    async fn size(&self) -> io::Result<u64> {
        self.1.size().await
    }
    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.set_len(len).await
    }
    async fn sync(&self) -> io::Result<()> {
        self.0.note("sync", &self.2)
    }
}

fn watched(directory: &Path) -> (DirectoryStore, Arc<Watched>) {
    let watched = Arc::new(Watched::default());
    *watched.root.lock() = directory.to_owned();
    (DirectoryStore::new(Arc::new(WatchedDisk(Arc::clone(&watched))), directory.join("objects")), watched)
}

#[tokio::test]
async fn what_is_put_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(Arc::new(RealDisk), directory.path().join("objects"));
    assert!(store.free_bytes().await.unwrap() > 0);
    assert!(matches!(store.get_all(&name(1)).await, Err(GetError::NotFound(_))));
    store.put(&name(1), body()).await.unwrap();
    store.put(&name(2), vec![]).await.unwrap();
    assert_eq!(store.get_all(&name(1)).await.unwrap(), "hello world");
    assert_eq!(store.get_all(&name(2)).await.unwrap(), "");
    assert_eq!(store.get(&name(1), 6..100).await.unwrap(), "world");
    assert_eq!(store.get(&name(1), 2..4).await.unwrap(), "ll");
    assert_eq!(store.get(&name(1), 100..200).await.unwrap(), "");
    assert!(matches!(store.get(&name(3), 0..1).await, Err(GetError::NotFound(_))));
    assert!(matches!(store.put(&name(1), vec![]).await, Err(PutError::Unknown(_))), "a name is used once");
    assert_eq!(store.get_all(&name(1)).await.unwrap(), "hello world");
    assert!(store.free_bytes().await.unwrap() > 0);
}

#[tokio::test]
async fn everything_is_durable_in_order_and_once_more_in_each_life() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = format!("/objects/{:032x}", 1);
    let file = format!("/objects/{}", name(7));
    let shard = file.rsplit_once('/').unwrap().0;
    let put = [format!("open {file}"), format!("write {file}"), format!("sync {file}"), format!("syncdir {shard}")];
    for life in 0..2 {
        let (store, disk) = watched(directory.path());
        if life == 1 {
            tokio::fs::remove_file(directory.path().join(&file[1..])).await.unwrap();
        }
        store.put(&name(7), body()).await.unwrap();
        // The second life finds the directories, and cannot know whether the first one's fsyncs came to an end.
        let mut expected = vec![
            "mkdir /objects".to_owned(),
            "syncdir /".to_owned(),
            format!("mkdir {cluster}"),
            "syncdir /objects".to_owned(),
            format!("mkdir {cluster}/bundle"),
            format!("syncdir {cluster}"),
            format!("mkdir {shard}"),
            format!("syncdir {cluster}/bundle"),
        ];
        expected.extend(put.clone());
        assert_eq!(*disk.log.lock(), expected);
        disk.log.lock().clear();
        tokio::fs::remove_file(directory.path().join(&file[1..])).await.unwrap();
        store.put(&name(7), body()).await.unwrap();
        assert_eq!(*disk.log.lock(), put, "known directories are not made again");
    }
}

#[tokio::test]
async fn each_failure_says_whether_the_object_may_be_there() {
    let cases = [
        ("mkdir", io::ErrorKind::StorageFull, true),
        ("open", io::ErrorKind::PermissionDenied, true),
        ("write", io::ErrorKind::StorageFull, true),
        ("write", io::ErrorKind::Other, false),
        ("sync", io::ErrorKind::Other, false),
    ];
    for (call, kind, is_refused) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (store, disk) = watched(directory.path());
        disk.failures.lock().insert(call, kind);
        let error = store.put(&name(1), body()).await.unwrap_err();
        assert_eq!(matches!(error, PutError::Refused(_)), is_refused, "{call}: {error:?}");
        disk.failures.lock().clear();
        store.put(&name(2), body()).await.unwrap();
        if call == "write" && is_refused {
            assert!(matches!(store.get_all(&name(1)).await, Err(GetError::NotFound(_))), "the space is given back");
        }
    }
}

#[tokio::test]
async fn a_directory_whose_fsync_failed_takes_no_more_objects() {
    let directory = tempfile::tempdir().unwrap();
    let (store, disk) = watched(directory.path());
    store.put(&name(1), body()).await.unwrap();
    disk.failures.lock().insert("syncdir", io::ErrorKind::Other);
    let same_shard = (2..).map(name).find(|n| shard(n) == shard(&name(1))).unwrap();
    let other_shard = (2..).map(name).find(|n| shard(n) != shard(&name(1))).unwrap();
    assert!(matches!(store.put(&same_shard, body()).await, Err(PutError::Unknown(_))));
    disk.failures.lock().clear();
    let again = (2..).map(name).filter(|n| shard(n) == shard(&name(1))).nth(1).unwrap();
    let Err(PutError::Refused(error)) = store.put(&again, body()).await else { panic!() };
    assert!(error.to_string().contains("fsync"), "{error}");
    store.put(&other_shard, body()).await.unwrap();
    assert_eq!(store.get_all(&name(1)).await.unwrap(), "hello world", "reading goes on");
}

fn shard(name: &ObjectName) -> String {
    name.to_string().rsplit_once('/').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_listing_passes_what_is_not_of_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(Arc::new(RealDisk), directory.path().join("objects"));
    let snapshot = ObjectName::snapshot(1, 2, 3, ObjectId { nonce: 4, number: 5 });
    store.put(&snapshot, body()).await.unwrap();
    store.put(&name(6), body()).await.unwrap();
    let root = directory.path().join("objects");
    let folder = root.join(snapshot.to_string()).parent().unwrap().to_owned();
    for stray in [root.join("lost+found"), root.join(format!("{:032x}/notes", 1)), folder.join("a copy")] {
        std::fs::write(stray, "not ours").unwrap();
    }
    std::fs::create_dir_all(root.join("elsewhere/bundle/00")).unwrap();
    let (names, strangers) = list_all(&store, &Folder::all()).await.unwrap();
    assert_eq!((names, strangers), (vec![name(6), snapshot], 1), "files where objects are count as strangers");
    assert_eq!(list_all(&store, &Folder::bundles(1)).await.unwrap(), (vec![name(6)], 0));
}
