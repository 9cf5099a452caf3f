//! The HTTP routes and their bounds, over pipes.

use std::sync::Arc;

use kafscale_broker::http::{Status, routes, serve};
use kafscale_broker::metrics::Metrics;
use kafscale_ports::Env;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use crate::pipes::{Client, Dialer, now, pipes, spawn};

struct Fixed(Mutex<Result<(), String>>);

impl Status for Fixed {
    fn readiness(&self) -> Result<(), String> {
        self.0.lock().clone()
    }

    fn sample(&self, metrics: &Metrics) {
        metrics.journal.ordinal.set(42);
    }
}

fn world() -> (Dialer, Arc<Fixed>, CancellationToken) {
    let (listener, net) = pipes();
    let status = Arc::new(Fixed(Mutex::new(Err("starting: the journal is being read".into()))));
    let (env, stop) = (Env::real(), CancellationToken::new());
    let routes = routes(Arc::<Fixed>::clone(&status), Arc::new(Metrics::new()));
    spawn(&env, serve(routes, listener, env.clone(), stop.clone()));
    (net, status, stop)
}

async fn get(net: &Dialer, path: &str) -> String {
    let mut client = net.connect(1 << 16);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
    rest(&mut client).await
}

async fn rest(client: &mut Client) -> String {
    let mut answer = String::new();
    client.0.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn liveness_readiness_and_metrics() {
    let (net, status, _stop) = world();
    assert!(get(&net, "/livez").await.starts_with("HTTP/1.1 200"));
    let answer = get(&net, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("starting: the journal is being read\n"), "{answer}");
    *status.0.lock() = Ok(());
    assert!(get(&net, "/readyz").await.starts_with("HTTP/1.1 200"));
    let answer = get(&net, "/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
    assert!(answer.contains("\nkafscale_journal_ordinal 42\n") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(get(&net, "/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_bounded_in_time_and_size() {
    let (net, _status, _stop) = world();
    let begun = now();
    let mut silent = net.connect(1 << 16);
    silent.send(b"GET /livez HTTP/1.1\r\nHost:").await;
    rest(&mut silent).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    let mut long = net.connect(1 << 17);
    long.send(format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(60_000)).as_bytes()).await;
    assert!(rest(&mut long).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_end_at_the_stop() {
    let (net, _status, stop) = world();
    let mut open: Vec<Client> = (0..64).map(|_| net.connect(64)).collect();
    assert_eq!(rest(&mut net.connect(64)).await, "");
    stop.cancel();
    let begun = now();
    for client in &mut open {
        assert_eq!(rest(client).await, "");
    }
    assert!(begun.elapsed().as_secs() <= 1);
}
