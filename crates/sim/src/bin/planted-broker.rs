//! The real broker, on real files and sockets, with one bug planted: its journal says "written", and shows the entry,
//! some milliseconds before it writes it. The kill test runs this binary to show that its checker finds what was
//! acknowledged and lost. It takes `broker` and the flags of `kafscale broker`.

use std::sync::Arc;

use anyhow::{Context, bail};
use kafscale_broker::config::{Machine, Settings};
use kafscale_broker::{Between, Broker, Outside};
use kafscale_journal::Journal;
use kafscale_ports::disk::RealDisk;
use kafscale_ports::spawn::TokioSpawn;
use kafscale_ports::{Env, Listen};
use kafscale_sim::plant::acknowledge_early;
use tokio::net::TcpListener;

struct Early;

impl Between for Early {
    fn journal(&self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        acknowledge_early(journal, Arc::new(TokioSpawn))
    }
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse(&flags()?, &[], Machine { memory_bytes: 1 << 30 })?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let http = &settings.addresses.http;
    let mut kafka: Vec<Arc<dyn Listen>> = Vec::new();
    for listener in &settings.addresses.kafka {
        kafka.push(Arc::new(TcpListener::bind((&*listener.listen.host, listener.listen.port)).await?));
    }
    let http = Arc::new(TcpListener::bind((&*http.host, http.port)).await?);
    let outside =
        Outside { env: Env::real(), disk: Arc::new(RealDisk), kafka, connect: None, http: Some(http), logs: None };
    let broker = Broker::start_between(settings, outside, &Early).await?;
    bail!("the broker has ended by itself: {}", broker.ended().await)
}

/// `broker --name value …` as pairs.
fn flags() -> anyhow::Result<Vec<(String, String)>> {
    let words: Vec<String> = std::env::args().skip(2).collect();
    let pair = |pair: &[String]| match pair {
        [name, value] => Ok((name.trim_start_matches("--").to_owned(), value.clone())),
        _ => bail!("{pair:?} has no value"),
    };
    words.chunks(2).map(pair).collect::<anyhow::Result<_>>().context("usage: planted-broker broker [--flag value …]")
}
