//! From the state to frames, in the order of the tables' keys.

use prost::Message;

use super::COLUMN;
use crate::command::Reservation;
use crate::encode::columns::{deltas, run_lengths};
use crate::encode::commands::{configs_to, id_to, listeners_to, publish_to, reservations_to};
use crate::encode::proto::{self, frame::Kind};
use crate::state::{Extent, Pairs, Partition, Producer, ProducerState, Session, Standing, State, Topic};

/// Calls `sink` with each frame, its length in front of it.
pub(super) fn frames(state: &State, sink: &mut impl FnMut(&[u8])) {
    let mut out = Out { sink, buffer: Vec::new(), count: 0 };
    out.frame(Kind::Head(head(state)));
    for session in state.sessions.by_nonce.values() {
        out.frame(Kind::Session(session_to(session)));
    }
    let living: Vec<Producer> = state.producers.iter().copied().collect();
    for page in living.chunks(COLUMN) {
        out.frame(Kind::Producers(producers_to(page)));
    }
    for (name, (age, pairs)) in &state.remembered.topics {
        let (name, pairs) = (name.to_string(), Some(pairs_to(pairs)));
        out.frame(Kind::Remembered(proto::RememberedTopic { name, age: *age, pairs }));
    }
    for topic in state.topics.values() {
        out.frame(Kind::Topic(topic_to(topic)));
        for (index, partition) in (0..).zip(topic.partitions()) {
            partition_frames(&mut out, index, partition);
        }
    }
    super::write_groups::frames(&mut out, state);
    let frames = out.count;
    out.frame(Kind::End(proto::End { frames }));
}

pub(super) struct Out<'a, S> {
    sink: &'a mut S,
    buffer: Vec<u8>,
    count: u64,
}

impl<S: FnMut(&[u8])> Out<'_, S> {
    pub(super) fn frame(&mut self, kind: Kind) {
        self.buffer.clear();
        let frame = proto::Frame { kind: Some(kind) };
        frame.encode_length_delimited(&mut self.buffer).expect("a vector grows as needed");
        (self.sink)(&self.buffer);
        self.count += 1;
    }
}

fn head(state: &State) -> proto::Head {
    proto::Head {
        ordinal: state.ordinal,
        hash: state.hash,
        next_producer_id: state.next_producer_id,
        deletions: state.remembered.deletions,
        session_changes: state.sessions.changes,
        snapshots: state.snapshots.iter().flatten().map(|s| publish_to(s.object, s.ordinal)).collect(),
    }
}

fn session_to(session: &Session) -> proto::SessionState {
    let reservations: &[Reservation] = &session.reservations;
    let (reserved_kinds, reserved_ends) = reservations_to(reservations);
    proto::SessionState {
        nonce: session.nonce,
        broker_id: session.broker_id,
        identity: id_to(session.identity),
        listeners: listeners_to(&session.listeners),
        rack: session.rack.clone(),
        ended: session.ended,
        next_n: session.next_n,
        reserved_kinds,
        reserved_ends,
        low: session.low,
        standing: match session.standing {
            Standing::New => proto::Standing::New,
            Standing::Ready => proto::Standing::Ready,
            Standing::Withdrawn => proto::Standing::Withdrawn,
        }
        .into(),
    }
}

fn producers_to(page: &[Producer]) -> proto::Producers {
    proto::Producers {
        ids: deltas(page.iter().map(|p| p.id)),
        last_activities: deltas(page.iter().map(|p| p.last_activity)),
        strict: page.iter().map(|p| p.strict).collect(),
    }
}

fn pairs_to(pairs: &Pairs) -> proto::Pairs {
    proto::Pairs {
        partitions: deltas(pairs.iter().map(|(partition, _)| i64::from(*partition))),
        producer_ids: deltas(pairs.iter().map(|(_, id)| *id)),
    }
}

fn topic_to(topic: &Topic) -> proto::TopicState {
    proto::TopicState {
        topic: id_to(topic.id.0),
        name: topic.name.to_string(),
        configs: configs_to(&topic.configs),
        partitions: topic.partition_count(),
        lenient: Some(pairs_to(&topic.lenient)),
    }
}

fn partition_frames<S: FnMut(&[u8])>(out: &mut Out<'_, S>, index: u32, partition: &Partition) {
    if *partition == Partition::default() {
        return;
    }
    let (log_start, high_watermark) = (partition.log_start, partition.high_watermark);
    out.frame(Kind::Partition(proto::PartitionState { index, log_start, high_watermark }));
    for producers in partition.producers.chunks(COLUMN) {
        out.frame(Kind::PartitionProducers(partition_producers_to(producers)));
    }
    let mut extents = partition.extents.iter().peekable();
    let mut end = 0;
    while extents.peek().is_some() {
        let column: Vec<&Extent> = extents.by_ref().take(COLUMN).collect();
        out.frame(Kind::Extents(extents_to(&column, &mut end)));
    }
}

fn partition_producers_to(producers: &[(i64, ProducerState)]) -> proto::PartitionProducers {
    let kept = || producers.iter().flat_map(|(_, state)| state.kept());
    proto::PartitionProducers {
        ids: deltas(producers.iter().map(|(id, _)| *id)),
        epochs: producers.iter().map(|(_, s)| u32::from(s.epoch.unsigned_abs())).collect(),
        consecutive: producers.iter().map(|(_, s)| s.consecutive).collect(),
        kept: producers.iter().map(|(_, s)| u32::from(s.kept)).collect(),
        first_sequences: kept().map(|k| k.first_sequence.unsigned_abs()).collect(),
        last_sequences: kept().map(|k| k.last_sequence.unsigned_abs()).collect(),
        first_offsets: deltas(kept().map(|k| k.first_offset)),
    }
}

/// `end` is one past the offset of the extent before.
fn extents_to(extents: &[&Extent], end: &mut i64) -> proto::Extents {
    let mut gap = |e: &&Extent| {
        let gap = e.first_offset.wrapping_sub(*end);
        *end = e.last_offset.wrapping_add(1);
        gap
    };
    let (nonces, nonce_lengths) = run_lengths(extents.iter().map(|e| e.nonce));
    proto::Extents {
        first_offsets: extents.iter().map(&mut gap).collect(),
        lengths: extents.iter().map(|e| e.last_offset.wrapping_sub(e.first_offset)).collect(),
        max_timestamps: deltas(extents.iter().map(|e| e.max_timestamp)),
        nonces,
        nonce_lengths,
        numbers: deltas(extents.iter().map(|e| i64::from(e.number))),
        positions: deltas(extents.iter().map(|e| i64::from(e.position))),
        bytes: extents.iter().map(|e| e.bytes).collect(),
    }
}
