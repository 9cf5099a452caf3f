//! Record batches: what Java wrote, what lies, what inflates without end.

use bytes::{Bytes, BytesMut};
use kafscale_wire::records::{
    BatchBuilder, BatchError, BatchView, Codec, Header, PLACE_LENGTH, Record, RecordError, TimestampType, split,
};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

/// The batch of `java_records`, as kafka-clients 4.3.1 writes it with each codec (snappy in xerial's frame).
const JAVA: [(Codec, &str); 5] = [
    (
        Codec::None,
        "00000000000000070000009b0000000502684d33d90000000000020000018bcfe568000000018bcfe569f400000000000012\
         67000300000064000000032a000000066b65790a76616c75650402680231026801940100cf0f020184016162636162636162\
         6361626361626361626361626361626361626361626361626361626361626361626361626361626361626361626361626361\
         6263616263616263000e00e80704000100",
    ),
    (
        Codec::Gzip,
        "0000000000000007000000720000000502f62f21a20001000000020000018bcfe568000000018bcfe569f400000000000012\
         67000300000064000000031f8b08000000000000ffd362606060cb4eade42a4bcc294d6561ca603264ca609cc2c8709e9f89\
         b1853131299942c4c0c7f0829d858191010001fc294b6a000000",
    ),
    (
        Codec::Snappy,
        "00000000000000070000007700000005028fffff680002000000020000018bcfe568000000018bcfe569f400000000000012\
         670003000000640000000382534e41505059000000000100000001000000326a882a000000066b65790a76616c7565040268\
         0231026801940100cf0f0201840161626361f6030020000e00e80704000100",
    ),
    (
        Codec::Lz4,
        "0000000000000007000000710000000502e24d5f130003000000020000018bcfe568000000018bcfe569f400000000000012\
         670003000000640000000304224d1860408231000000ff132a000000066b65790a76616c75650402680231026801940100cf\
         0f0201840161626303002c90000e00e8070400010000000000",
    ),
    (
        Codec::Zstd,
        "00000000000000070000007000000005021d8cea690004000000020000018bcfe568000000018bcfe569f400000000000012\
         670003000000640000000328b52ffd00589c0100b4022a000000066b65790a76616c75650402680231026801940100cf0f02\
         018401616263000e00e807040001000100a2927b02010000",
    ),
];

fn java_records() -> Vec<Record> {
    let some = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let header = |value| Header { key: Bytes::from_static(b"h"), value };
    let record = |offset, timestamp_ms, key, value| Record { offset, timestamp_ms, key, value, headers: Vec::new() };
    vec![
        Record {
            headers: vec![header(some("1")), header(None)],
            ..record(7, 1_700_000_000_000, some("key"), some("value"))
        },
        record(8, 1_699_999_999_000, None, Some("abc".repeat(22).into())),
        record(9, 1_700_000_000_500, some(""), None),
    ]
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn one(bytes: Bytes) -> BatchView {
    let (batch, rest) = BatchView::first(bytes).expect("a whole batch");
    assert!(rest.is_empty());
    batch
}

fn read(batch: &BatchView) -> Result<Vec<Record>, RecordError> {
    batch.records(LIMIT)?.collect()
}

#[test]
fn java_batches_are_read() {
    for (codec, hex) in JAVA {
        let batch = one(unhex(hex));
        batch.check().expect("Java's batch is right");
        assert_eq!(batch.codec(), Ok(codec));
        assert_eq!((batch.base_offset(), batch.last_offset(), batch.count(), batch.leader_epoch()), (7, 9, 3, 5));
        assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (4711, 3, 100));
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_700_000_000_000, 1_700_000_000_500));
        assert_eq!(batch.timestamp_type(), TimestampType::Create);
        assert!(!batch.is_transactional() && !batch.is_control());
        assert_eq!(read(&batch).expect("readable"), java_records(), "{codec:?}");
    }
}

/// What we build is, uncompressed, byte for byte what Java builds.
#[test]
fn the_builder_writes_what_java_writes() {
    let builder = BatchBuilder::new(Codec::None).producer(4711, 3, 100).base_offset(7);
    let built = one(java_records().iter().fold(builder, BatchBuilder::push).build());
    let mut arena = BytesMut::new();
    assert_eq!(built.placed(7, 5, &mut arena).concat(), unhex(JAVA[0].1));
}

#[test]
fn a_placed_batch_differs_in_nothing_but_its_place() {
    let batch = one(unhex(JAVA[0].1));
    let mut arena = BytesMut::with_capacity(1024);
    let [head, rest] = batch.placed(1 << 40, 9, &mut arena);
    assert_eq!(head.len(), PLACE_LENGTH);
    assert_eq!(rest.as_ptr(), batch.bytes()[PLACE_LENGTH..].as_ptr(), "the rest is the same memory");
    let placed = one([head, rest].concat().into());
    assert_eq!(placed.check(), Ok(()));
    assert_eq!((placed.base_offset(), placed.leader_epoch()), (1 << 40, 9));
    assert_eq!(placed.bytes()[PLACE_LENGTH..], batch.bytes()[PLACE_LENGTH..]);
}

#[test]
fn the_brokers_time_is_every_records_time() {
    for (_, hex) in JAVA {
        let batch = one(unhex(hex));
        let mut arena = BytesMut::new();
        let [head, body] = batch.with_append_time(1_800_000_000_000, &mut arena);
        assert_eq!(body.as_ptr(), batch.body().as_ptr(), "the records are the same memory");
        let stamped = one([head, body].concat().into());
        assert_eq!(stamped.check(), Ok(()));
        assert_eq!(stamped.timestamp_type(), TimestampType::LogAppend);
        assert_eq!((stamped.max_timestamp(), stamped.base_timestamp()), (1_800_000_000_000, batch.base_timestamp()));
        assert_eq!((stamped.codec(), stamped.producer_id(), stamped.count()), (batch.codec(), 4711, 3));
        assert!(read(&stamped).expect("readable").iter().all(|record| record.timestamp_ms == 1_800_000_000_000));
    }
}

#[test]
fn several_batches_are_split() {
    let all: Bytes = JAVA.iter().flat_map(|(_, hex)| unhex(hex)).collect();
    let codecs: Result<Vec<Codec>, _> = split(all.clone()).map(|batch| batch.and_then(|batch| batch.codec())).collect();
    assert_eq!(codecs, Ok(Codec::ALL.to_vec()));

    let cut: Vec<_> = split(all.slice(..all.len() - 1)).collect();
    assert_eq!(cut.len(), 5, "the iterator ends behind the error");
    assert!(matches!(cut[4], Err(BatchError::Truncated { wanted: 124, left: 123 })), "{:?}", cut[4]);
    assert_eq!(split(Bytes::new()).count(), 0);
}

/// The batch with other bytes at a position, and, where the CRC should not give it away, a new CRC.
fn damaged(at: usize, bytes: &[u8], is_sealed: bool) -> Bytes {
    let mut batch = unhex(JAVA[0].1).to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    if is_sealed {
        let crc = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    batch.into()
}

#[test]
fn lies_in_the_header_are_found() {
    let first = |bytes: Bytes| BatchView::first(bytes).map(|(batch, _)| batch);
    let check = |bytes| first(bytes).and_then(|batch| batch.check());
    assert_eq!(check(damaged(0, &[], true)), Ok(()));
    for length in [i32::MIN, -1, 0, 48] {
        assert_eq!(check(damaged(8, &length.to_be_bytes(), true)), Err(BatchError::Length { claimed: length }));
    }
    for (length, wanted) in [(0x9c, 168), (i32::MAX, (1 << 31) + 11)] {
        let claim = damaged(8, &i32::to_be_bytes(length), true);
        assert_eq!(check(claim), Err(BatchError::Truncated { wanted, left: 167 }));
    }
    for magic in [0i8, 1, 3, -1] {
        assert_eq!(check(damaged(16, &magic.to_be_bytes(), false)), Err(BatchError::Magic { magic }));
    }
    for codec in 5..8 {
        assert_eq!(check(damaged(22, &[codec], true)), Err(BatchError::Codec { id: codec.into() }));
    }
    for (count, delta) in [(0, -1), (-1, -2), (4, 2), (3, 3), (i32::MAX, 2), (i32::MIN, i32::MAX)] {
        let bytes = damaged(23, &i32::to_be_bytes(delta), false);
        let mut bytes = bytes.to_vec();
        bytes[57..61].copy_from_slice(&i32::to_be_bytes(count));
        let crc = crc_fast::crc32_iscsi(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(check(bytes.into()), Err(BatchError::Count { count, last_offset_delta: delta }));
    }
    for length in 0..unhex(JAVA[0].1).len() {
        let cut = first(unhex(JAVA[0].1).slice(..length));
        assert!(matches!(cut, Err(BatchError::Truncated { .. })), "{length}: {cut:?}");
    }
}

#[test]
fn every_flipped_bit_behind_the_crc_is_found() {
    let batch = unhex(JAVA[0].1);
    for bit in 17 * 8..batch.len() * 8 {
        let mut bytes = batch.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(one(bytes.into()).check(), Err(BatchError::Crc { .. })), "bit {bit}");
    }
}

/// A count that claims less or more than there is.
#[test]
fn records_that_do_not_match_the_count_are_an_error() {
    for (codec, hex) in JAVA {
        for count in [2i32, 4] {
            let mut bytes = unhex(hex).to_vec();
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let records = read(&one(bytes.into()));
            assert!(records.is_err(), "{codec:?} {count}: {records:?}");
        }
    }
}

/// A megabyte of zeros is a kilobyte or less; the reader stops at its limit, and a limit that suffices is enough.
#[test]
fn a_batch_that_inflates_beyond_the_limit_stops() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let zeros = vec![0; 1 << 20];
        let batch = one(BatchBuilder::new(codec).record(0, None, Some(&zeros)).record(0, None, Some(b"small")).build());
        assert!(batch.bytes().len() < zeros.len() / 16, "{codec:?}");
        let bomb: Result<Vec<_>, _> = batch.records(1 << 16).expect("the header is right").collect();
        assert!(matches!(bomb, Err(RecordError::TooLarge { limit: 65536 })), "{codec:?}: {bomb:?}");
        assert_eq!(batch.records((1 << 20) + 100).expect("the header is right").count(), 2);
        let first = batch.records(1 << 21).expect("the header is right").next();
        assert!(matches!(first, Some(Ok(_))), "{codec:?}");
    }
}

/// librdkafka and Go clients write one raw block, without xerial's frame.
#[test]
fn raw_snappy_is_read() {
    let plain = one(BatchBuilder::new(Codec::None).record(5, Some(b"k"), Some(&[7; 500])).build());
    let mut bytes = plain.bytes()[..61].to_vec();
    bytes.extend(snap::raw::Encoder::new().compress_vec(&plain.body()).expect("compresses"));
    bytes[22] = Codec::Snappy as u8;
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    assert_eq!(read(&one(bytes.into())).expect("readable"), read(&plain).expect("readable"));
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..60).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let header = (bytes(), prop::option::of(bytes())).prop_map(|(key, value)| Header { key, value });
    let parts = (any::<i32>(), prop::option::of(bytes()), prop::option::of(bytes()), vec(header, 0..4));
    parts.prop_map(|(at, key, value, headers)| Record { offset: 0, timestamp_ms: at.into(), key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_round_trip(records in vec(record(), 1..40), base_offset in 0..i64::MAX / 2) {
        for codec in Codec::ALL {
            let builder = BatchBuilder::new(codec).base_offset(base_offset);
            let batch = one(records.iter().fold(builder, BatchBuilder::push).build());
            prop_assert_eq!(batch.check(), Ok(()));
            let newest = records.iter().map(|record| record.timestamp_ms).fold(-1, i64::max);
            prop_assert_eq!(batch.max_timestamp(), newest);
            let expected: Vec<Record> =
                records.iter().zip(base_offset..).map(|(record, offset)| Record { offset, ..record.clone() }).collect();
            prop_assert_eq!(read(&batch).expect("readable"), expected);
        }
    }

    /// Whatever stands in the header and in the records: an error, or records, but no panic and no endless loop.
    #[test]
    fn damaged_batches_do_not_panic(
        which in 0..5usize,
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = unhex(JAVA[which].1).to_vec();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for batch in split(bytes.into()).flatten() {
            let _ = batch.check();
            let _ = batch.last_offset();
            if let Ok(records) = batch.records(LIMIT) {
                let _ = records.take(1000).count();
            }
        }
    }
}
