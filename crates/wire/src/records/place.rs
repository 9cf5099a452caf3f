//! Giving a batch its place in the log without copying its records.
//!
//! Owns which bytes of a batch a broker replaces: the first 16 (base offset, length, leader epoch; the CRC does not
//! cover them), or the whole header where the topic wants the broker's timestamps. The new bytes come out of the
//! caller's arena, so that an answer of a thousand batches allocates once.

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{
    APPEND_TIME_BIT, ATTRIBUTES, BatchView, HEADER_LENGTH, LAST_OFFSET_DELTA, LEADER_EPOCH, LENGTH, MAGIC,
    MAX_TIMESTAMP, PRODUCER_ID, crc,
};

/// The bytes in front of a batch that placing it replaces.
pub const PLACE_LENGTH: usize = MAGIC;

impl BatchView {
    /// The batch at another offset and leader epoch: new first bytes, and the rest as it is.
    pub fn placed(&self, base_offset: i64, leader_epoch: i32, arena: &mut BytesMut) -> [Bytes; 2] {
        arena.reserve(PLACE_LENGTH);
        arena.put_i64(base_offset);
        arena.put_slice(&self.bytes()[LENGTH..LEADER_EPOCH]);
        arena.put_i32(leader_epoch);
        [arena.split().freeze(), self.bytes().slice(PLACE_LENGTH..)]
    }

    /// The batch with the broker's time for all of its records (`message.timestamp.type=LogAppendTime`): a new header
    /// with a new CRC, and the records as they are.
    pub fn with_append_time(&self, timestamp_ms: i64, arena: &mut BytesMut) -> [Bytes; 2] {
        let bytes = self.bytes();
        let body = self.body();
        let mut covered = BytesMut::with_capacity(HEADER_LENGTH - ATTRIBUTES);
        covered.put_i16(self.attributes() | APPEND_TIME_BIT);
        covered.put_slice(&bytes[LAST_OFFSET_DELTA..MAX_TIMESTAMP]);
        covered.put_i64(timestamp_ms);
        covered.put_slice(&bytes[PRODUCER_ID..HEADER_LENGTH]);
        arena.reserve(HEADER_LENGTH);
        arena.put_slice(&bytes[..=MAGIC]);
        arena.put_u32(crc(&[&covered, &body]));
        arena.put_slice(&covered);
        [arena.split().freeze(), body]
    }
}
