//! Entries and commands as protobuf messages, and back. Ids of 128 bits are 16 bytes, big-endian.

use std::collections::BTreeMap;

use super::columns::{self, deltas, undo_deltas};
use super::{DecodeError, groups, proto};
use crate::command::{Command, CreateTopic, Entry, Listener, ObjectId, ObjectKind, OpenSession, Reservation, TopicId};

use proto::command::Kind;

pub(super) fn to_message(entry: &Entry) -> proto::Entry {
    let (reserved_kinds, reserved_ends) = reservations_to(&entry.reserved);
    proto::Entry {
        feature_level: entry.feature_level,
        nonce: entry.nonce,
        n: entry.n,
        time_ms: entry.time_ms,
        reserved_kinds,
        reserved_ends,
        low: entry.low,
        commands: entry.commands.iter().map(|c| command_to(c, entry.time_ms)).collect(),
    }
}

pub(super) fn from_message(message: proto::Entry) -> Result<Entry, DecodeError> {
    let time_ms = message.time_ms;
    Ok(Entry {
        feature_level: message.feature_level,
        nonce: message.nonce,
        n: message.n,
        time_ms,
        reserved: reservations_from(&message.reserved_kinds, &message.reserved_ends)?,
        low: message.low,
        commands: message.commands.into_iter().map(|c| command_from(c, time_ms)).collect::<Result<_, _>>()?,
    })
}

fn command_to(command: &Command, time_ms: i64) -> proto::Command {
    let kind = match command {
        Command::OpenSession(open) => Kind::OpenSession(open_to(open)),
        Command::EndSession { nonce } => Kind::EndSession(proto::EndSession { nonce: *nonce }),
        Command::CreateTopic(create) => Kind::CreateTopic(create_to(create)),
        Command::DeleteTopic { topic } => Kind::DeleteTopic(proto::DeleteTopic { topic: id_to(topic.0) }),
        Command::CommitBundle(bundle) => Kind::CommitBundle(columns::to_message(bundle, time_ms)),
        Command::AllocateProducerIds { count } => {
            Kind::AllocateProducerIds(proto::AllocateProducerIds { count: *count })
        }
        Command::ExpireProducers { idle } => Kind::ExpireProducers(proto::ExpireProducers {
            ids: deltas(idle.iter().map(|(id, _)| *id)),
            last_activities: deltas(idle.iter().map(|(_, at)| *at)),
        }),
        Command::PublishSnapshot { object, ordinal } => Kind::PublishSnapshot(publish_to(*object, *ordinal)),
        Command::AddPartitions { topic, count } => {
            Kind::AddPartitions(proto::AddPartitions { topic: id_to(topic.0), count: *count })
        }
        Command::CompleteJoin(join) => Kind::CompleteJoin(groups::join_to(join)),
        Command::CompleteSync(sync) => Kind::CompleteSync(groups::sync_to(sync)),
        Command::ReplaceMember(replace) => Kind::ReplaceMember(groups::replace_to(replace)),
        Command::CommitOffsets(commit) => Kind::CommitOffsets(groups::commit_to(commit)),
        Command::DeleteOffsets { group, partitions } => Kind::DeleteOffsets(proto::DeleteOffsets {
            group: group.clone(),
            partitions: Some(groups::partitions_to(partitions.iter().copied())),
        }),
        Command::ExpireOffsets { group, generation, offsets } => {
            Kind::ExpireOffsets(groups::expire_to(group, *generation, offsets, time_ms))
        }
        Command::DeleteGroup { group } => Kind::DeleteGroup(proto::DeleteGroup { group: group.clone() }),
        Command::SetReady { ready } => Kind::SetReady(proto::SetReady { ready: *ready }),
    };
    proto::Command { kind: Some(kind) }
}

fn command_from(message: proto::Command, time_ms: i64) -> Result<Command, DecodeError> {
    Ok(match message.kind.ok_or(DecodeError::Malformed("a command of an unknown kind"))? {
        Kind::OpenSession(open) => Command::OpenSession(open_from(open)?),
        Kind::EndSession(end) => Command::EndSession { nonce: end.nonce },
        Kind::CreateTopic(create) => Command::CreateTopic(create_from(create)?),
        Kind::DeleteTopic(delete) => Command::DeleteTopic { topic: TopicId(id_from(&delete.topic)?) },
        Kind::CommitBundle(bundle) => Command::CommitBundle(columns::from_message(&bundle, time_ms)?),
        Kind::AllocateProducerIds(allocate) => Command::AllocateProducerIds { count: allocate.count },
        Kind::ExpireProducers(expire) => Command::ExpireProducers { idle: expire_from(&expire)? },
        Kind::PublishSnapshot(publish) => {
            let object = ObjectId { nonce: publish.nonce, number: publish.number };
            Command::PublishSnapshot { object, ordinal: publish.ordinal }
        }
        Kind::AddPartitions(add) => Command::AddPartitions { topic: TopicId(id_from(&add.topic)?), count: add.count },
        Kind::CompleteJoin(join) => Command::CompleteJoin(groups::join_from(join)),
        Kind::CompleteSync(sync) => Command::CompleteSync(groups::sync_from(sync)),
        Kind::ReplaceMember(replace) => Command::ReplaceMember(groups::replace_from(replace)?),
        Kind::CommitOffsets(commit) => Command::CommitOffsets(groups::commit_from(commit)?),
        Kind::DeleteOffsets(delete) => {
            let partitions = groups::partitions_from(delete.partitions.as_ref())?;
            Command::DeleteOffsets { group: delete.group, partitions }
        }
        Kind::ExpireOffsets(expire) => {
            let offsets = groups::expire_from(&expire, time_ms)?;
            Command::ExpireOffsets { group: expire.group, generation: expire.generation, offsets }
        }
        Kind::DeleteGroup(delete) => Command::DeleteGroup { group: delete.group },
        Kind::SetReady(set) => Command::SetReady { ready: set.ready },
    })
}

fn open_to(open: &OpenSession) -> proto::OpenSession {
    proto::OpenSession {
        broker_id: open.broker_id,
        identity: id_to(open.identity),
        listeners: listeners_to(&open.listeners),
        rack: open.rack.clone(),
    }
}

fn open_from(open: proto::OpenSession) -> Result<OpenSession, DecodeError> {
    Ok(OpenSession {
        broker_id: open.broker_id,
        identity: id_from(&open.identity)?,
        listeners: listeners_from(open.listeners)?,
        rack: open.rack,
    })
}

pub(crate) fn listeners_to(listeners: &[Listener]) -> Vec<proto::Listener> {
    let one = |l: &Listener| proto::Listener { name: l.name.clone(), host: l.host.clone(), port: u32::from(l.port) };
    listeners.iter().map(one).collect()
}

pub(crate) fn listeners_from(listeners: Vec<proto::Listener>) -> Result<Vec<Listener>, DecodeError> {
    let one = |l: proto::Listener| {
        let port = u16::try_from(l.port).map_err(|_| DecodeError::Malformed("a port"))?;
        Ok(Listener { name: l.name, host: l.host, port })
    };
    listeners.into_iter().map(one).collect()
}

fn create_to(create: &CreateTopic) -> proto::CreateTopic {
    proto::CreateTopic {
        topic: id_to(create.topic.0),
        name: create.name.clone(),
        partitions: create.partitions,
        configs: configs_to(&create.configs),
    }
}

fn create_from(create: proto::CreateTopic) -> Result<CreateTopic, DecodeError> {
    Ok(CreateTopic {
        topic: TopicId(id_from(&create.topic)?),
        name: create.name,
        partitions: create.partitions,
        configs: configs_from(create.configs)?,
    })
}

pub(crate) fn configs_to(configs: &BTreeMap<String, String>) -> Vec<proto::Config> {
    configs.iter().map(|(name, value)| proto::Config { name: name.clone(), value: value.clone() }).collect()
}

pub(crate) fn configs_from(configs: Vec<proto::Config>) -> Result<BTreeMap<String, String>, DecodeError> {
    let count = configs.len();
    let map: BTreeMap<String, String> = configs.into_iter().map(|c| (c.name, c.value)).collect();
    if map.len() == count { Ok(map) } else { Err(DecodeError::Malformed("a setting came twice")) }
}

fn expire_from(expire: &proto::ExpireProducers) -> Result<Vec<(i64, i64)>, DecodeError> {
    if expire.ids.len() != expire.last_activities.len() {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    Ok(undo_deltas(&expire.ids).zip(undo_deltas(&expire.last_activities)).collect())
}

pub(crate) fn publish_to(object: ObjectId, ordinal: u64) -> proto::PublishSnapshot {
    proto::PublishSnapshot { nonce: object.nonce, number: object.number, ordinal }
}

pub(crate) fn reservations_to(reservations: &[Reservation]) -> (Vec<i32>, Vec<u32>) {
    let kind = |r: &Reservation| match r.kind {
        ObjectKind::Bundle => proto::ObjectKind::Bundle.into(),
        ObjectKind::Snapshot => proto::ObjectKind::Snapshot.into(),
    };
    (reservations.iter().map(kind).collect(), reservations.iter().map(|r| r.end).collect())
}

pub(crate) fn reservations_from(kinds: &[i32], ends: &[u32]) -> Result<Vec<Reservation>, DecodeError> {
    if kinds.len() != ends.len() {
        return Err(DecodeError::Malformed("columns of different lengths"));
    }
    let one = |(kind, end): (&i32, &u32)| {
        let kind = match proto::ObjectKind::try_from(*kind) {
            Ok(proto::ObjectKind::Bundle) => ObjectKind::Bundle,
            Ok(proto::ObjectKind::Snapshot) => ObjectKind::Snapshot,
            Ok(proto::ObjectKind::Unspecified) | Err(_) => {
                return Err(DecodeError::Malformed("an unknown kind of object"));
            }
        };
        Ok(Reservation { kind, end: *end })
    };
    kinds.iter().zip(ends).map(one).collect()
}

pub(crate) fn id_to(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

pub(crate) fn id_from(bytes: &[u8]) -> Result<u128, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::Malformed("an id that is not 16 bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}
