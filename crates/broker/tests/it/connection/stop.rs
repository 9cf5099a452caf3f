//! The graceful stop: no more in, what was read is answered, then the end, within a bound.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kafscale_broker::connection::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::pipes::{Handler, World, correlation, echo, echoing, now, request};

/// Answers a request after as many seconds as its correlation id says.
fn slow() -> Arc<Handler<impl Fn(Frame) -> futures::future::BoxFuture<'static, kafscale_broker::connection::Reply>>> {
    Arc::new(Handler(|frame: Frame| {
        async move {
            let id = correlation(&frame);
            sleep(Duration::from_secs(u64::try_from(id).unwrap())).await;
            echo(id)
        }
        .boxed()
    }))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_answered_and_then_all_is_closed() {
    let world = World::new(slow());
    let (mut idle, mut busy, mut half) = (world.net.connect(64), world.net.connect(4096), world.net.connect(64));
    busy.send(&[request(1, 2, 0), request(1, 3, 0)].concat()).await;
    half.send(&request(1, 1, 100)[..50]).await;
    sleep(Duration::from_secs(1)).await;
    let begun = now();
    world.stop.cancel();
    idle.closed().await;
    half.closed().await;
    assert_eq!(begun.elapsed().as_secs(), 0);
    assert_eq!(busy.answer().await, 2_i32.to_be_bytes());
    assert_eq!(busy.answer().await, 3_i32.to_be_bytes());
    busy.closed().await;
    drop((idle, busy, half));
    world.ended().await;
    assert_eq!(begun.elapsed().as_secs(), 4);
    assert_eq!(world.server.open(), 0);
    assert!(world.all_memory_is_free());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_for_ever_does_not_hold_up_the_end() {
    let world = World::new(slow());
    let mut client = world.net.connect(64);
    client.send(&request(1, 100_000, 0)).await;
    sleep(Duration::from_secs(1)).await;
    let begun = now();
    world.stop.cancel();
    world.ended().await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    client.closed().await;
    assert!(world.counted("kafscale_connections_closed_total{cause=\"undrained\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_sending_does_not_hold_up_the_end() {
    let world = World::new(echoing());
    let mut client = world.net.connect(64);
    client.send(&request(1, 1, 0)).await;
    client.answer().await;
    world.stop.cancel();
    let begun = now();
    let (mut from, mut to) = tokio::io::split(client.0);
    let flood = async {
        while to.write_all(&[0; 64]).await.is_ok() {
            sleep(Duration::from_millis(1)).await; // else the paused clock would never go on
        }
    };
    let read = async {
        let mut rest = Vec::new();
        from.read_to_end(&mut rest).await.unwrap();
        rest
    };
    let ((), rest) = tokio::join!(
        async {
            tokio::select! { biased; () = world.ended() => {}, () = flood => {} }
        },
        read
    );
    assert_eq!(rest, b"");
    assert!(begun.elapsed().as_secs() <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_waits_for_memory_is_let_go() {
    let world = World::new(echoing());
    let held = world.budget.reserve(world.budget.total_bytes()).await.unwrap();
    let mut client = world.net.connect(64);
    client.send(&request(0, 1, 10)).await;
    sleep(Duration::from_secs(100)).await;
    world.stop.cancel();
    client.closed().await;
    drop(client);
    world.ended().await;
    drop(held);
    assert!(world.all_memory_is_free());
}
