//! One watch on a stream of its own. Owns how it is asked for (without removals, in fragments) and how its end is told.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::super::kv::{Failure, Refusal, Watch, WatchReply, WatchStream};
use super::convert::{bounds, event, revision_of, signed};
use super::endpoints::Endpoints;
use super::proto::watch_create_request::Filter;
use super::proto::watch_request::Request as Kind;
use super::status::is_about_the_token_in;
use super::{not_ready, proto};

type Requests = BoxStream<'static, proto::WatchRequest>;
type Replies = Streaming<proto::WatchResponse>;

/// The stream of requests: one, and then open for as long as the watch is.
pub(super) fn create(watch: &Watch) -> Requests {
    let (key, range_end) = bounds(watch.keys.clone());
    let filters = if watch.deletes { Vec::new() } else { vec![Filter::Nodelete.into()] };
    let start_revision = signed(watch.from);
    let create = proto::WatchCreateRequest { key, range_end, start_revision, filters, fragment: true };
    let first = proto::WatchRequest { request: Some(Kind::Create(create)) };
    stream::iter([first]).chain(stream::pending()).boxed()
}

/// Opens it, and waits until etcd has said so. A reply that came first is not lost.
pub(super) async fn open(
    mut grpc: Grpc<Channel>,
    request: Request<Requests>,
) -> Result<(Replies, proto::WatchResponse), Status> {
    grpc.ready().await.map_err(not_ready)?;
    let codec = ProstCodec::<_, proto::WatchResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let mut replies = grpc.streaming(request, path, codec).await?.into_inner();
    let first = replies.message().await?.ok_or_else(|| Status::unavailable("the watch ended as it began"))?;
    // A watch is refused in words, and a token that has expired is refused as if the user might not read the keys.
    let words = &first.cancel_reason;
    if first.canceled && (is_about_the_token_in(words) || words.contains("permission denied")) {
        return Err(Status::unauthenticated(format!("etcdserver: invalid auth token, or {words}")));
    }
    Ok((replies, first))
}

pub(super) struct Watching {
    replies: Replies,
    /// What came with the opening, if it says more than that.
    first: Option<proto::WatchResponse>,
    endpoints: Arc<Endpoints>,
    /// The endpoint it is on, until it is over.
    on: Option<usize>,
}

impl Watching {
    pub(super) fn new(opened: (Replies, proto::WatchResponse), endpoints: Arc<Endpoints>, on: usize) -> Self {
        let (replies, first) = opened;
        Self { replies, first: Some(first), endpoints, on: Some(on) }
    }

    async fn message(&mut self) -> Result<proto::WatchResponse, Failure> {
        if let Some(first) = self.first.take()
            && !first.created
        {
            return Ok(first);
        }
        match self.replies.message().await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Failure::Unknown(io::ErrorKind::UnexpectedEof.into())),
            Err(status) => Err(super::to_failure(status)),
        }
    }
}

#[async_trait]
impl WatchStream for Watching {
    async fn next(&mut self) -> Result<WatchReply, Failure> {
        let reply = self.message().await?;
        if reply.compact_revision > 0 {
            self.on = None;
            return Err(Failure::Refused(Refusal::Compacted));
        }
        if reply.canceled {
            let words = format!("etcd ended the watch: {}", reply.cancel_reason);
            return Err(Failure::Unknown(io::Error::other(words)));
        }
        let events = reply.events.into_iter().map(event).collect::<Result<_, _>>()?;
        Ok(WatchReply { revision: revision_of(reply.header.as_ref()), events, fragment: reply.fragment })
    }
}

/// A watch that is dropped was silent, or its endpoint failed, or nobody needs one any more.
impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(index) = self.on {
            self.endpoints.leave(index);
        }
    }
}
