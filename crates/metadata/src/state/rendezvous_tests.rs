//! The scores that the fold stands on are what they were; who coordinates by standing; shares; zones; the cost.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;
use crate::command::TopicId;

fn session(broker_id: i32, standing: Standing, rack: Option<&str>) -> Session {
    Session {
        nonce: 1_000 + u64::from(broker_id.unsigned_abs()),
        broker_id,
        identity: 0,
        listeners: Vec::new(),
        rack: rack.map(str::to_owned),
        standing,
        ended: None,
        next_n: 1,
        reservations: Vec::new(),
        low: 0,
    }
}

fn state(sessions: impl IntoIterator<Item = (i32, Standing)>) -> State {
    let mut state = State::new();
    for (id, standing) in sessions {
        let session = session(id, standing, None);
        state.sessions.live.insert(id, session.nonce);
        state.sessions.by_nonce.insert(session.nonce, session);
    }
    state
}

fn coordinator(state: &State, group: &str) -> i32 {
    state.coordinator(group).map_or(-1, Session::broker_id)
}

fn partition(index: u32) -> TopicPartition {
    TopicPartition { topic: TopicId(0x0123_4567_89ab_cdef << 60), partition: index }
}

/// Another value here is another fold: it needs a new feature level.
#[test]
fn the_scores_are_what_they_were() {
    let of = state((0..5).map(|id| (id, Standing::Ready)));
    let groups = ["", "g", "orders", "payments-service-17", "δοκιμή", "connect-cluster"];
    assert_eq!(groups.map(|group| coordinator(&of, group)), [3, 2, 1, 0, 3, 1]);
    assert_eq!(score(xxh3_64(b"orders"), 4), 12_563_519_941_375_479_851);
    let leaders = Leaders { brokers: (0..5).collect() };
    let of: Vec<Option<i32>> = (0..8).map(|index| leaders.of(partition(index))).collect();
    assert_eq!(of, [2, 2, 1, 2, 2, 0, 0, 3].map(Some));
}

#[test]
fn the_best_standing_coordinates() {
    use Standing::{New, Ready, Withdrawn};
    let always = |sessions: &[(i32, Standing)], wanted: &[i32]| {
        let state = state(sessions.iter().copied());
        let mut found: Vec<i32> = (0..100).map(|id| coordinator(&state, &format!("group-{id}"))).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, wanted, "{sessions:?}");
    };
    always(&[], &[-1]);
    always(&[(1, Ready), (2, New), (3, Withdrawn)], &[1]);
    always(&[(1, Ready), (2, Ready), (3, New)], &[1, 2]);
    always(&[(1, New), (2, New), (3, Withdrawn)], &[1, 2]);
    always(&[(1, Withdrawn), (3, Withdrawn)], &[1, 3]);
}

#[test]
fn shares_are_even_and_only_what_was_its_own_moves() {
    let of = |ids: &[i32]| {
        let state = state(ids.iter().map(|id| (*id, Standing::Ready)));
        (0..10_000).map(|id| coordinator(&state, &format!("group-{id}"))).collect::<Vec<_>>()
    };
    let (five, four) = (of(&[1, 2, 3, 40, 500]), of(&[1, 2, 40, 500]));
    let mut shares = BTreeMap::<i32, u32>::new();
    five.iter().for_each(|id| *shares.entry(*id).or_default() += 1);
    assert!(shares.values().all(|share| (1_850..2_150).contains(share)), "{shares:?}");
    for (with, without) in five.iter().zip(&four) {
        assert!(with == without || *with == 3, "{with} {without}");
    }
    let mut heirs: Vec<i32> = five.iter().zip(&four).filter(|(with, _)| **with == 3).map(|(_, heir)| *heir).collect();
    heirs.sort_unstable();
    heirs.dedup();
    assert_eq!(heirs, [1, 2, 40, 500], "all others take over");
}

#[test]
fn leaders_are_of_the_zone_if_it_has_any() {
    let over = |zone| {
        let sessions = [
            session(1, Standing::Ready, Some("a")),
            session(2, Standing::New, Some("a")),
            session(3, Standing::Ready, Some("b")),
            session(4, Standing::Ready, None),
            session(5, Standing::Withdrawn, Some("c")),
        ];
        let leaders = Leaders::over(&sessions, zone);
        let mut found: Vec<i32> = (0..100).filter_map(|index| leaders.of(partition(index))).collect();
        found.sort_unstable();
        found.dedup();
        found
    };
    assert_eq!(over(None), [1, 2, 3, 4]);
    assert_eq!(over(Some("a")), [1, 2]);
    assert_eq!(over(Some("b")), [3]);
    assert_eq!(over(Some("elsewhere")), [1, 2, 3, 4]);
    assert_eq!(over(Some("c")), [1, 2, 3, 4], "not to one that stops");
    assert_eq!(Leaders::over(&[session(5, Standing::Withdrawn, None)], None).of(partition(0)), Some(5));
    assert_eq!(Leaders::over(&[], None).of(partition(0)), None);
}

/// The fold asks for each command of a group.
#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn what_it_costs_to_find_a_coordinator() {
    for brokers in [1, 3, 12, 48] {
        let mut state = state((0..brokers).map(|id| (id, Standing::Ready)));
        for ended in 0..10_000 {
            let mut session = session(0, Standing::New, None);
            (session.nonce, session.ended) = (1 << 32 | ended, Some(1));
            state.sessions.by_nonce.insert(session.nonce, session);
        }
        let begun = Instant::now();
        let sum: i64 = (0..100_000).map(|_| i64::from(coordinator(&state, "payments-service-17"))).sum();
        println!("{brokers} brokers: {:?} a command ({sum})", begun.elapsed() / 100_000);
    }
}
