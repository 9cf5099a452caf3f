//! An object store that measures how long its PUTs take. Knows nothing else.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_log::store::{GetError, ObjectName, ObjectStore, PutError};
use kafscale_ports::Clock;

use crate::metrics::Metrics;

/// `inner`, measured.
pub(crate) struct Timed<S> {
    pub(crate) inner: Arc<S>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Timed<S> {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let begun = self.clock.now();
        let result = self.inner.put(name, body).await;
        self.metrics.data.put(self.clock.now() - begun);
        result
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        self.inner.get(name, range).await
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        self.inner.get_all(name).await
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        self.inner.delete(name).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes().await
    }
}
