//! Fetch and ListOffsets against the model: byte for byte, for random bundles, limits and offsets.

use bytes::Bytes;
use kafscale_log::read::{FetchError, FetchLimits, FetchPartition, FetchRequest, FoundOffset, OffsetSpec};
use kafscale_log::store::GetFault;
use kafscale_metadata::TopicPartition;
use kafscale_wire::records::{BatchBuilder, BatchView, Codec, Record};
use proptest::prelude::*;

use crate::world::{Memory, ModelBatch, PLENTY, Sent, World, on_paused_clock, partition};

const PARTITIONS: u32 = 3;

/// A batch's records: (timestamp, value). Values repeat a byte, so that they compress.
fn records() -> impl Strategy<Value = Vec<(i64, Bytes)>> {
    let value = prop_oneof![4 => 0usize..200, 1 => 5_000usize..30_000];
    let record = (0i64..60, value, any::<u8>()).prop_map(|(time, len, fill)| (time, Bytes::from(vec![fill; len])));
    prop::collection::vec(record, 1..12)
}

fn sent() -> impl Strategy<Value = Sent> {
    let codec = prop::sample::select(Codec::ALL.to_vec());
    // Sequences from a small range: most are repeats or out of order, and their batches are dead.
    let producer = prop::option::weighted(0.3, (0i64..2, 0i32..3));
    (0..PARTITIONS, codec, records(), prop::option::weighted(0.2, 0i64..60), producer, any::<i64>()).prop_map(
        |(index, codec, records, append_time, producer, base)| {
            let mut builder = BatchBuilder::new(codec).base_offset(base);
            if let Some((id, sequence)) = producer {
                builder = builder.producer(id, 0, sequence);
            }
            for (time, value) in &records {
                builder = builder.record(*time, Some(b"key"), Some(value));
            }
            Sent { partition: partition(index), batch: builder.build(), append_time }
        },
    )
}

#[derive(Debug, Clone)]
struct Bundle {
    sent: Vec<Sent>,
    keep_in_tail: bool,
}

fn bundles() -> impl Strategy<Value = Vec<Bundle>> {
    let bundle = (prop::collection::vec(sent(), 1..25), any::<bool>())
        .prop_map(|(sent, keep_in_tail)| Bundle { sent, keep_in_tail });
    prop::collection::vec(bundle, 1..6)
}

#[derive(Debug, Clone)]
struct Ask {
    /// Partition, offset as a share of the log, limit.
    partitions: Vec<(u32, f64, u64)>,
    max_bytes: u64,
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 3 => 0u64..3_000, 3 => 0u64..200_000, 1 => Just(1 << 30)]
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let ask = (prop::collection::vec((0..PARTITIONS, 0.0..=1.0, limit()), 1..5), limit())
        .prop_map(|(partitions, max_bytes)| Ask { partitions, max_bytes });
    prop::collection::vec(ask, 1..12)
}

async fn written(memory: Memory, bundles: &[Bundle]) -> World {
    let mut world = World::new(memory);
    for bundle in bundles {
        world.write(&bundle.sent, bundle.keep_in_tail).await;
    }
    world
}

/// What Kafka's rules say that one partition's part is: whole batches, from the one with the offset on.
fn expected(log: &[ModelBatch], offset: i64, limit: u64, first_whole: bool) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for batch in log.iter().filter(|b| b.first_offset + b.records > offset) {
        let fits = (out.len() + batch.served.len()) as u64 <= limit;
        if !(fits || first_whole && out.is_empty()) {
            break;
        }
        out.extend_from_slice(&batch.served);
    }
    out
}

async fn compare(world: &World, ask: &Ask) {
    let place = |index: u32, share: f64| (world.end(partition(index)) as f64 * share) as i64;
    let partitions: Vec<FetchPartition> = ask
        .partitions
        .iter()
        .map(|(index, share, max_bytes)| FetchPartition {
            partition: partition(*index),
            offset: place(*index, *share),
            max_bytes: *max_bytes,
        })
        .collect();
    let request =
        FetchRequest { partitions, limits: FetchLimits { max_bytes: ask.max_bytes, ..FetchLimits::default() } };
    let answer = world.fetch(request.clone()).await;
    let (mut left, mut total) = (ask.max_bytes, 0);
    for (wanted, got) in request.partitions.iter().zip(&answer.partitions) {
        let log = world.model.get(&wanted.partition).map_or(&[][..], Vec::as_slice);
        let expected = expected(log, wanted.offset, wanted.max_bytes.min(left), total == 0);
        assert_eq!(got.error, None);
        assert_eq!(got.bytes, expected.len() as u64, "{wanted:?}");
        assert!(got.slices.concat() == expected, "{wanted:?}: other bytes");
        assert_eq!(got.bounds.high_watermark, world.end(wanted.partition));
        total += got.bytes;
        left = left.saturating_sub(got.bytes);
    }
    let reserved = answer.reservation.as_ref().map_or(0, |r| r.bytes());
    assert!(reserved >= total && reserved < total + 64, "{total} bytes, {reserved} reserved");
    drop(answer);
    assert_eq!(world.answers.free_bytes(), world.answers.total_bytes());
}

/// All records of a partition: (offset, timestamp).
fn model_records(world: &World, of: TopicPartition) -> Vec<(i64, i64)> {
    let batches = world.model.get(&of).map_or(&[][..], Vec::as_slice);
    let records = batches.iter().flat_map(|batch| {
        let (view, _) = BatchView::first(batch.served.clone()).unwrap();
        view.records(1 << 30).unwrap().map(|r| r.unwrap()).collect::<Vec<Record>>()
    });
    records.map(|r| (r.offset, r.timestamp_ms)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_are_the_models(bundles in bundles(), asks in asks()) {
        on_paused_clock(async {
            let world = written(PLENTY, &bundles).await;
            for ask in &asks {
                compare(&world, ask).await;
            }
        });
    }

    #[test]
    fn answers_are_the_models_with_hardly_any_memory(bundles in bundles(), asks in asks()) {
        on_paused_clock(async {
            // Answers have room; the caches hold about one bundle.
            let world = written(Memory { tail: 30_000, fetched: 300_000, ..PLENTY }, &bundles).await;
            for ask in &asks {
                // An answer may end early for want of room: what it has must still be a prefix.
                let place = |index: u32, share: f64| (world.end(partition(index)) as f64 * share) as i64;
                for (index, share, _) in &ask.partitions {
                    let offset = place(*index, *share);
                    let got = world.read_from(partition(*index), offset).await;
                    let log = world.model.get(&partition(*index)).map_or(&[][..], Vec::as_slice);
                    let all = expected(log, offset, u64::MAX, true);
                    assert_eq!(got.error, None);
                    assert_eq!(got.bytes == 0, all.is_empty());
                    assert!(all.starts_with(&got.slices.concat()));
                }
            }
        });
    }

    #[test]
    fn times_are_found_exactly(bundles in bundles()) {
        on_paused_clock(async {
            let world = written(PLENTY, &bundles).await;
            for index in 0..PARTITIONS {
                let of = partition(index);
                let records = model_records(&world, of);
                for time in -1..62 {
                    let expected = records.iter().find(|(_, t)| *t >= time).copied().unwrap_or((-1, -1));
                    let found = world.reader.offsets(&[(of, OffsetSpec::AtTime(time))]).await.remove(0).unwrap();
                    assert_eq!((found.offset, found.timestamp), expected, "time {time}");
                }
                let newest = records.iter().map(|(_, t)| *t).max();
                let newest = records.iter().find(|(_, t)| Some(*t) == newest).copied().unwrap_or((-1, -1));
                let specs = [OffsetSpec::MaxTimestamp, OffsetSpec::Earliest, OffsetSpec::Latest].map(|s| (of, s));
                let found = world.reader.offsets(&specs).await;
                assert_eq!(found[0], Ok(FoundOffset { offset: newest.0, timestamp: newest.1 }));
                assert_eq!(found[1], Ok(FoundOffset { offset: 0, timestamp: -1 }));
                assert_eq!(found[2], Ok(FoundOffset { offset: world.end(of), timestamp: -1 }));
            }
            let unknown = world.reader.offsets(&[(partition(99), OffsetSpec::Latest)]).await.remove(0);
            assert_eq!(unknown, Err(FetchError::UnknownTopicOrPartition));
        });
    }

    #[test]
    fn a_damaged_byte_never_reaches_a_client(bundles in bundles(), at: u64) {
        on_paused_clock(async {
            let world = written(Memory { tail: 0, ..PLENTY }, &bundles).await;
            // The first object that is loaded comes damaged, and stays so in the cache.
            world.store.plan_gets([GetFault::Damaged(at)]);
            let mut hurt = std::collections::BTreeSet::new();
            for index in 0..PARTITIONS {
                let log = world.model.get(&partition(index)).map_or(&[][..], Vec::as_slice);
                let mut offset = 0;
                while let Some(batch) = log.iter().find(|b| b.first_offset + b.records > offset) {
                    let got = world.read_from(partition(index), offset).await;
                    assert!(expected(log, offset, u64::MAX, true).starts_with(&got.slices.concat()));
                    if got.bytes == 0 {
                        assert_eq!(got.error, Some(FetchError::Corrupt));
                        hurt.insert(index);
                        offset = batch.first_offset + batch.records;
                    } else {
                        offset = behind(log, offset, got.bytes);
                    }
                }
            }
            assert!(hurt.len() <= 1, "one byte hurts one partition at most, and not {hurt:?}");
        });
    }
}

/// The offset behind as many bytes of whole batches from `offset` on.
fn behind(log: &[ModelBatch], mut offset: i64, mut bytes: u64) -> i64 {
    while bytes > 0 {
        let batch = log.iter().find(|b| b.first_offset + b.records > offset).unwrap();
        bytes -= batch.served.len() as u64;
        offset = batch.first_offset + batch.records;
    }
    offset
}
