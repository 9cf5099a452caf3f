//! `kafscale-s3`: the S3 test server as a process. Owns its flags, the line that says it is ready, and its end.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use kafscale_ports::Env;
use kafscale_s3_server::{Server, Settings};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server in memory for tests, with faults that are set over HTTP. What it holds is gone when it stops.
///
/// Prints `ready HOST:PORT control HOST:PORT` when it serves. Stops on SIGTERM, SIGINT, or when its standard input is closed.
#[derive(Debug, Parser)]
#[command(name = "kafscale-s3", version)]
struct Flags {
    /// Where S3 is spoken; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where counters are read and faults are set; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// The access key that requests are signed with
    #[arg(long, default_value = "kafscale")]
    access_key: String,
    /// Its secret key
    #[arg(long, default_value = "kafscale-secret")]
    secret_key: String,
    /// The session token that requests must carry
    #[arg(long)]
    session_token: Option<String>,
    /// A bucket that is there from the start; may be repeated
    #[arg(long = "bucket", default_value = "kafscale")]
    buckets: Vec<String>,
    /// All objects together take so much memory at most; PUTs beyond are answered with 507
    #[arg(long, default_value_t = 4096)]
    max_mib: usize,
    /// For latencies and faults: the same seed and the same requests give the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let settings = Settings {
        listen: flags.listen,
        control: flags.control,
        access_key: flags.access_key,
        secret_key: flags.secret_key,
        session_token: flags.session_token,
        buckets: flags.buckets,
        max_bytes: flags.max_mib << 20,
        seed: flags.seed,
    };
    // Before the line that says "ready": who reads it may stop the server at once.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::start(settings, Env::real()).await.context("an address cannot be listened on")?;
    let mut out = std::io::stdout();
    writeln!(out, "ready {} control {}", server.address(), server.control_address())?;
    out.flush()?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_closed() => {}
    }
    // A read of standard input cannot be called back, and the runtime would wait for it.
    std::process::exit(0)
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 1024];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}
