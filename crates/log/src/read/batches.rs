//! Which batches of an extent answer a read, and how they are served. Pure: an object in memory in, slices out. Owns
//! the walk over batch headers, the choice of whole batches, and the new base offset and leader epoch of each
//! (outside of the batch's CRC); does not own where objects come from.
//!
//! Records are never looked at here but for the exact offset of a timestamp, and never copied: a served batch is 16
//! new bytes and the rest of it, where it lies.

use bytes::{BufMut, Bytes, BytesMut};
use kafscale_metadata::Extent;
use kafscale_wire::records::{BatchView, Record};

use super::object::CachedObject;
use crate::limits::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, MAX_INFLATED_BATCH_BYTES};

/// The leader epoch of every partition: there are no leaders to elect.
const LEADER_EPOCH: i32 = 0;

/// Bytes that are not the batches that the journal says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch at byte {position} is damaged")]
pub(crate) struct Damage {
    /// Where in the object.
    pub(crate) position: u64,
}

/// Where a read stands after an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of the extent from the offset on was taken.
    Exhausted,
    /// The next batch would exceed the limit.
    Full,
}

/// The batches that were taken so far, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The records field of the answer.
    pub(crate) slices: Vec<Bytes>,
    /// Its length.
    pub(crate) bytes: u64,
    /// The new first bytes of batches are carved from this.
    arena: BytesMut,
}

/// How much a read may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Bytes.
    pub(crate) bytes: u64,
    /// The very first batch is taken even if it is larger (KIP-74).
    pub(crate) first_whole: bool,
}

/// Takes whole batches of `extent`, from the one that contains `offset` on.
///
/// # Errors
/// [`Damage`]; what was taken before it is sound.
pub(crate) fn take(
    object: &CachedObject,
    extent: &Extent,
    offset: i64,
    limit: Limit,
    taken: &mut Taken,
) -> Result<Progress, Damage> {
    let walk = Walk::of(object, extent).skip_to_offset(offset);
    for placed in walk {
        let placed = placed?;
        if placed.last_offset() < offset {
            continue;
        }
        let fits = taken.bytes + placed.bytes <= limit.bytes || (limit.first_whole && taken.bytes == 0);
        if !fits {
            return Ok(Progress::Full);
        }
        taken.serve(object, &placed).ok_or(Damage { position: placed.position })?;
    }
    Ok(Progress::Exhausted)
}

impl Taken {
    fn serve(&mut self, object: &CachedObject, placed: &PlacedBatch) -> Option<()> {
        self.arena.reserve(BATCH_PREFIX_BYTES);
        self.arena.put_i64(placed.offset);
        self.arena.put_slice(&placed.length_field);
        self.arena.put_i32(LEADER_EPOCH);
        self.slices.push(self.arena.split().freeze());
        let rest = placed.position + BATCH_PREFIX_BYTES as u64..placed.position + placed.bytes;
        object.slice_into(rest, &mut self.slices)?;
        self.bytes += placed.bytes;
        Some(())
    }
}

/// The first record at or after `from_offset` with a timestamp of at least `timestamp`: its offset and timestamp.
///
/// A batch that says it has one and cannot be looked into (it inflates to too much) is answered with its first
/// offset: a consumer that starts too early misses nothing.
pub(crate) fn first_at_or_after(
    object: &CachedObject,
    extent: &Extent,
    from_offset: i64,
    timestamp: i64,
) -> Result<Option<(i64, i64)>, Damage> {
    for placed in Walk::of(object, extent).skip_to_timestamp(timestamp) {
        let placed = placed?;
        if placed.max_timestamp < timestamp || placed.last_offset() < from_offset {
            continue;
        }
        let first = first_record(object, &placed, |r| r.timestamp_ms >= timestamp && r.offset >= from_offset)?;
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

/// The first record with the largest timestamp of the extent: its offset and timestamp.
pub(crate) fn with_max_timestamp(
    object: &CachedObject,
    extent: &Extent,
    from_offset: i64,
) -> Result<Option<(i64, i64)>, Damage> {
    let mut newest: Option<PlacedBatch> = None;
    for placed in Walk::of(object, extent) {
        let placed = placed?;
        let is_newer = newest.as_ref().is_none_or(|n| placed.max_timestamp > n.max_timestamp);
        if placed.last_offset() >= from_offset && is_newer {
            newest = Some(placed);
        }
    }
    let Some(placed) = newest else { return Ok(None) };
    let mut best: Option<(i64, i64)> = None;
    let unreadable = first_record(object, &placed, |r| {
        if r.offset >= from_offset && best.is_none_or(|(_, newest)| r.timestamp_ms > newest) {
            best = Some((r.offset, r.timestamp_ms));
        }
        false
    })?;
    Ok(unreadable.or(best))
}

/// The first record of a batch that is wanted, by offset and timestamp.
fn first_record(
    object: &CachedObject,
    placed: &PlacedBatch,
    mut is_wanted: impl FnMut(&Record) -> bool,
) -> Result<Option<(i64, i64)>, Damage> {
    let damage = Damage { position: placed.position };
    let batch = placed.view(object).ok_or(damage)?;
    let cannot_be_read = Ok(Some((placed.offset, placed.max_timestamp)));
    let Ok(records) = batch.records(MAX_INFLATED_BATCH_BYTES) else { return cannot_be_read };
    for record in records {
        let Ok(mut record) = record else { return cannot_be_read };
        // The offsets in a batch are the producer's: they count from its base offset, and may be anything.
        let delta = record.offset.wrapping_sub(batch.base_offset());
        record.offset = placed.offset.saturating_add(delta).clamp(placed.offset, placed.last_offset());
        if is_wanted(&record) {
            return Ok(Some((record.offset, record.timestamp_ms)));
        }
    }
    Ok(None)
}

/// A batch, where it lies and where it belongs.
#[derive(Debug, Clone)]
struct PlacedBatch {
    position: u64,
    /// Its length with everything.
    bytes: u64,
    /// Of its first record.
    offset: i64,
    records: i64,
    max_timestamp: i64,
    /// As it lies there: the only bytes of the prefix that are served as they are.
    length_field: [u8; 4],
}

impl PlacedBatch {
    fn last_offset(&self) -> i64 {
        self.offset + self.records - 1
    }

    /// The batch as one slice; the pieces of one whose header was replaced are joined.
    fn view(&self, object: &CachedObject) -> Option<BatchView> {
        let slices = object.slice(self.position..self.position + self.bytes)?;
        let bytes = match slices.as_slice() {
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        };
        BatchView::first(bytes).ok().map(|(batch, _)| batch)
    }
}

/// The batches of an extent, one after the other; ends after the first damage.
struct Walk<'a> {
    object: &'a CachedObject,
    extent: &'a Extent,
    position: u64,
    offset: i64,
    /// The bytes are known to be sound; else each batch's own checksum is looked at.
    is_sound: bool,
}

impl<'a> Walk<'a> {
    fn of(object: &'a CachedObject, extent: &'a Extent) -> Self {
        let start = u64::from(extent.position);
        let is_sound = object.section_of(&(start..start + u64::from(extent.bytes))).is_some_and(|(_, sound)| sound);
        Self { object, extent, position: start, offset: extent.first_offset, is_sound }
    }

    fn end(&self) -> u64 {
        u64::from(self.extent.position) + u64::from(self.extent.bytes)
    }

    /// Starts at the last indexed batch that is not behind the wanted offset.
    fn skip_to_offset(self, offset: i64) -> Self {
        let wanted = u64::try_from(offset.saturating_sub(self.extent.first_offset)).unwrap_or(0);
        self.skip(|records_before, _| records_before <= wanted)
    }

    /// Starts at the last indexed batch before which no timestamp reaches the wanted one.
    fn skip_to_timestamp(self, timestamp: i64) -> Self {
        self.skip(|_, max_before| max_before < timestamp)
    }

    /// `may_start(records of the extent before it, largest timestamp before it)` holds for entries up to some point.
    fn skip(mut self, may_start: impl Fn(u64, i64) -> bool) -> Self {
        let start = u64::from(self.extent.position);
        let Some((section, true)) = self.object.section_of(&(start..self.end())) else { return self };
        let inside = section.sparse.iter().filter(|e| e.position > self.extent.position);
        let inside = inside.take_while(|e| u64::from(e.position) < self.end());
        let Some(before) = inside.clone().next().and_then(|_| records_before(self.object, section, start)) else {
            return self;
        };
        let last = inside
            .map(|e| (e.position, e.records_before.saturating_sub(before), e.max_timestamp_before))
            .take_while(|(_, records, max_before)| may_start(*records, *max_before))
            .last();
        if let Some((position, records, _)) = last {
            self.position = position.into();
            self.offset += i64::try_from(records).unwrap_or(i64::MAX);
        }
        self
    }

    fn read(&self) -> Option<PlacedBatch> {
        let placed = read_header(self.object, self.position, self.offset)?;
        let is_inside = placed.position + placed.bytes <= self.end() && placed.last_offset() <= self.extent.last_offset;
        let is_sound = is_inside && (self.is_sound || placed.view(self.object)?.check_crc().is_ok());
        is_sound.then_some(placed)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<PlacedBatch, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end() {
            return None;
        }
        let Some(placed) = self.read() else {
            let position = std::mem::replace(&mut self.position, u64::MAX);
            return Some(Err(Damage { position }));
        };
        self.position += placed.bytes;
        self.offset += placed.records;
        Some(Ok(placed))
    }
}

/// How many records of a section lie before a batch of it, dead ones included: from the nearest indexed batch.
fn records_before(object: &CachedObject, section: &crate::segment::SectionIndex, position: u64) -> Option<u64> {
    let indexed = section.sparse.iter().take_while(|e| u64::from(e.position) <= position).last();
    let (mut at, mut records) = indexed.map_or((section.position.into(), 0), |e| (e.position.into(), e.records_before));
    while at < position {
        let batch = read_header(object, at, 0)?;
        at += batch.bytes;
        records += u64::try_from(batch.records).ok()?;
    }
    (at == position).then_some(records)
}

/// Reads the fields of a batch's header that a walk needs. A whole [`BatchView`] is not asked for: it wants one
/// slice, and the header may be a slice of its own.
fn read_header(object: &CachedObject, position: u64, offset: i64) -> Option<PlacedBatch> {
    let header: [u8; BATCH_HEADER_BYTES] = object.copy(position)?;
    let length_field: [u8; 4] = *header[8..].first_chunk()?;
    let bytes = 12 + u64::try_from(i32::from_be_bytes(length_field)).ok()?;
    let records = i64::from(i32::from_be_bytes(*header[23..].first_chunk()?)) + 1;
    let max_timestamp = i64::from_be_bytes(*header[35..].first_chunk()?);
    let is_batch = header[16] == 2 && bytes >= BATCH_HEADER_BYTES as u64 && records >= 1;
    is_batch.then_some(PlacedBatch { position, bytes, offset, records, max_timestamp, length_field })
}
