//! The same over real sockets.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use kafscale_broker::connection::{Answer, ConnectionSettings, Frame, Reply, Server, Service};
use kafscale_broker::metrics::Metrics;
use kafscale_log::budget::MemoryBudget;
use kafscale_ports::Env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::pipes::{Handler, request};

/// Sends back what it got, as two slices.
fn mirror() -> Arc<dyn Service> {
    Arc::new(Handler(|frame: Frame| {
        let len = u32::try_from(frame.bytes.len()).unwrap();
        let slices = vec![Bytes::copy_from_slice(&len.to_be_bytes()), frame.bytes];
        async move { Reply::Send(Answer { slices, hold: vec![frame.reservation], failed: false }) }.boxed()
    }))
}

#[tokio::test]
async fn pipelined_requests_of_many_sizes_come_back_whole_and_in_order() {
    let budget = MemoryBudget::new(64 << 20);
    let metrics = Arc::new(Metrics::new());
    let settings = ConnectionSettings::default();
    let env = Env::real();
    let server = Server::new(mirror(), env.clone(), budget.clone(), metrics, settings);
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serve = Arc::clone(&server).serve(listener, "tcp".into(), stop.clone());
    let client = async {
        let (mut from, mut to) = TcpStream::connect(addr).await.unwrap().into_split();
        let sizes = [0, 1, 100, 5_000_000, 3, 70_000, 0];
        let sent: Vec<Vec<u8>> = (0..).zip(sizes).map(|(id, size)| request(0, id, size)).collect();
        let all = sent.concat();
        let write = async { to.write_all(&all).await.unwrap() };
        let read = async {
            let mut back = vec![0; all.len()];
            from.read_exact(&mut back).await.unwrap();
            back
        };
        let ((), back) = tokio::join!(write, read);
        assert!(back == all, "not what was sent");
        assert_eq!(server.open(), 1);
        stop.cancel();
        assert_eq!(from.read(&mut [0]).await.unwrap(), 0, "closed at the stop");
    };
    tokio::join!(serve, client);
    assert_eq!(budget.free_bytes(), budget.total_bytes());
}
