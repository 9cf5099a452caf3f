//! The commit of a bundle: each batch gets its offsets, or is dead (a repeat, or refused). A dead batch takes no offset
//! and splits its run: what is live on either side of it becomes an extent of its own.

use std::sync::Arc;

use crate::command::{
    BatchMeta, CommitBundle, Entry, ObjectId, ObjectKind, Outcome, ProducerBatch, Refusal, Run, TopicPartition, Verdict,
};
use crate::limits::{FOREIGN_PRODUCERS, LIVING_PRODUCERS};
use crate::state::{Extent, ExtentKind, Pairs, Partition, Producer, Producers, State};

use super::may_reference;
use super::sequence::{Judgement, advance, judge};

pub(super) fn commit(
    state: &mut State,
    entry: &Entry,
    bundle: &CommitBundle,
    advanced: &mut Vec<TopicPartition>,
) -> Outcome {
    let object = ObjectId { nonce: entry.nonce, number: bundle.number };
    if !may_reference(state, entry, object, ObjectKind::Bundle) {
        return Outcome::Refused(Refusal::NotAllowed);
    }
    let mut verdicts = Vec::with_capacity(bundle.runs.len());
    for run in &bundle.runs {
        let Some(mut target) = Target::of(state, entry, object, run.partition) else {
            verdicts.push(refuse_all(run, Refusal::UnknownTopicOrPartition));
            continue;
        };
        let before = target.partition.high_watermark;
        verdicts.push(target.commit(run));
        if target.partition.high_watermark != before {
            advanced.push(run.partition);
        }
    }
    Outcome::Bundle(verdicts)
}

fn refuse_all(run: &Run, refusal: Refusal) -> Vec<Verdict> {
    run.batches.iter().map(|_| Verdict::Refused(refusal)).collect()
}

/// A partition that is being written, and all that decides about its batches.
struct Target<'a> {
    partition: &'a mut Partition,
    index: u32,
    lenient: Pairs,
    producers: &'a mut Producers,
    object: ObjectId,
    time_ms: i64,
}

impl<'a> Target<'a> {
    fn of(state: &'a mut State, entry: &Entry, object: ObjectId, of: TopicPartition) -> Option<Target<'a>> {
        let index = usize::try_from(of.partition).ok()?;
        let topic = state.topics.get_mut(&of.topic).filter(|t| index < t.partitions.len())?;
        let topic = Arc::make_mut(topic);
        let partition = Arc::make_mut(topic.partitions.get_mut(index)?);
        let lenient = topic.lenient.clone();
        let producers = &mut state.producers;
        Some(Target { partition, index: of.partition, lenient, producers, object, time_ms: entry.time_ms })
    }

    fn commit(&mut self, run: &Run) -> Vec<Verdict> {
        let end = run.batches.iter().fold(u64::from(run.position), |end, b| end.saturating_add(u64::from(b.bytes)));
        if end > u64::from(u32::MAX) {
            return refuse_all(run, Refusal::NotAllowed);
        }
        let mut verdicts = Vec::with_capacity(run.batches.len());
        let mut position = run.position;
        let mut open: Option<Extent> = None;
        for batch in &run.batches {
            let verdict = self.decide(batch);
            if let Verdict::Accepted { first_offset, .. } = verdict {
                let first = open.get_or_insert_with(|| self.extent(first_offset, position));
                first.last_offset = self.partition.high_watermark - 1;
                first.bytes += batch.bytes;
                first.max_timestamp = first.max_timestamp.max(batch.max_timestamp);
            } else {
                self.close(open.take());
            }
            position += batch.bytes;
            verdicts.push(verdict);
        }
        self.close(open);
        verdicts
    }

    fn extent(&self, first_offset: i64, position: u32) -> Extent {
        Extent {
            first_offset,
            last_offset: first_offset,
            max_timestamp: i64::MIN,
            nonce: self.object.nonce,
            number: self.object.number,
            position,
            bytes: 0,
            kind: ExtentKind::Data,
        }
    }

    fn close(&mut self, extent: Option<Extent>) {
        if let Some(extent) = extent {
            self.partition.bytes = self.partition.bytes.saturating_add(u64::from(extent.bytes));
            self.partition.extents.push(extent);
        }
    }

    /// Decides about one batch, and moves the high watermark and the producer's state if it is accepted.
    fn decide(&mut self, batch: &BatchMeta) -> Verdict {
        let log_start = self.partition.log_start;
        if !is_well_formed(batch) || batch.transactional {
            return Verdict::Refused(Refusal::NotAllowed);
        }
        let first_offset = self.partition.high_watermark;
        let Some(end) = first_offset.checked_add(i64::from(batch.records)) else {
            return Verdict::Refused(Refusal::LimitReached);
        };
        if let Some(numbering) = batch.producer {
            match self.judge(numbering, batch.records) {
                Judgement::Next => self.note(numbering, batch.records, first_offset),
                Judgement::Duplicate { first_offset } => return Verdict::Duplicate { first_offset, log_start },
                Judgement::Refused(refusal) => return Verdict::Refused(refusal),
            }
        }
        self.partition.high_watermark = end;
        Verdict::Accepted { first_offset, log_start }
    }

    /// A strict producer without state here has never written here: it starts at 0, or a batch before this one is
    /// still on its way to another broker. Any other may start anywhere, as in Kafka.
    fn judge(&self, numbering: ProducerBatch, records: u32) -> Judgement {
        let living = self.producers.get(numbering.id);
        let full = self.producers.foreign() >= FOREIGN_PRODUCERS || self.producers.len() >= LIVING_PRODUCERS;
        if living.is_none() && full {
            return Judgement::Refused(Refusal::LimitReached);
        }
        let strict = living.is_some_and(|p| p.strict) && !self.lenient.contains(&(self.index, numbering.id));
        judge(self.partition.producer(numbering.id), numbering, records, !strict)
    }

    fn note(&mut self, numbering: ProducerBatch, records: u32, first_offset: i64) {
        let id = numbering.id;
        let next = advance(self.partition.producer(id), numbering, records, first_offset);
        self.partition.set_producer(id, next);
        match self.producers.get(id) {
            Some(_) => self.producers.touch(id, self.time_ms),
            None => self.producers.insert(Producer { id, last_activity: self.time_ms, strict: false }),
        }
    }
}

fn is_well_formed(batch: &BatchMeta) -> bool {
    let numbered = batch.producer.is_none_or(|p| p.id >= 0 && p.epoch >= 0 && p.first_sequence >= 0);
    batch.bytes > 0 && batch.records > 0 && i32::try_from(batch.records).is_ok() && numbered
}
