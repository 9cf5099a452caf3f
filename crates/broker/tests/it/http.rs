//! The HTTP routes and their bounds, over pipes.

use std::sync::Arc;

use kafscale_broker::config::LogFilter;
use kafscale_broker::http::{LogControl, Status, routes, serve};
use kafscale_broker::metrics::Metrics;
use kafscale_ports::Env;
use kafscale_ports::net::Accepted;
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
        metrics.fold.ordinal.set(42);
    }
}

struct Filter(Mutex<LogFilter>);

impl Filter {
    fn new() -> Self {
        Self(Mutex::new(LogFilter::parse("info").unwrap()))
    }
}

impl LogControl for Filter {
    fn filter(&self) -> LogFilter {
        self.0.lock().clone()
    }

    fn set(&self, filter: LogFilter) {
        *self.0.lock() = filter;
    }
}

fn world() -> (Dialer, Arc<Fixed>, CancellationToken) {
    let (listener, net) = pipes();
    let status = Arc::new(Fixed(Mutex::new(Err("starting: the journal is being read".into()))));
    let (env, stop) = (Env::real(), CancellationToken::new());
    let routes = routes(Arc::<Fixed>::clone(&status), Arc::new(Metrics::new()), Some(Arc::new(Filter::new())));
    spawn(&env, serve(routes, listener, env.clone(), stop.clone()));
    (net, status, stop)
}

async fn get(net: &Dialer, path: &str) -> String {
    let mut client = net.connect(1 << 16);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
    rest(&mut client).await
}

/// Asks for another log level, from `peer`; returns status and body.
async fn put(net: &Dialer, peer: [u8; 4], headers: &str, body: &str) -> (String, String) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(far);
    net.deliver(Ok(Accepted { reader: Box::new(reader), writer: Box::new(writer), peer: (peer, 1).into() }));
    let mut client = Client(near);
    let length = body.len();
    let head = format!("PUT /log-level HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\nConnection: close");
    client.send(format!("{head}\r\n\r\n{body}").as_bytes()).await;
    let answer = rest(&mut client).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (answer[9..12].to_owned(), body)
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

#[tokio::test(start_paused = true)]
async fn the_log_level_is_changed_from_this_machine_alone() {
    let (net, _status, _stop) = world();
    let (near, far) = ([127, 0, 0, 1], [192, 0, 2, 1]);
    assert!(get(&net, "/log-level").await.ends_with("\r\n\r\ninfo\n"));
    let (status, body) = put(&net, near, "", "debug,kafscale_log=trace\n").await;
    assert_eq!((&*status, &*body), ("200", "debug,kafscale_log=trace\n"));
    let (status, body) = put(&net, near, "", "loud").await;
    assert!(status == "400" && body.starts_with("\"loud\" is not valid: it takes error, warn"), "{status} {body}");
    assert_eq!(put(&net, far, "", "trace").await.0, "403");
    assert_eq!(put(&net, near, "Origin: http://page.example\r\n", "trace").await.0, "403");
    assert_eq!(put(&net, near, "", &"a".repeat(2000)).await.0, "413");
    assert!(get(&net, "/log-level").await.ends_with("\r\n\r\ndebug,kafscale_log=trace\n"));
}
