//! The server side of a Kafka connection: frames in, answers out, in order, within bounds.
//!
//! Owns the accept loop, the reading of frames, admission to memory, pipelining, the writing of answers, time
//! limits and the graceful stop. Knows nothing of what a request means, but for the API key, which it peeks at to
//! choose a frame's limit and its reservation. Works over the network port: TCP sockets or in-memory pipes.
//!
//! One task per connection runs two futures side by side, which meet in the [`pipeline`]:
//!
//! ```text
//! socket ─▶ frame (length, admission, body) ─▶ Service::call ─▶ pipeline ─▶ answer (gather, write) ─▶ socket
//! ```
//!
//! Invariants: `call` happens in arrival order; answers leave in that order, each at most once; no byte of a body is
//! read before memory for the whole frame is reserved; a reservation lives as long as what it stands for.

mod answer;
mod frame;
mod life;
mod pipeline;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use kafscale_log::budget::Reservation;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use frame::allowance;
pub use server::{ConnectionSettings, Server};

/// One request as it came.
pub struct Frame {
    /// What follows the length prefix: header and body, one buffer of exact size.
    pub bytes: Bytes,
    /// Its memory; drop it when the last slice of `bytes` and all that was decoded from it is gone.
    pub reservation: Reservation,
}

/// What becomes of a request.
pub enum Reply {
    /// An answer.
    Send(Answer),
    /// No answer: Produce with `acks=0`.
    Nothing,
    /// The connection is closed, after the answers before this one: a request that cannot be answered.
    Close,
}

/// An answer as it goes out.
pub struct Answer {
    /// The bytes, the length prefix among them, as a list of slices.
    pub slices: Vec<Bytes>,
    /// Memory that the slices stand for; given back once they are written.
    pub hold: Vec<Reservation>,
    /// Whether it tells of an error: an outcome in the metrics.
    pub failed: bool,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The connection's number, unique in the life of this broker.
    pub id: u64,
    /// The peer's address.
    pub addr: SocketAddr,
    /// The name of the listener through which it came.
    pub listener: Arc<str>,
    /// When its consumer was last told to fetch from another broker.
    pub(crate) led_away: Mutex<Option<Instant>>,
}

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Takes one request. Called in arrival order of the peer's requests, without waiting for earlier answers: what
    /// must happen in that order happens here, in the call. The future is polled once all earlier requests of the
    /// connection are answered, and is dropped if the connection ends before.
    fn call(&self, peer: &Arc<Peer>, frame: Frame) -> BoxFuture<'static, Reply>;
}
