//! The transactions over the model of etcd: what lands, what does not, and what their callers are told.

use super::super::rig::{LIFE, Rig, bytes, identity, is_now};
use super::*;

#[test]
fn an_entry_lands_once_and_its_repetition_says_where() {
    let mut rig = Rig::new(0);
    let me = rig.open(1, 5);
    let first = rig.append(me, 1);
    assert_eq!(first, Appended::Now { revision: me.fence + 1, count: 2 });
    for _ in 0..2 {
        assert_eq!(rig.append(me, 1), Appended::Before { revision: me.fence + 1 });
    }
    let other = Append { by: me, n: 1, entry: "other bytes".into(), with: With::Nothing };
    let reply = rig.run(&other.txn(&rig.life)).unwrap();
    assert_eq!(other.read(&rig.life, &reply), Appended::OtherEntry);
    assert_eq!(rig.view().head.unwrap().version, 2);
}

#[test]
fn a_fenced_session_appends_nothing_and_still_learns_what_it_had_appended() {
    let mut rig = Rig::new(0);
    let old = rig.open(1, 5);
    rig.append(old, 1);
    let new = rig.open(1, 6);
    assert!(new.fence > old.fence);
    assert_eq!(rig.append(old, 1), Appended::Before { revision: old.fence + 1 });
    assert_eq!(rig.append(old, 2), Appended::Fenced);
    assert!(is_now(&rig.append(new, 1)));
    // The takeover kept the key's create-revision: that would not have fenced.
    let session = rig.get(Keys::One(rig.life.names.session(1))).remove(0);
    assert_eq!((session.create_revision, session.mod_revision), (old.fence, new.fence));
}

#[test]
fn a_session_without_its_key_is_fenced() {
    let mut rig = Rig::new(0);
    let me = rig.open(1, 5);
    rig.delete(Keys::One(rig.life.names.session(1)));
    assert_eq!(rig.append(me, 1), Appended::Fenced);
}

#[test]
fn another_identity_is_refused_and_the_same_takes_over() {
    let mut rig = Rig::new(0);
    let me = rig.open(1, 5);
    let mut stranger = rig.opening(1, 6);
    stranger.identity.token = 9;
    assert_eq!(rig.try_open(&mut stranger), Opened::InUse);
    let mut next = rig.opening(1, 7);
    assert!(matches!(rig.try_open(&mut next), Opened::Now { count: 2, .. }));
    assert_eq!(next.guess, Guess { older: Some(me.fence), empty: None });
    assert!(matches!(rig.try_open(&mut next), Opened::Before { .. }));
    let mut late = rig.opening(1, 5);
    assert_eq!(rig.try_open(&mut late), Opened::Over);
}

#[test]
fn a_late_duplicate_of_an_opening_lands_nothing() {
    let mut rig = Rig::new(0);
    let mut open = rig.opening(1, 5);
    let Opened::Now { revision, .. } = rig.try_open(&mut open) else { panic!("opens") };
    let me = Fenced { broker_id: 1, nonce: 5, fence: revision };
    assert!(is_now(&rig.append_with(me, 1, With::Leave)));
    // Its S is gone, as if there never had been a session. Its E is not.
    let late = Open { guess: Guess { older: None, empty: None }, ..open.clone() };
    let before = rig.view();
    assert!(!rig.run(&late.txn(&rig.life)).unwrap().succeeded);
    // Nor is its lease there once the session is over, when a truncation has taken E.
    rig.delete(rig.life.names.entries_of(5, 0, 2));
    rig.store.revoke(open.lease).unwrap();
    assert_eq!(rig.run(&late.txn(&rig.life)), Err(super::super::kv::Refusal::NoLease));
    assert_eq!(rig.view().head, before.head);
}

#[test]
fn the_first_opening_makes_the_head_and_only_in_its_own_life() {
    let mut rig = Rig::new(100);
    let mut late = rig.opening(2, 9);
    let me = rig.open(1, 5);
    assert_eq!(rig.view().head.unwrap().version, 1);
    assert!(matches!(rig.try_open(&mut late), Opened::Now { count: 2, .. }));
    assert_eq!(late.guess, Guess { older: None, empty: None });

    // The journal is rebuilt under another incarnation: nothing of the old life gets in.
    rig.delete(rig.life.names.watched());
    rig.put(rig.life.names.pointer(), StoredPointer::first(LIFE + 1, 200).encode());
    assert_eq!(rig.append(me, 1), Appended::OtherLife);
    for guess in [Guess { older: None, empty: None }, Guess { older: None, empty: Some(2) }] {
        let mut open = rig.opening(3, 11);
        open.guess = guess;
        assert_eq!(rig.try_open(&mut open), Opened::OtherLife);
    }
    rig.put(rig.life.names.head(), encode_head(LIFE + 1));
    let mut open = rig.opening(3, 11);
    assert_eq!(rig.try_open(&mut open), Opened::OtherLife);
    assert_eq!(rig.append(me, 1), Appended::OtherLife);
    assert!(rig.view().entries.is_empty());
}

#[test]
fn leaving_ends_the_session_with_its_last_entry() {
    let mut rig = Rig::new(0);
    let me = rig.open(1, 5);
    assert!(is_now(&rig.append_with(me, 1, With::Leave)));
    assert!(rig.get(rig.life.names.sessions()).is_empty());
    assert!(matches!(rig.append_with(me, 1, With::Leave), Appended::Before { .. }));
    assert_eq!(rig.append(me, 2), Appended::Fenced);
}

#[test]
fn the_pointer_moves_with_its_entry_or_not_at_all() {
    let mut rig = Rig::new(0);
    let me = rig.open(1, 5);
    let publish = |seen, words: &'static str| With::Publish { seen, pointer: words.into() };
    assert!(is_now(&rig.append_with(me, 1, publish(2, "one"))));
    let moved = rig.view().pointer;
    assert_eq!(moved.as_ref().unwrap().value, "one");
    assert_eq!(rig.append_with(me, 2, publish(2, "two")), Appended::PointerMoved(moved.clone()));
    assert_eq!(rig.view().head.unwrap().version, 2);
    assert!(is_now(&rig.append_with(me, 2, publish(moved.unwrap().mod_revision, "two"))));
    assert!(matches!(rig.append_with(me, 2, publish(0, "two")), Appended::Before { .. }));
    rig.open(1, 6);
    assert_eq!(rig.append_with(me, 3, publish(0, "three")), Appended::Fenced);
}

#[test]
fn a_session_is_ended_when_its_key_is_gone_and_expelled_while_it_is_there() {
    let mut rig = Rig::new(0);
    let (me, other) = (rig.open(1, 5), rig.open(2, 6));
    assert_eq!(rig.append_with(me, 1, With::End(other)), Appended::VictimDiffers);
    assert!(is_now(&rig.append_with(me, 1, With::Expel(other))));
    assert_eq!(rig.append(other, 1), Appended::Fenced);
    assert_eq!(rig.append_with(me, 2, With::Expel(other)), Appended::VictimDiffers);
    assert!(is_now(&rig.append_with(me, 2, With::End(other))));
    // A younger session of the same broker is not touched.
    let younger = rig.open(2, 7);
    assert_eq!(rig.append_with(me, 3, With::Expel(other)), Appended::VictimDiffers);
    assert!(is_now(&rig.append_with(me, 3, With::End(other))));
    assert!(is_now(&rig.append(younger, 1)));
    // Whoever has been ended ends nobody.
    rig.open(1, 8);
    assert_eq!(rig.append_with(me, 4, With::End(other)), Appended::Fenced);
    assert_eq!(rig.append_with(me, 4, With::Expel(younger)), Appended::Fenced);
    assert!(is_now(&rig.append(younger, 2)));
}

#[test]
fn an_end_by_others_is_no_answer_to_the_ended_sessions_own_append() {
    let mut rig = Rig::new(0);
    let (me, other) = (rig.open(1, 5), rig.open(2, 6));
    assert!(is_now(&rig.append(other, 1)));
    // The request for its entry 2 was lost, and so was its lease.
    rig.delete(Keys::One(rig.life.names.session(2)));
    assert!(is_now(&rig.append_with(me, 1, With::End(other))));
    assert_eq!(rig.append(other, 2), Appended::Fenced);
}

#[test]
fn what_is_there_is_refused_if_it_is_newer_than_we_are() {
    let mut rig = Rig::new(0);
    rig.open(1, 5);
    rig.put(rig.life.names.session(1), Bytes::from_static(&[2, 0]));
    let mut open = rig.opening(1, 6);
    assert_eq!(rig.try_open(&mut open), Opened::Unreadable(Unreadable::Newer { what: "session", version: 2 }));
}

#[test]
fn every_transaction_puts_one_entry_and_the_head() {
    let rig = Rig::new(0);
    let (by, victim) = (Fenced { broker_id: 1, nonce: 5, fence: 3 }, Fenced { broker_id: 2, nonce: 6, fence: 4 });
    let publish = With::Publish { seen: 2, pointer: Bytes::new() };
    let withs = [With::Nothing, With::Leave, publish, With::End(victim), With::Expel(victim)];
    let mut txns: Vec<(Txn, Bytes)> = Vec::new();
    for with in withs {
        let append = Append { by, n: 3, entry: bytes(5, 3), with };
        txns.push((append.txn(&rig.life), rig.life.names.entry(5, 3)));
    }
    for (older, empty) in [(None, None), (Some(3), None), (None, Some(2)), (Some(3), Some(2))] {
        let guess = Guess { older, empty };
        let open = Open { identity: identity(1), nonce: 6, entry: bytes(6, 0), lease: 1, guess };
        txns.push((open.txn(&rig.life), rig.life.names.entry(6, 0)));
    }
    for (txn, own) in txns {
        let puts = txn.then.iter().filter_map(|op| match op {
            Op::Put { key, .. } if rig.life.names.watched().contains(key) => Some(key.clone()),
            Op::Put { .. } | Op::Delete(_) | Op::Get(_) => None,
        });
        assert_eq!(puts.collect::<Vec<_>>(), [own.clone(), rig.life.names.head()]);
        let is_new = equal(own, Target::Create(0));
        assert!(txn.when.contains(&is_new), "an entry never replaces one");
        assert!(txn.otherwise.iter().all(|op| matches!(op, Op::Get(_))));
    }
}
