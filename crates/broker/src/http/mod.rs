//! The HTTP side: `/livez`, `/readyz`, `/metrics`, `/log-level`, on one listener.
//!
//! Owns the routes and the bounds of an HTTP connection: a few connections, small headers, hardly a body, limited
//! times; a stranger who finds the port costs next to nothing. Whether the broker is ready is the broker's to say
//! ([`Status`]). It is stopped last, so that a stopping broker still answers that it is not ready.

mod log_level;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kafscale_ports::net::Accepted;
use kafscale_ports::{Env, Listen};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{
    ACCEPT_PAUSE, HTTP_CONNECTION_TIME, HTTP_HEADER_TIME, HTTP_MAX_CONNECTIONS, HTTP_MAX_HEADER_BYTES, HTTP_MAX_HEADERS,
};
use crate::metrics::Metrics;

pub use log_level::LogControl;

/// OpenMetrics text, as prometheus-client writes it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A stopping server's time for answers under way.
const STOP: Duration = Duration::from_secs(1);

/// What the broker says of itself.
pub trait Status: Send + Sync + 'static {
    /// Whether clients may be sent here.
    ///
    /// # Errors
    /// Why not, as text for a person: starting, stopping, or what has failed.
    fn readiness(&self) -> Result<(), String>;
    /// Sets the metrics that are sampled and not counted: called before each scrape.
    fn sample(&self, metrics: &Metrics);
}

#[derive(Clone)]
struct Shared {
    status: Arc<dyn Status>,
    metrics: Arc<Metrics>,
}

/// Whether a request comes from this machine.
#[derive(Debug, Clone, Copy)]
struct Near(bool);

impl Near {
    fn of(peer: SocketAddr, listening: Option<IpAddr>) -> Self {
        Self(peer.ip().is_loopback() || listening == Some(peer.ip()))
    }
}

/// The routes; that of the log's level only if there is something that can change it.
pub fn routes(status: Arc<dyn Status>, metrics: Arc<Metrics>, logs: Option<Arc<dyn LogControl>>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Shared { status, metrics })
        .merge(logs.map_or_else(Router::new, log_level::routes))
}

async fn livez() -> &'static str {
    "live\n"
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.status.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn scrape(State(shared): State<Shared>) -> impl IntoResponse {
    let text = shared.metrics.scrape(|metrics| shared.status.sample(metrics));
    ([(CONTENT_TYPE, OPENMETRICS)], text)
}

/// Serves `routes` on `listener` until `stop` is cancelled and the answers under way are written.
pub async fn serve(routes: Router, listener: Arc<dyn Listen>, env: Env, stop: CancellationToken) {
    let open = TaskTracker::new();
    let listening = listener.local_addr().ok().map(|address| address.ip());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Dropping it closes it.
            Ok(_) if open.len() >= HTTP_MAX_CONNECTIONS => tracing::debug!("HTTP connection refused: too many"),
            Ok(accepted) => {
                let routes = routes.clone().layer(Extension(Near::of(accepted.peer, listening)));
                let connection = open.track_future(connection(accepted, routes, stop.clone()));
                env.tasks.spawn("http", Box::pin(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE.1).await;
            }
        }
    }
    open.close();
    let _ = timeout(STOP * 2, open.wait()).await; // they bound themselves
}

async fn connection(accepted: Accepted, routes: Router, stop: CancellationToken) {
    let io = TokioIo::new(tokio::io::join(accepted.reader, accepted.writer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEADER_TIME)
        .max_headers(HTTP_MAX_HEADERS)
        .max_buf_size(HTTP_MAX_HEADER_BYTES)
        .auto_date_header(false)
        .serve_connection(io, TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = timeout(HTTP_CONNECTION_TIME, connection.as_mut()) => Some(ended),
    };
    match ended {
        Some(Ok(Err(error))) => tracing::debug!(peer = %accepted.peer, %error, "HTTP connection broke"),
        Some(Ok(Ok(())) | Err(_)) => {}
        None => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(STOP, connection).await; // a peer that does not read its answer now has had its time
        }
    }
}
