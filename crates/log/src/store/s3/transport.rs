//! HTTP to one S3 server: connections, their bounds, and the limit of each request. Owns the knowledge of how far a
//! request got, which [`Failure`] carries through `object_store` to the store; what it means is decided there.
//!
//! It is our own, in place of the client that `object_store` brings, for three reasons. That one hides whether a request
//! was sent, and a PUT that was not sent is a PUT that can be forgotten. It has no bound on connections. And its TLS takes
//! its provider from the process, thirty packages and a second way to find root certificates with it.
//!
//! 1. One request is one attempt: `object_store`'s retries are off, and the pool repeats a request only if the connection
//!    that it was given to was closed before the first byte was written.
//! 2. A request that waits for a place waits within its limit; places for writes and for reads are apart, so that reads
//!    that hang do not hold up an upload.
//! 3. A dropped request closes its connection: the rest of a body is not sent.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use hyper::{Method, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioTimer;
use kafscale_ports::{Clock, Env, Spawn};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use super::failure::{Answer, Failure, chain};
use crate::limits::{
    MAX_STORE_ERROR_BYTES, MAX_STORE_READS, MAX_STORE_REQUEST_MS, MAX_STORE_WRITES, STORE_ANSWER_MS, STORE_CONNECT_MS,
    STORE_IDLE_MS, STORE_SLOWEST_BYTES,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The server's clock when it gave a good answer: its `Date` header.
#[derive(Debug, Clone)]
pub(super) struct ServerDate(pub(super) String);

/// How long a request that moves so many bytes may take.
pub(super) fn limit(bytes: u64) -> Duration {
    let millis = STORE_ANSWER_MS.saturating_add(bytes.saturating_mul(1000) / STORE_SLOWEST_BYTES);
    Duration::from_millis(millis.min(MAX_STORE_REQUEST_MS))
}

/// See the module's documentation.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<Connector, HttpRequestBody>,
    clock: Arc<dyn Clock>,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("free_writes", &self.writes.available_permits())
            .field("free_reads", &self.reads.available_permits())
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Trusts the system's certificate authorities and `authorities`. Without TLS neither is looked at.
    pub(super) fn new(tls: bool, authorities: &[CertificateDer<'static>], env: &Env) -> Result<Self, TlsError> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_millis(STORE_IDLE_MS)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(client_config(tls, authorities)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(Tasks(Arc::clone(&env.tasks)))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(STORE_IDLE_MS))
            .pool_max_idle_per_host(MAX_STORE_WRITES + MAX_STORE_READS)
            .build(Connector(https));
        Ok(Self {
            client,
            clock: Arc::clone(&env.clock),
            writes: Arc::new(Semaphore::new(MAX_STORE_WRITES)),
            reads: Arc::new(Semaphore::new(MAX_STORE_READS)),
        })
    }

    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let is_write = request.method() != Method::GET;
        let limit = limit(request.body().content_length() as u64);
        let until = self.clock.now() + limit;
        let places = if is_write { &self.writes } else { &self.reads };
        let place = match timeout_at(until, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => {
                let what = if is_write { MAX_STORE_WRITES } else { MAX_STORE_READS };
                return Err(Failure::NotSent(format!(
                    "{what} requests were on their way for {limit:?} and none had an answer"
                )));
            }
        };
        match timeout_at(until, self.client.request(request)).await {
            Ok(Ok(response)) => good(response, until, place).await,
            Ok(Err(error)) if error.is_connect() => Err(Failure::NotSent(format!("no connection: {}", chain(&error)))),
            Ok(Err(error)) => Err(Failure::NoAnswer(format!("the connection broke: {}", chain(&error)))),
            Err(_) => Err(Failure::NoAnswer(format!("no answer within {limit:?}"))),
        }
    }
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // `Unknown` is what is never tried again down there.
        self.attempt(request).await.map_err(|failure| HttpError::new(HttpErrorKind::Unknown, failure))
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

/// A good answer as it is, with its place; of any other what it says.
async fn good(
    response: Response<Incoming>,
    until: Instant,
    place: OwnedSemaphorePermit,
) -> Result<HttpResponse, Failure> {
    let (mut parts, body) = response.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (date, region, id) = (header("date"), header("x-amz-bucket-region"), header("x-amz-request-id"));
    if parts.status.is_success() {
        if let Some(date) = date {
            parts.extensions.insert(ServerDate(date));
        }
        let body = HttpResponseBody::new(AnswerBody { body, _place: place });
        return Ok(HttpResponse::from_parts(parts, body));
    }
    let words = timeout_at(until, beginning(body)).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    Err(Failure::Answered(Box::new(Answer {
        status: parts.status.as_u16(),
        code: element(&words, "Code").unwrap_or_default(),
        message: element(&words, "Message").unwrap_or_default(),
        request_id: id.or_else(|| element(&words, "RequestId")).unwrap_or_default(),
        region: region.or_else(|| element(&words, "Region")),
        date,
    })))
}

/// The first bytes of a body, whether or not the rest can be had.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut words = Vec::new();
    while words.len() < MAX_STORE_ERROR_BYTES {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            Some(Ok(frame)) => words.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
            Some(Err(_)) | None => break,
        }
    }
    words.truncate(MAX_STORE_ERROR_BYTES);
    words
}

/// The text of the first element of that name: an error is a flat list of a few.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    let plain = plain.replace("&amp;", "&");
    // One line, and no more than a person reads.
    Some(plain.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect())
}

/// The body of a good answer. While it lasts its place is taken.
struct AnswerBody {
    body: Incoming,
    _place: OwnedSemaphorePermit,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                let failure = Failure::NoAnswer(format!("the answer was cut: {}", chain(&error)));
                HttpError::new(HttpErrorKind::Unknown, failure)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// No root certificates, or ones that TLS cannot use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// None were found.
    #[error(
        "this system has no root certificates: install the package ca-certificates, or name a file of them in SSL_CERT_FILE"
    )]
    NoRoots,
    /// TLS refuses something.
    #[error("TLS to the object store cannot be set up")]
    Unusable(#[from] rustls::Error),
}

fn client_config(tls: bool, authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if tls {
        // Old systems have single roots that are not valid any more.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Makes connections, each within its limit, TLS and all.
#[derive(Clone)]
struct Connector(HttpsConnector<TcpConnector>);

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<TcpConnector> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            let within = Duration::from_millis(STORE_CONNECT_MS);
            timeout(within, connecting).await.unwrap_or_else(|_| Err(format!("not made within {within:?}").into()))
        })
    }
}

/// Runs the tasks of connections where all tasks run.
#[derive(Clone)]
struct Tasks(Arc<dyn Spawn>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn("object store connection", Box::pin(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_limit_that_fits_its_size() {
        assert_eq!(limit(0), Duration::from_secs(6));
        assert_eq!(limit(8 << 20), Duration::from_secs(14));
        assert_eq!(limit(u64::MAX), Duration::from_secs(300));
    }

    #[test]
    fn an_error_is_taken_apart() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>a &lt;b&gt; &amp;amp;\nc</Message></Error>";
        assert_eq!(element(xml, "Code").as_deref(), Some("AccessDenied"));
        assert_eq!(element(xml, "Message").as_deref(), Some("a <b> &amp; c"));
        assert_eq!(element(xml, "Region"), None);
        assert_eq!(element("<Code>open", "Code"), None);
    }
}
