//! Limits: of time for a request, of requests at a time. These tests wait for real limits, so they wait together.

use std::time::Duration;

use futures::future::join_all;
use kafscale_log::store::{GetError, ObjectStore};
use kafscale_s3_server::{Fault, Faults, Rule};
use tokio::time::{sleep, timeout};

use crate::world::{body, failed, name, next_gets, next_puts, refused, server, store, stored, unknown, words};

/// Waits for what happens soon.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn hangs(number: u32, fault: Fault) {
    let server = server().await;
    let store = store(&server);
    next_puts(&server, &[fault]);
    let why = unknown(store.put(&name(number), body()).await);
    assert!(words(&why).contains("no answer within"), "{why}");
    assert_eq!(stored(&server, &name(number)).is_some(), fault != Fault::Hang, "{fault:?}");
}

#[tokio::test]
async fn a_put_that_hangs_ends_and_may_be_there() {
    tokio::join!(hangs(1, Fault::Hang), hangs(2, Fault::HangAfter), hangs(3, Fault::Late));
}

#[tokio::test]
async fn a_put_can_land_after_its_caller_gave_up() {
    let server = server().await;
    let store = store(&server);
    next_puts(&server, &[Fault::Late]);
    assert!(timeout(Duration::from_millis(200), store.put(&name(1), body())).await.is_err());
    assert!(stored(&server, &name(1)).is_none());
    until(|| stored(&server, &name(1)).is_some()).await;
    store.put(&name(1), body()).await.unwrap();
}

#[tokio::test]
async fn a_get_that_hangs_ends() {
    let server = server().await;
    let store = store(&server);
    store.put(&name(1), body()).await.unwrap();
    next_gets(&server, &[Fault::Hang]);
    let why = failed(store.get_all(&name(1)).await);
    assert!(words(&why).contains("no answer within"), "{why}");
    assert_eq!(store.get_all(&name(1)).await.unwrap(), "hello world");
}

#[tokio::test]
async fn requests_at_a_time_are_bounded_and_reads_do_not_wait_for_writes() {
    let server = server().await;
    let store = store(&server);
    store.put(&name(1000), body()).await.unwrap();
    let hang = Rule { hang: 1.0, ..Rule::default() };
    server.set_faults(Faults { put: hang, ..Faults::default() }).unwrap();
    let names: Vec<_> = (0..33).map(name).collect();
    // The last one has less to send, and so less time.
    let body_of = |at: usize| vec![vec![0; if at < 32 { 2 << 20 } else { 0 }].into()];
    let writes = join_all((0..).zip(&names).map(|(at, name)| store.put(name, body_of(at))));
    let reads = async {
        until(|| server.stats().in_flight == 32).await;
        let read = store.get_all(&name(1000)).await;
        assert_eq!(server.stats().in_flight, 32, "the 33rd write waits");
        read
    };
    let (mut writes, read) = tokio::join!(writes, reads);
    assert_eq!(read.unwrap(), "hello world");
    let last = refused(writes.pop().unwrap());
    assert!(words(&last).contains("32 requests were on their way"), "{last}");
    for write in writes {
        unknown(write);
    }
    server.set_faults(Faults::default()).unwrap();
    store.put(&name(33), body()).await.unwrap();
}

#[tokio::test]
async fn reads_at_a_time_are_bounded_also_while_their_bodies_come() {
    let server = server().await;
    let store = store(&server);
    let name = name(1);
    store.put(&name, vec![vec![7; 4 << 20].into()]).await.unwrap();
    let reads = join_all((0..300).map(|_| store.get_all(&name)));
    let (reads, most) = tokio::join!(reads, async {
        let mut most = 0;
        for _ in 0..200 {
            most = most.max(server.stats().connections);
            sleep(Duration::from_millis(1)).await;
        }
        most
    });
    assert!(reads.iter().all(|read| read.as_ref().is_ok_and(|bytes| bytes.len() == 4 << 20)));
    // 64 in use, and as many unused ones as are kept: one may be made while another becomes free.
    assert!(most <= 64 + 96, "{most} connections");
}

#[tokio::test]
async fn a_dropped_request_closes_its_connection() {
    let server = server().await;
    let store = store(&server);
    let hang = Rule { hang: 1.0, ..Rule::default() };
    server.set_faults(Faults { put: hang.clone(), get: hang, ..Faults::default() }).unwrap();
    let name = name(1);
    let put = store.put(&name, vec![vec![1; 1 << 20].into()]);
    let get = store.get_all(&name);
    let both = async { tokio::join!(put, get) };
    let reached = until(|| server.stats().in_flight == 2);
    tokio::select! {
        biased;
        _ = both => panic!("they hang"),
        () = reached => {}
    }
    until(|| server.stats().in_flight == 0 && server.stats().connections == 0).await;
    server.set_faults(Faults::default()).unwrap();
    assert!(matches!(store.get_all(&name).await, Err(GetError::NotFound(_))));
}
