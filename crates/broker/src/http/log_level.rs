//! `/log-level`: which log lines are written, read and changed while the broker runs.
//!
//! `GET` tells it, `PUT` with a body such as `debug` or `info,kafscale_broker::ledger=debug` changes it until the next
//! start. Reading is anyone's who reaches the HTTP listener. Changing is for this machine alone (whoever may write the
//! log full may fill its disk): the connection must come from a loopback address, or from the address that is listened
//! on, and must not be a web page's (browsers name the page's origin).

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Extension, Router};

use super::Near;
use crate::config::LogFilter;

/// A filter is a line, not a file.
const MAX_BYTES: usize = 1024;

/// What writes the log of this process.
pub trait LogControl: Send + Sync + 'static {
    /// Which lines are written.
    fn filter(&self) -> LogFilter;
    /// From now on these.
    fn set(&self, filter: LogFilter);
}

type Answer = (StatusCode, String);

pub(super) fn routes(logs: Arc<dyn LogControl>) -> Router {
    let both = get(read).put(change).layer(DefaultBodyLimit::max(MAX_BYTES));
    Router::new().route("/log-level", both).with_state(logs)
}

async fn read(State(logs): State<Arc<dyn LogControl>>) -> String {
    format!("{}\n", logs.filter())
}

async fn change(
    State(logs): State<Arc<dyn LogControl>>,
    Extension(Near(is_near)): Extension<Near>,
    headers: HeaderMap,
    body: String,
) -> Answer {
    if !is_near || headers.contains_key(ORIGIN) {
        return refused(StatusCode::FORBIDDEN, "the log level is changed from the broker's own machine alone");
    }
    let text = body.trim();
    let Some(filter) = LogFilter::parse(text) else {
        return refused(StatusCode::BAD_REQUEST, format_args!("{text:?} is not valid: it takes {}", LogFilter::TAKES));
    };
    let before = logs.filter();
    logs.set(filter.clone());
    tracing::warn!(%before, now = %filter, "log level changed over HTTP");
    (StatusCode::OK, format!("{filter}\n"))
}

fn refused(status: StatusCode, why: impl Display) -> Answer {
    (status, format!("{why}\n"))
}
