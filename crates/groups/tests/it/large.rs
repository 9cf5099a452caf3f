//! Large groups and large commits: in parts that fit, and whole again in the state.

use bytes::Bytes;
use kafscale_groups::{Answer, Commit, Effect, Join, Request, Settings, Sync, Token};
use kafscale_metadata::OffsetCommit;

use crate::transcript::noise;
use crate::world::World;

const MEMBERS: u64 = 2_000;

fn join(number: u64) -> Join {
    Join {
        member_id: String::new(),
        instance: None,
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), noise(200 + number as usize % 7))],
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        requires_known_id: false,
        can_skip_assignment: true,
        new_id: format!("client-{number:08}-7d1c3c3e-8c0f-4b0e-9a3d-000000000000"),
    }
}

fn answers(effects: Vec<Effect>) -> Vec<Answer> {
    effects.into_iter().filter_map(|e| if let Effect::Answer(_, answer) = e { Some(answer) } else { None }).collect()
}

#[test]
fn a_group_of_thousands_goes_in_parts() {
    let mut world = World::new(Settings::default());
    for number in 0..MEMBERS {
        assert_eq!(world.request(Token(number), "g", Request::Join(join(number))), []);
    }
    world.now = 10_000;
    assert_eq!(answers(world.tick()), []);
    world.now = 20_000;
    world.tick();
    let parts = world.journal().front().map_or(0, |(_, commands)| commands.len());
    assert!((5..=20).contains(&parts), "{parts} parts");
    let joined = answers(world.written());
    assert_eq!(joined.len() as u64, MEMBERS);
    let Some(Answer::Join(Ok(leader))) =
        joined.iter().find(|a| matches!(a, Answer::Join(Ok(j)) if !j.members.is_empty()))
    else {
        panic!("somebody leads");
    };
    let assigned = |number: usize| noise(300 + number % 11);
    let ids: Vec<String> = leader.members.iter().map(|m| m.id.to_string()).collect();
    for (number, member_id) in ids.iter().enumerate() {
        let assignments: Vec<(String, Bytes)> = if **member_id == *leader.member_id {
            ids.iter().enumerate().map(|(n, id)| (id.clone(), assigned(n))).collect()
        } else {
            Vec::new()
        };
        let (member_id, protocol_type, protocol) = (member_id.clone(), None, None);
        let sync = Sync { member_id, instance: None, generation: 1, protocol_type, protocol, assignments };
        assert_eq!(answers(world.request(Token(MEMBERS + number as u64), "g", Request::Sync(sync))), []);
    }
    let parts = world.journal().front().map_or(0, |(_, commands)| commands.len());
    assert!((5..=20).contains(&parts), "{parts} parts");
    let synced = world.written();
    assert_eq!(synced.len() as u64, MEMBERS);
    for effect in synced {
        let Effect::Answer(token, Answer::Sync(Ok(synced))) = effect else { panic!("{effect:?}") };
        assert_eq!(synced.assignment, assigned((token.0 - MEMBERS) as usize));
    }
}

#[test]
fn a_large_commit_goes_in_parts_and_each_offset_has_its_verdict() {
    let mut world = World::new(Settings::default());
    world.topic("T", 100);
    let offset = |n: u32| OffsetCommit {
        // Every tenth names a partition that there is not.
        partition: world.partition("T", if n.is_multiple_of(10) { 1_000 + n } else { n }),
        offset: i64::from(n),
        leader_epoch: -1,
        metadata: String::from_utf8(noise(4_000).iter().map(|b| b'a' + b % 26).collect()).unwrap(),
    };
    let offsets = (0..100).map(offset).collect();
    let commit = Commit { member_id: String::new(), instance: None, generation: -1, offsets, fresh_at_ms: None };
    world.request(Token(1), "g", Request::Commit(commit));
    assert!(world.journal().front().is_some_and(|(_, commands)| commands.len() > 2));
    let answered = answers(world.written());
    let [Answer::Commit(Ok(verdicts))] = answered.as_slice() else { panic!("{answered:?}") };
    for (n, verdict) in verdicts.iter().enumerate() {
        assert_eq!(verdict.is_ok(), n % 10 != 0, "{n}: {verdict:?}");
    }
    assert_eq!(world.state.group("g").map(|g| g.offsets().count()), Some(90));
}
