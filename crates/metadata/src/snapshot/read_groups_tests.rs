//! Frames of groups that no fold could have made.

use super::*;
use crate::command::{CommitOffsets, OffsetCommit, TopicId, TopicPartition};
use crate::encode::commands::id_to;
use crate::encode::groups::commit_to;
use crate::encode::proto::frame::Kind;
use crate::snapshot::read::Builder;

fn group(change: impl FnOnce(&mut proto::GroupState)) -> Kind {
    let mut message = proto::GroupState {
        group: "g".to_owned(),
        generation: 3,
        stage: proto::Stage::Joined.into(),
        leader: "a".to_owned(),
        ..Default::default()
    };
    change(&mut message);
    Kind::Group(message)
}

fn empty(id: &str) -> Kind {
    group(|g| (g.group, g.leader, g.stage) = (id.to_owned(), String::new(), proto::Stage::Empty.into()))
}

fn member(id: &str, change: impl FnOnce(&mut proto::GroupMember)) -> proto::MemberState {
    let mut member = proto::GroupMember { id: id.to_owned(), ..Default::default() };
    change(&mut member);
    proto::MemberState { member: Some(member), assignment: Vec::new() }
}

fn members(ids: &[&str]) -> Kind {
    Kind::GroupMembers(proto::GroupMembers { members: ids.iter().map(|id| member(id, |_| {})).collect() })
}

fn of(members: Vec<proto::MemberState>) -> Kind {
    Kind::GroupMembers(proto::GroupMembers { members })
}

fn offsets(partitions: &[u32], change: impl FnOnce(&mut proto::GroupOffsets)) -> Kind {
    let one = |index: &u32| OffsetCommit {
        partition: TopicPartition { topic: TopicId(1), partition: *index },
        offset: 5,
        leader_epoch: 0,
        metadata: "m".to_owned(),
    };
    let (group, member) = (String::new(), String::new());
    let commit = CommitOffsets { group, generation: 0, member, offsets: partitions.iter().map(one).collect() };
    let mut message = proto::GroupOffsets { offsets: Some(commit_to(&commit)), committed: vec![1; partitions.len()] };
    change(&mut message);
    Kind::GroupOffsets(message)
}

fn unfinished(change: impl FnOnce(&mut proto::UnfinishedState)) -> Kind {
    let mut message = proto::UnfinishedState {
        group: "g".to_owned(),
        nonce: 1,
        generation: 3,
        next: 1,
        sync: true,
        ..Default::default()
    };
    change(&mut message);
    Kind::Unfinished(message)
}

fn assignments(ids: &[&str]) -> Kind {
    let one = |id: &&str| proto::Assignment { member: (*id).to_owned(), assignment: vec![1] };
    Kind::GroupAssignments(proto::GroupAssignments { assignments: ids.iter().map(one).collect() })
}

/// The frames behind a session and a topic with two partitions, with an end.
fn read(kinds: Vec<Kind>) -> Result<State, SnapshotError> {
    let session = proto::SessionState { nonce: 1, identity: id_to(1), ..Default::default() };
    let topic = proto::TopicState { topic: id_to(1), name: "t".to_owned(), partitions: 2, ..Default::default() };
    let mut all = vec![Kind::Head(proto::Head::default()), Kind::Session(session), Kind::Topic(topic)];
    all.extend(kinds);
    all.push(Kind::End(proto::End { frames: all.len() as u64 }));
    let mut builder = Builder::default();
    for kind in all {
        builder.take(proto::Frame { kind: Some(kind) })?;
    }
    builder.finish()
}

#[test]
fn right_frames_are_groups() {
    let two = vec![members(&["a"]), members(&["b"]), offsets(&[0], |_| {}), offsets(&[1], |_| {})];
    let state = read([vec![group(|_| {})], two, vec![empty("h")]].concat()).unwrap();
    let read_one = state.group("g").unwrap();
    assert_eq!((read_one.generation(), read_one.members().len(), read_one.offset_count()), (3, 2, 2));
    assert_eq!(state.group_count(), 2);
    let bytes: u64 = state.groups().map(|(id, group)| group.weight(id)).sum();
    assert_eq!(state.groups_bytes(), bytes, "weights are worked out anew");
    let sync = vec![group(|_| {}), members(&["a", "b"]), unfinished(|_| {}), assignments(&["a"]), assignments(&["b"])];
    assert_eq!(read(sync).unwrap().groups.unfinished().len(), 1);
}

#[test]
fn order() {
    assert_eq!(read(vec![members(&["a"])]), Err(ORDER));
    assert_eq!(read(vec![offsets(&[0], |_| {})]), Err(ORDER));
    assert_eq!(read(vec![assignments(&["a"])]), Err(ORDER));
    assert_eq!(read(vec![empty("g"), assignments(&["a"])]), Err(ORDER));
    let join = unfinished(|u| (u.sync, u.generation, u.group) = (false, 1, "new".to_owned()));
    assert!(read(vec![join.clone(), members(&["a"])]).is_ok());
    assert_eq!(read(vec![join.clone(), assignments(&["a"])]), Err(ORDER));
    assert_eq!(read(vec![join, offsets(&[0], |_| {})]), Err(ORDER));
}

#[test]
fn groups_that_cannot_be() {
    let with = |kinds: Vec<Kind>| read(kinds).is_ok();
    assert!(with(vec![group(|_| {}), members(&["b", "a"])]));
    assert!(!with(vec![group(|_| {})]), "no members");
    assert!(!with(vec![group(|_| {}), members(&["b"])]), "a leader from elsewhere");
    assert!(!with(vec![group(|_| {}), members(&["a", "a"])]));
    assert!(!with(vec![group(|_| {}), members(&["a", ""])]));
    let instance = |id| member(id, |m| m.instance = Some("i".to_owned()));
    assert!(!with(vec![group(|_| {}), of(vec![instance("a"), instance("b")])]), "an instance twice");
    assert!(!with(vec![group(|_| {}), of(vec![member("a", |m| m.session_timeout_ms = -1)])]));
    let assigned = proto::MemberState { assignment: vec![1], ..member("a", |_| {}) };
    assert!(!with(vec![group(|_| {}), of(vec![assigned.clone()])]), "assigned before it is");
    assert!(with(vec![group(|g| g.stage = proto::Stage::Assigned.into()), of(vec![assigned])]));
    assert!(!with(vec![group(|_| {}), of(vec![proto::MemberState::default()])]));
    assert!(!with(vec![empty("g"), members(&["a"])]), "empty with members");
    assert!(!with(vec![group(|g| g.generation = -1), members(&["a"])]));
    assert!(!with(vec![group(|g| g.generation = 0), members(&["a"])]), "members that never joined");
    assert!(!with(vec![group(|g| g.stage = 0), members(&["a"])]));
    assert!(!with(vec![empty("g"), empty("g")]));
    assert!(!with(vec![empty(&"g".repeat(GROUP_ID_BYTES + 1))]));
    let large = |m: &mut proto::GroupMember| m.subscription = vec![0; 11 << 20];
    assert!(!with(vec![group(|_| {}), of(["a", "b", "c"].map(|id| member(id, large)).to_vec())]), "too many bytes");
    let many: Vec<String> = (0..=MEMBERS_PER_GROUP).map(|id| id.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(!with(vec![group(|g| g.leader = "0".to_owned()), members(&many)]));
}

#[test]
fn offsets_that_cannot_be() {
    let with = |kind: Kind| read(vec![empty("g"), kind]).is_ok();
    assert!(with(offsets(&[1, 0], |_| {})));
    assert!(!with(offsets(&[1, 1], |_| {})));
    assert!(!with(offsets(&[2], |_| {})), "a partition that is not there");
    assert!(!with(offsets(&[0], |o| o.committed.clear())));
    assert!(!with(offsets(&[0], |o| o.offsets.as_mut().unwrap().offsets.clear())));
    assert!(!with(offsets(&[0], |o| o.offsets.as_mut().unwrap().leader_epoch_lengths = vec![2])));
    assert!(!with(offsets(&[0], |o| o.offsets.as_mut().unwrap().metadata_places = vec![1])));
    let long = || vec!["m".repeat(OFFSET_METADATA_BYTES + 1)];
    assert!(!with(offsets(&[0], |o| o.offsets.as_mut().unwrap().metadata = long())));
}

#[test]
fn unfinished_generations_that_cannot_be() {
    let sync = |change: fn(&mut proto::UnfinishedState), ids: &[&str]| {
        read(vec![group(|_| {}), members(&["a", "b"]), unfinished(change), assignments(ids)]).is_ok()
    };
    assert!(sync(|_| {}, &["a", "b"]));
    assert!(!sync(|u| u.nonce = 2, &["a"]), "of no session that lives");
    assert!(!sync(|u| u.generation = 4, &["a"]));
    assert!(!sync(|u| u.next = 0, &["a"]));
    assert!(!sync(|u| u.group = "h".to_owned(), &["a"]));
    assert!(!sync(|_| {}, &["c"]));
    assert!(!sync(|_| {}, &["a", "a", "b"]));
    let join = |change: fn(&mut proto::UnfinishedState)| {
        let kind = unfinished(|u| {
            (u.sync, u.generation) = (false, 4);
            change(u);
        });
        read(vec![group(|_| {}), members(&["a"]), kind, members(&["c", "c"])]).is_ok()
    };
    assert!(join(|_| {}), "what is there twice is found with the last part");
    assert!(!join(|u| u.generation = 3));
    assert!(!join(|u| u.group = "new".to_owned()));
    assert!(join(|u| (u.group, u.generation) = ("new".to_owned(), 1)));
    assert!(!join(|u| u.nonce = 2));
    let twice = vec![group(|_| {}), members(&["a"]), unfinished(|_| {}), unfinished(|_| {})];
    assert!(read(twice).is_err());
}
