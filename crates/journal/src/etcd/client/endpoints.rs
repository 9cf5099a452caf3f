//! Which member of the cluster is asked, and as whom. Owns the list of endpoints, the one in use, and the token.
//!
//! One endpoint is in use until it fails: no answer, an answer without a leader behind it, or a caller that gave up
//! (which this sees by the dropped call). Then the next one is, for everybody. A token is fetched with the first call
//! and again when it is refused.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use tonic::codegen::http::uri::PathAndQuery;

use super::super::kv::Failure;
use super::status::{is_the_endpoints, to_failure};
use super::{grpc, not_ready, proto};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// etcd drops a connection that pings more often than every five seconds ("too many pings").
const PING_INTERVAL: Duration = Duration::from_secs(6);
/// A connection on which a ping is not answered for this long is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(4);

/// How etcd is reached.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `HOST:PORT` of members; one is in use, the others are there for when it fails.
    pub endpoints: Vec<String>,
    /// Connections are encrypted if this is there.
    pub tls: Option<Tls>,
    /// Who we are to etcd, if it asks.
    pub user: Option<User>,
}

/// What encrypted connections need. All in PEM.
#[derive(Clone)]
pub struct Tls {
    /// Who signed the members' certificates.
    pub ca: Vec<u8>,
    /// Our certificate and its key, if the members ask for one.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the members' certificates, if it is not the host that is connected to.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_certificate = self.client.is_some();
        f.debug_struct("Tls").field("client", &has_certificate).field("server_name", &self.server_name).finish()
    }
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is wrong with a [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nobody to ask.
    #[error("no etcd endpoint is given; give HOST:PORT of at least one member")]
    NoEndpoint,
    /// One that is no address.
    #[error("the etcd endpoint '{endpoint}' is not HOST:PORT")]
    Endpoint {
        /// As it was given.
        endpoint: String,
    },
    /// A certificate or key that cannot be used.
    #[error("the TLS certificates for etcd cannot be used")]
    Tls(#[source] tonic::transport::Error),
}

pub(super) struct Endpoints {
    members: Vec<Member>,
    user: Option<User>,
    state: Mutex<State>,
}

struct Member {
    name: String,
    channel: Channel,
}

#[derive(Default)]
struct State {
    in_use: usize,
    token: Option<MetadataValue<Ascii>>,
}

fn connection(endpoint: &str, tls: Option<&Tls>) -> Result<Channel, ConfigError> {
    let wrong = || ConfigError::Endpoint { endpoint: endpoint.to_owned() };
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut connection = Endpoint::from_shared(format!("{scheme}://{endpoint}")).map_err(|_malformed| wrong())?;
    if let Some(tls) = tls {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((certificate, key)) = &tls.client {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &tls.server_name {
            config = config.domain_name(name.clone());
        }
        connection = connection.tls_config(config).map_err(ConfigError::Tls)?;
    }
    let connection = connection
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    Ok(connection.connect_lazy())
}

impl Endpoints {
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let member = |endpoint: &String| {
            let channel = connection(endpoint, config.tls.as_ref())?;
            Ok(Member { name: endpoint.clone(), channel })
        };
        let members = config.endpoints.iter().map(member).collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        Ok(Self { members, user: config.user.clone(), state: Mutex::default() })
    }

    /// `HOST:PORT` of all, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// Begins a call to the endpoint in use, with a token if one is needed.
    pub(super) async fn attempt(self: &Arc<Self>) -> Result<Attempt, Failure> {
        let index = self.state.lock().in_use;
        self.attempt_at(index).await
    }

    /// Begins a call to a certain endpoint.
    pub(super) async fn attempt_at(self: &Arc<Self>, index: usize) -> Result<Attempt, Failure> {
        // The guard is there before the token is fetched: that call can hang too.
        let mut attempt = Attempt { endpoints: Arc::clone(self), index, token: None, is_open: true };
        if let Some(user) = &self.user {
            let known = self.state.lock().token.clone();
            attempt.token = match known {
                Some(token) => Some(token),
                None => match authenticate(attempt.channel(), user).await {
                    Ok(token) => Some(self.state.lock().token.insert(token).clone()),
                    Err(status) => return Err(attempt.failed(status)),
                },
            };
        }
        Ok(attempt)
    }

    /// The endpoint failed: the next one is in use, unless somebody has changed it already.
    pub(super) fn leave(&self, index: usize) {
        let mut state = self.state.lock();
        if state.in_use == index && self.members.len() > 1 {
            state.in_use = (index + 1) % self.members.len();
            let (from, to) = (&self.members[index].name, &self.members[state.in_use].name);
            tracing::warn!(%from, %to, "an etcd endpoint does not answer; taking the next one");
        }
    }
}

async fn authenticate(channel: Channel, user: &User) -> Result<MetadataValue<Ascii>, Status> {
    let request = proto::AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
    let mut grpc = grpc(channel);
    grpc.ready().await.map_err(not_ready)?;
    let path = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
    let codec = ProstCodec::<_, proto::AuthenticateResponse>::default();
    let token = grpc.unary(Request::new(request), path, codec).await?.into_inner().token;
    token.parse().map_err(|_malformed| Status::internal("etcd gave a token that cannot be sent back"))
}

/// One call under way. Dropped before its end it means that the caller gave up: the endpoint is left.
pub(super) struct Attempt {
    endpoints: Arc<Endpoints>,
    index: usize,
    token: Option<MetadataValue<Ascii>>,
    is_open: bool,
}

impl Attempt {
    pub(super) fn channel(&self) -> Channel {
        self.endpoints.members[self.index].channel.clone()
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The request with its token, and with the demand that the member has a leader.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The token was refused: the next attempt fetches another one, unless somebody has already.
    pub(super) fn forget_token(mut self) {
        self.is_open = false;
        let mut state = self.endpoints.state.lock();
        if state.token == self.token {
            state.token = None;
        }
    }

    pub(super) fn succeeded(mut self) {
        self.is_open = false;
    }

    pub(super) fn failed(mut self, status: Status) -> Failure {
        self.is_open = is_the_endpoints(&status);
        to_failure(status)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_open {
            self.endpoints.leave(self.index);
        }
    }
}
