//! Objects in memory, with every fault that a store may have: for tests, of this crate and of those above it. A PUT
//! or GET takes the next planned fault, if there is one, after the latency.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::list::{Cursor, Folder, ListError, ObjectLister, Page, cut};
use super::{GetError, ObjectName, ObjectStore, PutError};

/// What becomes of one PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutFault {
    /// Nothing goes wrong.
    None,
    /// Refused: the object is not there.
    Refused,
    /// The object is there, and the answer says unknown.
    UnknownLanded,
    /// The object is not there, and the answer says unknown.
    UnknownLost,
}

/// What becomes of one GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetFault {
    /// Nothing goes wrong.
    None,
    /// The store fails.
    Failed,
    /// The store says that there is no such object.
    NotFound,
    /// The byte at this position (modulo the length) is flipped.
    Damaged(u64),
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<ObjectName, Bytes>,
    put_latency: VecDeque<Duration>,
    put_faults: VecDeque<PutFault>,
    get_faults: VecDeque<GetFault>,
    latency: Duration,
    puts: u64,
    gets: u64,
}

impl MemoryStore {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every request takes this long.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.lock().latency = latency;
    }

    /// The next PUTs take this long, in the order in which they begin.
    pub fn plan_put_latency(&self, latencies: impl IntoIterator<Item = Duration>) {
        self.inner.lock().put_latency.extend(latencies);
    }

    /// What becomes of the next PUTs, in the order in which they begin.
    pub fn plan_puts(&self, faults: impl IntoIterator<Item = PutFault>) {
        self.inner.lock().put_faults.extend(faults);
    }

    /// What becomes of the next GETs, in the order in which they begin.
    pub fn plan_gets(&self, faults: impl IntoIterator<Item = GetFault>) {
        self.inner.lock().get_faults.extend(faults);
    }

    /// PUTs that have begun.
    pub fn puts(&self) -> u64 {
        self.inner.lock().puts
    }

    /// GETs that have begun.
    pub fn gets(&self) -> u64 {
        self.inner.lock().gets
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<ObjectName> {
        self.inner.lock().objects.keys().copied().collect()
    }

    /// Removes an object, as upkeep will.
    pub fn remove(&self, name: &ObjectName) -> Option<Bytes> {
        self.inner.lock().objects.remove(name)
    }

    fn begin_put(&self) -> (Duration, PutFault) {
        let mut inner = self.inner.lock();
        inner.puts += 1;
        let latency = inner.put_latency.pop_front().unwrap_or(inner.latency);
        (latency, inner.put_faults.pop_front().unwrap_or(PutFault::None))
    }

    fn land(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let mut inner = self.inner.lock();
        if inner.objects.contains_key(name) {
            return Err(PutError::taken(name));
        }
        let mut bytes = BytesMut::with_capacity(body.iter().map(Bytes::len).sum());
        body.iter().for_each(|slice| bytes.extend_from_slice(slice));
        inner.objects.insert(*name, bytes.freeze());
        Ok(())
    }

    async fn read(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        let (latency, fault) = {
            let mut inner = self.inner.lock();
            inner.gets += 1;
            (inner.latency, inner.get_faults.pop_front().unwrap_or(GetFault::None))
        };
        pass(latency).await;
        let there = self.inner.lock().objects.get(name).cloned();
        match (fault, there) {
            (GetFault::Failed, _) => {
                Err(GetError::Failed { name: name.to_string(), source: io::ErrorKind::TimedOut.into() })
            }
            (GetFault::NotFound, _) | (_, None) => Err(GetError::NotFound(name.to_string())),
            (GetFault::None, Some(bytes)) => Ok(bytes),
            (GetFault::Damaged(at), Some(bytes)) => {
                let mut damaged = bytes.to_vec();
                let len = damaged.len().max(1) as u64;
                if let Some(byte) = damaged.get_mut(usize::try_from(at % len).unwrap_or(0)) {
                    *byte ^= 0xff;
                }
                Ok(damaged.into())
            }
        }
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let (latency, fault) = self.begin_put();
        pass(latency).await;
        match fault {
            PutFault::None => self.land(name, body),
            PutFault::Refused => Err(PutError::Refused(io::ErrorKind::StorageFull.into())),
            PutFault::UnknownLost => Err(PutError::Unknown(io::ErrorKind::TimedOut.into())),
            PutFault::UnknownLanded => {
                self.land(name, body)?;
                Err(PutError::Unknown(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        let all = self.read(name).await?;
        let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(all.len());
        Ok(all.slice(cut(range.start)..cut(range.end).max(cut(range.start))))
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        self.read(name).await
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        self.inner.lock().objects.remove(name);
        Ok(())
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[async_trait]
impl ObjectLister for MemoryStore {
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError> {
        let keys = self.names().into_iter().map(|name| name.to_string()).filter(|key| key.starts_with(folder.prefix()));
        Ok(cut(keys.collect(), after, most))
    }
}

async fn pass(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}
