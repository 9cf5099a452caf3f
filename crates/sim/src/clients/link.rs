//! A client's connection: sends requests, matches answers to them in order, and says when it was lost. An answer that
//! is not the oldest unanswered request's is recorded as an oddity: Kafka's clients would close.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::anyhow;
use bytes::Bytes;
use kafscale_ports::Spawn;
use kafscale_ports::net::{ReadHalf, WriteHalf};
use kafscale_ports::spawn::TokioSpawn;
use kafscale_wire::frame::{decode_response, encode_request};
use kafscale_wire::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};

use super::Shared;

/// What arrays of an answer may take in memory.
const ALLOWANCE: usize = 64 << 20;

/// The connection is lost; what was sent and not answered may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// An answer, not yet decoded.
#[derive(Debug)]
pub struct Answer {
    /// Of the request.
    pub correlation: i32,
    frame: Bytes,
    version: i16,
}

/// See the module's documentation.
pub struct Link {
    shared: Arc<Shared>,
    name: String,
    writer: WriteHalf,
    answers: mpsc::UnboundedReceiver<Bytes>,
    next: i32,
    waiting: VecDeque<(i32, i16)>,
}

impl Link {
    /// Connects.
    pub async fn connect(shared: &Arc<Shared>, name: &str) -> Result<Self, Lost> {
        let (reader, writer) = shared.net.connect().await.map_err(|_refused| Lost)?;
        let (forward, answers) = mpsc::unbounded_channel();
        TokioSpawn.spawn("client reader", Box::pin(read_frames(reader, forward)));
        let (shared, name) = (Arc::clone(shared), name.to_owned());
        Ok(Self { shared, name, writer, answers, next: 0, waiting: VecDeque::new() })
    }

    /// Sends a request that will be answered, and returns its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, Lost> {
        let correlation = self.write(version, request).await?;
        self.waiting.push_back((correlation, version));
        Ok(correlation)
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub async fn send_silently<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, Lost> {
        self.write(version, request).await
    }

    async fn write<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, Lost> {
        let correlation = self.next;
        self.next += 1;
        self.shared.history.lock().requests[0] += 1;
        self.shared.trace.line(format_args!("{} asks {} v{version} #{correlation}", self.name, R::NAME));
        for slice in encode_request(correlation, Some(&self.name), version, request) {
            self.writer.write_all(&slice).await.map_err(|_reset| Lost)?;
        }
        Ok(correlation)
    }

    /// The correlation id of the request that is sent next.
    pub fn next_correlation(&self) -> i32 {
        self.next
    }

    /// The next answer. Cancel-safe.
    pub async fn answer(&mut self) -> Result<Answer, Lost> {
        let frame = self.answers.recv().await.ok_or(Lost)?;
        let given = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        match self.waiting.pop_front() {
            Some((correlation, version)) if given == Some(correlation) => {
                self.shared.history.lock().requests[1] += 1;
                Ok(Answer { correlation, frame, version })
            }
            expected => {
                let what = anyhow!("{} got an answer to {given:?}; the oldest open request is {expected:?}", self.name);
                self.shared.history.lock().odd("answers", &what);
                Err(Lost)
            }
        }
    }

    /// Decodes an answer.
    pub fn decode<R: Response>(&self, answer: Answer) -> Result<R, Lost> {
        match decode_response(answer.frame, answer.version, ALLOWANCE) {
            Ok((_, response)) => Ok(response),
            Err(why) => {
                let what = anyhow!("{} cannot read {} v{}: {why}", self.name, R::NAME, answer.version);
                self.shared.history.lock().odd("answers", &what);
                Err(Lost)
            }
        }
    }

    /// Sends a request on a connection without others in flight, and waits for its answer.
    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, Lost> {
        let exchange = async {
            let correlation = self.send(version, request).await?;
            let answer = self.answer().await?;
            if answer.correlation == correlation { Ok(answer) } else { Err(Lost) }
        };
        let answer = timeout(patience, exchange).await.unwrap_or(Err(Lost))?;
        self.decode(answer)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let open = self.waiting.len() as u64;
        if open > 0 {
            self.shared.trace.line(format_args!("{} leaves {open} unanswered", self.name));
        }
        self.shared.history.lock().requests[2] += open;
    }
}

async fn read_frames(mut reader: ReadHalf, forward: mpsc::UnboundedSender<Bytes>) {
    while let Ok(length) = reader.read_i32().await {
        let Ok(length) = usize::try_from(length) else { return };
        let mut frame = vec![0; length];
        if reader.read_exact(&mut frame).await.is_err() || forward.send(frame.into()).is_err() {
            return;
        }
    }
}
