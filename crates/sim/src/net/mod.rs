//! The network of a world: clients connect, one broker life after another listens, connections are cut. Owns the
//! connections and the listeners; how bytes travel is in [`pipe`].
//!
//! A cut connection may have delivered a request whose answer is lost; a half-open one swallows what one side sends
//! and tells nobody, until that side's patience ends.

mod pipe;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use kafscale_ports::Listen;
use kafscale_ports::net::{Accepted, ReadHalf, WriteHalf};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Duration, sleep};

use self::pipe::Pipe;
pub use self::pipe::Weather;
use crate::clock::SimClock;
use crate::rng::Rng;
use crate::trace::Trace;

/// Connections that wait to be accepted, at most.
const BACKLOG: usize = 64;
/// How often, in a thousand, an accept fails for a reason of that one connection.
const FAILED_ACCEPTS_PER_MILLE: u64 = 10;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Both ends get an error.
    Reset,
    /// What the client sends vanishes.
    SwallowRequests,
    /// What the broker sends vanishes.
    SwallowAnswers,
}

/// The network of one world.
pub struct SimNet {
    clock: SimClock,
    trace: Trace,
    weather: Weather,
    inner: Mutex<Inner>,
    arrived: Notify,
}

struct Inner {
    rng: Rng,
    next: u64,
    /// Requests and answers of each connection that is not over.
    connections: BTreeMap<u64, [Arc<Pipe>; 2]>,
    backlog: VecDeque<(u64, Accepted)>,
    /// Which life listens.
    listener: Option<u64>,
    lives: u64,
}

impl SimNet {
    /// A network on which nobody listens.
    pub fn new(clock: SimClock, trace: Trace, weather: Weather, rng: Rng) -> Arc<Self> {
        let inner =
            Inner { rng, next: 0, connections: BTreeMap::new(), backlog: VecDeque::new(), listener: None, lives: 0 };
        Arc::new(Self { clock, trace, weather, inner: Mutex::new(inner), arrived: Notify::new() })
    }

    /// A listener for a new life of the broker. Nobody listens once it is dropped.
    pub fn listen(self: &Arc<Self>) -> Arc<dyn Listen> {
        let mut inner = self.inner.lock();
        inner.lives += 1;
        inner.listener = Some(inner.lives);
        Arc::new(SimListener { net: Arc::clone(self), life: inner.lives })
    }

    /// Connects to whoever listens.
    pub async fn connect(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        sleep(Duration::from_millis(1)).await;
        let mut inner = self.inner.lock();
        if inner.listener.is_none() || inner.backlog.len() >= BACKLOG {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let id = inner.next;
        inner.next += 1;
        let pipe = |way: &str, number| {
            let rng = inner.rng.fork(way, number);
            Pipe::new(format!("c{id} {way}"), self.clock, self.trace.clone(), self.weather, rng)
        };
        let (requests, answers) = (pipe("requests", id), pipe("answers", id));
        let (client_writer, broker_reader) = requests.ends();
        let (broker_writer, client_reader) = answers.ends();
        let port = 32_768 + u16::try_from(id % 28_000).expect("below 28,000");
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let accepted = Accepted { reader: Box::new(broker_reader), writer: Box::new(broker_writer), peer };
        inner.backlog.push_back((id, accepted));
        inner.connections.retain(|_, pipes| !pipes.iter().all(|pipe| pipe.is_over()));
        inner.connections.insert(id, [requests, answers]);
        self.trace.line(format_args!("net c{id} connect"));
        self.arrived.notify_one();
        Ok((Box::new(client_reader), Box::new(client_writer)))
    }

    /// Cuts a connection, if there is one.
    pub fn cut(&self, how: Cut) {
        let mut inner = self.inner.lock();
        let ids: Vec<u64> = inner.connections.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[inner.rng.index(ids.len())];
        self.trace.line(format_args!("net c{id} cut {how:?}"));
        let Some([requests, answers]) = inner.connections.get(&id) else { return };
        match how {
            Cut::Reset => {
                requests.reset();
                answers.reset();
            }
            Cut::SwallowRequests => requests.swallow(),
            Cut::SwallowAnswers => answers.swallow(),
        }
    }

    /// Cuts all connections: a power failure, seen from the other side.
    pub fn reset_all(&self) {
        for pipe in self.inner.lock().connections.values().flatten() {
            pipe.reset();
        }
    }

    /// Nothing is half-open any more.
    pub fn heal(&self) {
        for pipes in self.inner.lock().connections.values() {
            if pipes.iter().any(|pipe| pipe.swallows()) {
                pipes.iter().for_each(|pipe| pipe.reset());
            }
        }
    }
}

struct SimListener {
    net: Arc<SimNet>,
    life: u64,
}

#[async_trait]
impl Listen for SimListener {
    async fn accept(&self) -> io::Result<Accepted> {
        loop {
            {
                let mut inner = self.net.inner.lock();
                if let Some((id, accepted)) = inner.backlog.pop_front() {
                    let fails = inner.rng.within(0..1000) < FAILED_ACCEPTS_PER_MILLE;
                    self.net.trace.line(format_args!("net c{id} accept{}", if fails { " fails" } else { "" }));
                    return if fails { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(accepted) };
                }
            }
            self.net.arrived.notified().await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut inner = self.net.inner.lock();
        if inner.listener == Some(self.life) {
            inner.listener = None;
            // Dropped outside of the lock's scope would be nicer, but a pipe never locks the network.
            inner.backlog.clear();
        }
    }
}
