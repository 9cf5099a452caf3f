//! The entries of the journal of feature level 2: consumer groups, and partitions that are added.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafscale_metadata::{
    Command, CommitOffsets, CompleteJoin, CompleteSync, Entry, GroupMember, MemberId, OffsetCommit, Part,
    ReplaceMember, TopicId, TopicPartition,
};

use super::{create, opening, plain};
use crate::encoding::Numbers;

pub(super) const ENTRIES: usize = 401;

/// What the clients of a group believe: its generation and its members.
pub(super) type Groups = BTreeMap<String, (i32, Vec<u64>)>;

/// Every command, each with what it accepts and what it refuses. Must never change.
pub(super) fn entries() -> Vec<Entry> {
    let mut numbers = Numbers(7);
    let mut groups = Groups::new();
    let mut entries = vec![opening(11, 1), opening(12, 2)];
    entries[0].commands.push(create(1, "orders", 3));
    entries[0].commands.push(create(2, "clicks.v2", 2));
    let mut next_n = BTreeMap::from([(11, 1), (12, 1), (13, 0)]);
    while entries.len() < ENTRIES {
        let nonce = 11 + numbers.below(if entries.len() > 300 { 3 } else { 2 });
        let n = next_n.get_mut(&nonce).unwrap();
        let mut entry = if *n == 0 { opening(nonce, 1) } else { plain(nonce, *n) };
        *n += 1;
        entry.time_ms += entries.len() as i64 * 10 - numbers.below(30) as i64;
        for _ in 0..=numbers.below(3) {
            let command = command(&mut numbers, &mut groups, entry.time_ms);
            entry.commands.extend(command);
        }
        entries.push(entry);
    }
    for entry in &mut entries {
        entry.feature_level = 2;
    }
    entries
}

pub(super) fn command(numbers: &mut Numbers, groups: &mut Groups, time_ms: i64) -> Vec<Command> {
    let group = format!("group-{}", numbers.below(4));
    let (generation, members) = groups.entry(group.clone()).or_default();
    let slip = i32::from(numbers.below(12) == 0);
    let one = members.get(numbers.below(4) as usize % members.len().max(1)).copied().unwrap_or(0);
    let command = match numbers.below(24) {
        0..4 => {
            if slip > 0 {
                return join(numbers, &group, *generation, members);
            }
            *generation = if numbers.below(10) == 0 { 1 } else { *generation + 1 };
            *members = (0..numbers.below(5)).map(|_| numbers.below(50)).collect();
            members.sort_unstable();
            members.dedup();
            return join(numbers, &group, *generation, members);
        }
        4..8 => {
            let assignments = members.iter().map(|m| (id(*m), opaque(numbers))).collect();
            Command::CompleteSync(CompleteSync { group, generation: *generation, assignments, part: Part::WHOLE })
        }
        8 => {
            let new = GroupMember { instance: Some(format!("instance-{one}")), ..member(numbers, 60 + one) };
            Command::ReplaceMember(ReplaceMember { group, generation: *generation, old: id(one), new })
        }
        9 => Command::DeleteOffsets { group, partitions: (0..numbers.below(3)).map(|_| partition(numbers)).collect() },
        10 => {
            let seen = |numbers: &mut Numbers| (partition(numbers), time_ms - 10 * numbers.below(40) as i64);
            let offsets = (0..40).map(|_| seen(numbers)).collect();
            Command::ExpireOffsets { group, generation: *generation - slip, offsets }
        }
        11 => {
            *generation = if members.is_empty() { 0 } else { *generation };
            Command::DeleteGroup { group }
        }
        12 if slip > 0 => Command::DeleteTopic { topic: TopicId(u128::from(1 + numbers.below(2)) << 90) },
        13 => create(u128::from(1 + numbers.below(2)), ["orders", "clicks.v2"][numbers.below(2) as usize], 2),
        14 => {
            let topic = TopicId(u128::from(1 + numbers.below(2)) << 90);
            Command::AddPartitions { topic, count: numbers.below(7) as u32 }
        }
        15 => commit(numbers, group, -1, String::new()),
        16 => commit(numbers, "simple".to_owned(), -1, String::new()),
        _ => commit(numbers, group, *generation - slip, id(one).to_string()),
    };
    vec![command]
}

/// A join, whole or in two parts.
fn join(numbers: &mut Numbers, group: &str, generation: i32, members: &[u64]) -> Vec<Command> {
    let all: Vec<GroupMember> = members.iter().map(|m| member(numbers, *m)).collect();
    let cut = numbers.below(3) as usize;
    let parts = if cut == 0 || cut > all.len() { vec![&all[..]] } else { vec![&all[..cut], &all[cut..]] };
    let last = parts.len() as u32 - 1;
    let join = |(index, members): (u32, &&[GroupMember])| {
        Command::CompleteJoin(CompleteJoin {
            group: group.to_owned(),
            generation,
            protocol_type: "consumer".to_owned(),
            protocol: "cooperative-sticky".to_owned(),
            leader: all.first().map_or_else(|| MemberId::from(""), |m| m.id.clone()),
            members: members.to_vec(),
            part: Part { index, last: index == last },
        })
    };
    (0..).zip(&parts).map(join).collect()
}

fn id(member: u64) -> MemberId {
    format!("consumer-{member}-0f3c").into()
}

fn opaque(numbers: &mut Numbers) -> Bytes {
    (0..numbers.below(9)).map(|_| numbers.below(256) as u8).collect()
}

fn member(numbers: &mut Numbers, member: u64) -> GroupMember {
    GroupMember {
        id: id(member),
        instance: member.is_multiple_of(2).then(|| format!("instance-{member}")),
        client_id: format!("client-{}", numbers.below(3)),
        client_host: "/10.1.2.3".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        subscription: opaque(numbers),
    }
}

fn partition(numbers: &mut Numbers) -> TopicPartition {
    let topic = TopicId(u128::from(1 + numbers.below(2)) << 90);
    TopicPartition { topic, partition: numbers.below(5) as u32 }
}

fn commit(numbers: &mut Numbers, group: String, generation: i32, member: String) -> Command {
    let offset = |numbers: &mut Numbers| OffsetCommit {
        partition: partition(numbers),
        offset: numbers.below(1_000_000) as i64,
        leader_epoch: numbers.below(4) as i32 - 1,
        metadata: if numbers.below(5) == 0 { "résumé".to_owned() } else { String::new() },
    };
    let offsets = (0..numbers.below(4)).map(|_| offset(numbers)).collect();
    Command::CommitOffsets(CommitOffsets { group, generation, member, offsets })
}
