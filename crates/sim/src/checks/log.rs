//! What is in the logs, and whether readers saw just that.

use std::collections::BTreeMap;

use kafscale_metadata::TopicId;

use super::{Truth, Violation, break_rule};
use crate::history::{Fate, History};

/// Offsets begin at 0 and are given once, without gaps.
pub(super) fn offsets(truth: &Truth, found: &mut Vec<Violation>) {
    for ((topic, partition), log) in &truth.logs {
        let mut next = 0;
        for (first, ids) in log {
            if *first != next {
                break_rule(found, "offsets", format!("{topic:?}-{partition}: {first} follows {next}"));
            }
            next = first + ids.len() as i64;
        }
    }
}

/// Whatever a consumer saw is in the log, there, for ever.
pub(super) fn reads(history: &History, truth: &Truth, found: &mut Vec<Violation>) {
    for ((name, id, partition, offset), seen) in &history.seen {
        let topics: Vec<TopicId> = if *id == 0 { truth.named(name).collect() } else { vec![TopicId(*id)] };
        for record in seen {
            let there = topics.iter().any(|topic| truth.record(*topic, *partition, *offset) == Some(*record));
            if !there {
                let what = format!("record {record} was read at {offset} of {name}-{partition}, and is not there");
                break_rule(found, "reads", what);
            }
        }
    }
}

/// A last reader, after a restart, sees every record of every topic that exists: no more, no less.
pub(super) fn read_in_the_end(last_read: &History, truth: &Truth, found: &mut Vec<Violation>) {
    let mut seen: BTreeMap<(TopicId, u32), BTreeMap<i64, u64>> = BTreeMap::new();
    for ((_, id, partition, offset), records) in &last_read.seen {
        let log = seen.entry((TopicId(*id), *partition)).or_default();
        log.extend(records.first().map(|record| (*offset, *record)));
    }
    for (topic, partitions) in &truth.living {
        for partition in 0..*partitions {
            let stored = truth.logs.get(&(*topic, partition)).into_iter().flatten();
            let stored = stored.flat_map(|(first, ids)| (*first..).zip(ids.iter().copied()));
            let stored: BTreeMap<i64, u64> = stored.collect();
            let read = seen.remove(&(*topic, partition)).unwrap_or_default();
            if let Some((offset, record)) = stored.iter().find(|(offset, record)| read.get(offset) != Some(record)) {
                let what = format!(
                    "record {record} at {offset} of {topic:?}-{partition} is read as {:?} in the end",
                    read.get(offset)
                );
                break_rule(found, "reads", what);
            }
            if read.len() > stored.len() {
                break_rule(
                    found,
                    "reads",
                    format!("{topic:?}-{partition}: {} records too many", read.len() - stored.len()),
                );
            }
        }
    }
    if let Some((topic, partition)) = seen.into_keys().next() {
        break_rule(found, "reads", format!("{topic:?}-{partition} is read and does not exist"));
    }
}

/// An answer to "the latest offset" is not below an offset that was acknowledged before the question. (Of topics
/// that were never deleted: the answer does not say which topic of that name it means.)
pub(super) fn latest(history: &History, truth: &Truth, found: &mut Vec<Violation>) {
    for answer in &history.latest {
        if truth.named(&answer.topic).count() != 1 {
            continue;
        }
        let before = history.sent.iter().filter(|batch| {
            batch.partition == answer.partition
                && batch.topic == answer.topic
                && batch.known_ms.is_some_and(|known| known < answer.asked_ms)
        });
        let end = before.filter_map(|batch| match batch.fate {
            Fate::Acked(offset) => Some(offset + (batch.ids.end - batch.ids.start) as i64),
            Fate::Unknown | Fate::AckedSomewhere | Fate::Refused(_) => None,
        });
        if let Some(end) = end.max().filter(|end| *end > answer.offset) {
            let what = format!(
                "{}-{}: the latest offset at {} ms was {}, and {end} was acknowledged before",
                answer.topic, answer.partition, answer.asked_ms, answer.offset
            );
            break_rule(found, "latest", what);
        }
    }
}
