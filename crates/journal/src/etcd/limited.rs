//! Limits the time of every call to etcd. A call that was given up may have its effect, so it is unknown; the real client
//! takes the dropped call as a sign to try another endpoint.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::kv::{Failure, Kv, Lease, LeaseId, Range, RangeReply, Revision, Txn, TxnReply, Watch, WatchStream};

/// See the module's documentation. What a watch says once it is open has no limit here.
pub(super) struct Limited {
    kv: Arc<dyn Kv>,
    limit: Duration,
}

impl Limited {
    pub(super) fn new(kv: Arc<dyn Kv>, limit: Duration) -> Self {
        Self { kv, limit }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match timeout(self.limit, call).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let words = format!("etcd did not answer within {:?}", self.limit);
                Err(Failure::Unknown(io::Error::new(io::ErrorKind::TimedOut, words)))
            }
        }
    }
}

#[async_trait]
impl Kv for Limited {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure> {
        self.within(self.kv.txn(txn)).await
    }

    async fn range(&self, range: Range) -> Result<RangeReply, Failure> {
        self.within(self.kv.range(range)).await
    }

    async fn watch(&self, watch: Watch) -> Result<Box<dyn WatchStream>, Failure> {
        self.within(self.kv.watch(watch)).await
    }

    async fn lease_grant(&self, ttl_s: u64) -> Result<Lease, Failure> {
        self.within(self.kv.lease_grant(ttl_s)).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Failure> {
        self.within(self.kv.lease_keep_alive(id)).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Failure> {
        self.within(self.kv.lease_revoke(id)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        self.within(self.kv.compact(revision)).await
    }
}
