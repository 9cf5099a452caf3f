//! One request, from its arrival to its end: which method it is, what is made to go wrong, and the line in the book. Owns
//! the order of latency, fault and effect; the effect is `api`'s.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::pending;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, RANGE};
use hyper::{Request, Response, StatusCode};
use kafscale_ports::Env;
use parking_lot::Mutex;
use s3s::service::S3Service;
use s3s::{Body, HttpError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::faults::{Fault, Faults, Method, Outage};
use crate::random::Dice;
use crate::stats::{Book, Entry};

/// How much later a [`Fault::Late`] is done.
const LATE: Duration = Duration::from_secs(2);
/// S3 refuses signatures when clocks differ by more.
const MAX_SKEW_MS: u64 = 15 * 60 * 1000;

/// What all connections share.
pub(crate) struct Service {
    pub(crate) s3: S3Service,
    pub(crate) session_token: Option<String>,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) book: Mutex<Book>,
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Changes with the faults.
    pub(crate) outage: watch::Sender<Outage>,
    pub(crate) env: Env,
    pub(crate) started: Instant,
}

/// A request that has arrived. Its line in the book is written when this goes, however the request ends.
struct Visit<'a> {
    service: &'a Service,
    begun: Instant,
    entry: Entry,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let entry = Entry { ms: millis(self.service.env.clock.now() - self.begun), ..self.entry.clone() };
        self.service.book.lock().enter(entry);
        self.service.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// The answer to a request; an error closes its connection.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        let mut visit = self.arrive(&request);
        let (latency, fault) = self.faults.lock().decide(visit.entry.method, &mut self.dice.lock());
        visit.entry.fault = fault;
        if let Some(answer) = self.outage(&mut visit).await {
            return answer;
        }
        if fault == Fault::Cut {
            // Without looking at its body: a broken connection does not wait for that.
            sleep(latency).await;
            return Err(cut());
        }
        // Whoever reads no body finds out late that its client has gone.
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| HttpError::new(error.into()))?.to_bytes();
        visit.entry.bytes_in = body.len() as u64;
        let request = Request::from_parts(parts, body);
        sleep(latency).await;
        let answer = self.outcome(fault, request).await?;
        visit.entry.status = Some(answer.status().as_u16());
        visit.entry.bytes_out = answer.body().size_hint().lower();
        Ok(answer)
    }

    /// The answer under a fault; an error closes the connection.
    async fn outcome(self: &Arc<Self>, fault: Fault, request: Request<Bytes>) -> Result<Response<Body>, HttpError> {
        match fault {
            Fault::None => self.serve(request).await,
            Fault::Unavailable => Ok(slow_down()),
            Fault::Error => {
                Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error."))
            }
            Fault::Conflict => {
                let what = "Another request for this key is on its way.";
                Ok(refusal(StatusCode::CONFLICT, "ConditionalRequestConflict", what))
            }
            Fault::Cut => Err(cut()),
            Fault::LostReply => {
                self.serve(request).await?;
                Err(cut())
            }
            Fault::Torn => torn(self.serve(request).await?).await,
            Fault::Hang => pending().await,
            Fault::HangAfter => {
                self.serve(request).await?;
                pending().await
            }
            Fault::Late => {
                let late = Arc::clone(self);
                let serve = async move {
                    sleep(LATE).await;
                    // Nobody is there to hear the answer.
                    drop(late.serve(request).await);
                };
                self.env.tasks.spawn("late request", serve.boxed());
                pending().await
            }
        }
    }

    fn arrive(&self, request: &Request<Incoming>) -> Visit<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let begun = self.env.clock.now();
        let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
        let entry = Entry {
            n: 0,
            at_ms: millis(begun - self.started),
            ms: 0,
            method: method(request),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            range: range.map(str::to_owned),
            unsigned_payload: request
                .headers()
                .get("x-amz-content-sha256")
                .is_some_and(|hash| hash == "UNSIGNED-PAYLOAD"),
            status: None,
            fault: Fault::None,
            bytes_in: 0,
            bytes_out: 0,
        };
        Visit { service: self, begun, entry }
    }

    /// The answer while the server is away, if it is.
    async fn outage(&self, visit: &mut Visit<'_>) -> Option<Result<Response<Body>, HttpError>> {
        let mut outage = self.outage.subscribe();
        let now = *outage.borrow();
        match now {
            Outage::None => None,
            Outage::Cut => {
                visit.entry.fault = Fault::Cut;
                Some(Err(cut()))
            }
            Outage::Unavailable => {
                visit.entry.fault = Fault::Unavailable;
                visit.entry.status = Some(503);
                Some(Ok(slow_down()))
            }
            Outage::Hang => {
                // An error means that the server stops.
                let ended = outage.wait_for(|outage| *outage != Outage::Hang).await.is_ok();
                (!ended).then(|| Err(cut()))
            }
        }
    }

    /// The effect.
    async fn serve(&self, request: Request<Bytes>) -> Result<Response<Body>, HttpError> {
        let ahead_ms = self.faults.lock().clock_ahead_ms;
        let token = request.headers().get("x-amz-security-token").map(|token| token.as_bytes().to_vec());
        let mut answer = if ahead_ms.unsigned_abs() > MAX_SKEW_MS {
            let what = "The difference between the request time and the current time is too large.";
            refusal(StatusCode::FORBIDDEN, "RequestTimeTooSkewed", what)
        } else if token.as_deref() != self.session_token.as_ref().map(String::as_bytes) {
            refusal(StatusCode::BAD_REQUEST, "InvalidToken", "The provided token is malformed or otherwise invalid.")
        } else {
            self.s3.call(request.map(Body::from)).await?
        };
        if ahead_ms != 0 {
            let now = self.env.clock.wall_ms().saturating_add(ahead_ms);
            let since_epoch = Duration::from_millis(u64::try_from(now).unwrap_or(0));
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + since_epoch);
            answer.headers_mut().insert(DATE, HeaderValue::from_str(&date).expect("a date is ASCII"));
        }
        Ok(answer)
    }
}

fn method<B>(request: &Request<B>) -> Method {
    let path = request.uri().path().trim_start_matches('/');
    let is_object = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match (request.method(), is_object) {
        (&hyper::Method::PUT, true) => Method::Put,
        (&hyper::Method::GET, true) => Method::Get,
        (&hyper::Method::GET, false) => Method::List,
        (&hyper::Method::HEAD, _) => Method::Head,
        (&hyper::Method::DELETE, true) => Method::Delete,
        _ => Method::Other,
    }
}

/// The answer up to the middle of its body.
async fn torn(answer: Response<Body>) -> Result<Response<Body>, HttpError> {
    let (parts, body) = answer.into_parts();
    let whole = body.collect().await.map_err(HttpError::new)?.to_bytes();
    let half = whole.slice(..whole.len() / 2);
    let frames = [Ok(Frame::data(half)), Err(io::Error::other("cut on purpose"))];
    Ok(Response::from_parts(parts, Body::http_body(StreamBody::new(futures::stream::iter(frames)))))
}

fn slow_down() -> Response<Body> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let len = xml.len();
    let mut answer = Response::new(Body::http_body(Full::new(Bytes::from(xml))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
    answer
}

/// What closes a connection.
fn cut() -> HttpError {
    HttpError::new("cut on purpose".into())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
