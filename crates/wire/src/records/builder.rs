//! Making a batch from records: what a client does.
//!
//! Owns writing the format that `batch.rs` and `iter.rs` read, for tests and the simulator's clients. A broker never
//! makes batches of records.

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{CONTROL_BIT, HEADER_LENGTH, LENGTH_STARTS, TRANSACTIONAL_BIT, crc};
use super::compression::Codec;
use super::iter::{Header, Record};
use super::varint;

/// A batch being filled.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    flags: i16,
    base_offset: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    records: BytesMut,
}

impl BatchBuilder {
    /// An empty batch of a producer that is not idempotent.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            flags: 0,
            base_offset: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            records: BytesMut::new(),
        }
    }

    /// Makes the producer idempotent.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(mut self) -> Self {
        self.flags |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes the records markers.
    pub fn control(mut self) -> Self {
        self.flags |= CONTROL_BIT;
        self
    }

    /// Places the first record; producers leave it at 0.
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.base_offset = offset;
        self
    }

    /// Appends a record without headers.
    pub fn record(self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        self.push(&Record { timestamp_ms, key: copy(key), value: copy(value), ..Record::default() })
    }

    /// Appends a record. Its offset follows from its place, not from its field.
    pub fn push(mut self, record: &Record) -> Self {
        if self.count == 0 {
            self.base_timestamp = record.timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp_ms);
        let mut body = BytesMut::new();
        body.put_u8(0);
        varint::write(&mut body, record.timestamp_ms.wrapping_sub(self.base_timestamp));
        varint::write(&mut body, self.count.into());
        put_nullable(&mut body, record.key.as_deref());
        put_nullable(&mut body, record.value.as_deref());
        varint::write(&mut body, record.headers.len() as i64);
        for Header { key, value } in &record.headers {
            put_nullable(&mut body, Some(key));
            put_nullable(&mut body, value.as_deref());
        }
        varint::write(&mut self.records, body.len() as i64);
        self.records.put_slice(&body);
        self.count += 1;
        self
    }

    /// The batch. An empty one is possible, and no broker takes it.
    pub fn build(self) -> Bytes {
        let body = self.codec.compress(self.records.freeze());
        let mut covered = BytesMut::new();
        covered.put_i16(self.codec as i16 | self.flags);
        covered.put_i32(self.count - 1);
        covered.put_i64(self.base_timestamp);
        covered.put_i64(self.max_timestamp);
        covered.put_i64(self.producer_id);
        covered.put_i16(self.producer_epoch);
        covered.put_i32(self.base_sequence);
        covered.put_i32(self.count);
        covered.put_slice(&body);
        let length = HEADER_LENGTH - LENGTH_STARTS + body.len();
        let mut batch = BytesMut::with_capacity(HEADER_LENGTH + body.len());
        batch.put_i64(self.base_offset);
        batch.put_i32(i32::try_from(length).expect("a test's batch is below 2 GiB"));
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(crc(&[&covered]));
        batch.put_slice(&covered);
        batch.freeze()
    }
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write(out, bytes.len() as i64);
            out.put_slice(bytes);
        }
        None => varint::write(out, -1),
    }
}
