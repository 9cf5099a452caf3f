//! The bytes of entries: round trips, size, and hostile bytes.

use std::collections::BTreeMap;

use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, DecodeError, Entry, ProducerBatch, Run, TopicId, TopicPartition,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::generate::any_entry;

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn an_entry_comes_back_as_it_was(entry in any_entry()) {
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn random_bytes_are_an_error_and_no_panic(mut bytes in vec(any::<u8>(), 0..300), format in 0_u8..4) {
        if let Some(first) = bytes.first_mut() {
            *first = format;
        }
        let _ = Entry::decode(&bytes);
    }

    #[test]
    fn damaged_entries_are_no_panic(entry in any_entry(), flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = entry.encode();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
    }
}

/// A stream of numbers that looks random and never changes.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// 1,000 batches of about 16 KiB over 100 partitions of 4 topics, of 50 idempotent producers in the middle of their work.
pub(crate) fn realistic_bundle(numbers: &mut Numbers, sequences: &mut BTreeMap<(u64, u64), u64>) -> CommitBundle {
    let mut position = 128;
    let run = |partition: u64| {
        let mut run = Run {
            partition: TopicPartition {
                topic: TopicId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef ^ u128::from(partition / 25)),
                partition: (partition % 25) as u32,
            },
            position,
            batches: Vec::new(),
        };
        for _ in 0..10 {
            let producer = numbers.below(50);
            let records = 10 + numbers.below(120);
            let start = numbers.below(1 << 30);
            let sequence = sequences.entry((partition, producer)).or_insert(start);
            let bytes = 8_000 + numbers.below(8_384) as u32;
            run.batches.push(BatchMeta {
                bytes,
                records: records as u32,
                max_timestamp: 1_700_000_000_000 + numbers.below(40) as i64,
                producer: Some(ProducerBatch {
                    id: 40_000 + producer as i64,
                    epoch: 0,
                    first_sequence: *sequence as i32,
                }),
                transactional: false,
            });
            *sequence += records;
            position += bytes;
        }
        run
    };
    let runs = (0..100).map(run).collect();
    CommitBundle { number: 12_345, runs }
}

pub(crate) fn entry_of(n: u64, commands: Vec<Command>) -> Entry {
    let (nonce, time_ms) = (0x1234_5678_9abc_def0, 1_700_000_000_050);
    Entry { feature_level: FEATURE_LEVEL, nonce, n, time_ms, reserved: vec![], low: 0, commands }
}

#[test]
fn a_batch_costs_at_most_sixteen_bytes() {
    let bundle = realistic_bundle(&mut Numbers(1), &mut BTreeMap::new());
    let batches: usize = bundle.runs.iter().map(|r| r.batches.len()).sum();
    let bytes = entry_of(1, vec![Command::CommitBundle(bundle)]).encode().len();
    println!("{bytes} bytes for {batches} batches: {:.2} bytes a batch", bytes as f64 / batches as f64);
    assert_eq!(batches, 1_000);
    assert!(bytes <= 16 * batches, "{bytes}");
}

#[test]
fn what_is_no_entry_says_what_it_is() {
    assert_eq!(Entry::decode(&[]), Err(DecodeError::Malformed("it is empty")));
    assert_eq!(Entry::decode(&[3, 1, 2]), Err(DecodeError::Format(3)));
    let mut newer = entry_of(0, vec![]);
    newer.feature_level = FEATURE_LEVEL + 1;
    assert_eq!(Entry::decode(&newer.encode()), Err(DecodeError::Newer { level: FEATURE_LEVEL + 1 }));
    // Claims four gigabytes.
    assert_eq!(Entry::decode(&[2, 255, 255, 255, 255, 0]), Err(DecodeError::Malformed("it claims to be too large")));
}

#[test]
fn every_prefix_of_an_entry_is_an_error_or_an_entry() {
    let bundle = realistic_bundle(&mut Numbers(2), &mut BTreeMap::new());
    let bytes = entry_of(1, vec![Command::CommitBundle(bundle)]).encode();
    for length in (0..bytes.len()).step_by(37) {
        assert!(Entry::decode(&bytes[..length]).is_err());
    }
}
