//! Consumer groups in transcripts: commands, and how a group is shown.

use std::fmt::Write as _;

use bytes::Bytes;
use kafscale_metadata::{
    Command, CommitOffsets, CompleteJoin, CompleteSync, GroupMember, GroupStage, MemberId, OffsetCommit, Part,
    ReplaceMember, TopicPartition,
};

use super::{World, number};

/// `3` whole, `3/0` part 0, `3/1.` part 1 and the last.
fn generation(text: &str) -> (i32, Part) {
    let Some((generation, part)) = text.split_once('/') else { return (text.parse().unwrap(), Part::WHOLE) };
    let part = Part { index: number(part.trim_end_matches('.')) as u32, last: part.ends_with('.') };
    (generation.parse().unwrap(), part)
}

/// `-` is the empty text.
fn name(text: &str) -> &str {
    if text == "-" { "" } else { text }
}

/// ID or ID@INSTANCE.
fn member(text: &str) -> GroupMember {
    let (id, instance) = text.split_once('@').map_or((text, None), |(id, instance)| (id, Some(instance)));
    GroupMember {
        id: id.into(),
        instance: instance.map(str::to_owned),
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        subscription: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"),
    }
}

fn offset(world: &World, text: &str) -> OffsetCommit {
    let (partition, rest) = text.split_once('=').unwrap();
    let (rest, metadata) = rest.split_once('+').unwrap_or((rest, ""));
    let (offset, epoch) = rest.split_once('@').unwrap_or((rest, "-1"));
    OffsetCommit {
        partition: world.partition(partition),
        offset: offset.parse().unwrap(),
        leader_epoch: epoch.parse().unwrap(),
        metadata: metadata.to_owned(),
    }
}

pub(super) fn command(world: &World, words: &[&str]) -> Option<Command> {
    let group = || name(words[1]).to_owned();
    let partition = |text: &&str| world.partition(text);
    Some(match words {
        ["join", _, at, leader, members @ ..] => {
            let (generation, part) = generation(at);
            Command::CompleteJoin(CompleteJoin {
                group: group(),
                generation,
                protocol_type: "consumer".to_owned(),
                protocol: "range".to_owned(),
                leader: MemberId::from(name(leader)),
                members: members.iter().map(|m| member(m)).collect(),
                part,
            })
        }
        ["sync", _, at, assignments @ ..] => {
            let (generation, part) = generation(at);
            let one = |text: &&str| {
                let (id, assignment) = text.split_once('=').unwrap();
                (MemberId::from(id), Bytes::from(assignment.to_owned()))
            };
            let assignments = assignments.iter().map(one).collect();
            Command::CompleteSync(CompleteSync { group: group(), generation, assignments, part })
        }
        ["replace", _, at, old, new] => {
            let (generation, old, new) = (at.parse().unwrap(), MemberId::from(*old), member(new));
            Command::ReplaceMember(ReplaceMember { group: group(), generation, old, new })
        }
        ["offsets", _, at, member, offsets @ ..] => Command::CommitOffsets(CommitOffsets {
            group: group(),
            generation: at.parse().unwrap(),
            member: name(member).to_owned(),
            offsets: offsets.iter().map(|o| offset(world, o)).collect(),
        }),
        ["forget", _, partitions @ ..] => {
            Command::DeleteOffsets { group: group(), partitions: partitions.iter().map(partition).collect() }
        }
        ["lapse", _, at, offsets @ ..] => {
            let one = |text: &&str| {
                let (partition, seen) = text.split_once(':').unwrap();
                (world.partition(partition), number(seen) as i64)
            };
            let offsets = offsets.iter().map(one).collect();
            Command::ExpireOffsets { group: group(), generation: at.parse().unwrap(), offsets }
        }
        ["drop", _] => Command::DeleteGroup { group: group() },
        _ => return None,
    })
}

pub(super) fn show(world: &World, id: &str) -> String {
    let Some(group) = world.state.group(name(id)) else { return "none".to_owned() };
    let stage = match group.stage() {
        GroupStage::Empty => "empty",
        GroupStage::Joined => "joined",
        GroupStage::Assigned => "assigned",
    };
    let mut out = format!("generation {}, {stage} since {}", group.generation(), group.changed_ms());
    if !group.leader().is_empty() {
        write!(out, ", led by {}", group.leader()).unwrap();
    }
    for member in group.members() {
        let instance = member.instance().map(|i| format!("@{i}")).unwrap_or_default();
        let assignment = std::str::from_utf8(member.assignment()).unwrap();
        let given = if assignment.is_empty() { String::new() } else { format!(": {assignment}") };
        write!(out, "\n{}{instance}{given}", member.id()).unwrap();
    }
    let mut offsets: Vec<(TopicPartition, String)> = group
        .offsets()
        .map(|(partition, o)| {
            let epoch = if o.leader_epoch < 0 { String::new() } else { format!("@{}", o.leader_epoch) };
            let metadata = if o.metadata.is_empty() { String::new() } else { format!("+{}", o.metadata) };
            (partition, format!("{}{epoch}{metadata}, committed at {}", o.offset, o.committed_ms))
        })
        .collect();
    offsets.sort_by_key(|(partition, _)| world.name(*partition));
    for (partition, offset) in offsets {
        write!(out, "\n{} = {offset}", world.name(partition)).unwrap();
    }
    out
}

/// What may be forgotten of what was not committed since `before`.
pub(super) fn expired(world: &World, before: &str) -> String {
    let look = world.state.expired_offsets(before.parse().unwrap(), "");
    assert_eq!(look.next, None);
    let one = |found: &kafscale_metadata::Expired| {
        let offsets = found.offsets.iter().map(|(partition, at)| format!(" {}:{at}", world.name(*partition)));
        format!("lapse {} {}{}", found.group, found.generation, offsets.collect::<String>())
    };
    let found = look.found.iter().map(one).collect::<Vec<_>>().join("\n");
    if found.is_empty() { "nothing".to_owned() } else { found }
}
