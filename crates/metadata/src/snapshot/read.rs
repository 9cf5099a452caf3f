//! From frames to a state. Every table is checked as it fills: what the fold could not have made is refused.

use std::sync::Arc;

use super::SnapshotError;
use super::SnapshotError::Damaged;
use super::read_groups::Reading;
use crate::command::{ObjectId, TopicId};
use crate::encode::columns::{undo_deltas, undo_run_lengths};
use crate::encode::commands::{configs_from, id_from, listeners_from, reservations_from};
use crate::encode::proto::{self, frame::Kind};
use crate::limits::{BATCHES_PER_PRODUCER, LIVING_PRODUCERS, PARTITIONS, REMEMBERED_PAIRS};
use crate::state::{
    Extent, ExtentKind, KeptBatch, Pairs, Partition, Producer, ProducerState, Session, SnapshotRef, Standing, State,
    Topic,
};

pub(super) const COLUMNS: SnapshotError = Damaged("columns of different lengths");
pub(super) const ORDER: SnapshotError = Damaged("frames in another order");

/// A state that is being read.
#[derive(Default)]
pub(super) struct Builder {
    state: State,
    frames: u64,
    topic: Option<Topic>,
    partition: Option<(usize, Partition)>,
    groups: Reading,
    ended: bool,
}

impl Builder {
    pub(super) fn take(&mut self, frame: proto::Frame) -> Result<(), SnapshotError> {
        let kind = frame.kind.ok_or(Damaged("a frame of an unknown kind"))?;
        if self.ended || matches!(kind, Kind::Head(_)) != (self.frames == 0) {
            return Err(ORDER);
        }
        let end = self.frames;
        self.frames += 1;
        match kind {
            Kind::Head(head) => self.head(head),
            Kind::Session(session) => self.session(session),
            Kind::Producers(producers) => self.producers(&producers),
            Kind::Remembered(remembered) => self.remembered(&remembered),
            Kind::Topic(topic) => self.topic(topic),
            Kind::Partition(partition) => self.partition(&partition),
            Kind::PartitionProducers(producers) => self.partition_producers(&producers),
            Kind::Extents(extents) => self.extents(&extents),
            Kind::Group(group) => {
                self.close_topic()?;
                self.groups.group(&mut self.state, group)
            }
            Kind::GroupMembers(members) => self.groups.members(members),
            Kind::GroupOffsets(offsets) => self.groups.offsets(&self.state, offsets),
            Kind::Unfinished(unfinished) => {
                self.close_topic()?;
                self.groups.unfinished(&mut self.state, unfinished)
            }
            Kind::GroupAssignments(assignments) => self.groups.assignments(assignments),
            Kind::End(message) => {
                self.ended = message.frames == end;
                self.close_topic()?;
                self.groups.close(&mut self.state)
            }
        }
    }

    pub(super) fn finish(self) -> Result<State, SnapshotError> {
        if self.ended { Ok(self.state) } else { Err(Damaged("its end is missing")) }
    }

    fn head(&mut self, head: proto::Head) -> Result<(), SnapshotError> {
        self.state.ordinal = head.ordinal;
        self.state.hash = head.hash;
        self.state.next_producer_id = head.next_producer_id;
        self.state.remembered.deletions = head.deletions;
        self.state.sessions.changes = head.session_changes;
        if head.snapshots.len() > self.state.snapshots.len() {
            return Err(Damaged("too many snapshots"));
        }
        for (slot, message) in self.state.snapshots.iter_mut().zip(&head.snapshots) {
            let object = ObjectId { nonce: message.nonce, number: message.number };
            *slot = Some(SnapshotRef { object, ordinal: message.ordinal });
        }
        Ok(())
    }

    fn session(&mut self, message: proto::SessionState) -> Result<(), SnapshotError> {
        let session = Session {
            nonce: message.nonce,
            broker_id: message.broker_id,
            identity: id_from(&message.identity)?,
            listeners: listeners_from(message.listeners)?,
            rack: message.rack,
            standing: standing_from(message.standing)?,
            ended: message.ended,
            next_n: message.next_n,
            reservations: reservations_from(&message.reserved_kinds, &message.reserved_ends)?,
            low: message.low,
        };
        if session.ended.is_some() && session.standing != Standing::New {
            return Err(Damaged("a session that has ended and is ready"));
        }
        let sessions = &mut self.state.sessions;
        if session.is_live() && sessions.live.insert(session.broker_id, session.nonce).is_some() {
            return Err(Damaged("two live sessions of one broker"));
        }
        match sessions.by_nonce.insert(session.nonce, session) {
            None => Ok(()),
            Some(_) => Err(Damaged("a session came twice")),
        }
    }

    fn producers(&mut self, message: &proto::Producers) -> Result<(), SnapshotError> {
        let count = message.ids.len();
        if [message.last_activities.len(), message.strict.len()] != [count; 2] {
            return Err(COLUMNS);
        }
        let columns = undo_deltas(&message.ids).zip(undo_deltas(&message.last_activities)).zip(&message.strict);
        for ((id, last_activity), strict) in columns {
            let before = self.state.producers.len();
            self.state.producers.insert(Producer { id, last_activity, strict: *strict });
            if before == self.state.producers.len() || before >= LIVING_PRODUCERS || id < 0 {
                return Err(Damaged("a producer came twice, or there are too many"));
            }
        }
        Ok(())
    }

    fn remembered(&mut self, message: &proto::RememberedTopic) -> Result<(), SnapshotError> {
        let pairs = pairs_from(message.pairs.as_ref())?;
        self.state.remembered.restore(message.name.as_str().into(), message.age, pairs);
        Ok(())
    }

    fn topic(&mut self, message: proto::TopicState) -> Result<(), SnapshotError> {
        self.close_topic()?;
        let partition_count = self.state.partition_count.saturating_add(u64::from(message.partitions));
        if partition_count > PARTITIONS {
            return Err(Damaged("too many partitions"));
        }
        let id = TopicId(id_from(&message.topic)?);
        let name: Arc<str> = message.name.as_str().into();
        let known = self.state.topics.contains_key(&id);
        if known || self.state.names.insert(name.clone(), id).is_some() {
            return Err(Damaged("a topic came twice"));
        }
        self.state.partition_count = partition_count;
        let lenient = pairs_from(message.lenient.as_ref())?;
        self.state.remembered.lent = self.state.remembered.lent.saturating_add(lenient.len());
        let configs = configs_from(message.configs)?;
        let partitions = Topic::empty_partitions(message.partitions);
        self.topic = Some(Topic { id, name, configs, partitions, lenient });
        Ok(())
    }

    fn partition(&mut self, message: &proto::PartitionState) -> Result<(), SnapshotError> {
        self.close_partition()?;
        if message.log_start < 0 || message.log_start > message.high_watermark {
            return Err(Damaged("offsets of a partition"));
        }
        let index = usize::try_from(message.index).map_err(|_| ORDER)?;
        let (log_start, high_watermark) = (message.log_start, message.high_watermark);
        self.partition = Some((index, Partition { log_start, high_watermark, ..Partition::default() }));
        Ok(())
    }

    fn partition_producers(&mut self, message: &proto::PartitionProducers) -> Result<(), SnapshotError> {
        let (_, partition) = self.partition.as_mut().ok_or(ORDER)?;
        let count = message.ids.len();
        let total = message.kept.iter().map(|k| u64::from(*k)).sum::<u64>();
        let lengths = [message.first_sequences.len(), message.last_sequences.len(), message.first_offsets.len()];
        if [message.epochs.len(), message.consecutive.len(), message.kept.len()] != [count; 3]
            || lengths.map(|l| l as u64) != [total; 3]
        {
            return Err(COLUMNS);
        }
        let batches = message.first_sequences.iter().zip(&message.last_sequences);
        let mut batches = batches.zip(undo_deltas(&message.first_offsets));
        let columns = undo_deltas(&message.ids).zip(&message.epochs).zip(&message.consecutive).zip(&message.kept);
        for (((id, epoch), consecutive), kept) in columns {
            let mut state = ProducerState {
                epoch: i16::try_from(*epoch).map_err(|_| Damaged("an epoch"))?,
                kept: u8::try_from(*kept).map_err(|_| Damaged("too many batches of a producer"))?,
                consecutive: *consecutive,
                batches: Default::default(),
            };
            let known = partition.producers.last().is_some_and(|(last, _)| *last >= id);
            if known || *kept == 0 || *kept as usize > BATCHES_PER_PRODUCER {
                return Err(Damaged("the producers of a partition"));
            }
            for (slot, batch) in state.batches.iter_mut().zip(batches.by_ref().take(*kept as usize)) {
                *slot = kept_from(batch)?;
            }
            partition.set_producer(id, state);
        }
        Ok(())
    }

    fn extents(&mut self, message: &proto::Extents) -> Result<(), SnapshotError> {
        let (_, partition) = self.partition.as_mut().ok_or(ORDER)?;
        let count = message.first_offsets.len();
        let lengths = [
            message.lengths.len(),
            message.max_timestamps.len(),
            message.numbers.len(),
            message.positions.len(),
            message.bytes.len(),
        ];
        if lengths != [count; 5] {
            return Err(COLUMNS);
        }
        let nonces = undo_run_lengths(&message.nonces, &message.nonce_lengths, count)?;
        let places = undo_deltas(&message.numbers).zip(undo_deltas(&message.positions));
        let offsets = message.first_offsets.iter().zip(&message.lengths);
        let columns = offsets.zip(places).zip(undo_deltas(&message.max_timestamps)).zip(nonces).zip(&message.bytes);
        for (((((gap, length), (number, position)), max_timestamp), nonce), bytes) in columns {
            let (first_offset, last_offset) = offsets_from(partition, *gap, *length)?;
            let number = u32::try_from(number).map_err(|_| Damaged("an object's number"))?;
            let position = u32::try_from(position).map_err(|_| Damaged("a position"))?;
            let (bytes, kind) = (*bytes, ExtentKind::Data);
            partition.bytes = partition.bytes.saturating_add(u64::from(bytes));
            partition.extents.push(Extent {
                first_offset,
                last_offset,
                max_timestamp,
                nonce,
                number,
                position,
                bytes,
                kind,
            });
        }
        Ok(())
    }

    fn close_partition(&mut self) -> Result<(), SnapshotError> {
        let Some((index, partition)) = self.partition.take() else { return Ok(()) };
        let topic = self.topic.as_mut().ok_or(ORDER)?;
        *topic.partitions.get_mut(index).ok_or(ORDER)? = Arc::new(partition);
        Ok(())
    }

    fn close_topic(&mut self) -> Result<(), SnapshotError> {
        self.close_partition()?;
        if let Some(topic) = self.topic.take() {
            self.state.topics.insert(topic.id, Arc::new(topic));
        }
        Ok(())
    }
}

fn standing_from(standing: i32) -> Result<Standing, SnapshotError> {
    match proto::Standing::try_from(standing) {
        Ok(proto::Standing::New) => Ok(Standing::New),
        Ok(proto::Standing::Ready) => Ok(Standing::Ready),
        Ok(proto::Standing::Withdrawn) => Ok(Standing::Withdrawn),
        Err(_) => Err(Damaged("an unknown standing of a session")),
    }
}

fn kept_from(((first, last), first_offset): ((&u32, &u32), i64)) -> Result<KeptBatch, SnapshotError> {
    let sequence = |s: &u32| i32::try_from(*s).map_err(|_| Damaged("a sequence"));
    Ok(KeptBatch { first_sequence: sequence(first)?, last_sequence: sequence(last)?, first_offset })
}

/// Extents are in order, do not overlap, and lie below the high watermark.
fn offsets_from(partition: &Partition, gap: i64, length: i64) -> Result<(i64, i64), SnapshotError> {
    let end = partition.extents.last().map_or(0, |e| e.last_offset.saturating_add(1));
    let first = end.checked_add(gap);
    let last = first.and_then(|first| first.checked_add(length));
    match (first, last) {
        (Some(first), Some(last)) if gap >= 0 && length >= 0 && last < partition.high_watermark => Ok((first, last)),
        _ => Err(Damaged("offsets of an extent")),
    }
}

fn pairs_from(message: Option<&proto::Pairs>) -> Result<Pairs, SnapshotError> {
    let Some(message) = message else { return Ok(Pairs::default()) };
    if message.partitions.len() != message.producer_ids.len() || message.partitions.len() > REMEMBERED_PAIRS {
        return Err(COLUMNS);
    }
    let partition = |p: i64| u32::try_from(p).map_err(|_| Damaged("a partition's index"));
    let columns = undo_deltas(&message.partitions).zip(undo_deltas(&message.producer_ids));
    Ok(Arc::new(columns.map(|(p, id)| Ok((partition(p)?, id))).collect::<Result<_, SnapshotError>>()?))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
