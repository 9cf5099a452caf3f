//! One direction of a connection: a bounded queue of chunks, each with the time at which it arrives. Owns delay, partial
//! reads and writes, and the ways in which a direction ends. Order within a direction is kept, as TCP does.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kafscale_ports::Clock;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use crate::clock::SimClock;
use crate::rng::Rng;
use crate::trace::Trace;

/// Bytes on their way before the writer has to wait, as a socket's buffers.
const CAPACITY_BYTES: usize = 64 << 10;

/// How bytes travel.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// A chunk arrives after 1 to this many milliseconds …
    pub delay_ms: u64,
    /// … but this often (in a hundred) after up to `hiccup_ms` more.
    pub hiccup_percent: u64,
    /// See `hiccup_percent`.
    pub hiccup_ms: u64,
    /// How often (in a hundred) a read or write takes only a part.
    pub partial_percent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The writer has gone; what is on its way still arrives.
    Finished,
    /// Both ends get an error, and what was on its way is lost.
    Reset,
}

struct Inner {
    rng: Rng,
    chunks: VecDeque<(Instant, Bytes)>,
    queued: usize,
    last_due: Instant,
    ending: Ending,
    swallows: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Inner {
    fn wake_both(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn part(&mut self, len: usize, percent: u64) -> usize {
        if len > 1 && self.rng.chance(percent) { 1 + self.rng.index(len - 1) } else { len }
    }
}

/// See the module's documentation.
pub(super) struct Pipe {
    name: String,
    clock: SimClock,
    trace: Trace,
    weather: Weather,
    inner: Mutex<Inner>,
}

impl Pipe {
    pub(super) fn new(name: String, clock: SimClock, trace: Trace, weather: Weather, rng: Rng) -> Arc<Self> {
        let inner = Inner {
            rng,
            chunks: VecDeque::new(),
            queued: 0,
            last_due: clock.now(),
            ending: Ending::Open,
            swallows: false,
            reader_gone: false,
            reader: None,
            writer: None,
        };
        Arc::new(Self { name, clock, trace, weather, inner: Mutex::new(inner) })
    }

    pub(super) fn ends(self: &Arc<Self>) -> (Writer, Reader) {
        (Writer(Arc::clone(self)), Reader { pipe: Arc::clone(self), arrival: None })
    }

    /// Cuts it: both ends get an error.
    pub(super) fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.ending = Ending::Reset;
        inner.chunks.clear();
        inner.wake_both();
    }

    /// From now on what is written vanishes, and nobody is told.
    pub(super) fn swallow(&self) {
        let mut inner = self.inner.lock();
        inner.swallows = true;
        inner.queued = 0;
        inner.chunks.clear();
        inner.wake_both();
    }

    pub(super) fn swallows(&self) -> bool {
        self.inner.lock().swallows
    }

    /// Whether nobody uses it any more.
    pub(super) fn is_over(&self) -> bool {
        let inner = self.inner.lock();
        inner.ending == Ending::Reset || (inner.reader_gone && inner.ending == Ending::Finished)
    }

    fn write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut inner = self.inner.lock();
        if inner.ending != Ending::Open {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if inner.swallows {
            self.trace.line(format_args!("net {} lost {offered}", self.name));
            return Poll::Ready(Ok(offered));
        }
        if inner.reader_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY_BYTES.saturating_sub(inner.queued);
        if room == 0 && offered > 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = inner.part(offered.min(room), self.weather.partial_percent);
        let chunk = gather(slices, taken);
        let due = self.clock.now() + self.delay(&mut inner.rng);
        inner.last_due = inner.last_due.max(due);
        let due = inner.last_due;
        inner.queued += taken;
        inner.chunks.push_back((due, chunk));
        if let Some(reader) = inner.reader.take() {
            reader.wake();
        }
        self.trace.line(format_args!("net {} write {taken}", self.name));
        Poll::Ready(Ok(taken))
    }

    fn delay(&self, rng: &mut Rng) -> Duration {
        let Weather { delay_ms, hiccup_percent, hiccup_ms, .. } = self.weather;
        let hiccup = if rng.chance(hiccup_percent) { rng.within(0..hiccup_ms.max(1)) } else { 0 };
        // Never nothing: a client that asks again at once would stop the clock.
        Duration::from_millis(rng.within(1..delay_ms + 1) + hiccup)
    }

    fn finish(&self) {
        let mut inner = self.inner.lock();
        if inner.ending == Ending::Open {
            inner.ending = Ending::Finished;
        }
        inner.wake_both();
    }

    /// Takes what has arrived into `buf`; or says when something will, if that is known.
    fn take(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> io::Result<Taken> {
        let mut inner = self.inner.lock();
        if inner.ending == Ending::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let Some((due, chunk)) = inner.chunks.front().cloned() else {
            if inner.ending == Ending::Finished && !inner.swallows {
                return Ok(Taken::Done);
            }
            inner.reader = Some(cx.waker().clone());
            return Ok(Taken::Nothing);
        };
        if due > self.clock.now() {
            inner.reader = Some(cx.waker().clone());
            return Ok(Taken::Later(due));
        }
        let n = inner.part(chunk.len().min(buf.remaining()), self.weather.partial_percent);
        buf.put_slice(&chunk[..n]);
        inner.queued -= n;
        match inner.chunks.front_mut() {
            Some((_, front)) if n < front.len() => drop(front.split_to(n)),
            _ => drop(inner.chunks.pop_front()),
        }
        if let Some(writer) = inner.writer.take() {
            writer.wake();
        }
        Ok(Taken::Done)
    }
}

enum Taken {
    Done,
    Nothing,
    Later(Instant),
}

fn gather(slices: &[IoSlice<'_>], mut len: usize) -> Bytes {
    let mut out = Vec::with_capacity(len);
    for slice in slices {
        let part = slice.len().min(len);
        out.extend_from_slice(&slice[..part]);
        len -= part;
    }
    out.into()
}

/// The sending end.
pub(super) struct Writer(Arc<Pipe>);

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// The receiving end.
pub(super) struct Reader {
    pipe: Arc<Pipe>,
    /// Sleeps until the first chunk arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let due = match self.pipe.take(cx, buf) {
                Ok(Taken::Done) => return Poll::Ready(Ok(())),
                Ok(Taken::Nothing) => return Poll::Pending,
                Ok(Taken::Later(due)) => due,
                Err(why) => return Poll::Ready(Err(why)),
            };
            let mut arrival = match self.arrival.take() {
                Some(mut sleep) => {
                    sleep.as_mut().reset(due);
                    sleep
                }
                None => Box::pin(sleep_until(due)),
            };
            let arrived = arrival.as_mut().poll(cx);
            self.arrival = Some(arrival);
            if arrived.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.pipe.inner.lock();
        inner.reader_gone = true;
        inner.chunks.clear();
        inner.wake_both();
    }
}
