//! Consumer groups: the limits of the fold, what a look for expired offsets finds, snapshots of large groups, and what a
//! commit costs.

use std::collections::BTreeMap;
use std::mem::size_of;

use bytes::Bytes;
use kafscale_metadata::{
    Command, CommitOffsets, CommittedOffset, CompleteJoin, CompleteSync, CreateTopic, Entry, Group, GroupMember,
    MemberId, OffsetCommit, OpenSession, Outcome, Part, Refusal, State, TopicId, TopicPartition, apply, limits,
    snapshot,
};

use crate::encoding::{Numbers, entry_of};

const MIB: usize = 1024 * 1024;

/// A state with one session and topics 0, 1, … of so many partitions.
fn opened(topics: &[u32]) -> State {
    let mut state = State::new();
    let open = OpenSession { broker_id: 1, identity: 2, listeners: vec![], rack: None };
    let create = |(id, partitions): (u128, &u32)| {
        let (topic, name) = (TopicId(id << 70), format!("t{id}"));
        Command::CreateTopic(CreateTopic { topic, name, partitions: *partitions, configs: BTreeMap::new() })
    };
    let mut commands = vec![Command::OpenSession(open)];
    commands.extend((0..).zip(topics).map(create));
    apply(&mut state, 1, &entry_of(0, commands)).unwrap();
    state
}

fn next(state: &mut State, commands: Vec<Command>) -> Vec<Outcome> {
    at(state, 0, commands)
}

fn at(state: &mut State, time_ms: i64, commands: Vec<Command>) -> Vec<Outcome> {
    let ordinal = state.ordinal() + 1;
    apply(state, ordinal, &Entry { time_ms, ..entry_of(ordinal - 1, commands) }).unwrap().outcomes
}

fn partition(topic: u128, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId(topic << 70), partition }
}

fn offset(topic: u128, index: u32) -> OffsetCommit {
    let partition = partition(topic, index);
    OffsetCommit { partition, offset: 1_000 + i64::from(index), leader_epoch: -1, metadata: String::new() }
}

fn commit(group: &str, offsets: Vec<OffsetCommit>) -> Command {
    let (group, member) = (group.to_owned(), String::new());
    Command::CommitOffsets(CommitOffsets { group, generation: -1, member, offsets })
}

fn member(id: &str, subscription: &Bytes) -> GroupMember {
    GroupMember {
        id: id.into(),
        instance: None,
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        subscription: subscription.clone(),
    }
}

fn join(group: &str, generation: i32, members: Vec<GroupMember>, part: Part) -> Command {
    let leader = members.first().map_or_else(|| MemberId::from(""), |m| m.id.clone());
    let (group, protocol_type, protocol) = (group.to_owned(), "consumer".to_owned(), "range".to_owned());
    Command::CompleteJoin(CompleteJoin { group, generation, protocol_type, protocol, leader, members, part })
}

fn sync(group: &str, generation: i32, assignments: Vec<(MemberId, Bytes)>) -> Command {
    let group = group.to_owned();
    Command::CompleteSync(CompleteSync { group, generation, assignments, part: Part::WHOLE })
}

const FULL: Outcome = Outcome::Refused(Refusal::LimitReached);

#[test]
fn names_and_metadata() {
    let mut state = opened(&[1]);
    let (longest, long) = ("g".repeat(limits::GROUP_ID_BYTES), "g".repeat(limits::GROUP_ID_BYTES + 1));
    let none = Bytes::new();
    let of = |id: &str| join(id, 1, vec![member("m", &none)], Part::WHOLE);
    assert_eq!(next(&mut state, vec![of(&long), commit(&long, vec![])]), [FULL, FULL]);
    let stored = Outcome::Offsets(vec![]);
    assert_eq!(next(&mut state, vec![commit(&longest, vec![]), of(&longest)]), [stored, Outcome::Done]);
    let mut noted = [offset(0, 0), offset(0, 0)];
    noted[0].metadata = "n".repeat(limits::OFFSET_METADATA_BYTES + 1);
    noted[1].metadata = "n".repeat(limits::OFFSET_METADATA_BYTES);
    let outcomes = next(&mut state, vec![commit("g", noted[..1].to_vec()), commit("g", noted.to_vec())]);
    let refused = Some(Refusal::LimitReached);
    assert_eq!(outcomes, [Outcome::Offsets(vec![refused]), Outcome::Offsets(vec![refused, None])]);
    assert_eq!(state.group_count(), 2, "a commit that stores nothing makes no group");
}

#[test]
fn groups_of_the_cluster() {
    let mut state = opened(&[1]);
    let stored = Outcome::Offsets(vec![None]);
    let commits = (0..=limits::GROUPS).map(|id| commit(&format!("{id}"), vec![offset(0, 0)]));
    let outcomes = next(&mut state, commits.collect());
    assert!(outcomes[..limits::GROUPS].iter().all(|o| *o == stored));
    assert_eq!(outcomes[limits::GROUPS], FULL);
    let new = || join("new", 1, vec![member("m", &Bytes::new())], Part::WHOLE);
    let begun = join("new", 1, vec![member("m", &Bytes::new())], Part { index: 0, last: false });
    assert_eq!(next(&mut state, vec![new(), begun, commit("7", vec![offset(0, 0)])]), [FULL, FULL, stored]);
    let delete = Command::DeleteGroup { group: "7".to_owned() };
    assert_eq!(next(&mut state, vec![delete, new(), commit("7", vec![])]), [Outcome::Done, Outcome::Done, FULL]);
}

#[test]
fn members_of_a_group() {
    let mut state = opened(&[1]);
    let none = Bytes::new();
    let some = |from: usize, to: usize| (from..to).map(|id| member(&format!("m{id}"), &none)).collect::<Vec<_>>();
    let part = |index, last| Part { index, last };
    let most = limits::MEMBERS_PER_GROUP;
    let parts = [join("g", 1, some(0, most - 1), part(0, false)), join("g", 1, some(most - 1, most), part(1, true))];
    assert_eq!(next(&mut state, parts.to_vec()), [Outcome::Done, Outcome::Done]);
    assert_eq!(state.group("g").unwrap().members().len(), most);
    let mut parts = [join("g", 2, some(0, most), part(0, false)), join("g", 2, some(most, most + 1), part(1, true))];
    assert_eq!(next(&mut state, parts.to_vec()), [Outcome::Done, FULL]);
    if let Command::CompleteJoin(join) = &mut parts[0] {
        join.members.push(member("one.too.many", &none));
    }
    assert_eq!(next(&mut state, parts[..1].to_vec()), [FULL]);
    assert_eq!(state.group("g").unwrap().generation(), 1);
}

#[test]
fn bytes_of_a_group() {
    let mut state = opened(&[1]);
    let mib = Bytes::from(vec![7; MIB]);
    let members = |count: usize| (0..count).map(|id| member(&format!("m{id}"), &mib)).collect::<Vec<_>>();
    let mut large = join("g", 1, members(32), Part::WHOLE);
    assert_eq!(next(&mut state, vec![large.clone()]), [FULL], "subscriptions, and what a member weighs itself");
    let part = |index, last, members| join("g", 1, members, Part { index, last });
    let parts = vec![part(0, false, members(31)), part(1, true, vec![member("n", &mib)])];
    assert_eq!(next(&mut state, parts), [Outcome::Done, FULL]);
    if let Command::CompleteJoin(join) = &mut large {
        join.members.pop();
    }
    assert_eq!(next(&mut state, vec![large]), [Outcome::Done]);
    let given = vec![("m0".into(), mib.clone())];
    assert_eq!(next(&mut state, vec![sync("g", 1, given), sync("g", 1, vec![])]), [FULL, Outcome::Done]);
    assert!(state.group("g").unwrap().bytes() > 31 * MIB as u64);
}

#[test]
fn bytes_of_all_groups() {
    let mut state = opened(&[1]);
    let mib = Bytes::from(vec![7; MIB]);
    let members: Vec<GroupMember> = (0..31).map(|id| member(&format!("m{id}"), &mib)).collect();
    let large = |id: usize, part| join(&format!("g{id}"), 1, members.clone(), part);
    let outcomes = next(&mut state, (0..33).map(|id| large(id, Part::WHOLE)).collect());
    assert!(outcomes.iter().all(|o| *o == Outcome::Done));
    let begun = Part { index: 0, last: false };
    assert_eq!(next(&mut state, vec![large(33, Part::WHOLE), large(33, begun)]), [FULL, FULL]);
    assert!(state.groups_bytes() <= limits::GROUPS_BYTES);
    // Up to the last byte with commits; what replaces something lighter is refused as well, the same again is not.
    let mut noted = offset(0, 0);
    noted.metadata = "n".repeat(limits::OFFSET_METADATA_BYTES);
    let mut fill = Vec::new();
    for id in 0..60_000 {
        fill.push(commit(&format!("c{id}"), vec![noted.clone()]));
    }
    let outcomes = next(&mut state, fill);
    let first_refused =
        outcomes.iter().position(|o| *o == Outcome::Offsets(vec![Some(Refusal::LimitReached)])).unwrap();
    assert!(limits::GROUPS_BYTES - state.groups_bytes() < 5_000);
    assert_eq!(state.group_count(), 33 + first_refused);
    let again = next(&mut state, vec![commit("c0", vec![noted.clone()]), commit("c1", vec![offset(0, 0)])]);
    assert_eq!(again, vec![Outcome::Offsets(vec![None]); 2]);
    // A group whose members leave makes room.
    assert_eq!(next(&mut state, vec![join("g0", 2, vec![], Part::WHOLE)]), [Outcome::Done]);
    assert_eq!(next(&mut state, vec![large(33, begun)]), [Outcome::Done], "parts have their weight");
    assert_eq!(next(&mut state, vec![large(34, Part::WHOLE)]), [FULL]);
    let end = Command::EndSession { nonce: entry_of(0, vec![]).nonce };
    let before = state.groups_bytes();
    next(&mut state, vec![end]);
    assert!(before - state.groups_bytes() > 31 * MIB as u64);
}

#[test]
fn a_look_for_expired_offsets_is_bounded_and_goes_on() {
    let mut state = opened(&[10_000, 10_000]);
    let all = |topic| (0..10_000).map(|index| offset(topic, index)).collect::<Vec<_>>();
    at(&mut state, 10, vec![commit("b", all(0)), commit("b", all(1))]);
    at(&mut state, 11, (0..2_000).map(|id| commit(&format!("a{id}"), vec![offset(0, id)])).collect());
    at(&mut state, 12, vec![commit("c", vec![offset(1, 5)])]);
    let (mut from, mut looks) = (String::new(), 0);
    loop {
        let look = state.expired_offsets(12, &from);
        let commands = look.found.iter().map(|found| Command::ExpireOffsets {
            group: found.group.to_string(),
            generation: found.generation,
            offsets: found.offsets.clone(),
        });
        let commands: Vec<Command> = commands.collect();
        assert!(Entry { time_ms: 20, ..entry_of(1, commands.clone()) }.encode().len() < 192 * 1024);
        at(&mut state, 20, commands);
        looks += 1;
        let Some(next) = look.next else { break };
        from = next.to_string();
    }
    assert!((3..10).contains(&looks), "{looks}");
    assert_eq!(state.groups().map(|(id, _)| id).collect::<Vec<_>>(), ["c"]);
    // What there is to look at is bounded too, where nothing is found.
    let mut state = opened(&[10_000]);
    at(&mut state, 10, (0..8).map(|id| commit(&format!("g{id}"), all(0))).collect());
    assert_eq!(state.expired_offsets(10, "").next.as_deref(), Some("g7"));
    assert_eq!(state.expired_offsets(10, "g7"), Default::default());
}

#[test]
fn offsets_of_members_expire_where_nobody_subscribes() {
    let mut state = opened(&[1, 1, 1]);
    let subscribes = |topic: &str| {
        let length = (topic.len() as u16).to_be_bytes();
        Bytes::from([b"\0\0\0\0\0\x01".as_slice(), &length, topic.as_bytes()].concat())
    };
    let group = |id: &str, protocol_type: &str, subscriptions: [Bytes; 2]| {
        let members = ["m", "n"].iter().zip(&subscriptions).map(|(id, s)| member(id, s)).collect();
        let mut join = join(id, 1, members, Part::WHOLE);
        if let Command::CompleteJoin(join) = &mut join {
            join.protocol_type = protocol_type.to_owned();
        }
        let offsets = (0..3).map(|topic| offset(topic, 0)).collect();
        let (group, member) = (id.to_owned(), "m".to_owned());
        let commit = Command::CommitOffsets(CommitOffsets { group, generation: 1, member, offsets });
        vec![join, sync(id, 1, vec![]), commit]
    };
    let (t0, t1) = (subscribes("t0"), subscribes("t1"));
    at(&mut state, 10, group("both", "consumer", [t0.clone(), t1.clone()]));
    at(&mut state, 10, group("connect", "connect", [t0.clone(), t1]));
    at(&mut state, 10, group("odd", "consumer", [t0, Bytes::from_static(b"\0\0\0\0\0\x09")]));
    let look = state.expired_offsets(11, "");
    assert_eq!(look.next, None);
    let found: Vec<_> = look.found.iter().map(|found| (&*found.group, found.generation, &*found.offsets)).collect();
    assert_eq!(found, [("both", 1, &[(partition(2, 0), 10)][..])]);
    assert_eq!(state.expired_offsets(10, ""), Default::default());
}

#[test]
fn large_groups_come_back_as_they_were() {
    let mut state = opened(&[10_000, 300]);
    let large = Bytes::from(vec![7; 100_000]);
    let members = |count: usize| (0..count).map(|id| member(&format!("m{id:03}"), &large)).collect::<Vec<_>>();
    let all = (0..10_000).map(|index| offset(0, index)).chain((0..300).map(|index| offset(1, index))).collect();
    let part = |index, last| Part { index, last };
    let assigned = (0..50).map(|id| (format!("m{id:03}").into(), large.clone())).collect();
    next(&mut state, vec![commit("g", all), join("g", 1, members(50), Part::WHOLE), sync("g", 1, assigned)]);
    next(&mut state, vec![join("g", 2, members(40), part(0, false)), join("h", 1, members(30), Part::WHOLE)]);
    let part_of_sync = (0..30).map(|id| (format!("m{id:03}").into(), large.clone())).collect();
    let sync = CompleteSync { group: "h".to_owned(), generation: 1, assignments: part_of_sync, part: part(0, false) };
    assert_eq!(next(&mut state, vec![Command::CompleteSync(sync)]), [Outcome::Done]);
    let restored = snapshot::decode(&snapshot::encode(&state)).unwrap();
    assert_eq!(restored, state);
    assert_eq!((restored.content_hash(), restored.groups_bytes()), (state.content_hash(), state.groups_bytes()));
    let group = restored.group("g").unwrap();
    assert_eq!((group.offset_count(), group.members().len()), (10_300, 50));
    assert_eq!(group.offset(partition(0, 9_999)).unwrap().offset, 10_999);
    // Both go on where they were.
    let (mut a, mut b) = (state, restored);
    let rest = |s: &mut State| next(s, vec![join("g", 2, vec![member("z", &large)], part(1, true))]);
    assert_eq!((rest(&mut a), rest(&mut b)), (vec![Outcome::Done], vec![Outcome::Done]));
    assert_eq!(a, b);
}

/// What a consumer's regular commit costs in the journal: alone, and with those of many groups in one entry.
#[test]
fn a_commit_costs_few_bytes() {
    let mut numbers = Numbers(5);
    let mut commit_of = |group: u64, partitions: u32| {
        let mut hex = |digits: u32| format!("{:0w$x}", numbers.below(1 << (4 * digits)), w = digits as usize);
        let uuid = [hex(4), hex(4), hex(4), hex(4), hex(4), hex(6), hex(6)].concat();
        let offsets = (0..partitions).map(|index| OffsetCommit {
            partition: TopicPartition {
                topic: TopicId(0x0123_4567_89ab_cdef << 32 | u128::from(group)),
                partition: index,
            },
            offset: 1_000_000 + numbers.below(100_000) as i64,
            leader_epoch: 0,
            metadata: String::new(),
        });
        Command::CommitOffsets(CommitOffsets {
            group: format!("payments-service-{group}"),
            generation: 7,
            member: format!("consumer-payments-service-{group}-1-{uuid}"),
            offsets: offsets.collect(),
        })
    };
    let alone = entry_of(1, vec![commit_of(1, 1)]).encode().len();
    let many: Vec<Command> = (0..100).map(|group| commit_of(group, 4)).collect();
    let shared = entry_of(1, many).encode().len() / 100;
    let large = entry_of(1, vec![commit_of(1, 10_000)]).encode().len();
    println!("a commit of one offset: {alone} bytes; of four, 100 in an entry: {shared}; of 10,000: {large}");
    assert!(alone <= 200 && shared <= 120 && large <= 60_000, "{alone} {shared} {large}");
}

#[test]
fn memory_budgets() {
    let sizes = (size_of::<Group>(), size_of::<(u32, CommittedOffset)>());
    println!("group {}, committed offset {} ({} with its slack)", sizes.0, sizes.1, sizes.1 * 5 / 4);
    assert!(sizes.0 <= 256 && sizes.1 * 5 / 4 <= 64, "{sizes:?}");
    assert!(limits::OFFSET_WEIGHT >= 64 && limits::GROUP_WEIGHT >= 2 * sizes.0 as u64);
}
