//! The suite over the stores that need nothing beside them, and over stores that break the port, each in one way: the
//! suite must find every one.

use std::io;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use kafscale_log::store::conformance::{Backend, Both, run};
use kafscale_log::store::{
    Cursor, DirectoryStore, Folder, GetError, ListError, MemoryStore, ObjectLister, ObjectName, ObjectStore, Page,
    PutError,
};
use kafscale_ports::disk::RealDisk;
use tempfile::TempDir;

struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        Arc::new(MemoryStore::new())
    }
}

struct Directories {
    root: TempDir,
    made: u32,
}

#[async_trait]
impl Backend for Directories {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        self.made += 1;
        Arc::new(DirectoryStore::new(Arc::new(RealDisk), self.root.path().join(self.made.to_string())))
    }
}

#[tokio::test]
async fn memory_conforms() {
    run(&mut Memory).await;
}

#[tokio::test]
async fn directories_conform() {
    run(&mut Directories { root: TempDir::new().unwrap(), made: 0 }).await;
}

/// One way to break the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    Overwrites,
    ForgetsTheLastSlice,
    RefusesNoBytes,
    PadsRanges,
    FailsBeyondTheEnd,
    FindsWhatIsNotThere,
    FailsForWhatIsNotThere,
    DeletesOnce,
    DeletesNothing,
    IgnoresTheCluster,
    SaysRefusedForTaken,
    LetsEverybodyWin,
    ListsTheCursorAgain,
    ListsUnordered,
    ListsEverything,
    StopsListingAfterAPage,
}

struct Broken {
    bug: Bug,
    store: MemoryStore,
}

impl Broken {
    fn name(&self, name: &ObjectName) -> ObjectName {
        if self.bug == Bug::IgnoresTheCluster { ObjectName::bundle(1, name.object()) } else { *name }
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put(&self, name: &ObjectName, mut body: Vec<Bytes>) -> Result<(), PutError> {
        let name = self.name(name);
        if self.bug == Bug::RefusesNoBytes && body.is_empty() {
            return Err(PutError::Refused(io::ErrorKind::InvalidInput.into()));
        }
        if self.bug == Bug::Overwrites {
            self.store.remove(&name);
        }
        if self.bug == Bug::ForgetsTheLastSlice {
            body.pop();
        }
        match self.store.put(&name, body).await {
            Err(PutError::Unknown(why)) if self.bug == Bug::SaysRefusedForTaken => Err(PutError::Refused(why)),
            Err(_) if self.bug == Bug::LetsEverybodyWin => Ok(()),
            answer => answer,
        }
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        let name = self.name(name);
        let wanted = range.end.saturating_sub(range.start);
        match self.store.get(&name, range).await {
            Ok(bytes) if self.bug == Bug::PadsRanges && wanted < 1 << 20 => {
                let mut padded = bytes.to_vec();
                padded.resize(usize::try_from(wanted).unwrap(), 0);
                Ok(padded.into())
            }
            Ok(bytes) if self.bug == Bug::FailsBeyondTheEnd && bytes.is_empty() && wanted > 0 => {
                Err(GetError::Failed { name: name.to_string(), source: io::ErrorKind::UnexpectedEof.into() })
            }
            answer => answer,
        }
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        let name = self.name(name);
        match self.store.get_all(&name).await {
            Err(GetError::NotFound(_)) if self.bug == Bug::FindsWhatIsNotThere => Ok(Bytes::new()),
            Err(GetError::NotFound(name)) if self.bug == Bug::FailsForWhatIsNotThere => {
                Err(GetError::Failed { name, source: io::ErrorKind::NotFound.into() })
            }
            answer => answer,
        }
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        let name = self.name(name);
        if self.bug == Bug::DeletesOnce {
            return self.store.remove(&name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        if self.bug == Bug::DeletesNothing { Ok(()) } else { self.store.delete(&name).await }
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.store.free_bytes().await
    }
}

#[async_trait]
impl ObjectLister for Broken {
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError> {
        let folder = if self.bug == Bug::ListsEverything { &Folder::all() } else { folder };
        let mut page = self.store.list(folder, after, most).await?;
        if self.bug == Bug::ListsTheCursorAgain && after.is_some() {
            page.names.insert(0, self.store.names()[0]);
            page.names.truncate(most);
        }
        if self.bug == Bug::ListsUnordered {
            page.names.reverse();
        }
        if self.bug == Bug::StopsListingAfterAPage {
            page.next = None;
        }
        Ok(page)
    }
}

#[async_trait]
impl Backend for Bug {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        Arc::new(Broken { bug: *self, store: MemoryStore::new() })
    }
}

#[tokio::test]
async fn each_broken_store_is_found() {
    let bugs = [
        Bug::Overwrites,
        Bug::ForgetsTheLastSlice,
        Bug::RefusesNoBytes,
        Bug::PadsRanges,
        Bug::FailsBeyondTheEnd,
        Bug::FindsWhatIsNotThere,
        Bug::FailsForWhatIsNotThere,
        Bug::DeletesOnce,
        Bug::DeletesNothing,
        Bug::IgnoresTheCluster,
        Bug::SaysRefusedForTaken,
        Bug::LetsEverybodyWin,
        Bug::ListsTheCursorAgain,
        Bug::ListsUnordered,
        Bug::ListsEverything,
        Bug::StopsListingAfterAPage,
    ];
    for mut bug in bugs {
        let found = AssertUnwindSafe(run(&mut bug)).catch_unwind().await;
        assert!(found.is_err(), "the suite lets {bug:?} pass");
    }
}
