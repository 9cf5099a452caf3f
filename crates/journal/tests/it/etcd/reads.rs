//! What a reader meets: silence, gaps, repetitions, fragments, compaction, truncation, and a store that went back.

use std::sync::Arc;
use std::time::Duration;

use kafscale_journal::etcd::EtcdJournal;
use kafscale_journal::etcd::kv::{Keys, Op, Txn, WatchReply};
use kafscale_journal::etcd::model::{Call, CallFault, WatchFault, World};
use kafscale_journal::{AppendError, Journal, OpenError, Pointer, ReadError};
use kafscale_ports::Env;
use tokio::time::{sleep, timeout};

use super::lab::{Broker, Hook, LONG, cut_off, entry, identity, names, on_watch, settings, world};

#[tokio::test(start_paused = true)]
async fn whatever_a_watch_does_the_entries_come_in_order() {
    let faults = [
        vec![WatchFault::Lose],
        vec![WatchFault::None, WatchFault::Lose, WatchFault::Lose],
        vec![WatchFault::LoseEvent(0)],
        vec![WatchFault::LoseEvent(1)],
        vec![WatchFault::None, WatchFault::LoseEvent(0), WatchFault::LoseEvent(1)],
        vec![WatchFault::Repeat, WatchFault::Repeat],
        vec![WatchFault::None, WatchFault::None, WatchFault::Rewind(3), WatchFault::Rewind(2)],
        vec![WatchFault::Split(1); 5],
        vec![WatchFault::Split(0); 5],
        vec![WatchFault::Close, WatchFault::None, WatchFault::Close],
        vec![WatchFault::Stall],
        vec![WatchFault::None, WatchFault::Stall],
        vec![WatchFault::Stall, WatchFault::Stall, WatchFault::Stall],
    ];
    for faults in faults {
        for batch in [1, 2, 1000] {
            disturbed(&faults, batch).await;
        }
    }
}

async fn disturbed(faults: &[WatchFault], batch: usize) {
    let world = world();
    world.set_batch(batch);
    let writer = Broker::opened(&world, 1, 5, 3).await;
    let reader = Broker::start(&world).await;
    reader.client.set_faults(on_watch(faults.to_vec()));
    sleep(Duration::from_millis(10)).await;
    for n in 4..12 {
        writer.append(5, n).await;
        if n % 3 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let records = reader.read(0, 12).await;
    assert_eq!(names(&records), (0..12).map(|n| (5, n)).collect::<Vec<_>>(), "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_found_out_by_the_head_and_opens_another_watch() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 3).await;
    let reader = Broker::start(&world).await;
    sleep(Duration::from_millis(10)).await;
    let watches = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&watches);
    let mut stalls = 0;
    let hook = Hook {
        call: move |call: &Call| {
            if let Call::Watch(watch) = call {
                seen.lock().push(watch.from);
            }
            CallFault::None
        },
        reply: move |_: &WatchReply| {
            stalls += 1;
            if stalls == 1 { WatchFault::Stall } else { WatchFault::None }
        },
    };
    reader.client.set_faults(hook);
    sleep(Duration::from_secs(30)).await;
    assert!(watches.lock().is_empty(), "nothing happened, and nothing was to be heard");
    writer.append(5, 4).await;
    let clock = Env::real().clock;
    let began = clock.now();
    assert_eq!(reader.read(4, 5).await.len(), 1);
    // A look within a second, and a second of patience.
    let took = clock.now() - began;
    assert!(took > Duration::from_secs(1) && took < Duration::from_millis(2200), "{took:?}");
    assert_eq!(watches.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stays_silent_however_often_it_is_opened_is_done_without() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 3).await;
    let reader = Broker::start(&world).await;
    reader.client.set_faults(on_watch(vec![WatchFault::Stall; 1000]));
    for n in 4..10 {
        writer.append(5, n).await;
        assert_eq!(reader.read(n, n + 1).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn compaction_under_a_watch_or_between_pages_costs_a_new_reading() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 20).await;
    let reader = Broker::start(&world).await;
    reader.client.set_faults(cut_off());
    for n in 21..30 {
        writer.append(5, n).await;
    }
    world.with(|store| store.compact(store.revision())).unwrap();
    // The pages are of three keys each. While they are read everything is compacted twice.
    let mut left = 2;
    let other = Arc::clone(&world);
    let call = move |call: &Call| {
        if let Call::Range(range) = call
            && range.revision > 0
            && left > 0
        {
            left -= 1;
            other.with(|store| {
                let put = Op::Put { key: "elsewhere".into(), value: "x".into(), lease: 0 };
                store.txn(&Txn { then: vec![put], ..Txn::default() }).unwrap();
                store.compact(store.revision()).unwrap();
            });
        }
        CallFault::None
    };
    reader.client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::None });
    world.close_watches();
    assert_eq!(reader.read(0, 30).await.len(), 30);
    writer.append(5, 30).await;
    assert_eq!(reader.read(30, 31).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_journal_is_followed_on_although_everything_around_it_is_compacted() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 3).await;
    for _ in 0..3 {
        grow(&world, 50);
        world.with(|store| store.compact(store.revision())).unwrap();
        world.close_watches();
        sleep(Duration::from_secs(2)).await;
    }
    let watches = Arc::new(parking_lot::Mutex::new(0));
    let seen = Arc::clone(&watches);
    let call = move |call: &Call| {
        *seen.lock() += u32::from(matches!(call, Call::Watch(_)));
        CallFault::None
    };
    writer.client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::None });
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*watches.lock(), 0, "it has settled");
    writer.append(5, 4).await;
    assert_eq!(writer.read(4, 5).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_a_truncation_is_told_and_goes_on_from_the_pointer() {
    for compacted in [false, true] {
        let world = world();
        let writer = Broker::opened(&world, 1, 5, 20).await;
        let reader = Broker::start(&world).await;
        reader.client.set_faults(cut_off());
        sleep(Duration::from_secs(1)).await;
        for n in 21..40 {
            writer.append(5, n).await;
        }
        writer.truncate(5, 40, 38, 35).await;
        if compacted {
            world.with(|store| store.compact(store.revision())).unwrap();
        }
        reader.client.set_faults(());
        world.close_watches();
        sleep(LONG).await;
        for after in [21, 30, 34] {
            let truncated = reader.journal.read(after).await;
            assert!(matches!(truncated, Err(ReadError::Truncated { first: 36 })), "{truncated:?}");
        }
        assert_eq!(reader.read(35, 41).await.len(), 6);
        writer.append(5, 41).await;
        assert_eq!(reader.read(41, 42).await.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn old_entries_are_read_by_their_keys_until_they_are_truncated() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 30).await;
    let mut small = settings();
    small.recent_bytes = 200;
    let reader = Broker::start_with(&world, small).await.unwrap();
    assert_eq!(reader.read(0, 31).await.len(), 31);
    // Another broker truncates, and this one has not heard of it.
    reader.client.set_faults(super::lab::on_watch([WatchFault::Stall]));
    writer.truncate(5, 31, 30, 20).await;
    let truncated = reader.journal.read(5).await;
    assert!(matches!(truncated, Err(ReadError::Truncated { first: 21 })), "{truncated:?}");
    assert_eq!(reader.read(20, 32).await.len(), 12);
}

#[tokio::test(start_paused = true)]
async fn truncation_waits_for_nobody_and_compaction_for_five_minutes() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 30).await;
    sleep(Duration::from_secs(100)).await;
    writer.truncate(5, 31, 30, 20).await;
    let old = kafscale_journal::etcd::kv::Range {
        get: kafscale_journal::etcd::kv::Get::one("lab/journal/e/0000000000000005/0000000003".into()),
        revision: world.with(|store| store.revision()) - 10,
        serializable: false,
    };
    assert_eq!(world.with(|store| store.range(&old)).unwrap().found.count, 1, "not forgotten yet");
    sleep(Duration::from_secs(400)).await;
    writer.journal.truncate().await.unwrap();
    assert!(world.with(|store| store.range(&old)).is_err());
}

fn is_damaged<T>(result: &Result<T, ReadError>) -> bool {
    matches!(result, Err(ReadError::Damaged { detail }) if detail.contains("kafscale recover"))
}

async fn stopped(broker: &Broker, nonce: u64, n: u64) {
    let read = timeout(LONG, broker.journal.read(0)).await.expect("it says so");
    assert!(is_damaged(&read), "{read:?}");
    assert!(is_damaged(&broker.journal.end().await) && is_damaged(&broker.journal.pointer().await));
    let dead = broker.journal.append(nonce, n, entry(n)).await;
    assert!(matches!(dead, Err(AppendError::Dead(_))), "{dead:?}");
    assert!(matches!(broker.journal.open(identity(9), 99, entry(0)).await, Err(OpenError::Failed(_))));
}

/// A broker that has read everything, and a backup of the store from a few entries before.
async fn before_and_after(world: &Arc<World>) -> (Broker, kafscale_journal::etcd::model::Backup) {
    let broker = Broker::opened(world, 1, 5, 10).await;
    let backup = world.backup();
    for n in 11..15 {
        broker.append(5, n).await;
    }
    assert_eq!(broker.all(0).await.len(), 15);
    (broker, backup)
}

#[tokio::test(start_paused = true)]
async fn a_running_broker_notices_that_the_store_went_back() {
    // By itself, by its own append, and by its own question for the end.
    for sign in 0..3 {
        let world = world();
        let (broker, backup) = before_and_after(&world).await;
        world.restore(&backup);
        match sign {
            0 => sleep(LONG).await,
            1 => {
                let dead = broker.journal.append(5, 15, entry(15)).await;
                assert!(matches!(dead, Err(AppendError::Dead(_))), "{dead:?}");
            }
            _ => assert!(is_damaged(&broker.journal.end().await)),
        }
        stopped(&broker, 5, 15).await;
    }
}

/// Something else writes to the store.
fn grow(world: &World, revisions: u64) {
    for _ in 0..revisions {
        let put = Op::Put { key: "elsewhere".into(), value: "x".into(), lease: 0 };
        world.with(|store| store.txn(&Txn { then: vec![put], ..Txn::default() })).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_to_a_store_that_went_back_is_dead_and_not_refused() {
    // Its session is gone, or it is there and the store has come as far again by something else.
    for is_there in [false, true] {
        let world = world();
        let before = world.backup();
        let (broker, backup) = before_and_after(&world).await;
        let call = |call: &Call| {
            if super::lab::is_append(call) { CallFault::None } else { CallFault::Hang }
        };
        broker.client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::Stall });
        sleep(Duration::from_secs(1)).await;
        if is_there {
            world.restore(&backup);
            grow(&world, 20);
        } else {
            world.restore(&before);
            // A head of the same life, so that nothing but the revision tells.
            EtcdJournal::establish(Arc::new(world.client(())), &settings(), 42, 0).await.unwrap();
            Broker::opened(&world, 2, 6, 0).await;
        }
        let dead = broker.journal.append(5, 15, entry(15)).await;
        assert!(matches!(dead, Err(AppendError::Dead(_))), "{dead:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_without_losing_an_entry_is_followed_as_before() {
    let world = world();
    let broker = Broker::opened(&world, 1, 5, 3).await;
    let backup = world.backup();
    grow(&world, 50);
    // Everything is read, at a revision that will not have been.
    world.with(|store| store.compact(store.revision())).unwrap();
    world.close_watches();
    sleep(LONG).await;
    world.restore(&backup);
    broker.append(5, 4).await;
    assert_eq!(broker.read(4, 5).await.len(), 1);
    for n in 5..10 {
        broker.append(5, n).await;
        let began = Env::real().clock.now();
        assert_eq!(broker.read(n, n + 1).await.len(), 1);
        assert!(Env::real().clock.now() - began < Duration::from_millis(50), "by the watch");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_away_notices_it_when_the_store_has_grown_again() {
    for extra in [0, 3, 4, 5, 30] {
        let world = world();
        let (broker, backup) = before_and_after(&world).await;
        broker.client.set_faults(cut_off());
        sleep(Duration::from_secs(1)).await;
        world.restore(&backup);
        let other = Broker::opened(&world, 2, 6, extra).await;
        broker.client.set_faults(());
        sleep(LONG).await;
        stopped(&broker, 5, 15).await;
        other.append(6, extra + 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_noticed_although_no_watch_was_closed() {
    // As behind a proxy that opens watches anew by itself: the store goes on where it was, by another way.
    let world = world();
    let (broker, backup) = before_and_after(&world).await;
    let end = world.with(|store| store.revision());
    let now = Env::real().clock.now().duration_since(Env::real().clock.now());
    world.with(|store| store.restore(&backup, now));
    let other = Broker::opened(&world, 2, 6, 10).await;
    assert!(world.with(|store| store.revision()) > end);
    sleep(LONG).await;
    stopped(&broker, 5, 15).await;
    assert_eq!(other.all(0).await.len(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lived_through_it_cannot_hide_it_from_those_that_start() {
    let world = world();
    let (broker, backup) = before_and_after(&world).await;
    world.restore(&backup);
    // Its own tail is cut off, so that it goes on for a moment.
    let mut first = true;
    let call = move |call: &Call| {
        let goes = super::lab::is_append(call) && std::mem::take(&mut first);
        if goes { CallFault::LoseReply } else { CallFault::LoseRequest }
    };
    broker.client.set_faults(Hook { call, reply: |_: &WatchReply| WatchFault::Stall });
    let unknown = broker.journal.append(5, 15, entry(15)).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    let start = Broker::start_with(&world, settings()).await;
    assert!(is_damaged(&start.map(drop)), "number 15 after number 10");
}

#[tokio::test(start_paused = true)]
async fn a_starting_broker_notices_it_by_what_it_knows_from_elsewhere() {
    let world = world();
    let (broker, backup) = before_and_after(&world).await;
    drop(broker);
    world.restore(&backup);
    let started = Broker::start(&world).await;
    // A snapshot of entry 13 is in the store, and the journal ends at 11.
    assert_eq!(started.journal.end().await.unwrap().ordinal, 11);
    assert!(matches!(started.journal.read(13).await, Err(ReadError::Damaged { .. })));
    assert_eq!(started.read(0, 11).await.len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_pointer_beyond_the_head_is_damage() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 10).await;
    let pointer = Pointer { ordinal: 9, truncatable: 4, value: "x".into() };
    writer.journal.publish(5, 11, entry(11), pointer).await.unwrap();
    drop(writer);
    let then = vec![Op::Delete(Keys::prefix("lab/journal".into()))];
    world.with(|store| store.txn(&Txn { then, ..Txn::default() })).unwrap();
    assert!(is_damaged(&Broker::start_with(&world, settings()).await.map(drop)));
}

async fn rebuilt(world: &Arc<World>, incarnation: u128, base: u64) {
    let then = vec![Op::Delete(Keys::prefix("lab/".into()))];
    world.with(|store| store.txn(&Txn { then, ..Txn::default() })).unwrap();
    let kv = Arc::new(world.client(()));
    EtcdJournal::establish(kv, &settings(), incarnation, base).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_journal_has_another_incarnation_and_goes_on_with_its_ordinals() {
    for away in [false, true] {
        let world = world();
        let (old, _) = before_and_after(&world).await;
        old.client.set_faults(cut_off());
        sleep(Duration::from_secs(1)).await;
        rebuilt(&world, 43, 15).await;
        let new = Broker::opened(&world, 1, 6, 20).await;
        assert_eq!(new.journal.incarnation(), 43, "not the one that it would have begun with");
        assert_eq!(new.append(6, 21).await.ordinal, 37);
        assert_eq!(new.read(15, 37).await.len(), 22);
        assert!(matches!(new.journal.read(14).await, Err(ReadError::Truncated { first: 16 })));
        old.client.set_faults(());
        if away {
            sleep(LONG).await;
        } else {
            let dead = old.journal.append(5, 15, entry(15)).await;
            assert!(matches!(dead, Err(AppendError::Dead(_))), "{dead:?}");
        }
        stopped(&old, 5, 15).await;
        assert_eq!(new.journal.end().await.unwrap().ordinal, 37, "nothing of the old life got in");
    }
}

#[tokio::test(start_paused = true)]
async fn an_opening_of_an_old_life_gets_nowhere() {
    let world = world();
    let late = Broker::start(&world).await;
    rebuilt(&world, 43, 100).await;
    assert!(matches!(late.journal.open(identity(1), 5, entry(0)).await, Err(OpenError::Failed(_))));
    let new = Broker::start(&world).await;
    assert_eq!(new.journal.end().await.unwrap().ordinal, 100);
    let twice = EtcdJournal::establish(Arc::new(world.client(())), &settings(), 44, 7).await;
    assert!(matches!(twice, Err(ReadError::Damaged { .. })), "there is a journal");
}

#[tokio::test(start_paused = true)]
async fn reads_and_questions_fail_while_etcd_is_away_and_go_on_when_it_is_back() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 10).await;
    let reader = Broker::start(&world).await;
    reader.client.set_faults(cut_off());
    assert!(matches!(reader.journal.end().await, Err(ReadError::Failed(_))));
    assert_eq!(reader.read(0, 11).await.len(), 11, "what is known is served");
    sleep(Duration::from_secs(60)).await;
    writer.append(5, 11).await;
    reader.client.set_faults(());
    assert_eq!(reader.read(11, 12).await.len(), 1);
    assert_eq!(reader.journal.end().await.unwrap().ordinal, 12);
    let nowhere = world.client(cut_off());
    let start = EtcdJournal::start(Arc::new(nowhere), Env::real(), settings(), 42).await;
    assert!(matches!(start.map(drop), Err(ReadError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_among_the_keys_does_no_harm() {
    let world = world();
    let writer = Broker::opened(&world, 1, 5, 3).await;
    world.with(|store| {
        let put = |key: &'static str| Op::Put { key: key.into(), value: "x".into(), lease: 0 };
        let then = vec![put("lab/journal/e/note"), put("lab/journal/zebra"), put("lab/session/x")];
        store.txn(&Txn { then, ..Txn::default() }).unwrap();
    });
    writer.append(5, 4).await;
    assert_eq!(writer.all(0).await.len(), 5);
    assert_eq!(Broker::start(&world).await.all(0).await.len(), 5);
}
