//! Peers that lie, stall, flood, or meet a bug of ours: each costs itself its connection, and nobody else anything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafscale_broker::connection::{Answer, ConnectionSettings, Frame, Reply};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::pipes::{Client, Handler, World, correlation, echo, echoing, now, request};

/// Seconds until the server closes.
async fn closed_after(client: &mut Client) -> u64 {
    let begun = now();
    client.closed().await;
    begun.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn lengths_out_of_bounds_close_at_once() {
    let world = World::new(echoing());
    for value in [i32::MIN, -1, 0, 7, (100 << 20) + 1, i32::MAX] {
        let mut client = world.net.connect(64);
        client.send(&value.to_be_bytes()).await;
        assert_eq!(closed_after(&mut client).await, 0, "{value}");
    }
    assert!(world.counted("kafscale_connections_closed_total{cause=\"frame_length\"} 6"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_the_budget_can_never_hold_is_refused() {
    let world = World::with(echoing(), 64 << 20, ConnectionSettings::default());
    // Half of the budget for a Produce; an eighth of that, and never above 16 MiB, for anything else.
    for (key, body) in [(0, 32 << 20), (3, 4 << 20)] {
        let mut client = world.net.connect(64);
        client.send(&request(key, 1, body)[..12]).await;
        assert_eq!(closed_after(&mut client).await, 0);
    }
    let world = World::with(echoing(), 1 << 30, ConnectionSettings::default());
    let mut client = world.net.connect(64);
    client.send(&request(3, 1, 16 << 20)[..12]).await;
    assert_eq!(closed_after(&mut client).await, 0);
    assert!(world.counted("kafscale_connections_closed_total{cause=\"frame_length\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_length_that_lies_gets_its_memory_back_after_a_silence() {
    let world = World::new(echoing());
    let mut client = world.net.connect(64);
    client.send(&request(0, 1, 1 << 20)[..30]).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!world.all_memory_is_free());
    assert_eq!(closed_after(&mut client).await, 9);
    assert!(world.all_memory_is_free());
    assert!(world.counted("kafscale_connections_closed_total{cause=\"half_sent\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_for_ever_ends() {
    let world = World::new(echoing());
    let mut client = world.net.connect(64);
    let begun = now();
    for byte in request(3, 1, 1000) {
        if tokio::io::AsyncWriteExt::write_all(&mut client.0, &[byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(begun.elapsed().as_secs(), 31);
    assert!(world.all_memory_is_free());
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_a_frame_is_noticed() {
    let world = World::new(echoing());
    for cut in [1, 4, 11, 12, 20] {
        let mut client = world.net.connect(64);
        client.send(&request(0, 1, 100)[..cut]).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"broken\"} 5"));
    assert!(world.all_memory_is_free());
    assert_eq!(world.server.open(), 0);
}

/// A hundred peers announce large frames and send nothing. Half of the budget stays for ordinary requests.
#[tokio::test(start_paused = true)]
async fn announced_frames_do_not_starve_ordinary_ones() {
    let world = World::with(echoing(), 64 << 20, ConnectionSettings::default());
    let mut liars: Vec<Client> = (0..100).map(|_| world.net.connect(64)).collect();
    for liar in &mut liars {
        liar.send(&request(0, 1, 20 << 20)[..12]).await;
    }
    sleep(Duration::from_secs(1)).await;
    let mut client = world.net.connect(1 << 20);
    let begun = now();
    client.send(&request(0, 7, 1 << 20)).await;
    assert_eq!(client.answer().await, 7_i32.to_be_bytes());
    assert_eq!(begun.elapsed().as_secs(), 0);
}

/// An answer of a MiB through a pipe of 64 bytes that nobody reads; `scarce` bytes of the budget are in use.
async fn unread(scarce: u64) -> (World, Client) {
    let service = Handler(|_frame: Frame| {
        let slices = vec![Bytes::from(vec![1; 1 << 20])];
        async move { Reply::Send(Answer { slices, hold: Vec::new(), failed: false }) }.boxed()
    });
    let world = World::new(Arc::new(service));
    let held = world.budget.reserve(scarce).await.unwrap();
    let mut client = world.net.connect(64);
    client.send(&request(1, 1, 0)).await;
    while world.server.open() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let begun = now();
    while world.server.open() == 1 {
        sleep(Duration::from_secs(1)).await;
    }
    let expected = if scarce > 32 << 20 { 11 } else { 600 };
    assert!((expected..expected + 60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    drop(held);
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_cut_soon_when_memory_is_scarce() {
    let (world, _client) = unread(40 << 20).await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"unread\"} 1"));
    assert!(world.all_memory_is_free());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_cut_in_the_end() {
    let (world, _client) = unread(0).await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"unread\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_but_not_one_that_waits_for_its_answer() {
    let service = Handler(|frame: Frame| {
        async move {
            sleep(Duration::from_secs(3600)).await;
            echo(correlation(&frame))
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut idle = world.net.connect(64);
    assert_eq!(closed_after(&mut idle).await, 600);
    let mut waiting = world.net.connect(64);
    waiting.send(&request(1, 1, 0)).await;
    let begun = now();
    assert_eq!(waiting.answer().await, 1_i32.to_be_bytes());
    assert_eq!(begun.elapsed().as_secs(), 3600);
    assert_eq!(closed_after(&mut waiting).await, 600, "idle since the answer");
    assert!(world.counted("kafscale_connections_closed_total{cause=\"idle\"} 2"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_connection_and_no_other() {
    let service = Handler(|frame: Frame| {
        let id = correlation(&frame);
        assert_ne!(id, 1, "a bug in the call");
        async move {
            assert_ne!(id, 2, "a bug in the request");
            echo(id)
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut bystander = world.net.connect(64);
    for id in [1, 2] {
        let mut client = world.net.connect(64);
        client.send(&request(1, id, 0)).await;
        client.closed().await;
    }
    bystander.send(&request(1, 3, 0)).await;
    assert_eq!(bystander.answer().await, 3_i32.to_be_bytes());
    assert!(world.counted("kafscale_requests_total{api=\"Fetch\",outcome=\"panicked\"} 2"));
    assert!(world.counted("kafscale_connections_closed_total{cause=\"panic\"} 2"));
    assert!(world.all_memory_is_free());
}

#[tokio::test(start_paused = true)]
async fn answers_before_a_panic_are_written() {
    let service = Handler(|frame: Frame| {
        async move {
            assert_ne!(correlation(&frame), 2, "a bug in the request");
            echo(correlation(&frame))
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(64);
    client.send(&[request(1, 1, 0), request(1, 2, 0)].concat()).await;
    assert_eq!(client.answer().await, 1_i32.to_be_bytes());
    client.closed().await;
}

#[tokio::test(start_paused = true)]
async fn connections_above_the_bound_are_closed_at_once() {
    let world = World::with(echoing(), 64 << 20, ConnectionSettings { max_connections: 2, answers: None });
    let mut clients: Vec<Client> = (0..5).map(|_| world.net.connect(64)).collect();
    for client in &mut clients[2..] {
        let mut byte = [0];
        assert_eq!(client.0.read(&mut byte).await.unwrap(), 0);
    }
    clients[1].send(&request(3, 1, 0)).await;
    assert_eq!(clients[1].answer().await, 1_i32.to_be_bytes());
    assert!(world.counted("kafscale_connections_refused_total{listener=\"test\"} 3"));
    clients.clear();
    sleep(Duration::from_secs(1)).await;
    let mut client = world.net.connect(64);
    client.send(&request(3, 2, 0)).await;
    assert_eq!(client.answer().await, 2_i32.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn the_listener_survives_failed_accepts() {
    let world = World::new(echoing());
    for _ in 0..20 {
        world.net.deliver(Err(io::Error::from_raw_os_error(24))); // EMFILE
        world.net.deliver(Err(io::ErrorKind::ConnectionReset.into()));
    }
    let begun = now();
    let mut client = world.net.connect(64);
    client.send(&request(3, 1, 0)).await;
    assert_eq!(client.answer().await, 1_i32.to_be_bytes());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(world.counted("kafscale_accept_errors_total{listener=\"test\"} 40"));
}

/// One connection per millisecond: some say nothing, some leave in the middle, some ask and leave.
#[tokio::test(start_paused = true)]
async fn churn_leaves_nothing_behind() {
    let world = World::new(echoing());
    for round in 0..3000_usize {
        let mut client = world.net.connect(64);
        let sent = request(0, 1, 20);
        client.send(&sent[..[0, 3, 15, sent.len()][round % 4]]).await;
        drop(client);
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.server.open(), 0);
    assert!(world.all_memory_is_free());
    assert!(world.counted("kafscale_connections_accepted_total{listener=\"test\"} 3000"));
    assert!(world.counted("kafscale_connections_open{listener=\"test\"} 0"));
}

/// A thousand connections that say nothing. The bound is far above what they take, since other tests run in the
/// same process; the exact size of a connection's task is asserted where it is defined.
#[tokio::test(start_paused = true)]
async fn idle_connections_cost_little() {
    let world = World::new(echoing());
    let before = resident_bytes();
    let clients: Vec<Client> = (0..1000).map(|_| world.net.connect(64)).collect();
    while world.server.open() < 1000 {
        sleep(Duration::from_millis(1)).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for 1000 connections");
    drop(clients);
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
