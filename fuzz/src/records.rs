//! Targets of record batches: reading and placing them, and what a producer may send.
//!
//! Batches that came from a client are read on two paths: by their header alone (produce, fetch), and record by record
//! under a limit (look-ups by time). Both are taken for every batch.

use bytes::{Bytes, BytesMut};
use kafscale_log::write::{TimestampRule, TopicRules, validate};
use kafscale_wire::records::{BatchError, BatchView, Codec, Record, RecordError, TimestampType, split};

use crate::outcome::{Outcome, Way};
use crate::repair;

/// What the records of a batch may inflate to.
const LIMIT: usize = 64 << 10;
const NOW_MS: i64 = 1_700_000_000_000;

/// A byte of flags (1: checksums are made right), then a records field.
pub fn batches(input: &[u8]) -> Outcome {
    let mut way = Way::default();
    let Some((flags, rest)) = input.split_first() else { return way.refused(&"short") };
    let bytes = repaired(flags & 1 != 0, rest);
    let (mut taken, mut good) = (0, 0);
    for batch in split(bytes.clone()) {
        match batch {
            Err(error) => way.found(&error),
            Ok(batch) => {
                assert_eq!(batch.bytes(), &bytes[taken..taken + batch.bytes().len()], "batches follow one another");
                taken += batch.bytes().len();
                let checked = batch.check();
                let read = read(&batch);
                place(&batch, &checked);
                good += u32::from(checked.is_ok() && read.is_ok());
                way.found(&(batch.codec(), checked));
                way.found(&(batch.codec(), read));
            }
        }
    }
    if good > 0 { way.accepted(&good) } else { way.refused(&"no batch") }
}

fn repaired(is_repaired: bool, bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if is_repaired {
        repair::batches(&mut bytes);
    }
    bytes.into()
}

/// Reads all records: as many as the batch says, and no more bytes than it may inflate to.
fn read(batch: &BatchView) -> Result<i32, RecordError> {
    let (mut count, mut bytes) = (0, 0);
    let limit = if batch.codec() == Ok(Codec::None) { batch.bytes().len() } else { LIMIT };
    let mut records = batch.records(LIMIT)?;
    while let Some(record) = records.next() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                assert!(records.next().is_none(), "nothing follows an error");
                return Err(error);
            }
        };
        count += 1;
        bytes += size(&record);
        assert!(count <= batch.count() && bytes <= limit, "{count} records of {bytes} bytes");
        if batch.timestamp_type() == TimestampType::LogAppend {
            assert_eq!(record.timestamp_ms, batch.max_timestamp(), "the broker's time is that of all records");
        }
    }
    assert_eq!(count, batch.count().max(0), "all records came, or an error");
    Ok(count)
}

fn size(record: &Record) -> usize {
    let sides = [&record.key, &record.value].into_iter().flatten().map(Bytes::len);
    let headers = record.headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len));
    sides.chain(headers).sum()
}

/// A batch that is given another place, or the broker's time, is the same otherwise.
fn place(batch: &BatchView, checked: &Result<(), BatchError>) {
    let again = |slices: [Bytes; 2]| {
        let (again, rest) = BatchView::first(slices.concat().into()).expect("a batch stays one");
        assert_eq!((rest.len(), again.body()), (0, batch.body()));
        again
    };
    let mut arena = BytesMut::new();
    let placed = again(batch.placed(77, 5, &mut arena));
    assert_eq!((placed.base_offset(), placed.leader_epoch()), (77, 5));
    assert_eq!((&placed.check(), placed.crc()), (checked, batch.crc()), "the place is outside of the checksum");
    let timed = again(batch.with_append_time(NOW_MS, &mut arena));
    assert_eq!((timed.max_timestamp(), timed.timestamp_type()), (NOW_MS, TimestampType::LogAppend));
    assert_eq!(timed.check_crc(), Ok(()), "the checksum is that of the new header");
    assert_eq!((timed.codec(), timed.count()), (batch.codec(), batch.count()));
}

/// A byte of flags (1: checksums are made right, 2: LogAppendTime, 4: no bounds on timestamps), one of the version, two
/// of the largest batch's size, then the records field of one partition.
pub fn produced(input: &[u8]) -> Outcome {
    let mut way = Way::default();
    let Some(([flags, version, limit @ ..], rest)) = input.split_first_chunk::<4>() else {
        return way.refused(&"short");
    };
    let bound = if flags & 4 != 0 { i64::MAX } else { 3_600_000 };
    let timestamps = match flags & 2 {
        0 => TimestampRule::CreateTime { before_max_ms: bound, after_max_ms: bound },
        _ => TimestampRule::LogAppendTime,
    };
    let rules = TopicRules { max_message_bytes: u16::from_be_bytes(*limit).into(), timestamps };
    way.at((flags & 6).into());
    let bytes = repaired(flags & 1 != 0, rest);
    let valid = match validate(bytes.clone(), i16::from(version % 14), &rules, NOW_MS) {
        Ok(valid) => valid,
        Err(invalid) => return way.refused(&invalid),
    };
    let meta = *valid.meta();
    assert_eq!((valid.bytes(), meta.bytes as usize), (bytes.len(), bytes.len()), "one batch is all of the field");
    assert!(meta.bytes <= rules.max_message_bytes && meta.records >= 1 && !meta.transactional, "{meta:?}");
    assert!(meta.producer.is_none_or(|p| p.id >= 0 && p.epoch >= 0 && p.first_sequence >= 0), "{meta:?}");
    assert_eq!(valid.append_time(), (timestamps == TimestampRule::LogAppendTime).then_some(NOW_MS));
    way.found(&(meta.producer.is_some(), valid.append_time()));
    way.accepted(&rules)
}
