//! What is noticed of a request on its way to its answer: the error codes in the answer, and whether it was slow.
//!
//! Slow is what took longer than the threshold beyond the waiting that was asked for: a fetch may wait for records as
//! long as its `max_wait_ms` says, and a join or a sync waits for the other members of its group, who may take any
//! time. Such a request is counted, and named in a log line with who sent it; the lines are bounded, since clients
//! cause them.

use std::sync::Arc;
use std::time::Duration;

use kafscale_ports::{Clock, Env};
use kafscale_wire::join_group::JoinGroupRequest;
use kafscale_wire::sync_group::SyncGroupRequest;
use kafscale_wire::{Request, Response, Text};
use tokio::time::Instant;
use tracing::warn;

use crate::connection::Peer;
use crate::lines::Lines;
use crate::metrics::{Metrics, api_name};

/// Clients choose their ids; this much of one is kept …
const CLIENT_BYTES: usize = 1024;
/// … and a log line shows this much.
const SHOWN_CLIENT_BYTES: usize = 64;

/// What all requests are noticed by.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// None: nothing is slow.
    slow: Option<Duration>,
    lines: Lines,
}

impl Watch {
    pub(super) fn new(env: &Env, metrics: Arc<Metrics>, slow: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { clock: Arc::clone(&env.clock), metrics, slow, lines: Lines::default() })
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }
}

/// One request, as it is noticed.
pub(crate) struct Seen {
    watch: Arc<Watch>,
    key: i16,
    client: Box<str>,
    topics: usize,
    /// How long it may wait for what others do.
    patience: Duration,
    begun: Instant,
}

impl Seen {
    /// A request whose header was read. The client's id is copied: a slice would keep the whole frame.
    pub(super) fn new(watch: &Arc<Watch>, key: i16, client: Option<&Text>) -> Self {
        let client = client.map_or("", |client| client);
        let client = &client[..client.floor_char_boundary(CLIENT_BYTES)];
        let (watch, begun) = (Arc::clone(watch), watch.now());
        Self { watch, key, client: client.into(), topics: 0, patience: Duration::ZERO, begun }
    }

    /// The client's id, as the request's header has it; empty if it has none.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// Its body was read.
    pub(super) fn asks<R: Request>(&mut self, request: &R) {
        self.topics = request.topic_count();
        self.patience = match R::KEY {
            JoinGroupRequest::KEY | SyncGroupRequest::KEY => Duration::MAX,
            _ => Duration::from_millis(u64::try_from(request.max_wait_ms()).unwrap_or(0)),
        };
    }

    /// It is its turn: what went before on its connection is answered.
    pub(super) fn begins(&mut self) {
        self.begun = self.watch.now();
    }

    /// It is answered. Returns whether the answer has an error code.
    pub(super) fn answered<R: Response>(&self, version: i16, response: &R, peer: &Peer) -> bool {
        let mut failed = false;
        response.each_error(version, &mut |code| {
            if code != 0 {
                failed = true;
                self.watch.metrics.requests.error(self.key, code);
            }
        });
        let now = self.watch.now();
        let took = now - self.begun;
        if self.watch.slow.is_some_and(|slow| took.saturating_sub(self.patience) >= slow) {
            self.slow(now, took, peer);
        }
        failed
    }

    fn slow(&self, now: Instant, took: Duration, peer: &Peer) {
        let Self { watch, client, topics, .. } = self;
        let api = api_name(self.key);
        watch.metrics.requests.slow(self.key);
        if let Some(left_out) = watch.lines.admit(now) {
            let (ms, listener) = (took.as_millis(), &*peer.listener);
            let client = &client[..client.floor_char_boundary(SHOWN_CLIENT_BYTES)];
            warn!(api, peer = %peer.addr, listener, client = ?client, ms, topics, left_out, "slow request");
        }
    }
}

#[cfg(test)]
mod tests {
    use kafscale_wire::fetch::{FetchRequest, FetchResponse};
    use kafscale_wire::metadata::{MetadataRequest, MetadataResponse};

    use super::*;

    fn peer() -> Peer {
        Peer { id: 1, addr: ([127, 0, 0, 1], 1).into(), listener: "test".into(), led_away: Default::default() }
    }

    async fn count_slow<R: Request>(request: R, response: &R::Response, seconds: u64) -> bool {
        let metrics = Arc::new(Metrics::new());
        let watch = Watch::new(&Env::real(), Arc::clone(&metrics), Some(Duration::from_secs(1)));
        let mut seen = Seen::new(&watch, R::KEY, Some(&Text::from("c".repeat(1000))));
        seen.asks(&request);
        tokio::time::advance(Duration::from_secs(100)).await; // behind other requests of its connection
        seen.begins();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        seen.answered(7, response, &peer());
        metrics.render().contains("kafscale_slow_requests_total{")
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_that_was_asked_for_is_not_slow() {
        let fetch = || FetchRequest { max_wait_ms: 5_000, ..FetchRequest::default() };
        assert!(!count_slow(fetch(), &FetchResponse::default(), 5).await);
        assert!(count_slow(fetch(), &FetchResponse::default(), 6).await);
        assert!(!count_slow(JoinGroupRequest::default(), &Default::default(), 600).await);
        assert!(!count_slow(SyncGroupRequest::default(), &Default::default(), 600).await);
        assert!(!count_slow(MetadataRequest::default(), &MetadataResponse::default(), 0).await);
        assert!(count_slow(MetadataRequest::default(), &MetadataResponse::default(), 1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn error_codes_make_an_answer_a_failed_one() {
        let metrics = Arc::new(Metrics::new());
        let watch = Watch::new(&Env::real(), Arc::clone(&metrics), None);
        let seen = Seen::new(&watch, FetchRequest::KEY, None);
        assert!(!seen.answered(7, &FetchResponse::default(), &peer()));
        let failed = FetchResponse { error_code: 70, ..FetchResponse::default() };
        assert!(seen.answered(7, &failed, &peer()));
        let line = r#"kafscale_answer_errors_total{api="Fetch",error="FETCH_SESSION_ID_NOT_FOUND"} 1"#;
        assert!(metrics.render().contains(line), "{}", metrics.render());
    }
}
