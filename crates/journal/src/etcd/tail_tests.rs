//! The tail over the model of etcd: whatever a watch loses, repeats, splits or tells again, entries come in order, once,
//! and without gaps, or the tail says what is to be done.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::kv::{Keys, Watch};
use super::super::rig::{LIFE, Rig, bytes, is_now};
use super::super::txns::{Fenced, With};
use super::*;

/// All events of entries and head after `revision`.
fn events(rig: &Rig, revision: Revision) -> Vec<Event> {
    let watch = Watch { keys: rig.life.names.watched(), from: revision + 1, deletes: false };
    let groups = rig.store.events(&watch, revision + 1, 10_000).unwrap();
    groups.into_iter().flat_map(|(_, events)| events).collect()
}

/// A journal with two sessions of 20 entries each, one after the other.
fn filled(base: u64) -> (Rig, Fenced, Fenced) {
    let mut rig = Rig::new(base);
    let (a, b) = (rig.open(1, 5), rig.open(2, 6));
    for n in 1..20 {
        assert!(is_now(&rig.append(a, n)));
        assert!(is_now(&rig.append(b, n)));
    }
    (rig, a, b)
}

fn start(rig: &Rig) -> (Tail, Vec<Record>) {
    Tail::start(rig.life.clone(), &rig.view()).unwrap()
}

fn watched(tail: &mut Tail, events: Vec<Event>) -> (Vec<Record>, Result<(), Halt>) {
    let mut records = Vec::new();
    let result = tail.watched(events, &mut records);
    (records, result)
}

fn is_stop<T>(result: &Result<T, Halt>) -> bool {
    matches!(result, Err(Halt::Stop(_)))
}

#[test]
fn a_start_reads_all_and_a_watch_goes_on() {
    let (mut rig, a, b) = filled(100);
    let (mut tail, records) = start(&rig);
    assert_eq!(records.len(), 40);
    for (record, ordinal) in records.iter().zip(101..) {
        assert_eq!(record.position.ordinal, ordinal);
        assert_eq!(record.entry, bytes(record.nonce, record.n));
    }
    let at = tail.applied();
    rig.append(a, 20);
    rig.append(b, 20);
    rig.delete(Keys::One(rig.life.names.session(2)));
    rig.append(a, 21);
    let (records, result) = watched(&mut tail, events(&rig, at.revision));
    assert_eq!(result, Ok(()));
    let got: Vec<_> = records.iter().map(|r| (r.position.ordinal, r.nonce, r.n)).collect();
    assert_eq!(got, [(141, 5, 20), (142, 6, 20), (143, 5, 21)]);
    assert_eq!(tail.track(5).unwrap().count, Count { next: 22, fence: a.fence });
    assert_eq!(tail.ordinal_at(6, records[1].position.revision), Some(142));
}

#[test]
fn half_a_pair_waits_and_what_was_applied_is_dropped() {
    let (rig, ..) = filled(0);
    let mut empty = Tail::start(rig.life.clone(), &Rig::new(0).view()).unwrap().0;
    let all = events(&rig, 0);
    let mut records = Vec::new();
    for event in all.iter().flat_map(|event| [event.clone(), event.clone()]) {
        empty.watched(vec![event], &mut records).unwrap();
    }
    assert_eq!(records.len(), 40);
    assert_eq!(watched(&mut empty, all), (Vec::new(), Ok(())));
}

#[test]
fn an_entry_without_its_head_is_a_gap_and_so_is_a_head_without_its_entry() {
    let (rig, ..) = filled(0);
    for lost in 0..78 {
        let mut tail = Tail::start(rig.life.clone(), &Rig::new(0).view()).unwrap().0;
        let mut some = events(&rig, 0);
        some.remove(lost);
        let (mut records, result) = watched(&mut tail, some);
        assert_eq!(result, Err(Halt::Gap), "without event {lost}");
        assert_eq!(records.len(), lost / 2);
        records.extend(tail.read_all(&rig.view(), 0).unwrap());
        let ordinals: Vec<u64> = records.iter().map(|record| record.position.ordinal).collect();
        assert_eq!(ordinals, (1..=40).collect::<Vec<_>>());
    }
}

#[test]
fn a_whole_lost_pair_is_a_gap() {
    let (mut rig, a, _) = filled(0);
    let (mut tail, _) = start(&rig);
    let at = tail.applied().revision;
    rig.append(a, 20);
    rig.append(a, 21);
    let (records, result) = watched(&mut tail, events(&rig, at).split_off(2));
    assert_eq!((records.len(), result), (0, Err(Halt::Gap)));
    assert_eq!(tail.read_all(&rig.view(), 0).unwrap().len(), 2);
}

#[test]
fn a_truncated_tail_begins_again_at_the_pointer() {
    let (mut rig, a, b) = filled(0);
    let mut behind = Tail::start(rig.life.clone(), &Rig::new(0).view()).unwrap().0;
    watched(&mut behind, events(&rig, 0)[..20].to_vec()).1.unwrap();
    let (mut tail, _) = start(&rig);
    let stored = tail.floor_at(&rig.view(), 30);
    let seen = rig.view().pointer.unwrap().mod_revision;
    assert!(is_now(&rig.append_with(a, 20, With::Publish { seen, pointer: stored.encode() })));
    // Not truncated yet: who is behind still finds everything.
    assert_eq!(behind.clone().read_all(&rig.view(), 0).unwrap().len(), 31);
    rig.delete(rig.life.names.entries_of(5, 0, 15));
    // Half of the truncation is done.
    assert_eq!(behind.clone().read_all(&rig.view(), 0), Err(Halt::Truncated));
    rig.delete(rig.life.names.entries_of(6, 0, 15));
    assert_eq!(behind.read_all(&rig.view(), 0), Err(Halt::Truncated));
    let (again, records) = start(&rig);
    assert_eq!((records.len(), records[0].position.ordinal), (11, 31));
    assert_eq!(again.track(6).unwrap().count, Count { next: 20, fence: b.fence });
    assert_eq!(again.marks().first(), 31);
    assert_eq!(tail.read_all(&rig.view(), 0).unwrap().len(), 1);
    assert_eq!((tail.marks().first(), tail.applied().ordinal), (31, 41));
}

impl Tail {
    /// A pointer whose floor is `ordinal`, as a publisher makes it.
    fn floor_at(&self, view: &View, ordinal: u64) -> StoredPointer {
        let stored = view.pointer(&self.life).unwrap().0;
        let floor = self.marks.place(ordinal).unwrap();
        let counts = self.counts_at(ordinal, &stored);
        StoredPointer { ordinal: ordinal + 5, floor, counts, ..stored }
    }
}

#[test]
fn a_missing_entry_that_nobody_truncated_is_damage() {
    let (mut rig, ..) = filled(0);
    let empty = Tail::start(rig.life.clone(), &Rig::new(0).view()).unwrap().0;
    for n in [0, 7, 19] {
        let mut damaged = rig.view();
        damaged.entries.retain(|kv| kv.key != rig.life.names.entry(6, n));
        assert!(is_stop(&empty.clone().read_all(&damaged, 0)), "entry {n} is gone");
        assert!(is_stop(&Tail::start(rig.life.clone(), &damaged)));
    }
    rig.put(rig.life.names.head(), encode_head(LIFE));
    assert!(is_stop(&Tail::start(rig.life.clone(), &rig.view())));
}

#[test]
fn a_repetition_that_landed_after_a_truncation_takes_a_place_and_no_number() {
    let (mut rig, a, _) = filled(0);
    let (mut tail, _) = start(&rig);
    let at = tail.applied().revision;
    rig.delete(rig.life.names.entries_of(5, 0, 10));
    assert!(is_now(&rig.append(a, 3)));
    assert!(is_now(&rig.append(a, 20)));
    let (records, result) = watched(&mut tail, events(&rig, at));
    assert_eq!(result, Ok(()));
    let got: Vec<_> = records.iter().map(|r| (r.position.ordinal, r.n)).collect();
    assert_eq!(got, [(41, 3), (42, 20)]);
    assert_eq!(tail.track(5).unwrap().count.next, 21);
}

#[test]
fn a_store_that_went_back_is_noticed_by_every_sign() {
    let (mut rig, a, b) = filled(0);
    let (before, older) = (rig.store.backup(), rig.view());
    for n in 20..25 {
        rig.append(a, n);
        rig.append(b, n);
    }
    let (tail, _) = start(&rig);
    assert_eq!(tail.clone().read_all(&rig.view(), 0), Ok(Vec::new()));
    assert!(is_stop(&tail.clone().read_all(&older, 0)), "a reply below what was applied");

    // It goes on from the backup, beyond where it had been: by another way.
    let restored = |rig: &mut Rig| rig.store.restore(&before, std::time::Duration::ZERO);
    restored(&mut rig);
    let c = rig.open(3, 7);
    for n in 1..30 {
        rig.append(c, n);
    }
    assert!(is_stop(&tail.clone().read_all(&rig.view(), 0)), "the last applied entry is gone");
    let later = events(&rig, tail.applied().revision);
    let (records, _) = watched(&mut tail.clone(), later);
    assert!(records.iter().all(|record| record.nonce == 7), "{records:?}");

    // A session that lived through it goes on with its own numbers.
    restored(&mut rig);
    let mut behind = Tail::start(rig.life.clone(), &rig.view()).unwrap().0;
    let at = behind.applied().revision;
    assert!(is_now(&rig.append(a, 25)));
    assert!(is_stop(&watched(&mut behind, events(&rig, at)).1), "an n beyond the session's next");

    // Fewer entries at a later revision.
    restored(&mut rig);
    for _ in 0..40 {
        rig.put("elsewhere".into(), Bytes::new());
    }
    rig.append(a, 20);
    let (records, result) = watched(&mut tail.clone(), events(&rig, tail.applied().revision));
    assert!(records.is_empty() && is_stop(&result), "an ordinal that was there before");
}

#[test]
fn another_incarnation_stops_the_tail() {
    let (mut rig, a, _) = filled(0);
    let (tail, _) = start(&rig);
    let at = tail.applied().revision;
    rig.append(a, 20);
    let mut other = events(&rig, at);
    other[1].kv.value = encode_head(LIFE + 1);
    assert!(is_stop(&watched(&mut tail.clone(), other).1));
    let mut view = rig.view();
    view.head.as_mut().unwrap().value = encode_head(LIFE + 1);
    assert!(is_stop(&tail.clone().read_all(&view, 0)));
    let mut view = rig.view();
    view.pointer.as_mut().unwrap().value = StoredPointer::first(LIFE + 1, 0).encode();
    assert!(is_stop(&tail.clone().read_all(&view, 0)));
    view.pointer = None;
    assert!(is_stop(&tail.clone().read_all(&view, 0)));
}

fn look(rig: &mut Rig, anchor: &Anchor) -> Look {
    let reply = rig.run(&look_txn(&rig.life.names.clone(), anchor)).unwrap();
    read_look(&rig.life.names, reply).unwrap()
}

#[test]
fn a_look_at_the_head_says_where_it_is_and_what_moved() {
    let (mut rig, a, _) = filled(7);
    let (mut tail, _) = start(&rig);
    let asked = tail.anchor();
    rig.append(a, 20);
    let seen = tail.look(&look(&mut rig, &asked), &asked).unwrap();
    assert_eq!((seen.end.ordinal, seen.pointer_moved, seen.anchor_lost), (48, false, false));
    // What was applied after the question is no sign of anything.
    let early = look(&mut rig, &asked);
    rig.append(a, 21);
    tail.read_all(&rig.view(), 0).unwrap();
    assert_eq!(tail.look(&early, &asked).unwrap().end.ordinal, 48);
    assert_eq!(early.sessions, [(1, a.fence), (2, a.fence + 1)]);

    let stored = tail.floor_at(&rig.view(), 40);
    rig.put(rig.life.names.pointer(), stored.encode());
    let asked = tail.anchor();
    let seen = tail.look(&look(&mut rig, &asked), &asked).unwrap();
    assert!(seen.pointer_moved && !seen.anchor_lost);
    rig.delete(rig.life.names.entries_of(5, 21, 22));
    assert!(tail.look(&look(&mut rig, &asked), &asked).unwrap().anchor_lost);
}

#[test]
fn a_look_notices_that_the_store_went_back() {
    let (mut rig, a, _) = filled(0);
    let backup = rig.store.backup();
    rig.append(a, 20);
    let (tail, _) = start(&rig);
    let asked = tail.anchor();
    let good = look(&mut rig, &asked);
    assert!(tail.look(&good, &asked).is_ok());
    assert!(is_stop(&tail.look(&Look { head: None, ..good.clone() }, &asked)));
    assert!(is_stop(&tail.look(&Look { pointer: 0, ..good.clone() }, &asked)));
    assert!(is_stop(&tail.look(&Look { revision: asked.applied.revision - 1, ..good }, &asked)));
    rig.store.restore(&backup, std::time::Duration::ZERO);
    assert!(is_stop(&tail.look(&look(&mut rig, &asked), &asked)));
    // The same number of entries, and not the same ones.
    rig.open(3, 9);
    assert!(tail.look(&look(&mut rig, &asked), &asked).unwrap().anchor_lost);
}

#[test]
fn a_pointer_that_has_moved_while_everything_was_read_is_no_sign_of_anything() {
    let (mut rig, a, b) = filled(0);
    let (mut tail, _) = start(&rig);
    rig.append(a, 20);
    let (asked, view) = (tail.anchor().pointer, rig.view());
    let stored = start(&rig).0.floor_at(&view, 41);
    let publish = With::Publish { seen: asked, pointer: stored.encode() };
    assert!(is_now(&rig.append_with(b, 20, publish)));
    let moved = rig.view().pointer.unwrap().mod_revision;
    tail.raise(&stored, moved);
    assert!(is_stop(&tail.clone().read_all(&view, moved)), "it was known before");
    assert_eq!(tail.read_all(&view, asked).unwrap().len(), 1);
    assert_eq!(tail.read_all(&rig.view(), moved).unwrap().len(), 1);
    assert_eq!((tail.marks().first(), tail.applied().ordinal), (42, 42));
}

#[test]
fn a_pointer_drops_marks_and_finished_sessions() {
    let (mut rig, a, b) = filled(0);
    assert!(is_now(&rig.append_with(b, 20, With::Leave)));
    rig.append(a, 20);
    let (mut tail, _) = start(&rig);
    let mut stored = tail.floor_at(&rig.view(), 41);
    assert_eq!(stored.counts.len(), 2);
    stored.counts.remove(&6);
    tail.raise(&stored, 1000);
    assert_eq!((tail.marks().first(), tail.track(6), tail.track(5).is_some()), (42, None, true));
    tail.raise(&StoredPointer::first(LIFE, 0), 999);
    assert_eq!(tail.marks().first(), 42, "an older pointer is no news");
}

#[test]
fn a_tail_behind_the_floor_keeps_the_sessions_that_the_pointer_has_forgotten() {
    let (mut rig, a, b) = filled(0);
    let (mut tail, _) = start(&rig);
    let at = tail.applied().revision;
    assert!(is_now(&rig.append(b, 20)));
    assert!(is_now(&rig.append_with(b, 21, With::Leave)));
    assert!(is_now(&rig.append(a, 20)));
    let mut stored = start(&rig).0.floor_at(&rig.view(), 43);
    stored.counts.remove(&6);
    tail.raise(&stored, 1000);
    let (records, result) = watched(&mut tail, events(&rig, at));
    assert_eq!((records.len(), result), (3, Ok(())));
}

#[test]
fn a_truncation_behind_which_a_session_has_fewer_entries_is_of_another_story() {
    let (mut rig, a, b) = filled(0);
    let backup = rig.store.backup();
    (20..25).for_each(|n| assert!(is_now(&rig.append(a, n))));
    let (tail, _) = start(&rig);
    rig.store.restore(&backup, std::time::Duration::ZERO);
    (20..60).for_each(|n| assert!(is_now(&rig.append(b, n))));
    let (other, _) = start(&rig);
    let stored = other.floor_at(&rig.view(), 60);
    let seen = rig.view().pointer.unwrap().mod_revision;
    assert!(is_now(&rig.append_with(a, 20, With::Publish { seen, pointer: stored.encode() })));
    rig.delete(rig.life.names.entries_of(5, 0, 20));
    assert!(is_stop(&tail.clone().read_all(&rig.view(), 0)));
    // As far as it has gone with the others, it is only behind.
    let mut behind = Tail::start(rig.life.clone(), &Rig::new(0).view()).unwrap().0;
    assert_eq!(behind.read_all(&rig.view(), 0), Err(Halt::Truncated));
}

#[test]
fn entries_that_go_on_by_their_number_behind_a_floor_may_be_of_another_story() {
    let (mut rig, a, b) = filled(0);
    let backup = rig.store.backup();
    (20..25).for_each(|n| assert!(is_now(&rig.append(b, n))));
    let (tail, _) = start(&rig);
    // As many entries, in as many revisions; who wrote them has left.
    rig.store.restore(&backup, std::time::Duration::ZERO);
    let c = rig.open(3, 7);
    (1..4).for_each(|n| assert!(is_now(&rig.append(c, n))));
    assert!(is_now(&rig.append_with(c, 4, With::Leave)));
    assert_eq!(rig.view().head.unwrap().version, tail.applied().ordinal);
    let d = rig.open(4, 8);
    (1..20).for_each(|n| assert!(is_now(&rig.append(d, n))));
    let (other, _) = start(&rig);
    let publish = |rig: &mut Rig, floor, n| {
        let stored = other.floor_at(&rig.view(), floor);
        let seen = rig.view().pointer.unwrap().mod_revision;
        assert!(is_now(&rig.append_with(d, n, With::Publish { seen, pointer: stored.encode() })));
        (stored, rig.view().pointer.unwrap().mod_revision)
    };
    let (stored, pointer) = publish(&mut rig, 50, 20);
    assert!(is_stop(&tail.clone().read_all(&rig.view(), 0)));
    // Whoever has heard of that pointer before knows its last entry still.
    let mut raised = tail.clone();
    raised.raise(&stored, pointer);
    let asked = raised.anchor();
    assert!(raised.look(&look(&mut rig, &asked), &asked).unwrap().anchor_lost);
    assert!(is_stop(&raised.read_all(&rig.view(), 0)));
    assert!(is_now(&rig.append(a, 20)), "a session of both");
}

#[test]
fn a_floor_within_what_was_applied_is_where_it_was() {
    let (mut rig, a, _) = filled(0);
    let (tail, _) = start(&rig);
    for ordinal in [20, 40] {
        for revision in [0, 1] {
            let mut stored = tail.floor_at(&rig.view(), ordinal);
            stored.floor.revision -= revision;
            rig.put(rig.life.names.pointer(), stored.encode());
            assert_eq!(is_stop(&tail.clone().read_all(&rig.view(), 0)), revision > 0, "{ordinal} {revision}");
        }
    }
    // Of what is gone the place alone is left.
    let stored = tail.floor_at(&rig.view(), 40);
    rig.delete(rig.life.names.entries());
    rig.put(rig.life.names.pointer(), stored.encode());
    assert!(is_now(&rig.append(a, 20)));
    assert_eq!(tail.clone().read_all(&rig.view(), 0).unwrap().len(), 1);
}

#[derive(Debug, Clone)]
enum Disturb {
    Lose(Index),
    Repeat(Index, Index),
    Rewind(Index, Index),
}

fn disturbances() -> impl Strategy<Value = Vec<Disturb>> {
    let index = any::<Index>;
    let one = prop_oneof![
        index().prop_map(Disturb::Lose),
        (index(), index()).prop_map(|(a, b)| Disturb::Repeat(a, b)),
        (index(), index()).prop_map(|(a, b)| Disturb::Rewind(a, b)),
    ];
    proptest::collection::vec(one, 0..4)
}

fn disturb(events: &mut Vec<Event>, disturb: Disturb) {
    match disturb {
        Disturb::Lose(at) => drop(events.remove(at.index(events.len()))),
        Disturb::Repeat(from, to) => {
            let event = events[from.index(events.len())].clone();
            events.insert(to.index(events.len()), event);
        }
        Disturb::Rewind(at, back) => {
            let at = at.index(events.len()) + 1;
            let again = events[at - 1 - back.index(at)..at].to_vec();
            events.splice(at..at, again);
        }
    }
}

proptest! {
    /// Whatever happens to the events, in whatever pieces they come: what is yielded is the journal, from its beginning
    /// and without gaps, and reading everything after a gap completes it.
    #[test]
    fn no_disturbance_makes_a_wrong_order(
        disturbances in disturbances(),
        piece in 1usize..7,
        by in proptest::collection::vec(0usize..3, 1..30),
    ) {
        let mut rig = Rig::new(3);
        let sessions = [rig.open(1, 5), rig.open(2, 6), rig.open(3, 7)];
        let mut next = [1; 3];
        for who in by {
            rig.append(sessions[who], next[who]);
            next[who] += 1;
        }
        let (_, truth) = Tail::start(rig.life.clone(), &rig.view()).unwrap();
        let mut events = events(&rig, 0);
        for one in disturbances {
            disturb(&mut events, one);
        }
        let mut tail = Tail::start(rig.life.clone(), &Rig::new(3).view()).unwrap().0;
        let mut got = Vec::new();
        for piece in events.chunks(piece) {
            match tail.watched(piece.to_vec(), &mut got) {
                Ok(()) => {}
                Err(Halt::Gap) => got.extend(tail.read_all(&rig.view(), 0).unwrap()),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
            prop_assert_eq!(&got[..], &truth[..got.len()]);
        }
        got.extend(tail.read_all(&rig.view(), 0).unwrap());
        prop_assert_eq!(got, truth);
    }
}
