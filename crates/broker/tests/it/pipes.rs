//! A network of in-memory pipes, and a server on it, for tests on a paused clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafscale_broker::connection::{Answer, ConnectionSettings, Frame, Peer, Reply, Server, Service};
use kafscale_broker::metrics::Metrics;
use kafscale_log::budget::MemoryBudget;
use kafscale_ports::clock::SystemClock;
use kafscale_ports::net::{Accepted, Listen};
use kafscale_ports::{Clock, Env, Spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A listener whose connections the test makes.
pub(crate) struct Pipes {
    incoming: Mutex<mpsc::UnboundedReceiver<io::Result<Accepted>>>,
}

pub(crate) struct Dialer {
    to: mpsc::UnboundedSender<io::Result<Accepted>>,
    next_port: AtomicU16,
}

pub(crate) fn pipes() -> (Arc<Pipes>, Dialer) {
    let (to, incoming) = mpsc::unbounded_channel();
    (Arc::new(Pipes { incoming: Mutex::new(incoming) }), Dialer { to, next_port: AtomicU16::new(1) })
}

impl Dialer {
    /// Connects through a pipe that holds `bytes` in each direction.
    pub(crate) fn connect(&self, bytes: usize) -> Client {
        let (near, far) = tokio::io::duplex(bytes);
        let (reader, writer) = tokio::io::split(far);
        self.deliver(Ok(Accepted { reader: Box::new(reader), writer: Box::new(writer), peer: self.addr() }));
        Client(near)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.next_port.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn deliver(&self, accepted: io::Result<Accepted>) {
        // A server that has stopped drops its listener; what is sent then is a connection refused.
        let _ = self.to.send(accepted);
    }
}

#[async_trait]
impl Listen for Pipes {
    async fn accept(&self) -> io::Result<Accepted> {
        match self.incoming.lock().await.recv().await {
            Some(accepted) => accepted,
            None => futures::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9092)))
    }
}

/// The far end of a pipe.
pub(crate) struct Client(pub(crate) DuplexStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next answer, without its length.
    pub(crate) async fn answer(&mut self) -> Vec<u8> {
        let len = self.0.read_u32().await.unwrap();
        let mut answer = vec![0; len as usize];
        self.0.read_exact(&mut answer).await.unwrap();
        answer
    }

    /// Waits until the server closes; nothing may come before.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "an answer where none is due");
    }
}

/// A request with its length prefix; `correlation` is its name in tests.
pub(crate) fn request(key: i16, correlation: i32, body: usize) -> Vec<u8> {
    let len = i32::try_from(8 + body).unwrap();
    let mut bytes = Vec::with_capacity(12 + body);
    bytes.extend(len.to_be_bytes());
    bytes.extend(key.to_be_bytes());
    bytes.extend(7_i16.to_be_bytes());
    bytes.extend(correlation.to_be_bytes());
    bytes.resize(12 + body, 0xAB);
    bytes
}

pub(crate) fn correlation(frame: &Frame) -> i32 {
    i32::from_be_bytes(frame.bytes[4..8].try_into().unwrap())
}

/// An answer that repeats the correlation id.
pub(crate) fn echo(correlation: i32) -> Reply {
    let slices = vec![Bytes::from_static(&[0, 0, 0, 4]), Bytes::copy_from_slice(&correlation.to_be_bytes())];
    Reply::Send(Answer { slices, hold: Vec::new(), failed: false })
}

/// A service that is a function.
pub(crate) struct Handler<F>(pub(crate) F);

impl<F> Service for Handler<F>
where
    F: Fn(Frame) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, _peer: &Arc<Peer>, frame: Frame) -> BoxFuture<'static, Reply> {
        (self.0)(frame)
    }
}

/// Answers every request with its correlation id, at once.
pub(crate) fn echoing() -> Arc<dyn Service> {
    Arc::new(Handler(|frame: Frame| async move { echo(correlation(&frame)) }.boxed()))
}

/// A server on pipes.
pub(crate) struct World {
    pub(crate) net: Dialer,
    pub(crate) server: Arc<Server>,
    pub(crate) budget: MemoryBudget,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
    ended: Arc<Notify>,
}

impl World {
    pub(crate) fn new(service: Arc<dyn Service>) -> Self {
        Self::with(service, 64 << 20, ConnectionSettings::default())
    }

    pub(crate) fn with(service: Arc<dyn Service>, budget: u64, settings: ConnectionSettings) -> Self {
        let (listener, net) = pipes();
        let (budget, metrics, stop) = (MemoryBudget::new(budget), Arc::new(Metrics::new()), CancellationToken::new());
        let env = Env::real();
        let server = Server::new(service, env.clone(), budget.clone(), Arc::clone(&metrics), settings);
        let ended = Arc::new(Notify::new());
        let (serve, notify) = (Arc::clone(&server).serve(listener, "test".into(), stop.clone()), Arc::clone(&ended));
        spawn(&env, async move {
            serve.await;
            notify.notify_one();
        });
        Self { net, server, budget, metrics, stop, ended }
    }

    /// Waits until the server has stopped.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    pub(crate) fn all_memory_is_free(&self) -> bool {
        self.budget.free_bytes() == self.budget.total_bytes()
    }

    pub(crate) fn counted(&self, line: &str) -> bool {
        let text = self.metrics.render();
        text.lines().any(|l| l == line) || panic!("no line {line:?} in\n{text}")
    }
}

pub(crate) fn spawn(env: &Env, task: impl Future<Output = ()> + Send + 'static) {
    let tasks: &dyn Spawn = &*env.tasks;
    tasks.spawn("test", Box::pin(task));
}

/// The runtime's time, which is paused in most tests.
pub(crate) fn now() -> Instant {
    SystemClock.now()
}
