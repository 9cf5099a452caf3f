//! What becomes of an entry under faults of the way to etcd: each rule of the port's fourth point, and of the fence.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::etcd::MAX_ENTRY_BYTES;
use kafscale_journal::etcd::kv::{Get, Keys, Op, Range, Refusal, Txn, WatchReply};
use kafscale_journal::etcd::model::{Call, CallFault, WatchFault, World};
use kafscale_journal::sessions::{Sessions, Victim};
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer};
use kafscale_ports::Env;
use tokio::time::sleep;

use super::lab::{Broker, Hook, cut_off, entry, identity, names, on_appends, world};

/// Faults after which the caller does not know, and whether the entry is there all the same.
const UNKNOWN: [(CallFault, bool); 5] = [
    (CallFault::LoseRequest, false),
    (CallFault::LoseReply, true),
    (CallFault::Delay, false),
    (CallFault::Hang, false),
    (CallFault::HangAfter, true),
];

async fn unknown(broker: &Broker, nonce: u64, n: u64) {
    let result = broker.journal.append(nonce, n, entry(n)).await;
    assert!(matches!(result, Err(AppendError::Unknown(_))), "{result:?}");
}

async fn fenced(broker: &Broker, nonce: u64, n: u64) {
    let result = broker.journal.append(nonce, n, entry(n)).await;
    assert!(matches!(result, Err(AppendError::Fenced)), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_append_lands_once() {
    for (fault, _) in UNKNOWN {
        for times in 1..4 {
            let world = world();
            let broker = Broker::opened(&world, 1, 5, 1).await;
            broker.client.set_faults(on_appends(vec![fault.clone(); times]));
            unknown(&broker, 5, 2).await;
            for _ in 1..times {
                // The own tail may have read it by now.
                let again = broker.journal.append(5, 2, entry(2)).await.map(|position| position.ordinal);
                assert!(matches!(again, Ok(3) | Err(AppendError::Unknown(_))), "{fault:?}: {again:?}");
            }
            broker.client.set_faults(());
            assert_eq!(broker.append(5, 2).await.ordinal, 3, "{fault:?}");
            assert_eq!(world.deliver_late(), 0, "{fault:?}");
            assert_eq!(broker.append(5, 3).await.ordinal, 4);
            assert_eq!(names(&broker.all(0).await), [(5, 0), (5, 1), (5, 2), (5, 3)]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_append_lands_by_itself_and_its_repetition_finds_it() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    broker.client.set_faults(on_appends([CallFault::Delay, CallFault::Delay]));
    unknown(&broker, 5, 2).await;
    unknown(&broker, 5, 2).await;
    assert_eq!(world.deliver_late(), 1);
    assert_eq!(broker.append(5, 2).await.ordinal, 3);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_after_a_takeover_says_what_had_happened() {
    for (fault, landed) in UNKNOWN {
        let world = world();
        let old = Broker::opened(&world, 1, 5, 1).await;
        old.client.set_faults(on_appends([fault.clone()]));
        unknown(&old, 5, 2).await;
        let new = Broker::opened(&world, 1, 6, 1).await;
        if landed {
            assert_eq!(old.append(5, 2).await.ordinal, 3, "{fault:?}");
        } else {
            fenced(&old, 5, 2).await;
        }
        // What was on its way at the takeover comes too late.
        assert_eq!(world.deliver_late(), 0);
        fenced(&old, 5, 3).await;
        let end: u64 = if landed { 5 } else { 4 };
        assert_eq!(new.all(0).await.len() as u64, end);
    }
}

/// Takes a session's life in the store.
fn expire(world: &World) {
    let oldest = world.with(|store| store.leases())[0];
    world.expire(oldest);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_after_an_end_by_others_is_not_answered_by_the_end() {
    for (fault, landed) in UNKNOWN {
        let world = world();
        let gone = Broker::opened(&world, 1, 5, 1).await;
        let other = Broker::opened(&world, 2, 6, 0).await;
        gone.client.set_faults(on_appends([fault.clone()]));
        unknown(&gone, 5, 2).await;
        expire(&world);
        let victim = Victim { broker_id: 1, nonce: 5 };
        other.journal.end_other(6, 1, entry(1), victim).await.unwrap();
        if landed {
            assert_eq!(gone.append(5, 2).await.ordinal, 4, "{fault:?}");
        } else {
            fenced(&gone, 5, 2).await;
        }
        assert_eq!(world.deliver_late(), 0);
        assert_eq!(other.all(0).await.last().unwrap().nonce, 6, "nothing of the ended session follows its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_of_a_fenced_session_lands_nothing() {
    let world = world();
    let old = Broker::opened(&world, 1, 5, 1).await;
    old.client.set_faults(on_appends([CallFault::Duplicate, CallFault::Duplicate]));
    old.append(5, 2).await;
    old.append(5, 3).await;
    let new = Broker::opened(&world, 1, 6, 0).await;
    assert_eq!((world.late(), world.deliver_late()), (2, 0));
    assert_eq!(names(&new.all(0).await), [(5, 0), (5, 1), (5, 2), (5, 3), (6, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_after_a_truncation_is_known_to_the_own_tail() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 9).await;
    broker.client.set_faults(on_appends([CallFault::LoseReply]));
    unknown(&broker, 5, 10).await;
    assert_eq!(broker.read(10, 11).await.len(), 1);
    let other = Broker::opened(&world, 2, 6, 0).await;
    other.truncate(6, 1, 11, 11).await;
    let before = world.with(|store| store.revision());
    assert_eq!(broker.append(5, 10).await.ordinal, 11);
    assert_eq!(world.with(|store| store.revision()), before);
}

#[tokio::test(start_paused = true)]
async fn a_late_repetition_after_a_truncation_keeps_its_place_whatever_is_truncated_again() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 3).await;
    broker.client.set_faults(on_appends([CallFault::Duplicate]));
    broker.append(5, 4).await;
    broker.append(5, 5).await;
    broker.append(5, 6).await;
    broker.truncate(5, 7, 7, 6).await;
    assert_eq!(world.deliver_late(), 1, "its key was gone");
    assert_eq!(broker.append(5, 8).await.ordinal, 10);
    // The same pointer again, from another broker too.
    let other = Broker::opened(&world, 2, 6, 0).await;
    broker.journal.truncate().await.unwrap();
    other.journal.truncate().await.unwrap();
    let expected = [(5, 6), (5, 7), (5, 4), (5, 8), (6, 0)];
    for reader in [&broker, &other, &Broker::start(&world).await] {
        assert_eq!(names(&reader.all(6).await), expected);
    }
    // The next pointer covers it.
    broker.truncate(5, 9, 11, 10).await;
    assert_eq!(names(&Broker::start(&world).await.all(10).await), [(6, 0), (5, 9)]);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_is_fenced_by_the_mod_revision() {
    let world = world();
    let old = Broker::opened(&world, 1, 5, 1).await;
    let new = Broker::opened(&world, 1, 6, 1).await;
    fenced(&old, 5, 2).await;
    new.append(6, 2).await;
    let stranger = Broker::start(&world).await;
    let refused = stranger.journal.open(Identity { broker_id: 1, token: 9 }, 7, entry(0)).await;
    assert!(matches!(refused, Err(OpenError::InUse { broker_id: 1 })));
}

#[tokio::test(start_paused = true)]
async fn an_opening_that_was_not_answered_is_taken_over_under_another_nonce() {
    for (fault, landed) in UNKNOWN {
        let world = world();
        let broker = Broker::start(&world).await;
        broker.client.set_faults(on_appends([fault.clone()]));
        let failed = broker.journal.open(identity(1), 5, entry(0)).await;
        assert!(matches!(failed, Err(OpenError::Failed(_))), "{failed:?}");
        let opened = broker.journal.open(identity(1), 6, entry(0)).await.unwrap();
        assert_eq!(opened.ordinal, if landed { 2 } else { 1 }, "{fault:?}");
        assert_eq!(world.deliver_late(), 0, "{fault:?}");
        broker.append(6, 1).await;
        broker.journal.leave(6, 2, entry(2)).await.unwrap();
        assert_eq!(world.deliver_late(), 0);
        assert!(world.with(|store| store.leases()).is_empty(), "no lease is left behind");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_opening_lands_nothing_after_its_session_has_left() {
    let world = world();
    let broker = Broker::start(&world).await;
    broker.client.set_faults(on_appends([CallFault::Duplicate]));
    broker.journal.open(identity(1), 5, entry(0)).await.unwrap();
    broker.append(5, 1).await;
    broker.journal.leave(5, 2, entry(2)).await.unwrap();
    let other = Broker::opened(&world, 2, 6, 0).await;
    other.truncate(6, 1, 4, 4).await;
    assert_eq!((world.late(), world.deliver_late()), (1, 0));
    assert_eq!(other.journal.live().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_etcd_refuses_is_not_there() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    broker.client.set_faults(on_appends([CallFault::Refuse(Refusal::NoSpace)]));
    let full = broker.journal.append(5, 2, entry(2)).await;
    assert!(matches!(full, Err(AppendError::Refused(why)) if why.kind() == ErrorKind::StorageFull));
    assert_eq!(broker.journal.append(5, 2, Bytes::from_static(b"another")).await.unwrap().ordinal, 3);

    let large = broker.journal.append(5, 3, vec![0; MAX_ENTRY_BYTES + 1].into()).await;
    assert!(matches!(large, Err(AppendError::Refused(_))));
    let largest = broker.journal.append(5, 3, vec![0; MAX_ENTRY_BYTES].into()).await;
    assert_eq!(largest.unwrap().ordinal, 4);

    // The real thing: the quota is met.
    let size = world.with(|store| store.size().physical);
    world.with(|store| store.set_quota(size + 1));
    let full = broker.journal.append(5, 4, entry(4)).await;
    assert!(matches!(full, Err(AppendError::Refused(why)) if why.kind() == ErrorKind::StorageFull));
    assert_eq!(broker.all(0).await.len(), 4, "reads go on");
    world.with(|store| store.set_quota(1 << 30));
    broker.append(5, 4).await;
}

#[tokio::test(start_paused = true)]
async fn other_bytes_under_the_same_number_are_damage() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    // Behind the tail's back: it answers a repetition by itself.
    broker.client.set_faults(cut_off());
    sleep(Duration::from_secs(1)).await;
    let key = "lab/journal/e/0000000000000005/0000000002";
    let put = |key: &'static str| Op::Put { key: key.into(), value: "what?".into(), lease: 0 };
    world.with(|store| {
        let then = vec![put(key)];
        store.txn(&Txn { then, ..Default::default() }).unwrap()
    });
    broker.client.set_faults(());
    let dead = broker.journal.append(5, 2, entry(2)).await;
    assert!(matches!(dead, Err(AppendError::Dead(_))), "{dead:?}");
}

#[tokio::test(start_paused = true)]
async fn the_pointer_only_goes_up_whoever_publishes_and_whatever_is_lost() {
    for (fault, _) in UNKNOWN {
        let world = world();
        let (a, b) = (Broker::opened(&world, 1, 5, 5).await, Broker::opened(&world, 2, 6, 5).await);
        let pointer = |ordinal| Pointer { ordinal, truncatable: ordinal - 2, value: Bytes::from(ordinal.to_string()) };
        a.client.set_faults(on_appends([fault.clone()]));
        let unknown = a.journal.publish(5, 6, entry(6), pointer(6)).await;
        assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{fault:?} {unknown:?}");
        b.journal.publish(6, 6, entry(6), pointer(8)).await.unwrap();
        a.journal.publish(5, 6, entry(6), pointer(6)).await.unwrap();
        assert_eq!(world.deliver_late(), 0, "{fault:?}");
        assert_eq!(a.journal.pointer().await.unwrap(), Some(pointer(8)));
        // An older one that keeps more than the stored one: what is gone is gone.
        let keeps_more = Pointer { truncatable: 3, ..pointer(11) };
        a.journal.publish(5, 7, entry(7), keeps_more.clone()).await.unwrap();
        let kept = Pointer { truncatable: 6, ..keeps_more };
        assert_eq!(b.journal.pointer().await.unwrap(), Some(kept));
        assert_eq!(b.all(0).await.len(), 15, "nothing was truncated yet");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pointer_forgets_sessions_of_which_nothing_is_left() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    let mut n = 1;
    let mut size = Vec::new();
    for nonce in 10..60 {
        let short = Broker::opened(&world, 2, nonce, 1).await;
        short.journal.leave(nonce, 2, entry(2)).await.unwrap();
        let end = broker.journal.end().await.unwrap().ordinal;
        n += 1;
        broker.truncate(5, n, end, end - 1).await;
        let key = Keys::One("lab/pointer".into());
        let get = Get { keys: key, keys_only: false, limit: 0 };
        let range = Range { get, revision: 0, serializable: false };
        size.push(world.with(|store| store.range(&range).unwrap().found.kvs[0].value.len()));
    }
    assert_eq!(size[5], size[49], "it does not grow: {size:?}");
    let end = broker.journal.end().await.unwrap().ordinal;
    assert_eq!(names(&Broker::start(&world).await.all(end - 1).await), [(5, n)]);
}

#[tokio::test(start_paused = true)]
async fn the_pointer_keeps_sessions_of_which_something_is_left() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    let short = Broker::opened(&world, 2, 6, 1).await;
    short.journal.leave(6, 2, entry(2)).await.unwrap();
    // Published again and again, and truncated only then.
    for n in 2..6 {
        sleep(Duration::from_secs(2)).await;
        let end = broker.journal.end().await.unwrap().ordinal;
        let pointer = Pointer { ordinal: end, truncatable: end, value: Bytes::new() };
        broker.journal.publish(5, n, entry(n), pointer).await.unwrap();
    }
    broker.journal.truncate().await.unwrap();
    let get = Get { keys: Keys::prefix("lab/journal/e/".into()), keys_only: true, limit: 0 };
    let left = world.with(|store| store.range(&Range { get, revision: 0, serializable: false })).unwrap().found;
    assert_eq!(left.count, 1, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_lease_runs_out_is_fenced_and_known_not_to_live_before_that() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    let clock = Env::real().clock;
    let live = |broker: &Broker| broker.journal.is_known_live(5, clock.now());
    sleep(Duration::from_secs(60)).await;
    assert!(live(&broker), "it is renewed");
    broker.client.set_faults(cut_off());
    // Renewed at most two seconds before, for six.
    sleep(Duration::from_secs(3)).await;
    assert!(live(&broker));
    sleep(Duration::from_millis(3100)).await;
    assert!(!live(&broker));
    assert_eq!(world.with(|store| store.leases()).len(), 1, "etcd is later");
    sleep(Duration::from_secs(5)).await;
    broker.client.set_faults(());
    sleep(Duration::from_secs(5)).await;
    assert!(!live(&broker));
    fenced(&broker, 5, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_from_when_its_renewal_was_asked_for() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 0).await;
    let mut renewals = 0;
    let call = move |call: &Call| match call {
        Call::KeepAlive(_) => {
            renewals += 1;
            // The second one never comes back.
            if renewals == 1 { CallFault::LateReply(Duration::from_millis(2500)) } else { CallFault::LoseRequest }
        }
        // Nor does a look that would say that S is gone.
        Call::Txn(_) | Call::Range(_) | Call::Watch(_) | Call::Grant(_) | Call::Revoke(_) | Call::Compact(_) => {
            CallFault::Hang
        }
    };
    broker.client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::None });
    let clock = Env::real().clock;
    // Asked for after two seconds, for six.
    sleep(Duration::from_millis(7900)).await;
    assert!(broker.journal.is_known_live(5, clock.now()));
    sleep(Duration::from_millis(200)).await;
    assert!(!broker.journal.is_known_live(5, clock.now()));
}

#[tokio::test(start_paused = true)]
async fn whoever_was_taken_over_or_expelled_does_not_take_itself_for_alive() {
    let clock = Env::real().clock;
    for expelled in [true, false] {
        let world = world();
        let old = Broker::opened(&world, 1, 5, 1).await;
        let other = Broker::opened(&world, 2, 6, 0).await;
        if expelled {
            other.journal.expel(6, 1, entry(1), Victim { broker_id: 1, nonce: 5 }).await.unwrap();
        } else {
            other.journal.open(identity(1), 7, entry(0)).await.unwrap();
        }
        assert!(old.journal.is_known_live(5, clock.now()), "nobody has told it");
        sleep(Duration::from_millis(1100)).await;
        assert!(!old.journal.is_known_live(5, clock.now()), "its lease goes on, and its key is gone");
        assert!(other.journal.is_known_live(6, clock.now()));
        assert!(!other.journal.is_known_live(5, clock.now()), "not its own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_survives_calls_that_get_lost() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 0).await;
    for fault in [CallFault::LoseReply, CallFault::LoseRequest, CallFault::Hang, CallFault::HangAfter] {
        let mut left = 2;
        let call = move |call: &Call| {
            if left == 0 || !matches!(call, Call::KeepAlive(_)) {
                return CallFault::None;
            }
            left -= 1;
            if left == 1 { fault.clone() } else { CallFault::LoseReply }
        };
        let reply = |_: &WatchReply| WatchFault::None;
        broker.client.set_faults(Hook { call, reply });
        sleep(Duration::from_secs(10)).await;
        let now = Env::real().clock.now();
        assert!(broker.journal.is_known_live(5, now));
    }
    broker.append(5, 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_left_without_hearing_of_it_gives_its_lease_back_when_it_asks_again() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 1).await;
    sleep(Duration::from_millis(10)).await;
    broker.client.set_faults(on_appends([CallFault::LoseReply]));
    let unknown = broker.journal.leave(5, 2, entry(2)).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    // The watch tells it before it asks.
    assert_eq!(broker.read(2, 3).await.len(), 1);
    assert!(broker.journal.is_known_live(5, Env::real().clock.now()), "no look has told it yet");
    assert_eq!(broker.journal.leave(5, 2, entry(2)).await.unwrap().ordinal, 3);
    assert!(!broker.journal.is_known_live(5, Env::real().clock.now()));
    assert!(world.with(|store| store.leases()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_entry_costs_one_transaction_whoever_reads_it() {
    let world = world();
    let (broker, reader) = (Broker::opened(&world, 1, 5, 0).await, Broker::start(&world).await);
    sleep(Duration::from_secs(5)).await;
    let transactions = Arc::new(parking_lot::Mutex::new(BTreeMap::new()));
    for (client, who) in [(&broker.client, "writer"), (&reader.client, "reader")] {
        let seen = Arc::clone(&transactions);
        let call = move |call: &Call| {
            let what = match call {
                Call::Txn(_) if super::lab::is_append(call) => "append",
                Call::Txn(_) => "look",
                Call::KeepAlive(_) => "lease",
                Call::Range(_) | Call::Watch(_) | Call::Grant(_) | Call::Revoke(_) | Call::Compact(_) => "other",
            };
            *seen.lock().entry((who, what)).or_insert(0) += 1;
            CallFault::None
        };
        client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::None });
    }
    // Ten a second, for a hundred seconds.
    for n in 1..=1000 {
        sleep(Duration::from_millis(100)).await;
        broker.append(5, n).await;
        assert_eq!(reader.read(n, n + 1).await.len(), 1);
    }
    let count = |who, what| transactions.lock().get(&(who, what)).copied().unwrap_or(0);
    assert_eq!((count("writer", "append"), count("reader", "append")), (1000, 0));
    assert_eq!((count("writer", "other"), count("reader", "other")), (0, 0));
    assert!([count("writer", "look"), count("reader", "look")].iter().all(|looks| (98..=102).contains(looks)));
    assert!((48..=52).contains(&count("writer", "lease")) && count("reader", "lease") == 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_broker_costs_a_look_a_second_and_its_lease() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 3).await;
    sleep(Duration::from_secs(10)).await;
    let counts = Arc::new(parking_lot::Mutex::new((0, 0, 0)));
    let seen = Arc::clone(&counts);
    let call = move |call: &Call| {
        let mut counts = seen.lock();
        match call {
            Call::Txn(_) => counts.0 += 1,
            Call::KeepAlive(_) => counts.1 += 1,
            Call::Range(_) | Call::Watch(_) | Call::Grant(_) | Call::Revoke(_) | Call::Compact(_) => counts.2 += 1,
        }
        CallFault::None
    };
    let reply = |_: &WatchReply| WatchFault::None;
    broker.client.set_faults(Hook { call, reply });
    sleep(Duration::from_secs(600)).await;
    let (looks, renewals, others) = *counts.lock();
    assert!((599..=601).contains(&looks) && (299..=301).contains(&renewals) && others == 0, "{:?}", *counts.lock());
    *counts.lock() = (0, 0, 0);
    broker.append(5, 4).await;
    assert_eq!(*counts.lock(), (1, 0, 0), "one transaction for an entry");
}
