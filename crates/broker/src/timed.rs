//! An object store that is measured: times, bytes, failures. Knows nothing else.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_log::store::{GetError, ObjectName, ObjectStore, PutError};
use kafscale_ports::Clock;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// `inner`, measured.
pub(crate) struct Timed {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

#[async_trait]
impl ObjectStore for Timed {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let (begun, bytes) = (self.clock.now(), body.iter().map(Bytes::len).sum());
        let result = self.inner.put(name, body).await;
        match &result {
            Ok(()) => self.metrics.store.put(self.clock.now() - begun, bytes),
            Err(_) => self.metrics.store.failed("put"),
        }
        result
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        let begun = self.clock.now();
        self.got(begun, self.inner.get(name, range).await)
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        let begun = self.clock.now();
        self.got(begun, self.inner.get_all(name).await)
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        let result = self.inner.delete(name).await;
        if result.is_err() {
            self.metrics.store.failed("delete");
        }
        result
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes().await
    }
}

impl Timed {
    fn got(&self, begun: Instant, result: Result<Bytes, GetError>) -> Result<Bytes, GetError> {
        match &result {
            Ok(bytes) => self.metrics.store.got(self.clock.now() - begun, bytes.len()),
            Err(_) => self.metrics.store.failed("get"),
        }
        result
    }
}
