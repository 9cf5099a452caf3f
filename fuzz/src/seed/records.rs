//! Record batches of every codec and kind, and bundles of them.

use bytes::{BufMut, Bytes, BytesMut};
use kafscale_log::segment::{SealedBatch, Section, assemble};
use kafscale_metadata::{BatchMeta, ObjectId, ProducerBatch, TopicId, TopicPartition};
use kafscale_wire::records::{BatchBuilder, BatchView, Codec, Header, Record};

use super::Input;

const NOW_MS: i64 = 1_700_000_000_000;

/// Batches as clients send them.
fn kinds() -> Vec<(String, Bytes)> {
    let mut kinds = Vec::new();
    for codec in Codec::ALL {
        let name = format!("{codec:?}").to_lowercase();
        kinds.push((format!("{name}-one"), records(BatchBuilder::new(codec), 1).build()));
        kinds.push((format!("{name}-many"), records(BatchBuilder::new(codec).producer(1_000, 0, 5), 40).build()));
        kinds.push((format!("{name}-empty"), BatchBuilder::new(codec).build()));
    }
    kinds.push(("transactional".to_owned(), records(BatchBuilder::new(Codec::None).transactional(), 2).build()));
    kinds.push(("control".to_owned(), records(BatchBuilder::new(Codec::None).control(), 1).build()));
    kinds.push(("at-an-offset".to_owned(), records(BatchBuilder::new(Codec::None).base_offset(1 << 40), 3).build()));
    kinds.push(("snappy-raw".to_owned(), raw_snappy()));
    kinds.push(("lz4-large-blocks".to_owned(), large_blocks()));
    kinds.push(("zstd-large-window".to_owned(), large_window()));
    kinds.push(("gzip-bomb".to_owned(), bomb(Codec::Gzip)));
    kinds.push(("zstd-bomb".to_owned(), bomb(Codec::Zstd)));
    kinds
}

fn records(mut batch: BatchBuilder, count: u8) -> BatchBuilder {
    for n in 0..count {
        let header = |key: &'static str, value| Header { key: Bytes::from_static(key.as_bytes()), value };
        let headers = match n % 3 {
            0 => Vec::new(),
            1 => vec![header("trace", Some(Bytes::from_static(b"0af7651916cd43dd"))), header("trace", None)],
            _ => vec![header("", Some(Bytes::new()))],
        };
        batch = batch.push(&Record {
            timestamp_ms: NOW_MS + i64::from(n) * 13 - 50 * i64::from(n % 2),
            key: (n % 4 > 0).then(|| Bytes::from(vec![b'k'; usize::from(n % 5)])),
            value: (n % 7 != 5).then(|| Bytes::from(format!("order {n} {}", "x".repeat(usize::from(n))))),
            headers,
            ..Record::default()
        });
    }
    batch
}

/// A batch with another compressed body.
fn with_body(codec: Codec, body: &[u8]) -> Bytes {
    let mut batch = BytesMut::from(&records(BatchBuilder::new(Codec::None), 1).build()[..61]);
    batch.put_slice(body);
    batch[8..12].copy_from_slice(&u32::try_from(body.len() + 49).expect("it is small").to_be_bytes());
    batch[22] = codec as u8;
    let mut batch = batch.to_vec();
    crate::repair::batches(&mut batch);
    batch.into()
}

/// An LZ4 frame of blocks of 4 MiB that depend on one another: the most memory that a header of seven bytes can ask for.
fn large_blocks() -> Bytes {
    let plain = records(BatchBuilder::new(Codec::None), 1).build();
    let body = &plain[61..];
    let descriptor = [0x40, 0x70];
    let check = xxhash_rust::xxh32::xxh32(&descriptor, 0).to_le_bytes()[1];
    let length = 1 << 31 | u32::try_from(body.len()).expect("it is small");
    let frame = [&[4, 0x22, 0x4d, 0x18][..], &descriptor, &[check], &length.to_le_bytes(), body, &[0; 4]].concat();
    with_body(Codec::Lz4, &frame)
}

/// A zstd frame that wants a window of 128 MiB, and has one short block.
fn large_window() -> Bytes {
    let plain = records(BatchBuilder::new(Codec::None), 1).build();
    let body = &plain[61..];
    let block = 1 | u32::try_from(body.len()).expect("it is small") << 3;
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, (27 - 10) << 3][..], &block.to_le_bytes()[..3], body].concat();
    with_body(Codec::Zstd, &frame)
}

/// A record that inflates to a thousand times its size.
fn bomb(codec: Codec) -> Bytes {
    BatchBuilder::new(codec).record(NOW_MS, None, Some(&vec![0; 1 << 20])).build()
}

/// One block that holds its bytes as they are, as clients other than Java's send it.
fn raw_snappy() -> Bytes {
    let plain = records(BatchBuilder::new(Codec::None), 1).build();
    let body = &plain[61..];
    let length = u8::try_from(body.len()).expect("one record is short");
    assert!(length < 61, "a literal of a snappy block with a length in its tag");
    with_body(Codec::Snappy, &[&[length, (length - 1) << 2][..], body].concat())
}

pub(super) fn batches() -> Vec<Input> {
    let kinds = kinds();
    let mut inputs: Vec<Input> = kinds.iter().map(|(name, batch)| (name.clone(), [&[1][..], batch].concat())).collect();
    let all: Vec<u8> = kinds.iter().flat_map(|(_, batch)| batch.to_vec()).collect();
    inputs.push(("all-as-they-are".to_owned(), [&[0][..], &all].concat()));
    let half = &all[..all.len() / 2];
    inputs.push(("cut-off".to_owned(), [&[0][..], half].concat()));
    // A message set of Kafka 0.10: offset, size, CRC, magic 1, attributes, timestamp, key, value.
    let old = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    inputs.push(("magic-1".to_owned(), [&[0][..], &old, &[0xff; 4], &[0, 0, 0, 1, b'v']].concat()));
    inputs
}

pub(super) fn produced() -> Vec<Input> {
    let mut inputs = Vec::new();
    for (name, batch) in kinds() {
        // Any timestamps of version 13, LogAppendTime of version 7, and Create within bounds.
        for (rules, head) in [("any", [5, 13, 0xff, 0xff]), ("append", [3, 7, 0x10, 0]), ("bounds", [1, 3, 0xff, 0xff])]
        {
            if rules == "any" || name.ends_with("many") {
                inputs.push((format!("{name}-{rules}"), [&head[..], &batch].concat()));
            }
        }
    }
    inputs
}

fn sealed(batch: Bytes, split: bool) -> SealedBatch {
    let (view, _) = BatchView::first(batch.clone()).expect("it was built");
    let numbered = view.producer_id() >= 0;
    let meta = BatchMeta {
        bytes: u32::try_from(batch.len()).expect("it is small"),
        records: view.count().unsigned_abs(),
        max_timestamp: view.max_timestamp(),
        producer: numbered.then_some(ProducerBatch { id: view.producer_id(), epoch: 0, first_sequence: 5 }),
        transactional: false,
    };
    match split {
        true => SealedBatch::with_header(batch.slice(..61), batch.slice(61..), meta),
        false => SealedBatch::whole(batch, meta),
    }
}

pub(super) fn bundles() -> Vec<Input> {
    let kinds: Vec<Bytes> = kinds().into_iter().map(|(_, batch)| batch).filter(|batch| batch.len() > 61).collect();
    let section = |topic: u128, partition: u32, batches: &[Bytes]| Section {
        partition: TopicPartition { topic: TopicId(topic), partition },
        batches: batches.iter().map(|batch| sealed(batch.clone(), partition % 2 == 1)).collect(),
    };
    let object = |sections| assemble(0xc1a5, ObjectId { nonce: 9, number: 3 }, sections).slices.concat();
    // More than 64 KiB in one section, so that it has sparse entries.
    let big = records(BatchBuilder::new(Codec::None), 200).build();
    let long = vec![big; 6];
    let every = |size| (0..).zip(kinds.chunks(size)).map(|(n, some)| section(n.into(), n, some)).collect();
    let objects = [
        ("nothing", Vec::new()),
        ("one-batch", vec![section(1, 0, &kinds[..1])]),
        ("one-topic", (0..3).map(|n| section(1, n, &kinds[n as usize..][..2])).collect()),
        ("a-batch-a-section", every(1)),
        ("three-a-section", every(3)),
        ("all-in-one", every(kinds.len())),
        ("sparse", vec![section(7, 0, &long), section(7, 1, &kinds[..1])]),
    ];
    let mut inputs = Vec::new();
    for (name, sections) in objects {
        let bytes = object(sections);
        inputs.push((name.to_owned(), [&[1][..], &bytes].concat()));
        if bytes.len() < 4_000 {
            inputs.push((format!("{name}-as-it-is"), [&[0][..], &bytes].concat()));
            inputs.push((format!("{name}-cut-off"), [&[0][..], &bytes[..bytes.len() - 7]].concat()));
        }
    }
    inputs
}
