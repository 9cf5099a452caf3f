//! `kafscale broker`: from settings to a running broker, and from a signal to its end.

use std::sync::Arc;

use anyhow::{Context, bail};
use kafscale_broker::config::{HostPort, Settings, environment};
use kafscale_broker::http::LogControl;
use kafscale_broker::{Broker, Outside};
use kafscale_ports::disk::RealDisk;
use kafscale_ports::net::Tcp;
use kafscale_ports::{Env, Listen};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{arguments, hints, logs, machine};

/// Runs a broker until it is told to stop.
pub(crate) fn run(flags: &[(String, String)]) -> anyhow::Result<()> {
    let settings = Settings::parse(flags, &environment(), machine::measure())?;
    let logs = logs::start(settings.log.clone());
    let descriptors = machine::raise_descriptor_limit();
    tracing::info!(version = arguments::VERSION, descriptors, ?settings, "starting");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(serve(settings, logs));
    // What still runs is of no use to anyone: the broker has ended.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, logs: Arc<dyn LogControl>) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot listen to signals")?;
    let mut kafka: Vec<Arc<dyn Listen>> = Vec::new();
    let mut bootstrap = Vec::new();
    for listener in &settings.addresses.kafka {
        let bound = bind(&listener.listen, "--listen", "KAFSCALE_BROKER_ADDR").await?;
        bootstrap.push((listener.name.clone(), listener.advertised(bound.local_addr()?)));
        kafka.push(Arc::new(bound));
    }
    let http = bind(&settings.addresses.http, "--http", "KAFSCALE_METRICS_ADDR").await?;
    let ready = hints::Ready { bootstrap, http: http.local_addr()?, data: settings.places.to_string() };
    let (http, logs) = (Some(Arc::new(http) as Arc<dyn Listen>), Some(logs));
    let outside =
        Outside { env: Env::real(), disk: Arc::new(RealDisk), kafka, connect: Some(Arc::new(Tcp)), http, logs };
    let broker = tokio::select! {
        biased;
        // Nothing is served yet: stopping now is no more than not having started.
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
        started = Broker::start(settings, outside) => started?,
    };
    hints::print(&ready);
    tokio::select! {
        biased;
        name = signals.next() => tracing::info!(signal = name, "stopping; a second signal ends at once"),
        end = broker.ended() => bail!("the broker has ended by itself: {end}"),
    }
    tokio::select! {
        biased;
        name = signals.next() => bail!("ended at once by a second signal ({name})"),
        end = broker.stop() => tracing::info!(%end, "the broker has ended"),
    }
    Ok(())
}

async fn bind(address: &HostPort, flag: &str, variable: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind((&*address.host, address.port)).await;
    bound.with_context(|| {
        format!("cannot listen on {address}; choose another address with {flag} HOST:PORT ({variable})")
    })
}

/// The signals that stop a broker.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
