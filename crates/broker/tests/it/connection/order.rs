//! Requests are called in order, answered in order, pipelined, within bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafscale_broker::connection::{Answer, ConnectionSettings, Frame, Reply, allowance};
use kafscale_ports::net::Accepted;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::pipes::{Client, Handler, World, correlation, echo, echoing, now, request};

#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_for_answers_and_answers_keep_the_order() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let service = Handler(move |frame: Frame| {
        let id = correlation(&frame);
        seen.lock().push(id);
        // The first is the slowest.
        async move {
            sleep(Duration::from_secs(5 - id as u64)).await;
            echo(id)
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(4096);
    let all: Vec<u8> = (1..=4).flat_map(|id| request(1, id, 10)).collect();
    client.send(&all).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*calls.lock(), [1, 2, 3, 4], "all are called before the first is answered");
    for id in 1..=4_i32 {
        assert_eq!(client.answer().await, id.to_be_bytes());
    }
    assert!(world.all_memory_is_free());
    assert!(world.counted("kafscale_requests_total{api=\"Fetch\",outcome=\"answered\"} 4"));
    assert!(world.counted("kafscale_request_bytes_total{api=\"Fetch\"} 88"));
}

#[tokio::test(start_paused = true)]
async fn the_frame_is_what_was_sent() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&frames);
    let service = Handler(move |frame: Frame| {
        seen.lock().push(frame.bytes.clone());
        async move { echo(correlation(&frame)) }.boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(64);
    for body in [0, 1, 100, 100_000] {
        let sent = request(0, 1, body);
        client.send(&sent).await;
        client.answer().await;
        assert_eq!(frames.lock().pop().unwrap(), sent[4..]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_ready_does_not_wait_for_what_is_not() {
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    let service = Handler(move |frame: Frame| {
        let gate = Arc::clone(&gate);
        async move {
            let id = correlation(&frame);
            if id == 2 {
                gate.notified().await;
            }
            echo(id)
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(4096);
    client.send(&[request(1, 1, 0), request(1, 2, 0), request(1, 3, 0)].concat()).await;
    assert_eq!(client.answer().await, 1_i32.to_be_bytes());
    open.notify_one();
    assert_eq!(client.answer().await, 2_i32.to_be_bytes());
    assert_eq!(client.answer().await, 3_i32.to_be_bytes());
}

#[tokio::test(start_paused = true)]
async fn unanswered_requests_are_bounded() {
    let (calls, gate) = (Arc::new(Mutex::new(0)), Arc::new(Notify::new()));
    let (count, wait) = (Arc::clone(&calls), Arc::clone(&gate));
    let service = Handler(move |frame: Frame| {
        *count.lock() += 1;
        let wait = Arc::clone(&wait);
        async move {
            let id = correlation(&frame);
            if id == 1 {
                wait.notified().await;
            }
            echo(id)
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(1 << 20);
    for id in 1..=500 {
        client.send(&request(1, id, 4)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*calls.lock(), 128);
    gate.notify_one();
    for id in 1..=500_i32 {
        assert_eq!(client.answer().await, id.to_be_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_answer_takes_no_place_in_the_stream() {
    let service = Handler(|frame: Frame| {
        async move {
            match correlation(&frame) {
                1 | 3 => Reply::Nothing,
                5 => Reply::Close,
                id => echo(id),
            }
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(4096);
    client.send(&(1..=6).flat_map(|id| request(0, id, 0)).collect::<Vec<_>>()).await;
    assert_eq!(client.answer().await, 2_i32.to_be_bytes());
    assert_eq!(client.answer().await, 4_i32.to_be_bytes());
    client.closed().await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"unanswerable\"} 1"));
}

/// Three frames fit the budget: the others wait, unread and off the clock, and the sum is never above.
#[tokio::test(start_paused = true)]
async fn memory_holds_the_sockets_back() {
    const BODY: usize = 16 * 1024;
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = Arc::clone(&held);
    let gate = Arc::new(Notify::new());
    let wait = Arc::clone(&gate);
    let service = Handler(move |frame: Frame| {
        let (id, wait) = (correlation(&frame), Arc::clone(&wait));
        holding.lock().push(frame);
        async move {
            wait.notified().await;
            echo(id)
        }
        .boxed()
    });
    let one = allowance(0, BODY + 8) as u64;
    let world = World::with(Arc::new(service), 3 * one + 1000, ConnectionSettings::default());
    let mut clients: Vec<Client> = (0..10).map(|_| world.net.connect(2 * BODY)).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.send(&request(0, i32::try_from(id).unwrap(), BODY)).await;
    }
    for round in 0..4 {
        // Far longer than a frame may take to arrive.
        sleep(Duration::from_secs(120)).await;
        let frames = std::mem::take(&mut *held.lock());
        let ids: Vec<i32> = frames.iter().map(correlation).collect();
        let expected: Vec<i32> = (round * 3..10.min(round * 3 + 3)).collect();
        assert_eq!(ids, expected, "first come, first served");
        assert!(frames.iter().map(|f| f.bytes.len() as u64).sum::<u64>() <= world.budget.total_bytes());
        drop(frames);
        gate.notify_waiters();
    }
    for (id, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().await, i32::try_from(id).unwrap().to_be_bytes());
    }
    assert!(world.all_memory_is_free());
}

/// The memory of an answer is held until it is written.
#[tokio::test(start_paused = true)]
async fn an_answer_holds_its_memory_until_it_is_written() {
    let budget = Arc::new(Mutex::new(None::<kafscale_log::budget::MemoryBudget>));
    let theirs = Arc::clone(&budget);
    let service = Handler(move |_frame: Frame| {
        let budget = theirs.lock().clone().expect("set below");
        async move {
            let hold = vec![budget.reserve(1000).await.unwrap()];
            let slices = vec![Bytes::from_static(&[0, 0, 3, 232]), Bytes::from(vec![7; 1000])];
            Reply::Send(Answer { slices, hold, failed: false })
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    *budget.lock() = Some(world.budget.clone());
    let mut client = world.net.connect(64);
    client.send(&request(1, 1, 0)).await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.budget.total_bytes() - world.budget.free_bytes(), 1024);
    assert_eq!(client.answer().await, vec![7; 1000]);
    sleep(Duration::from_millis(1)).await;
    assert!(world.all_memory_is_free());
}

/// A writer that takes a few bytes at a time and knows nothing of vectors.
struct Narrow(tokio::io::WriteHalf<tokio::io::DuplexStream>);

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let len = buf.len().min(3);
        Pin::new(&mut self.0).poll_write(cx, &buf[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_slices_leave_whole_on_any_writer() {
    const SLICES: usize = 3000;
    let service = || {
        Handler(|_frame: Frame| {
            let len = u32::try_from((0..SLICES).map(|i| i % 9).sum::<usize>()).unwrap();
            let mut slices = vec![Bytes::copy_from_slice(&len.to_be_bytes())];
            slices.extend((0..SLICES).map(|i| Bytes::from(vec![i.to_be_bytes()[7]; i % 9])));
            async move { Reply::Send(Answer { slices, hold: Vec::new(), failed: false }) }.boxed()
        })
    };
    let expected: Vec<u8> = (0..SLICES).flat_map(|i| vec![i.to_be_bytes()[7]; i % 9]).collect();
    let world = World::new(Arc::new(service()));
    let mut vectored = world.net.connect(1000);
    let (near, far) = tokio::io::duplex(1000);
    let (reader, writer) = tokio::io::split(far);
    let accepted = Accepted { reader: Box::new(reader), writer: Box::new(Narrow(writer)), peer: world.net.addr() };
    world.net.deliver(Ok(accepted));
    for client in [&mut vectored, &mut Client(near)] {
        client.send(&request(1, 1, 0)).await;
        assert_eq!(client.answer().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_is_slow_but_in_time() {
    let world = World::new(echoing());
    let mut client = world.net.connect(64);
    let begun = now();
    for byte in request(3, 9, 10) {
        client.send(&[byte]).await;
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(client.answer().await, 9_i32.to_be_bytes());
    assert_eq!(begun.elapsed().as_secs(), 22);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_peer_still_gets_its_answers() {
    let service = Handler(|frame: Frame| {
        async move {
            sleep(Duration::from_secs(3)).await;
            echo(correlation(&frame))
        }
        .boxed()
    });
    let world = World::new(Arc::new(service));
    let mut client = world.net.connect(64);
    client.send(&request(1, 5, 0)).await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.answer().await, 5_i32.to_be_bytes());
    client.closed().await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"peer\"} 1"));
}
