//! `kafscale health`: asks a running broker whether it is ready, for probes in containers that have no other program.
//! Exit code 0 if it is; otherwise what it says of itself, and 1.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use kafscale_broker::config::{HostPort, environment, http_address};

/// Container engines give a probe thirty seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is a line and a few headers.
const MAX_BYTES: u64 = 64 << 10;

/// Asks, and prints the answer.
pub(crate) fn run(flags: &[(String, String)]) -> anyhow::Result<()> {
    let address = http_address(flags, &environment())?;
    let answer = ask(&address).with_context(|| format!("no answer from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{address} says: {}", body.trim());
    }
    // Nobody is left to tell if standard output is closed.
    let _ = std::io::stdout().write_all(body.as_bytes());
    Ok(())
}

fn ask(address: &HostPort) -> anyhow::Result<String> {
    let mut connection = connect(address)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    write!(connection, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(MAX_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The first of the host's addresses that answers.
fn connect(address: &HostPort) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for at in (&*address.host, address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, TIMEOUT) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("the name has no address"), Into::into))
}
