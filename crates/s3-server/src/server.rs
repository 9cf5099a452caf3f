//! The server as a whole: its two ports, its connections, its end. Owns what is started and that it stops; a request is
//! `service`'s.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kafscale_ports::Env;
use parking_lot::Mutex;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::api::Api;
use crate::control;
use crate::faults::{Faults, Outage};
use crate::objects::{Objects, Stored};
use crate::random::Dice;
use crate::service::Service;
use crate::stats::{Book, Entry, Stats};

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where S3 is spoken; port 0 for a free one.
    pub listen: SocketAddr,
    /// Where the server is controlled; port 0 for a free one.
    pub control: SocketAddr,
    /// The key pair that requests are signed with.
    pub access_key: String,
    /// See `access_key`.
    pub secret_key: String,
    /// What requests must carry beside, if anything.
    pub session_token: Option<String>,
    /// Buckets that are there from the start.
    pub buckets: Vec<String>,
    /// All objects together have no more bytes; a PUT beyond is answered with 507.
    pub max_bytes: usize,
    /// For latencies and faults.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: loopback,
            control: loopback,
            access_key: "kafscale".to_owned(),
            secret_key: "kafscale-secret".to_owned(),
            session_token: None,
            buckets: vec!["kafscale".to_owned()],
            max_bytes: 4 << 30,
            seed: 1,
        }
    }
}

/// A running server; it stops when this goes.
pub struct Server {
    shared: Arc<Shared>,
    listen: SocketAddr,
    control: SocketAddr,
    /// Closed by its end, which every task waits for.
    _running: watch::Sender<()>,
}

pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    objects: Arc<Mutex<Objects>>,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// If an address is taken.
    pub async fn start(settings: Settings, env: Env) -> io::Result<Self> {
        let s3_port = TcpListener::bind(settings.listen).await?;
        let control_port = TcpListener::bind(settings.control).await?;
        let (listen, control) = (s3_port.local_addr()?, control_port.local_addr()?);
        let objects = Arc::new(Mutex::new(Objects::new(&settings.buckets, settings.max_bytes)));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let mut builder = S3ServiceBuilder::new(Api { objects: Arc::clone(&objects), faults: Arc::clone(&faults) });
        builder.set_auth(SimpleAuth::from_single(settings.access_key, settings.secret_key));
        let service = Arc::new(Service {
            s3: builder.build(),
            session_token: settings.session_token,
            faults,
            dice: Mutex::new(Dice::new(settings.seed)),
            book: Mutex::new(Book::default()),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            outage: watch::channel(Outage::None).0,
            started: env.clock.now(),
            env: env.clone(),
        });
        let shared = Arc::new(Shared { service, objects });
        let (running, stopped) = watch::channel(());
        let spawner = env.tasks;
        spawner.spawn("s3 port", accept(s3_port, Arc::clone(&shared), stopped.clone(), Port::S3).boxed());
        spawner.spawn("control port", accept(control_port, Arc::clone(&shared), stopped, Port::Control).boxed());
        Ok(Self { shared, listen, control, _running: running })
    }

    /// Where S3 is spoken.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where the server is controlled.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Sets faults; what `faults` does not name is off.
    ///
    /// # Errors
    /// If a number in it makes no sense.
    pub fn set_faults(&self, faults: Faults) -> Result<(), String> {
        self.shared.set_faults(faults)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The requests after number `after` that are still known.
    pub fn log(&self, after: u64) -> Vec<Entry> {
        self.shared.service.book.lock().log(after)
    }

    /// An object, past every fault.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Stored> {
        self.shared.objects.lock().get(bucket, key).ok().flatten()
    }
}

impl Shared {
    pub(crate) fn set_faults(&self, faults: Faults) -> Result<(), String> {
        if let Some(problem) = faults.problem() {
            return Err(problem);
        }
        let outage = faults.outage;
        *self.service.faults.lock() = faults;
        self.service.outage.send_replace(outage);
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        let service = &self.service;
        let (objects, bytes) = {
            let objects = self.objects.lock();
            (objects.count(), objects.bytes())
        };
        Stats {
            uptime_ms: u64::try_from((service.env.clock.now() - service.started).as_millis()).unwrap_or(u64::MAX),
            objects,
            bytes,
            in_flight: service.in_flight.load(Ordering::Relaxed),
            connections: service.connections.load(Ordering::Relaxed),
            methods: service.book.lock().methods.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    S3,
    Control,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<()>, port: Port) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        // An error is a connection's that was gone before it was accepted.
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
        let tasks = Arc::clone(&shared.service.env.tasks);
        let connection = async move {
            match port {
                Port::S3 => serve_s3(stream, shared, stopped).await,
                Port::Control => serve_control(stream, shared, stopped).await,
            }
        };
        tasks.spawn("s3 connection", connection.boxed());
    }
}

async fn serve_s3(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let service = Arc::clone(&shared.service);
    let mut outage = service.outage.subscribe();
    service.connections.fetch_add(1, Ordering::Relaxed);
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    });
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        _ = outage.wait_for(|outage| *outage == Outage::Cut) => {}
        // How it ended is in the book.
        _ = serving => {}
    }
    service.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn serve_control(stream: TcpStream, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let answer = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(control::answer(&shared, request).await) }
    });
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        biased;
        _ = stopped.changed() => {}
        _ = serving => {}
    }
}
