//! Columns that do not fit together: each is an error, none is a panic or a large allocation.

use super::*;

fn bundle() -> CommitBundle {
    let producer = |id, first_sequence| Some(ProducerBatch { id, epoch: 1, first_sequence });
    let batch = |producer| BatchMeta { bytes: 10, records: 3, max_timestamp: 900, producer, transactional: false };
    let run = |partition, position, batches| Run {
        partition: TopicPartition { topic: TopicId(5), partition },
        position,
        batches,
    };
    let mut last = batch(None);
    last.transactional = true;
    CommitBundle {
        number: 4,
        runs: vec![
            run(7, 100, vec![batch(producer(1, 0)), batch(producer(1, 3)), batch(producer(2, i32::MAX))]),
            run(6, 130, vec![batch(producer(1, 50)), last]),
        ],
    }
}

#[test]
fn what_is_expected_costs_nothing() {
    let message = to_message(&bundle(), 1_000);
    assert_eq!(message.run_positions, [100, 0], "the second run follows the first");
    assert_eq!(message.sequences, [0, 0, i64::from(i32::MAX), 50]);
    assert_eq!(message.max_timestamps, [-100, 0, 0, 0, 0]);
    assert_eq!(
        (message.producer_values.as_slice(), message.producer_lengths.as_slice()),
        (&[1, 2, 1, 0][..], &[2, 1, 1, 1][..])
    );
    assert_eq!(message.topics.len(), 16);
    assert_eq!(from_message(&message, 1_000), Ok(bundle()));
}

#[test]
fn sequences_are_expected_to_wrap() {
    let mut wrapping = bundle();
    wrapping.runs[0].batches[1].producer = Some(ProducerBatch { id: 2, epoch: 1, first_sequence: i32::MAX - 1 });
    wrapping.runs[0].batches[2].producer = Some(ProducerBatch { id: 2, epoch: 1, first_sequence: 1 });
    let message = to_message(&wrapping, 0);
    assert_eq!(message.sequences[2], 0);
    assert_eq!(from_message(&message, 0), Ok(wrapping));
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    type Break = fn(&mut proto::CommitBundle);
    let breaks: [(&str, Break); 21] = [
        ("records", |m| m.records.truncate(4)),
        ("bytes", |m| m.bytes.push(1)),
        ("timestamps", |m| m.max_timestamps.push(1)),
        ("a sequence too few", |m| m.sequences.truncate(3)),
        ("a sequence too many", |m| m.sequences.push(0)),
        ("a sequence out of range", |m| m.sequences[0] = 1 << 31),
        ("a sequence far out of range", |m| m.sequences[1] = i64::MAX),
        ("producers", |m| m.producer_values.truncate(3)),
        ("lengths", |m| m.producer_lengths[0] = u32::MAX),
        ("no such producer", |m| m.producer_values[0] = 3),
        ("epochs", |m| m.producer_epochs.push(1)),
        ("an epoch out of range", |m| m.producer_epochs[0] = 1 << 16),
        ("batches of runs", |m| m.run_batches[0] = 4),
        ("batches of a run that claims all", |m| m.run_batches[0] = u32::MAX),
        ("topics", |m| m.run_topics.truncate(1)),
        ("no such topic", |m| m.run_topics[1] = 1),
        ("a topic far away", |m| m.run_topics[1] = u32::MAX),
        ("a topic cut off", |m| m.topics.truncate(15)),
        ("a partition out of range", |m| m.run_partitions[1] = -8),
        ("a position out of range", |m| m.run_positions[0] = -1),
        ("a place beyond the batches", |m| m.transactional[0] = 5),
    ];
    for (what, break_it) in breaks {
        let mut message = to_message(&bundle(), 0);
        break_it(&mut message);
        assert!(from_message(&message, 0).is_err(), "{what}");
    }
}

#[test]
fn run_lengths_and_deltas_come_back() {
    let values = [5, 5, 5, -1, 5, 5, i64::MIN, i64::MAX];
    let (distinct, lengths) = run_lengths(values.iter().copied());
    assert_eq!(lengths, [3, 1, 2, 1, 1]);
    assert_eq!(undo_run_lengths(&distinct, &lengths, 8), Ok(values.to_vec()));
    assert!(undo_run_lengths(&distinct, &lengths, 7).is_err());
    assert_eq!(undo_deltas(&deltas(values.iter().copied())).collect::<Vec<_>>(), values);
}
