//! Answering: polls the requests of a connection in order and writes their answers as they are, as lists of slices.
//!
//! Answers that are ready at the same time leave in one write. Nothing is copied: a slice goes from the cache or
//! the frame it came from to the socket, and its memory is given back when the write is done.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, Bytes};
use futures::future::poll_fn;
use kafscale_log::budget::Reservation;
use kafscale_ports::net::WriteHalf;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::life::Cause;
use super::pipeline::{Call, Pipeline};
use super::server::Server;
use super::{Answer, Reply};
use crate::limits::{GATHER_BYTES, IDLE, UNREAD_ANSWER, WRITE_SLICES, scaled};

/// The writing side of a connection.
pub(super) struct Writer {
    socket: WriteHalf,
    server: Arc<Server>,
    out: Outbox,
}

/// What is to be written.
#[derive(Default)]
struct Outbox {
    slices: VecDeque<Bytes>,
    bytes: usize,
    hold: Vec<Reservation>,
    /// The requests that are answered once everything is written.
    done: Vec<Done>,
}

/// A request that is answered.
struct Done {
    key: i16,
    received: Instant,
    outcome: &'static str,
    /// Of its answer.
    bytes: usize,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Returns the answer's size.
    fn add(&mut self, answer: Answer) -> usize {
        let bytes = answer.slices.iter().map(Bytes::len).sum::<usize>();
        self.bytes += bytes;
        self.slices.extend(answer.slices.into_iter().filter(|slice| !slice.is_empty()));
        self.hold.extend(answer.hold);
        bytes
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.slices.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.slices.pop_front();
        }
    }
}

impl Writer {
    pub(super) fn new(socket: WriteHalf, server: Arc<Server>) -> Self {
        Self { socket, server, out: Outbox::default() }
    }

    pub(super) fn into_inner(self) -> WriteHalf {
        self.socket
    }

    /// Answers until the pipeline has ended and is empty ([`Cause::Peer`]), or something breaks.
    pub(super) async fn run(&mut self, pipeline: &Pipeline) -> Cause {
        match self.answer_all(pipeline).await {
            Ok(()) => Cause::Peer,
            Err(cause) => cause,
        }
    }

    async fn answer_all(&mut self, pipeline: &Pipeline) -> Result<(), Cause> {
        let mut head: Option<Call> = None;
        loop {
            if head.is_none() {
                head = if self.out.is_empty() { pipeline.next().await } else { pipeline.try_next() };
            }
            let Some(call) = head.as_mut() else {
                if self.out.is_empty() {
                    return Ok(());
                }
                self.write_out(pipeline).await?;
                continue;
            };
            let reply = if self.out.is_empty() {
                (&mut call.reply).await
            } else if let Poll::Ready(reply) = futures::poll!(&mut call.reply) {
                reply
            } else {
                // What is ready does not wait for what is not.
                self.write_out(pipeline).await?;
                continue;
            };
            let (key, received) = (call.key, call.received);
            head = None;
            if let Err(cause) = self.take(key, received, reply) {
                self.write_out(pipeline).await?;
                return Err(cause);
            }
            if self.out.bytes >= GATHER_BYTES {
                self.write_out(pipeline).await?;
            }
        }
    }

    fn take(&mut self, key: i16, received: Instant, reply: std::thread::Result<Reply>) -> Result<(), Cause> {
        let (outcome, bytes, ends) = match reply {
            Ok(Reply::Send(answer)) => {
                let outcome = if answer.failed { "failed" } else { "answered" };
                (outcome, self.out.add(answer), None)
            }
            Ok(Reply::Nothing) => ("unacknowledged", 0, None),
            Ok(Reply::Close) => ("closed", 0, Some(Cause::Unanswerable)),
            Err(payload) => ("panicked", 0, Some(Cause::panic(&*payload))),
        };
        self.out.done.push(Done { key, received, outcome, bytes });
        ends.map_or(Ok(()), Err)
    }

    /// Writes everything that is in the outbox.
    async fn write_out(&mut self, pipeline: &Pipeline) -> Result<(), Cause> {
        let total = self.out.bytes;
        let begun = self.server.env.clock.now();
        let mut check = begun + scaled(UNREAD_ANSWER, total);
        while !self.out.slices.is_empty() {
            match timeout_at(check, self.write_some()).await {
                Ok(written) => self.out.advance(written.map_err(Cause::Io)?),
                Err(_elapsed) => {
                    let now = self.server.env.clock.now();
                    if self.server.answers_are_scarce() || now >= begun + IDLE {
                        return Err(Cause::Unread);
                    }
                    check = now + UNREAD_ANSWER;
                }
            }
        }
        self.socket.flush().await.map_err(Cause::Io)?;
        self.finish(pipeline);
        Ok(())
    }

    async fn write_some(&mut self) -> io::Result<usize> {
        let Self { socket, out, .. } = self;
        // The array of slices lives on the stack of one poll, not in the task of an idle connection.
        let written = poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
            let count = out.slices.len().min(WRITE_SLICES);
            for (slice, bytes) in slices.iter_mut().zip(&out.slices) {
                *slice = IoSlice::new(bytes);
            }
            Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count])
        })
        .await?;
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }

    /// Everything is written: memory is given back, and the connection may read on.
    fn finish(&mut self, pipeline: &Pipeline) {
        let now = self.server.env.clock.now();
        let requests = &self.server.metrics.requests;
        for done in &self.out.done {
            requests.finished(done.key, done.outcome);
            requests.written(done.key, now - done.received, done.bytes);
        }
        pipeline.answered(self.out.done.len(), now);
        // An idle connection keeps no memory of its largest answer.
        self.out = Outbox::default();
    }
}
