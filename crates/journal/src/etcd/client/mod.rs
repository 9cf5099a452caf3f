//! The real client: etcd's gRPC API by tonic, on the port of [`kv`](super::kv).
//!
//! Owns: which endpoint is asked, the token of a user, and what a gRPC status means for the caller. Does not own:
//! time limits (a caller that gives up drops the call; the next one goes to the next endpoint) and repetition (but for
//! one after a token was refused, which had no effect).
//!
//! Not the crate `etcd-client`: its build needs a `protoc` binary, and its balancer stays with an endpoint that is
//! reachable but cut off from its leader.

mod convert;
mod endpoints;
mod members;
mod status;
mod watching;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use prost::Message;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use self::convert::{compared_txn, found, lease_of, range_request, revision_of, txn_reply};
use self::endpoints::{Attempt, Endpoints};
pub use self::endpoints::{Config, ConfigError, Tls, User};
use self::status::{is_about_the_token, to_failure};
use self::watching::Watching;
use super::kv::{Failure, Kv, Lease, LeaseId, Range, RangeReply, Refusal, Revision, Txn, TxnReply, Watch, WatchStream};

mod proto {
    //! Made from `proto/etcd.proto`.
    #![expect(unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// Answers may be larger than gRPC's default of 4 MiB: a page of entries, each below 256 KiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client of one etcd cluster.
pub struct Etcd {
    endpoints: Arc<Endpoints>,
}

fn grpc(channel: Channel) -> Grpc<Channel> {
    Grpc::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}

fn not_ready(error: tonic::transport::Error) -> Status {
    Status::unavailable(format!("not connected: {error}"))
}

impl Etcd {
    /// Prepares the connections; they are made when they are needed.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self { endpoints: Arc::new(Endpoints::new(config)?) })
    }

    /// One request and its answer, from the endpoint that is in use.
    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.unary_at(None, path, request).await
    }

    async fn unary_at<Q, A>(&self, endpoint: Option<usize>, path: &'static str, request: Q) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.attempts_at(endpoint, |attempt| {
            let request = attempt.request(request.clone());
            let mut grpc = grpc(attempt.channel());
            async move {
                grpc.ready().await.map_err(not_ready)?;
                let codec = ProstCodec::<Q, A>::default();
                let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await?;
                Ok(answer.into_inner())
            }
        })
        .await
    }

    /// As [`Etcd::attempts_at`], at the endpoint in use.
    async fn attempts<T, F>(&self, attempt: impl FnMut(&Attempt) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.attempts_at(None, attempt).await
    }

    /// Tries once, and once more with a new token if the token was refused.
    async fn attempts_at<T, F>(
        &self,
        endpoint: Option<usize>,
        mut attempt: impl FnMut(&Attempt) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut renewed = false;
        loop {
            let guard = match endpoint {
                Some(index) => self.endpoints.attempt_at(index).await?,
                None => self.endpoints.attempt().await?,
            };
            match attempt(&guard).await {
                Ok(answer) => {
                    guard.succeeded();
                    return Ok(answer);
                }
                Err(status) if is_about_the_token(&status) && guard.has_token() && !renewed => {
                    renewed = true;
                    guard.forget_token();
                }
                Err(status) => return Err(guard.failed(status)),
            }
        }
    }
}

#[async_trait]
impl Kv for Etcd {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure> {
        let answer: proto::TxnResponse = self.unary("/etcdserverpb.KV/Txn", compared_txn(txn)).await?;
        txn_reply(answer)
    }

    async fn range(&self, range: Range) -> Result<RangeReply, Failure> {
        let mut request = range_request(range.get);
        request.revision = convert::signed(range.revision);
        request.serializable = range.serializable;
        let answer: proto::RangeResponse = self.unary("/etcdserverpb.KV/Range", request).await?;
        Ok(RangeReply { revision: revision_of(answer.header.as_ref()), found: found(answer) })
    }

    async fn watch(&self, watch: Watch) -> Result<Box<dyn WatchStream>, Failure> {
        let opened = self
            .attempts(|attempt| {
                let (request, grpc) = (attempt.request(watching::create(&watch)), grpc(attempt.channel()));
                let (opening, on) = (watching::open(grpc, request), attempt.index());
                async move { opening.await.map(|opened| (opened, on)) }
            })
            .await?;
        let (opened, on) = opened;
        Ok(Box::new(Watching::new(opened, Arc::clone(&self.endpoints), on)))
    }

    async fn lease_grant(&self, ttl_s: u64) -> Result<Lease, Failure> {
        let request = proto::LeaseGrantRequest { ttl: convert::signed(ttl_s), id: 0 };
        let answer: proto::LeaseGrantResponse = self.unary("/etcdserverpb.Lease/LeaseGrant", request).await?;
        if answer.error.is_empty() {
            Ok(lease_of(answer.id, answer.ttl))
        } else {
            Err(Failure::Refused(Refusal::Invalid(answer.error)))
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Failure> {
        let answer = self
            .attempts(|attempt| {
                let request = attempt.request(stream::iter([proto::LeaseKeepAliveRequest { id }]));
                let mut grpc = grpc(attempt.channel());
                async move {
                    grpc.ready().await.map_err(not_ready)?;
                    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
                    let codec = ProstCodec::<_, proto::LeaseKeepAliveResponse>::default();
                    let mut answers = grpc.streaming(request, path, codec).await?.into_inner();
                    answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
                }
            })
            .await?;
        if answer.ttl > 0 { Ok(lease_of(answer.id, answer.ttl)) } else { Err(Failure::Refused(Refusal::NoLease)) }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Failure> {
        let request = proto::LeaseRevokeRequest { id };
        let _done: proto::LeaseRevokeResponse = self.unary("/etcdserverpb.Lease/LeaseRevoke", request).await?;
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        let request = proto::CompactionRequest { revision: convert::signed(revision) };
        let _done: proto::CompactionResponse = self.unary("/etcdserverpb.KV/Compact", request).await?;
        Ok(())
    }
}
