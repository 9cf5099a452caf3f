//! A store whose objects are copied to a second one, nearer to this broker, by somebody else (a bucket's replication to
//! another region). Owns which of the two is read: the replica first, the primary when the object is not there (yet), or
//! when the replica fails or is slow. Everything else is the primary's alone.
//!
//! Objects are immutable, and their names are never reused: a copy can be late, and cannot be old.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Clock;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::{GetError, ObjectName, ObjectStore, PutError};

/// How long the replica may take: it is there to be quicker than the primary.
const PATIENCE: Duration = Duration::from_secs(2);
/// A replica that failed is left alone for so long.
const REST: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub struct ReadReplica {
    primary: Arc<dyn ObjectStore>,
    replica: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    rests_until: Mutex<Option<Instant>>,
}

impl ReadReplica {
    /// Reads from `replica` what is there, and from `primary` what is not.
    pub fn new(primary: Arc<dyn ObjectStore>, replica: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>) -> Self {
        Self { primary, replica, clock, rests_until: Mutex::new(None) }
    }

    /// What the replica answers; none if the primary must be asked.
    async fn ask<T>(&self, get: impl Future<Output = Result<T, GetError>>) -> Option<T> {
        let now = self.clock.now();
        if self.rests_until.lock().is_some_and(|until| now < until) {
            return None;
        }
        let failed = match timeout(PATIENCE, get).await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(GetError::NotFound(_))) => return None,
            Ok(Err(failed)) => failed.to_string(),
            Err(_elapsed) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(error = %failed, "the replica could not be read; the primary is, for {REST:?}");
        *self.rests_until.lock() = Some(self.clock.now() + REST);
        None
    }
}

#[async_trait]
impl ObjectStore for ReadReplica {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        self.primary.put(name, body).await
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        match self.ask(self.replica.get(name, range.clone())).await {
            Some(found) => Ok(found),
            None => self.primary.get(name, range).await,
        }
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        match self.ask(self.replica.get_all(name)).await {
            Some(found) => Ok(found),
            None => self.primary.get_all(name).await,
        }
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        self.primary.delete(name).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.primary.free_bytes().await
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
