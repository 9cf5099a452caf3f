//! One connection from its acceptance to its end. Owns the task, the reasons for which a connection ends, and the
//! order of a graceful stop: stop reading, answer what is owed, close.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use kafscale_log::budget::ExceedsBudget;
use kafscale_ports::net::{Accepted, ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::pipeline::{Call, Pipeline};
use super::server::Server;
use super::{Peer, answer, frame};
use crate::limits::{DRAIN, LINGER};
use crate::metrics::Metrics;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    #[error("the peer closed it")]
    Peer,
    #[error("the broker stops")]
    Stopping,
    #[error("the broker stopped before all answers were written")]
    Undrained,
    #[error("nothing was sent or answered for the idle time")]
    Idle,
    #[error("a frame of {value} bytes is announced; the limit for it is {limit}")]
    Length { value: i32, limit: usize },
    /// Cannot be while the limits are right; a frame that can never be admitted must not wait for ever.
    #[error(transparent)]
    Memory(#[from] ExceedsBudget),
    #[error("a frame did not arrive in time")]
    HalfSent,
    #[error("an answer was not read in time")]
    Unread,
    #[error("a request cannot be answered")]
    Unanswerable,
    #[error("a request's handler panicked: {0}")]
    Panic(String),
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl Cause {
    /// The label in `kafscale_connections_closed_total`.
    fn label(&self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Stopping => "stopping",
            Self::Undrained => "undrained",
            Self::Idle => "idle",
            Self::Length { .. } => "frame_length",
            Self::Memory(_) => "memory",
            Self::HalfSent => "half_sent",
            Self::Unread => "unread",
            Self::Unanswerable => "unanswerable",
            Self::Panic(_) => "panic",
            Self::Io(_) => "broken",
        }
    }

    /// The message of a panic's payload.
    pub(super) fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        Self::Panic(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into()))
    }
}

/// The reading side of a connection, and all that belongs to the whole of it.
pub(super) struct Context {
    pub(super) reader: ReadHalf,
    peer: Arc<Peer>,
    server: Arc<Server>,
}

impl Context {
    pub(super) fn now(&self) -> Instant {
        self.server.env.clock.now()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.server.metrics
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }
}

/// Serves a connection to its end.
pub(super) async fn run(server: Arc<Server>, peer: Arc<Peer>, accepted: Accepted, stop: CancellationToken) {
    let pipeline = Pipeline::new(server.env.clock.now());
    let mut context = Context { reader: accepted.reader, peer, server };
    let mut writer = answer::Writer::new(accepted.writer, Arc::clone(&context.server));
    let cause = serve(&mut context, &mut writer, &pipeline, &stop).await;
    context.metrics().connections.closed(cause.label());
    log(&context, &cause);
    close(&mut context.reader, writer.into_inner(), &cause).await;
}

/// Reads and answers until one side ends, or the broker stops.
async fn serve(
    context: &mut Context,
    writer: &mut answer::Writer,
    pipeline: &Pipeline,
    stop: &CancellationToken,
) -> Cause {
    let write = writer.run(pipeline);
    tokio::pin!(write);
    // Dropping the reading future gives back the memory of a half-read frame; such a frame never counts as received.
    let last = tokio::select! {
        biased;
        () = stop.cancelled() => Cause::Stopping,
        cause = &mut write => return cause,
        cause = read(context, pipeline) => cause,
    };
    match &last {
        Cause::Peer | Cause::Stopping => {}
        // What cannot be read any further may still be owed answers; but a peer that broke the rules is owed none.
        Cause::Undrained | Cause::Idle | Cause::Length { .. } | Cause::Memory(_) | Cause::HalfSent => return last,
        Cause::Unread | Cause::Unanswerable | Cause::Panic(_) | Cause::Io(_) => return last,
    }
    pipeline.end();
    match timeout_at(context.now() + DRAIN, write).await {
        Ok(Cause::Peer) => last,
        Ok(cause) => cause,
        Err(_elapsed) => Cause::Undrained,
    }
}

/// Reads requests and hands them to the service until the connection ends.
async fn read(context: &mut Context, pipeline: &Pipeline) -> Cause {
    loop {
        pipeline.room().await;
        let arrived = match frame::next(context, pipeline).await {
            Ok(Some(arrived)) => arrived,
            Ok(None) => return Cause::Peer,
            Err(cause) => return cause,
        };
        let received = context.now();
        let call = || context.server.service.call(&context.peer, arrived.frame);
        match std::panic::catch_unwind(AssertUnwindSafe(call)) {
            Ok(reply) => pipeline.push(Call::new(arrived.key, received, reply)),
            Err(payload) => {
                context.metrics().requests.finished(arrived.key, "panicked");
                return Cause::panic(&*payload);
            }
        }
    }
}

fn log(context: &Context, cause: &Cause) {
    let peer = &context.peer;
    let (connection, addr, listener) = (peer.id, peer.addr, &*peer.listener);
    match cause {
        Cause::Peer | Cause::Stopping | Cause::Idle => {
            tracing::debug!(connection, %addr, listener, %cause, "connection closed");
        }
        Cause::Io(error) => tracing::debug!(connection, %addr, listener, %error, "connection closed: it broke"),
        Cause::Panic(_) => tracing::error!(connection, %addr, listener, %cause, "connection closed"),
        Cause::Length { .. }
        | Cause::Memory(_)
        | Cause::HalfSent
        | Cause::Unread
        | Cause::Unanswerable
        | Cause::Undrained => {
            if let Some(left_out) = context.server.lines.admit(context.now()) {
                tracing::warn!(connection, %addr, listener, %cause, left_out, "connection closed");
            }
        }
    }
}

/// Closes the socket. After a graceful end what the peer still sends is read and dropped for a moment: closing a
/// socket with unread bytes sends a reset, which may overtake the last answer.
async fn close(reader: &mut ReadHalf, mut writer: WriteHalf, cause: &Cause) {
    if !matches!(cause, Cause::Stopping | Cause::Peer | Cause::Unanswerable) {
        return;
    }
    let linger = async {
        if writer.shutdown().await.is_err() {
            return;
        }
        let mut scrap = [0; 512];
        while matches!(reader.read(&mut scrap).await, Ok(n) if n > 0) {}
    };
    // A peer that is still there after this time loses nothing that it would have read.
    let _ = timeout(LINGER, linger).await;
}

#[cfg(test)]
mod tests {
    use kafscale_log::budget::MemoryBudget;
    use kafscale_ports::Env;

    use super::*;
    use crate::connection::{ConnectionSettings, Frame, Reply, Service};

    struct Closing;

    impl Service for Closing {
        fn call(&self, _: &Arc<Peer>, _: Frame) -> futures::future::BoxFuture<'static, Reply> {
            Box::pin(std::future::ready(Reply::Close))
        }
    }

    /// Ten thousand idle connections are ten thousand of these, and little else of ours.
    #[tokio::test]
    async fn a_connection_s_task_is_small() {
        let (budget, metrics, settings) = (MemoryBudget::new(1 << 20), Arc::default(), ConnectionSettings::default());
        let server = Server::new(Arc::new(Closing), Env::real(), budget, metrics, settings);
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Arc::new(Peer { id: 1, addr, listener: "test".into(), led_away: Default::default() });
        let (reader, writer) = (Box::new(tokio::io::empty()), Box::new(tokio::io::sink()));
        let task = run(server, peer, Accepted { reader, writer, peer: addr }, CancellationToken::new());
        let bytes = size_of_val(&task);
        assert!(bytes <= 3 * 1024, "{bytes} bytes");
    }
}
