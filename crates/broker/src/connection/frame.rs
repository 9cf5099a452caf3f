//! Reading one frame: its length and header, admission to memory, its body.
//!
//! Nothing is believed before it is checked: the length is judged before memory is asked for, memory is granted
//! before the body is read, and the body is read straight into one buffer of exactly its size, which the allocator
//! need not fill with zeros. The order of admission is first come first served over all connections.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use kafscale_log::budget::Reservation;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::Frame;
use super::life::{Cause, Context};
use super::pipeline::Pipeline;
use super::server::Server;
use crate::limits::{
    DECODED_FACTOR, FRAME_OVERHEAD_BYTES, HALF_SENT, HALF_SENT_SILENCE, IDLE, LARGE_FRAME_BYTES, MAX_FRAME_BYTES,
    MAX_PLAIN_ALLOWANCE_BYTES, MAX_PLAIN_FRAME_BYTES, MIN_FRAME_BYTES, PRODUCE_FACTOR, scaled,
};

/// Produce's API key.
const PRODUCE: i16 = 0;
const PREFIX_BYTES: usize = 4;
const HEAD_BYTES: usize = PREFIX_BYTES + MIN_FRAME_BYTES;

/// The memory in bytes that is reserved for a frame of `len` bytes and all that is decoded from it. Of a Produce only
/// the list of its partitions is decoded, which is never larger than the frame; other requests are structures, whose
/// decoded form is larger than their bytes. What was not needed is given back as soon as the request is decoded.
pub fn allowance(api_key: i16, len: usize) -> usize {
    if api_key == PRODUCE {
        len.saturating_mul(PRODUCE_FACTOR).saturating_add(FRAME_OVERHEAD_BYTES)
    } else {
        let decoded = len.saturating_mul(DECODED_FACTOR).saturating_add(FRAME_OVERHEAD_BYTES);
        decoded.min(MAX_PLAIN_ALLOWANCE_BYTES)
    }
}

/// The longest frame of this kind where large frames have `large` bytes of memory: what exceeds that would wait for
/// ever.
fn limit(api_key: i16, large: u64) -> usize {
    let most = usize::try_from(large).unwrap_or(usize::MAX).saturating_sub(FRAME_OVERHEAD_BYTES);
    if api_key == PRODUCE { MAX_FRAME_BYTES.min(most) } else { MAX_PLAIN_FRAME_BYTES.min(most / DECODED_FACTOR) }
}

/// A frame with what was read of its header.
pub(super) struct Arrived {
    pub(super) key: i16,
    pub(super) frame: Frame,
}

/// The first bytes of a frame.
struct Head {
    bytes: [u8; HEAD_BYTES],
    filled: usize,
}

impl Head {
    fn len(&self) -> i32 {
        i32::from_be_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]])
    }

    fn key(&self) -> i16 {
        i16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    fn version(&self) -> i16 {
        i16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// The frame's length in bytes, once the prefix is there; refused when it is out of bounds whatever its key.
    fn checked_len(&self) -> Result<usize, Cause> {
        let value = self.len();
        match usize::try_from(value) {
            Ok(len) if (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&len) => Ok(len),
            Ok(_) | Err(_) => Err(Cause::Length { value, limit: MAX_FRAME_BYTES }),
        }
    }
}

/// The next frame; none when the peer has closed its side between two frames.
pub(super) async fn next(context: &mut Context, pipeline: &Pipeline) -> Result<Option<Arrived>, Cause> {
    let mut head = Head { bytes: [0; HEAD_BYTES], filled: 0 };
    head.filled = first_bytes(context, pipeline, &mut head.bytes).await?;
    if head.filled == 0 {
        return Ok(None);
    }
    let begun = context.now();
    let len = rest_of_head(context, &mut head, begun + HALF_SENT).await?;
    let spent = context.now() - begun;
    let reservation = admit(context.server(), &head, len).await?;
    // The clock stands still while the frame waits for memory: that wait is ours, not the peer's.
    let deadline = context.now() + scaled(HALF_SENT, len).saturating_sub(spent);
    let bytes = body(context, &head, len, deadline).await?;
    context.metrics().requests.received(head.key(), PREFIX_BYTES + len);
    Ok(Some(Arrived { key: head.key(), frame: Frame { bytes, reservation: reservation.whole } }))
}

/// Waits for the first bytes of a frame, as long as the connection may be idle. Never reads beyond the shortest
/// frame, so it never holds bytes of a second one.
async fn first_bytes(context: &mut Context, pipeline: &Pipeline, into: &mut [u8]) -> Result<usize, Cause> {
    let mut deadline = context.now() + IDLE;
    loop {
        match timeout_at(deadline, context.reader.read(into)).await {
            Ok(read) => return read.map_err(Cause::Io),
            Err(_elapsed) => {}
        }
        let now = context.now();
        // A peer that waits for an answer is not idle, nor is one that had its answer a moment ago.
        deadline = match pipeline.quiet_since() {
            None => now + IDLE,
            Some(since) if since + IDLE > now => since + IDLE,
            Some(_) => return Err(Cause::Idle),
        };
    }
}

/// Reads up to the end of the shortest frame and checks the length, as early as it is there.
async fn rest_of_head(context: &mut Context, head: &mut Head, deadline: Instant) -> Result<usize, Cause> {
    while head.filled < PREFIX_BYTES {
        head.filled += some(context, &mut &mut head.bytes[head.filled..], deadline).await?;
    }
    let len = head.checked_len()?;
    while head.filled < HEAD_BYTES {
        head.filled += some(context, &mut &mut head.bytes[head.filled..], deadline).await?;
    }
    let limit = limit(head.key(), context.server().large.total_bytes());
    if len > limit {
        return Err(Cause::Length { value: head.len(), limit });
    }
    Ok(len)
}

/// The memory of a frame that is admitted.
struct Admitted {
    whole: Reservation,
    /// Its place among the large frames, kept until the body has arrived.
    _large: Option<Reservation>,
}

async fn admit(server: &Server, head: &Head, len: usize) -> Result<Admitted, Cause> {
    let bytes = allowance(head.key(), len) as u64;
    tracing::trace!(key = head.key(), version = head.version(), len, bytes, "request announced");
    // Always in this order: who has a place waits only for memory, and who has memory waits for nothing here.
    let large = if len >= LARGE_FRAME_BYTES { Some(server.large.reserve(bytes).await?) } else { None };
    let whole = server.budget.reserve(bytes).await?;
    Ok(Admitted { whole, _large: large })
}

async fn body(context: &mut Context, head: &Head, len: usize, deadline: Instant) -> Result<Bytes, Cause> {
    let mut bytes = BytesMut::with_capacity(len);
    bytes.extend_from_slice(&head.bytes[PREFIX_BYTES..]);
    while bytes.len() < len {
        let missing = len - bytes.len();
        some(context, &mut (&mut bytes).limit(missing), deadline).await?;
    }
    Ok(bytes.freeze())
}

/// Reads at least one byte of a frame that has begun.
async fn some<B: BufMut + Send>(context: &mut Context, into: &mut B, deadline: Instant) -> Result<usize, Cause> {
    let silence = context.now() + HALF_SENT_SILENCE;
    match timeout_at(deadline.min(silence), context.reader.read_buf(into)).await {
        Ok(Ok(0)) => Err(Cause::Io(io::ErrorKind::UnexpectedEof.into())),
        Ok(read) => read.map_err(Cause::Io),
        Err(_elapsed) => Err(Cause::HalfSent),
    }
}
