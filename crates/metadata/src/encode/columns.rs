//! The columns of a bundle's batches. Each field of all batches is one column of small numbers: what a batch is
//! expected to be (the next sequence of its producer, a timestamp near the last) costs a byte, and columns of
//! like numbers compress.
//!
//! Differences wrap around on both sides, so that any value survives; what is out of a field's range when it is read
//! is an error.

use std::collections::BTreeMap;

use super::{DecodeError, proto};
use crate::command::{BatchMeta, CommitBundle, ProducerBatch, Run, TopicId, TopicPartition};

const SEQUENCES: i64 = 1 << 31;

/// Each value as the difference from the one before; the first from 0.
pub(crate) fn deltas(values: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut before = 0_i64;
    values.map(|value| value.wrapping_sub(std::mem::replace(&mut before, value))).collect()
}

/// The values that [`deltas`] was given.
pub(crate) fn undo_deltas(deltas: &[i64]) -> impl Iterator<Item = i64> {
    deltas.iter().scan(0_i64, |value, delta| {
        *value = value.wrapping_add(*delta);
        Some(*value)
    })
}

/// Runs of equal values: the values, and how often each comes.
pub(crate) fn run_lengths<T: PartialEq>(values: impl Iterator<Item = T>) -> (Vec<T>, Vec<u32>) {
    let (mut distinct, mut lengths) = (Vec::<T>::new(), Vec::<u32>::new());
    for value in values {
        match lengths.last_mut() {
            Some(length) if distinct.last() == Some(&value) && *length < u32::MAX => *length += 1,
            _ => {
                distinct.push(value);
                lengths.push(1);
            }
        }
    }
    (distinct, lengths)
}

/// The values that [`run_lengths`] was given, if they are exactly `count`.
pub(crate) fn undo_run_lengths<T: Copy>(values: &[T], lengths: &[u32], count: usize) -> Result<Vec<T>, DecodeError> {
    let total = lengths.iter().map(|l| u64::from(*l)).sum::<u64>();
    if values.len() != lengths.len() || total != count as u64 {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    Ok(values.iter().zip(lengths).flat_map(|(v, l)| std::iter::repeat_n(*v, *l as usize)).collect())
}

pub(super) fn to_message(bundle: &CommitBundle, time_ms: i64) -> proto::CommitBundle {
    let mut message = proto::CommitBundle { number: bundle.number, ..Default::default() };
    runs_to(&mut message, &bundle.runs);
    let batches = || bundle.runs.iter().flat_map(|run| &run.batches);
    message.bytes = batches().map(|b| b.bytes).collect();
    message.records = batches().map(|b| b.records).collect();
    message.max_timestamps = deltas(batches().map(|b| b.max_timestamp.wrapping_sub(time_ms)));
    let places = (0_u32..).zip(batches()).filter(|(_, b)| b.transactional).map(|(place, _)| i64::from(place));
    message.transactional = deltas(places).into_iter().map(|d| u32::try_from(d).unwrap_or(0)).collect();
    producers_to(&mut message, &bundle.runs);
    message
}

fn runs_to(message: &mut proto::CommitBundle, runs: &[Run]) {
    let mut topics = BTreeMap::new();
    let mut end = 0_i64;
    for run in runs {
        let next = u32::try_from(topics.len()).unwrap_or(u32::MAX);
        let index = *topics.entry(run.partition.topic).or_insert_with(|| {
            message.topics.extend_from_slice(&run.partition.topic.0.to_be_bytes());
            next
        });
        message.run_topics.push(index);
        message.run_positions.push(i64::from(run.position).wrapping_sub(end));
        message.run_batches.push(u32::try_from(run.batches.len()).unwrap_or(u32::MAX));
        end = end_of(run);
    }
    message.run_partitions = deltas(runs.iter().map(|run| i64::from(run.partition.partition)));
}

/// Where the next run is expected to begin.
fn end_of(run: &Run) -> i64 {
    run.batches.iter().fold(i64::from(run.position), |end, b| end.wrapping_add(i64::from(b.bytes)))
}

fn producers_to(message: &mut proto::CommitBundle, runs: &[Run]) {
    let producers = || runs.iter().flat_map(|run| &run.batches).map(|b| b.producer.map(|p| (p.id, p.epoch)));
    let table: BTreeMap<(i64, i16), u32> = producers().flatten().map(|key| (key, 0)).collect();
    let table: BTreeMap<(i64, i16), u32> = table.into_keys().zip(1_u32..).collect();
    message.producer_ids = deltas(table.keys().map(|(id, _)| *id));
    message.producer_epochs = table.keys().map(|(_, epoch)| u32::from(epoch.cast_unsigned())).collect();
    let values = producers().map(|key| key.and_then(|key| table.get(&key).copied()).unwrap_or(0));
    (message.producer_values, message.producer_lengths) = run_lengths(values);
    for run in runs {
        let mut expected = Expected::default();
        for batch in &run.batches {
            if let Some(producer) = batch.producer {
                message.sequences.push(i64::from(producer.first_sequence) - expected.next(producer));
                expected.saw(producer, batch.records);
            }
        }
    }
}

/// The sequences that producers are expected to go on with, in one run.
#[derive(Default)]
struct Expected(BTreeMap<(i64, i16), i64>);

impl Expected {
    fn next(&self, producer: ProducerBatch) -> i64 {
        self.0.get(&(producer.id, producer.epoch)).copied().unwrap_or(0)
    }

    fn saw(&mut self, producer: ProducerBatch, records: u32) {
        let next = i64::from(producer.first_sequence) + i64::from(records);
        self.0.insert((producer.id, producer.epoch), next.rem_euclid(SEQUENCES));
    }
}

pub(super) fn from_message(message: &proto::CommitBundle, time_ms: i64) -> Result<CommitBundle, DecodeError> {
    let batches = message.bytes.len();
    if [message.records.len(), message.max_timestamps.len()] != [batches; 2] {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    let producers = producers_from(message, batches)?;
    let mut transactional = vec![false; batches];
    let mut place = 0_usize;
    for delta in &message.transactional {
        place = place.saturating_add(*delta as usize);
        *transactional.get_mut(place).ok_or(DecodeError::Malformed("a place beyond the batches"))? = true;
    }
    let times = undo_deltas(&message.max_timestamps).map(|t| t.wrapping_add(time_ms));
    let columns = message.bytes.iter().zip(&message.records).zip(times).zip(producers).zip(transactional);
    let mut sequences = message.sequences.iter();
    let batches = columns.map(|((((bytes, records), max_timestamp), producer), transactional)| {
        let batch = BatchMeta { bytes: *bytes, records: *records, max_timestamp, producer: None, transactional };
        (batch, producer)
    });
    let runs = runs_from(message, batches, &mut sequences)?;
    if sequences.next().is_some() {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    Ok(CommitBundle { number: message.number, runs })
}

type Key = (i64, i16);

/// The producer of each batch.
fn producers_from(message: &proto::CommitBundle, batches: usize) -> Result<Vec<Option<Key>>, DecodeError> {
    if message.producer_ids.len() != message.producer_epochs.len() {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    let epoch = |e: &u32| u16::try_from(*e).map(u16::cast_signed).map_err(|_| DecodeError::Malformed("an epoch"));
    let epochs = message.producer_epochs.iter().map(epoch).collect::<Result<Vec<i16>, _>>()?;
    let table: Vec<Key> = undo_deltas(&message.producer_ids).zip(epochs).collect();
    let indexes = undo_run_lengths(&message.producer_values, &message.producer_lengths, batches)?;
    let key = |index: u32| match index.checked_sub(1) {
        None => Ok(None),
        Some(index) => table.get(index as usize).copied().map(Some).ok_or(DecodeError::Malformed("no such producer")),
    };
    indexes.into_iter().map(key).collect()
}

fn runs_from<'a>(
    message: &proto::CommitBundle,
    mut batches: impl Iterator<Item = (BatchMeta, Option<Key>)>,
    sequences: &mut impl Iterator<Item = &'a i64>,
) -> Result<Vec<Run>, DecodeError> {
    let count = message.run_batches.len();
    let total = message.run_batches.iter().map(|b| u64::from(*b)).sum::<u64>();
    let columns = [message.run_topics.len(), message.run_partitions.len(), message.run_positions.len()];
    if columns != [count; 3] || total != message.bytes.len() as u64 {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    let mut runs = Vec::with_capacity(count);
    let mut end = 0_i64;
    for (index, partition) in undo_deltas(&message.run_partitions).enumerate() {
        let position = u32::try_from(end.wrapping_add(message.run_positions[index]));
        let mut run = Run {
            partition: TopicPartition {
                topic: topic_from(message, message.run_topics[index])?,
                partition: u32::try_from(partition).map_err(|_| DecodeError::Malformed("a partition"))?,
            },
            position: position.map_err(|_| DecodeError::Malformed("a position"))?,
            batches: Vec::with_capacity(message.run_batches[index] as usize),
        };
        let mut expected = Expected::default();
        for (mut batch, key) in batches.by_ref().take(message.run_batches[index] as usize) {
            batch.producer = key.map(|key| numbering(key, &expected, sequences.next())).transpose()?;
            if let Some(producer) = batch.producer {
                expected.saw(producer, batch.records);
            }
            run.batches.push(batch);
        }
        end = end_of(&run);
        runs.push(run);
    }
    Ok(runs)
}

fn numbering(key: Key, expected: &Expected, delta: Option<&i64>) -> Result<ProducerBatch, DecodeError> {
    let delta = delta.ok_or(DecodeError::Malformed("columns of different lengths"))?;
    let mut producer = ProducerBatch { id: key.0, epoch: key.1, first_sequence: 0 };
    let sequence = expected.next(producer).wrapping_add(*delta);
    producer.first_sequence = i32::try_from(sequence).map_err(|_| DecodeError::Malformed("a sequence"))?;
    Ok(producer)
}

fn topic_from(message: &proto::CommitBundle, index: u32) -> Result<TopicId, DecodeError> {
    let from = (index as usize).saturating_mul(16);
    let bytes = message.topics.get(from..from.saturating_add(16));
    let bytes = bytes.and_then(|b| b.try_into().ok()).ok_or(DecodeError::Malformed("no such topic"))?;
    Ok(TopicId(u128::from_be_bytes(bytes)))
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
