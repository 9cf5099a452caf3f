//! Random commands of consumer groups, made to collide: two groups, four members, small generations, parts that go on
//! where others began.

use bytes::Bytes;
use kafscale_metadata::{
    Command, CommitOffsets, CompleteJoin, CompleteSync, GroupMember, GroupStage, MemberId, OffsetCommit, Part,
    ReplaceMember, State, TopicId, TopicPartition,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn group() -> impl Strategy<Value = String> {
    prop_oneof![10 => Just("g".to_owned()), 4 => Just("h".to_owned()), 1 => Just(String::new()), 1 => Just("x".repeat(1025))]
}

fn id() -> impl Strategy<Value = MemberId> {
    prop_oneof![5 => Just("a"), 5 => Just("b"), 3 => Just("c"), 1 => Just("")].prop_map(MemberId::from)
}

fn part() -> impl Strategy<Value = Part> {
    let index = prop_oneof![3 => Just(0_u32), 2 => Just(1), 2 => Just(2), 1 => Just(u32::MAX)];
    prop_oneof![2 => Just(Part::WHOLE), 1 => (index, any::<bool>()).prop_map(|(index, last)| Part { index, last })]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..4).prop_map(Bytes::from)
}

fn member() -> impl Strategy<Value = GroupMember> {
    let instance = option::of(prop_oneof![Just("i".to_owned()), Just("j".to_owned())]);
    let timeout = prop_oneof![20 => 0_i32..100, 1 => Just(-1)];
    (id(), instance, ".{0,3}", ".{0,3}", (timeout.clone(), timeout), bytes()).prop_map(
        |(id, instance, client_id, client_host, timeouts, subscription)| GroupMember {
            id,
            instance,
            client_id,
            client_host,
            session_timeout_ms: timeouts.0,
            rebalance_timeout_ms: timeouts.1,
            subscription,
        },
    )
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (0_u128..4, 0_u32..3).prop_map(|(topic, partition)| TopicPartition { topic: TopicId(topic), partition })
}

fn commit() -> impl Strategy<Value = CommitOffsets> {
    let metadata = prop_oneof![6 => Just(String::new()), 3 => ".{0,4}", 1 => Just("m".repeat(4_097))];
    let offset = (partition(), -1_i64..1000, -1_i32..5, metadata);
    let offset = offset.prop_map(|(partition, offset, leader_epoch, metadata)| OffsetCommit {
        partition,
        offset,
        leader_epoch,
        metadata,
    });
    (group(), -1_i32..4, id(), vec(offset, 0..4)).prop_map(|(group, generation, member, offsets)| CommitOffsets {
        group,
        generation,
        member: member.to_string(),
        offsets,
    })
}

/// A command of a group, or of partitions that are added.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    let join = (group(), 1_i32..4, id(), vec(member(), 0..4), part());
    let join = join.prop_map(|(group, generation, leader, members, part)| {
        let (protocol_type, protocol) = ("consumer".to_owned(), "range".to_owned());
        Command::CompleteJoin(CompleteJoin { group, generation, protocol_type, protocol, leader, members, part })
    });
    let sync = (group(), 1_i32..4, vec((id(), bytes()), 0..4), part());
    let sync = sync.prop_map(|(group, generation, assignments, part)| {
        Command::CompleteSync(CompleteSync { group, generation, assignments, part })
    });
    let replace = (group(), 1_i32..4, id(), member());
    let replace = replace.prop_map(|(group, generation, old, new)| {
        Command::ReplaceMember(ReplaceMember { group, generation, old, new })
    });
    let expire = (group(), 0_i32..3, vec((partition(), 0_i64..50), 0..4));
    prop_oneof![
        8 => join,
        6 => sync,
        2 => replace,
        8 => commit().prop_map(Command::CommitOffsets),
        1 => (group(), vec(partition(), 0..3)).prop_map(|(group, partitions)| Command::DeleteOffsets { group, partitions }),
        2 => expire.prop_map(|(group, generation, offsets)| Command::ExpireOffsets { group, generation, offsets }),
        2 => group().prop_map(|group| Command::DeleteGroup { group }),
        1 => (0_u128..4, 0_u32..5).prop_map(|(id, count)| Command::AddPartitions { topic: TopicId(id), count }),
    ]
}

/// Aims most commands at what the state would take; what it hits is in the hands of the numbers in the command.
pub(crate) fn aim(command: &mut Command, state: &State) {
    match command {
        Command::AddPartitions { topic, .. } => aim_topic(topic, state),
        Command::CompleteJoin(join) => aim_join(join, state),
        Command::CompleteSync(sync) => aim_sync(sync, state),
        Command::ReplaceMember(replace) => {
            let Some(group) = state.group(&replace.group) else { return };
            aim_generation(&mut replace.generation, group.generation());
            if let Some(member) = group.members().find(|m| m.instance().is_some()) {
                replace.old = member.id().clone();
                replace.new.instance = member.instance().map(str::to_owned);
            }
        }
        Command::CommitOffsets(commit) => {
            for offset in &mut commit.offsets {
                aim_topic(&mut offset.partition.topic, state);
            }
            aim_commit(commit, state);
        }
        Command::DeleteOffsets { partitions, .. } => partitions.iter_mut().for_each(|p| aim_topic(&mut p.topic, state)),
        Command::ExpireOffsets { group, generation, offsets } => {
            let Some(group) = state.group(group) else { return };
            aim_generation(generation, group.generation());
            for (aimed, (partition, stored)) in offsets.iter_mut().filter(|o| o.1 % 3 > 0).zip(group.offsets()) {
                *aimed = (partition, stored.committed_ms);
            }
        }
        Command::OpenSession(_)
        | Command::EndSession { .. }
        | Command::SetReady { .. }
        | Command::CreateTopic(_)
        | Command::DeleteTopic { .. }
        | Command::CommitBundle(_)
        | Command::AllocateProducerIds { .. }
        | Command::ExpireProducers { .. }
        | Command::PublishSnapshot { .. }
        | Command::DeleteGroup { .. } => {}
    }
}

fn aim_topic(topic: &mut TopicId, state: &State) {
    let topics = state.topics().len().max(1);
    if let Some(real) = state.topics().nth(topic.0 as usize % topics).filter(|_| topic.0 < 3) {
        *topic = real.id();
    }
}

fn aim_generation(generation: &mut i32, real: i32) {
    if *generation < 3 {
        *generation = real;
    }
}

/// A commit of a member of the generation, or of nobody where there is none.
fn aim_commit(commit: &mut CommitOffsets, state: &State) {
    let group = state.group(&commit.group);
    let members = group.map_or(0, |g| g.members().len());
    if members == 0 && commit.generation < 2 {
        (commit.generation, commit.member) = (-1, String::new());
    } else if let Some(group) = group.filter(|_| commit.generation > 0) {
        aim_generation(&mut commit.generation, group.generation());
        let member = group.members().nth(commit.offsets.len() % members.max(1));
        commit.member = member.map_or_else(String::new, |m| m.id().to_string());
    }
}

fn aim_join(join: &mut CompleteJoin, state: &State) {
    aim_generation(&mut join.generation, state.group(&join.group).map_or(0, |g| g.generation()).saturating_add(1));
    if join.members.len() == 2 && join.part != Part::WHOLE {
        // A part of a larger one: others have the other members.
        let ids = if join.part.index == 0 { ["a", "b"] } else { ["c", "d"] };
        join.members.iter_mut().zip(ids).for_each(|(member, id)| (member.id, member.instance) = (id.into(), None));
        join.leader = "a".into();
    }
    if join.members.is_empty() {
        join.leader = MemberId::from("");
    } else if join.members.len() == 1 || join.part == Part::WHOLE {
        join.leader = join.members[0].id.clone();
    }
}

fn aim_sync(sync: &mut CompleteSync, state: &State) {
    let Some(group) = state.group(&sync.group) else { return };
    aim_generation(&mut sync.generation, group.generation());
    if group.stage() == GroupStage::Joined && sync.assignments.len() < 3 {
        let skip = if sync.part.index == 0 { 0 } else { 1 };
        sync.assignments.iter_mut().zip(group.members().skip(skip)).for_each(|(given, m)| given.0 = m.id().clone());
    }
}

/// A command of any values whatever, for round trips.
pub(crate) fn any_command() -> impl Strategy<Value = Command> {
    let id = || ".{0,9}".prop_map(MemberId::from);
    let part = (any::<u32>(), any::<bool>()).prop_map(|(index, last)| Part { index, last });
    let bytes = || vec(any::<u8>(), 0..9).prop_map(Bytes::from);
    let partition =
        || (0_u128..3, any::<u32>()).prop_map(|(id, partition)| TopicPartition { topic: TopicId(id << 99), partition });
    let timeouts = (any::<i32>(), any::<i32>());
    let member = (id(), option::of(".{0,9}"), ".{0,9}", ".{0,9}", timeouts, bytes()).prop_map(
        |(id, instance, client_id, client_host, timeouts, subscription)| GroupMember {
            id,
            instance,
            client_id,
            client_host,
            session_timeout_ms: timeouts.0,
            rebalance_timeout_ms: timeouts.1,
            subscription,
        },
    );
    let texts = (".{0,9}", ".{0,9}", ".{0,9}");
    let join = (texts, any::<i32>(), id(), vec(member.clone(), 0..3), part.clone());
    let join = join.prop_map(|((group, protocol_type, protocol), generation, leader, members, part)| {
        Command::CompleteJoin(CompleteJoin { group, generation, protocol_type, protocol, leader, members, part })
    });
    let sync = (".{0,9}", any::<i32>(), vec((id(), bytes()), 0..3), part);
    let sync = sync.prop_map(|(group, generation, assignments, part)| {
        Command::CompleteSync(CompleteSync { group, generation, assignments, part })
    });
    let replace = (".{0,9}", any::<i32>(), id(), member);
    let replace = replace.prop_map(|(group, generation, old, new)| {
        Command::ReplaceMember(ReplaceMember { group, generation, old, new })
    });
    let offset = (partition(), any::<i64>(), any::<i32>(), prop_oneof![3 => Just(String::new()), 1 => ".{0,9}"]);
    let offset = offset.prop_map(|(partition, offset, leader_epoch, metadata)| OffsetCommit {
        partition,
        offset,
        leader_epoch,
        metadata,
    });
    let commit = (".{0,9}", any::<i32>(), ".{0,9}", vec(offset, 0..9));
    let commit = commit.prop_map(|(group, generation, member, offsets)| {
        Command::CommitOffsets(CommitOffsets { group, generation, member, offsets })
    });
    let expire = (".{0,9}", any::<i32>(), vec((partition(), any::<i64>()), 0..9));
    prop_oneof![
        join,
        sync,
        replace,
        commit,
        (".{0,9}", vec(partition(), 0..9)).prop_map(|(group, partitions)| Command::DeleteOffsets { group, partitions }),
        expire.prop_map(|(group, generation, offsets)| Command::ExpireOffsets { group, generation, offsets }),
        ".{0,9}".prop_map(|group| Command::DeleteGroup { group }),
        (any::<u128>(), any::<u32>()).prop_map(|(id, count)| Command::AddPartitions { topic: TopicId(id), count }),
    ]
}
