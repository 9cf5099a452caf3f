//! Record batches as a client writes and reads them (magic 2, not compressed). Written anew and not taken from
//! `kafscale-wire`: what the broker's own code gets wrong, the simulator must not get wrong in the same way.
//!
//! Each record's value begins with an id that is unique in the world; the bytes behind it follow from the id.

use std::ops::Range;

use anyhow::{Result, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

const HEADER_BYTES: usize = 61;
/// Where the part begins that the CRC covers: the attributes.
const CRC_COVERS_FROM: usize = 21;

/// An idempotent producer's numbering of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbering {
    /// The producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The first record's sequence.
    pub sequence: i32,
}

/// A batch as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatch {
    /// Of its first record.
    pub base_offset: i64,
    /// The records' ids, by offset.
    pub ids: Vec<u64>,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Encodes records with these ids, each value about `value_bytes` long.
pub fn encode(ids: Range<u64>, numbering: Option<Numbering>, timestamp_ms: i64, value_bytes: usize) -> Bytes {
    let count = i32::try_from(ids.end - ids.start).expect("a batch has few records");
    let numbering = numbering.unwrap_or(Numbering { id: -1, epoch: -1, sequence: -1 });
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(count - 1);
    out.put_i64(timestamp_ms);
    out.put_i64(timestamp_ms);
    out.put_i64(numbering.id);
    out.put_i16(numbering.epoch);
    out.put_i32(numbering.sequence);
    out.put_i32(count);
    for (delta, id) in (0..).zip(ids) {
        put_record(&mut out, delta, &value(id, value_bytes));
    }
    let length = i32::try_from(out.len() - 12).expect("a batch is small");
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&out[CRC_COVERS_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.freeze()
}

fn value(id: u64, value_bytes: usize) -> Vec<u8> {
    let mut value = id.to_be_bytes().to_vec();
    let filler = id.to_be_bytes()[7] | 1;
    value.resize(value_bytes.max(value.len()), filler);
    value
}

fn put_record(out: &mut BytesMut, delta: i64, value: &[u8]) {
    let mut record = BytesMut::with_capacity(value.len() + 16);
    record.put_i8(0);
    put_varint(&mut record, 0);
    put_varint(&mut record, delta);
    put_varint(&mut record, -1);
    put_varint(&mut record, value.len() as i64);
    record.put_slice(value);
    put_varint(&mut record, 0);
    put_varint(out, record.len() as i64);
    out.put_slice(&record);
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Reads whole batches, one after the other.
pub fn decode_all(mut bytes: Bytes) -> Result<Vec<ReadBatch>> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        ensure!(bytes.len() >= HEADER_BYTES, "{} bytes behind the last whole batch", bytes.len());
        let length = usize::try_from((&bytes[8..12]).get_i32())? + 12;
        ensure!(bytes.len() >= length, "a batch of {length} bytes is cut after {}", bytes.len());
        batches.push(decode(bytes.split_to(length))?);
    }
    Ok(batches)
}

/// Reads one batch and checks it to the last byte.
pub fn decode(batch: Bytes) -> Result<ReadBatch> {
    let bytes = batch.len();
    ensure!(bytes >= HEADER_BYTES, "a batch of {bytes} bytes");
    let crc = (&batch[17..21]).get_u32();
    ensure!(crc == crc32c(&batch[CRC_COVERS_FROM..]), "a batch with a wrong CRC");
    let mut rest = batch;
    let base_offset = rest.get_i64();
    let length = rest.get_i32();
    ensure!(usize::try_from(length)? + 12 == bytes, "a batch of {bytes} bytes says {length}");
    rest.advance(4);
    ensure!(rest.get_i8() == 2, "a batch of another magic");
    rest.advance(4 + 2);
    let last_delta = rest.get_i32();
    rest.advance(8 + 8 + 8 + 2 + 4);
    let count = rest.get_i32();
    ensure!(count == last_delta + 1 && count > 0, "{count} records up to delta {last_delta}");
    let ids = (0..i64::from(count)).map(|delta| take_record(&mut rest, delta)).collect::<Result<_>>()?;
    ensure!(rest.is_empty(), "{} bytes behind a batch's records", rest.len());
    Ok(ReadBatch { base_offset, ids, bytes })
}

fn take_record(rest: &mut Bytes, expected_delta: i64) -> Result<u64> {
    let length = usize::try_from(take_varint(rest)?)?;
    ensure!(length <= rest.len(), "a record is cut off");
    let mut record = rest.split_to(length);
    record.advance(1);
    let (_timestamp, delta) = (take_varint(&mut record)?, take_varint(&mut record)?);
    ensure!(delta == expected_delta, "record {expected_delta} says {delta}");
    ensure!(take_varint(&mut record)? == -1, "a key out of nowhere");
    let value_bytes = usize::try_from(take_varint(&mut record)?)?;
    ensure!(value_bytes >= 8 && value_bytes <= record.len(), "a value of {value_bytes} bytes");
    let given = record.split_to(value_bytes);
    let id = (&given[..]).get_u64();
    ensure!(given == value(id, value_bytes), "the value of record {id} is not what was produced");
    Ok(id)
}

fn take_varint(rest: &mut Bytes) -> Result<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        ensure!(!rest.is_empty(), "a number is cut off");
        let byte = rest.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    anyhow::bail!("a number of more than 64 bits")
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a 32-bit CRC has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_round_trip_and_damage_is_seen() {
        let numbering = Some(Numbering { id: 7, epoch: 1, sequence: 30 });
        let batch = encode(100..170, numbering, 1_700_000_000_000, 40);
        let read = decode(batch.clone()).unwrap();
        assert_eq!(read.ids, (100..170).collect::<Vec<_>>());
        for at in [17, 30, batch.len() - 1] {
            let mut damaged = batch.to_vec();
            damaged[at] ^= 1;
            assert!(decode(damaged.into()).is_err(), "{at}");
        }
    }
}
