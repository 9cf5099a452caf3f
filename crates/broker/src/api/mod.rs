//! The Kafka API: from a frame to its answer. One file for each API key; its header is the spec, and the versions it
//! advertises and serves are constants in it. The table of all of them is [`APIS`], from which ApiVersions answers and
//! `docs/protocol.md` is made.
//!
//! Each file goes Plan → Do → Answer: read the state, propose or fetch, fill in the response. This module owns what
//! they share: decoding within an allowance, dispatch, and the context. Error codes come from [`errors`].

mod api_versions;
mod broker_config;
mod brokers;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_topic_partitions;
mod errors;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod produce;
mod seen;
mod sync_group;
pub mod topic_config;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use kafscale_log::read::Reader;
use kafscale_log::write::Writer;
use kafscale_log::{Ledger, Reservation};
use kafscale_metadata::{Command, CreateTopic, Outcome, State, TopicId, TopicPartition};
use kafscale_ports::Env;
use kafscale_wire::frame::{decode_request_header, encode_response};
use kafscale_wire::header::RequestHeader;
use kafscale_wire::{DecodeError, Decoder, ErrorCode, Request, Text};
use tracing::{debug, warn};

use self::seen::{Seen, Watch};
use crate::connection::{Answer, Frame, Peer, Reply, Service, allowance};
use crate::coordinator::Coordinator;
use crate::fetch_sessions::FetchSessions;
use crate::ledger::Replica;
use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// One API key, as this broker speaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supported {
    /// The API key.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// What ApiVersions says.
    pub advertised: RangeInclusive<i16>,
    /// What is really served: the rest of `advertised` is answered UNSUPPORTED_VERSION, as Kafka 4 does, because old
    /// librdkafka turns features off where the range does not begin at 0.
    pub served: RangeInclusive<i16>,
}

/// Every API key that this broker speaks, by key.
pub const APIS: &[Supported] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    init_producer_id::API,
    describe_configs::API,
    create_partitions::API,
    delete_groups::API,
    offset_delete::API,
    describe_cluster::API,
    describe_topic_partitions::API,
];

/// What the cluster allows.
#[derive(Debug, Clone, Copy)]
pub struct ApiSettings {
    /// Whether Metadata creates a topic that a client asks for by name.
    pub auto_create_topics: bool,
    /// How many partitions such a topic gets, and one that is created without a number.
    pub default_partitions: u32,
    /// From which duration on a request is told as slow; none: never.
    pub slow_request: Option<Duration>,
}

/// What the handlers work with.
pub struct Context {
    /// Time, randomness, tasks.
    pub env: Env,
    /// The state and its order.
    pub replica: Arc<Replica>,
    /// The write path.
    pub writer: Arc<Writer>,
    /// The read path.
    pub reader: Arc<Reader>,
    /// What consumers are known to read.
    pub fetch_sessions: FetchSessions,
    /// The consumer groups.
    pub groups: Arc<Coordinator>,
    /// Which other brokers cannot be reached.
    pub(crate) peers: Arc<Peers>,
    /// This broker's id.
    pub broker_id: i32,
    /// The cluster's id, as clients see it.
    pub cluster_id: Text,
    /// What is allowed.
    pub settings: ApiSettings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Lines about producers that want transactions.
    pub(crate) transactional: Lines,
}

/// One request, without its body.
pub(crate) struct Call {
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) peer: Arc<Peer>,
    seen: Seen,
}

/// Answers Kafka requests.
pub struct Api {
    context: Arc<Context>,
    watch: Arc<Watch>,
    /// Lines about requests that cannot be read.
    unreadable: Lines,
}

impl Api {
    /// Over a running replica, writer and reader.
    pub fn new(context: Arc<Context>) -> Self {
        let slow = context.settings.slow_request;
        let watch = Watch::new(&context.env, Arc::clone(&context.metrics), slow);
        Self { context, watch, unreadable: Lines::default() }
    }
}

impl Service for Api {
    fn call(&self, peer: &Arc<Peer>, frame: Frame) -> BoxFuture<'static, Reply> {
        match self.dispatch(peer, frame) {
            Ok(reply) => reply,
            Err(refused) => {
                if let Some(left_out) = self.unreadable.admit(self.watch.now()) {
                    let (peer, listener) = (peer.addr, &*peer.listener);
                    warn!(%peer, listener, error = %refused, left_out, "closing a connection: its request cannot be read");
                }
                ready(Reply::Close).boxed()
            }
        }
    }
}

/// Why a request cannot even be answered.
#[derive(Debug, thiserror::Error)]
enum BadRequest {
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("unknown API key {0}")]
    UnknownKey(i16),
    #[error("{name} version {version} is not served ({first} to {last} are)")]
    UnknownVersion { name: &'static str, version: i16, first: i16, last: i16 },
}

type Dispatched = Result<BoxFuture<'static, Reply>, BadRequest>;

impl Api {
    fn dispatch(&self, peer: &Arc<Peer>, mut frame: Frame) -> Dispatched {
        let mut decoder = Decoder::new(frame.bytes.clone(), allowance_of(&frame.bytes));
        let header = decode_request_header(&mut decoder)?;
        let RequestHeader { request_api_key: key, request_api_version: version, correlation_id, .. } = header;
        let api = APIS.iter().find(|api| api.key == key).ok_or(BadRequest::UnknownKey(key))?;
        debug!(peer = %peer.addr, api = api.name, version, correlation_id, "request");
        let seen = Seen::new(&self.watch, key, header.client_id.as_ref());
        let mut call = Call { version, correlation_id, peer: Arc::clone(peer), seen };
        let context = Arc::clone(&self.context);
        if key == produce::API.key && api.advertised.contains(&version) {
            let request = body(&mut call, decoder, &mut frame)?;
            return Ok(produce::enter(context, call, request, frame));
        }
        if !api.served.contains(&version) {
            return unsupported(api, &call);
        }
        self.dispatch_in_turn(context, call, (decoder, frame), key)
    }

    /// Requests that are worked on when all earlier answers of their connection were sent, as Kafka does.
    fn dispatch_in_turn(
        &self,
        context: Arc<Context>,
        mut call: Call,
        request: (Decoder, Frame),
        key: i16,
    ) -> Dispatched {
        macro_rules! serve {
            ($api:ident) => {{
                let (decoder, mut frame) = request;
                let request = body(&mut call, decoder, &mut frame)?;
                async move {
                    call.seen.begins();
                    let response = $api::handle(&context, &call, request).await;
                    drop(frame.reservation);
                    answer(&call, &response)
                }
                .boxed()
            }};
        }
        /// The handler gives the frame's memory back by itself, long before the answer.
        macro_rules! serve_holding {
            ($api:ident) => {{
                let (decoder, mut frame) = request;
                let request = body(&mut call, decoder, &mut frame)?;
                async move {
                    call.seen.begins();
                    let response = $api::handle(&context, &call, request, frame).await;
                    answer(&call, &response)
                }
                .boxed()
            }};
        }
        Ok(match key {
            k if k == list_offsets::API.key => serve!(list_offsets),
            k if k == metadata::API.key => serve!(metadata),
            k if k == api_versions::API.key => serve!(api_versions),
            k if k == create_topics::API.key => serve!(create_topics),
            k if k == create_partitions::API.key => serve!(create_partitions),
            k if k == delete_topics::API.key => serve!(delete_topics),
            k if k == init_producer_id::API.key => serve!(init_producer_id),
            k if k == describe_configs::API.key => serve!(describe_configs),
            k if k == describe_cluster::API.key => serve!(describe_cluster),
            k if k == describe_topic_partitions::API.key => serve!(describe_topic_partitions),
            k if k == find_coordinator::API.key => serve!(find_coordinator),
            k if k == join_group::API.key => serve_holding!(join_group),
            k if k == sync_group::API.key => serve_holding!(sync_group),
            k if k == heartbeat::API.key => serve!(heartbeat),
            k if k == leave_group::API.key => serve!(leave_group),
            k if k == offset_commit::API.key => serve_holding!(offset_commit),
            k if k == offset_fetch::API.key => serve!(offset_fetch),
            k if k == describe_groups::API.key => serve!(describe_groups),
            k if k == list_groups::API.key => serve!(list_groups),
            k if k == delete_groups::API.key => serve!(delete_groups),
            k if k == offset_delete::API.key => serve!(offset_delete),
            k if k == fetch::API.key => {
                let (decoder, mut frame) = request;
                let request = body(&mut call, decoder, &mut frame)?;
                async move {
                    call.seen.begins();
                    fetch::handle(&context, &call, request).await
                }
                .boxed()
            }
            unknown => return Err(BadRequest::UnknownKey(unknown)),
        })
    }
}

/// Decodes the body, and gives back the part of the reservation that its structures did not need.
fn body<R: Request>(call: &mut Call, mut decoder: Decoder, frame: &mut Frame) -> Result<R, DecodeError> {
    let request = R::decode(&mut decoder, call.version)?;
    call.seen.asks(&request);
    frame.reservation.shrink_to((frame.bytes.len() + decoder.allocated()) as u64);
    decoder.finish()?;
    Ok(request)
}

/// What the decoded structures of a frame may take: the connection reserved it, by the key it peeked at.
fn allowance_of(frame: &Bytes) -> usize {
    let key = frame.first_chunk::<2>().map_or(-1, |key| i16::from_be_bytes(*key));
    allowance(key, frame.len()) - frame.len()
}

/// An API key that is known, in a version that is not served.
fn unsupported(api: &Supported, call: &Call) -> Dispatched {
    if api.key == api_versions::API.key {
        return Ok(ready(api_versions::unsupported(call)).boxed());
    }
    Err(BadRequest::UnknownVersion {
        name: api.name,
        version: call.version,
        first: *api.served.start(),
        last: *api.served.end(),
    })
}

fn answer<R: kafscale_wire::Response>(call: &Call, response: &R) -> Reply {
    answer_holding(call, response, Vec::new())
}

/// As [`answer`], for a response that stands for memory until it is written.
fn answer_holding<R: kafscale_wire::Response>(call: &Call, response: &R, hold: Vec<Reservation>) -> Reply {
    let failed = call.seen.answered(call.version, response, &call.peer);
    let slices = encode_response(call.correlation_id, call.version, response);
    Reply::Send(Answer { slices, hold, failed })
}

impl Context {
    /// The id of a topic by name. A name that is not known here is looked up again behind a barrier: another broker
    /// may have created it a moment ago.
    async fn topic_by_name(&self, name: &str) -> Result<TopicId, ErrorCode> {
        let look = |state: &State| state.topic_by_name(name).map(|topic| topic.id());
        if let Some(id) = look(&self.replica.state()) {
            return Ok(id);
        }
        self.replica.barrier().await.map_err(errors::stopped)?;
        look(&self.replica.state()).ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// As [`Context::topic_by_name`], for an id.
    async fn topic_exists(&self, id: TopicId) -> Result<TopicId, ErrorCode> {
        if self.replica.state().topic(id).is_some() {
            return Ok(id);
        }
        self.replica.barrier().await.map_err(errors::stopped)?;
        self.replica.state().topic(id).map(|topic| topic.id()).ok_or(ErrorCode::UnknownTopicId)
    }

    /// The topic that a new one of this name would collide with in the names of metrics, where '.' and '_' are the
    /// same: Kafka refuses it.
    fn collision(&self, name: &str) -> Option<String> {
        let folded = |name: &str| name.replace('.', "_");
        if !name.contains(['.', '_']) {
            return None;
        }
        let state = self.replica.state();
        let mut others = state.topics().map(kafscale_metadata::Topic::name).filter(|other| *other != name);
        others.find(|other| folded(other) == folded(name)).map(str::to_owned)
    }

    /// Creates a topic. One that exists is an error here, also if it was created a moment ago.
    async fn create_topic(&self, topic: CreateTopic) -> Result<(), ErrorCode> {
        if self.collision(&topic.name).is_some() {
            return Err(ErrorCode::InvalidTopicException);
        }
        match self.replica.propose(Command::CreateTopic(topic)).await.map_err(errors::commit)? {
            Outcome::Done => Ok(()),
            Outcome::Refused(refusal) => Err(errors::refusal(refusal)),
            Outcome::Bundle(_) | Outcome::ProducerIds { .. } | Outcome::Offsets(_) => {
                Err(ErrorCode::UnknownServerError)
            }
        }
    }

    fn new_topic_id(&self) -> TopicId {
        loop {
            // Kafka reserves the ids 0 (none) and 1 (its metadata topic).
            let id = self.env.random.u128();
            if id > 1 {
                return TopicId(id);
            }
        }
    }
}

/// The partition of a topic id and an index as they are on the wire; an index below zero is no partition.
fn partition(topic: TopicId, index: i32) -> Option<TopicPartition> {
    u32::try_from(index).ok().map(|partition| TopicPartition { topic, partition })
}
