//! Listeners: where Kafka clients connect, under a name each, and the address that those who came in by it are told to
//! use. Owns their notation (`HOST:PORT`, or `NAME=HOST:PORT` separated by commas; Kafka's `NAME://HOST:PORT` is
//! understood) and which of them must be advertised.
//!
//! What is listened on and what is advertised differ wherever something lies between the two: a container whose port
//! is mapped, a router that translates addresses, a load balancer. A client connects to the first, is told the second,
//! and connects to that from then on.

use std::net::SocketAddr;

use kafscale_metadata::limits::LISTENERS;

use super::values::HostPort;
use super::{ConfigError, Given, TABLE_IS_RIGHT};

/// The name of a listener that was given none.
const UNNAMED: &str = "PLAINTEXT";
const MAX_NAME_BYTES: usize = 64;

/// One listener for Kafka clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaListener {
    /// Its name, unique on this broker.
    pub name: String,
    /// What it listens on.
    pub listen: HostPort,
    /// The host clients are told; the one listened on if none.
    advertised_host: Option<String>,
    /// The port clients are told; the one listened on if none.
    advertised_port: Option<u16>,
}

impl KafkaListener {
    /// What its clients are told, once it is known which port is listened on.
    #[must_use]
    pub fn advertised(&self, bound: SocketAddr) -> HostPort {
        HostPort {
            host: self.advertised_host.clone().unwrap_or_else(|| self.listen.host.clone()),
            port: self.advertised_port.unwrap_or(bound.port()),
        }
    }
}

/// The listeners that were set, in the order in which they were given.
pub(super) fn parse(given: &Given<'_>) -> Result<Vec<KafkaListener>, ConfigError> {
    let listen = given.get("listen", listen, |default| listen(default).expect(TABLE_IS_RIGHT))?;
    let mut listeners: Vec<KafkaListener> = listen.into_iter().map(unadvertised).collect();
    match advertised(given)? {
        Some((by, Advertised::Named(addresses))) => {
            for (name, address) in addresses {
                let known = listeners.iter().map(|listener| listener.name.clone()).collect();
                let Some(listener) = listeners.iter_mut().find(|listener| listener.name == name) else {
                    return Err(ConfigError::UnknownListener { by, name, known });
                };
                (listener.advertised_host, listener.advertised_port) = (Some(address.host), Some(address.port));
            }
        }
        Some((by, Advertised::Unnamed { host, port })) => match &mut listeners[..] {
            [only] => (only.advertised_host, only.advertised_port) = (host, port),
            several => return Err(ConfigError::WhichListener { by, listeners: several.len() }),
        },
        None => {}
    }
    match listeners.iter().find(|l| l.listen.is_wildcard() && l.advertised_host.is_none()) {
        Some(mute) => {
            let named = if mute.name == UNNAMED { String::new() } else { format!("{}=", mute.name) };
            Err(ConfigError::NoAdvertised { listen: mute.listen.clone(), named })
        }
        None => Ok(listeners),
    }
}

fn unadvertised((name, listen): (String, HostPort)) -> KafkaListener {
    KafkaListener { name, listen, advertised_host: None, advertised_port: None }
}

/// What clients are to be told.
enum Advertised {
    /// By the name of the listener.
    Named(Vec<(String, HostPort)>),
    /// For the only one. Host and port stand alone as variables.
    Unnamed { host: Option<String>, port: Option<u16> },
}

/// What was set, and by which name: the flag, else its variable, else the pair of variables of the reference system.
fn advertised(given: &Given<'_>) -> Result<Option<(&'static str, Advertised)>, ConfigError> {
    let lists =
        [("--advertise", given.flag("advertise")), ("KAFSCALE_ADVERTISE", given.variable("KAFSCALE_ADVERTISE"))];
    if let Some((by, value)) = lists.into_iter().find_map(|(by, value)| Some((by, value?))) {
        let addresses = advertise(value).ok_or_else(|| given.invalid("advertise", by, value))?;
        return Ok(Some((by, addresses)));
    }
    let (host, port) = (given.advertised_host()?, given.advertised_port()?);
    let by = if host.is_some() { "KAFSCALE_BROKER_HOST" } else { "KAFSCALE_BROKER_PORT" };
    Ok((host.is_some() || port.is_some()).then_some((by, Advertised::Unnamed { host, port })))
}

fn listen(text: &str) -> Option<Vec<(String, HostPort)>> {
    if let Some(only) = HostPort::parse(text) {
        return Some(vec![(UNNAMED.to_owned(), only)]);
    }
    named(text)
}

fn advertise(text: &str) -> Option<Advertised> {
    let usable = |address: &HostPort| !address.is_wildcard() && address.port > 0;
    if let Some(HostPort { host, port }) = HostPort::parse(text).filter(usable) {
        return Some(Advertised::Unnamed { host: Some(host), port: Some(port) });
    }
    named(text).filter(|all| all.iter().all(|(_, address)| usable(address))).map(Advertised::Named)
}

/// Parses `NAME=HOST:PORT,NAME=HOST:PORT`; each name once.
fn named(text: &str) -> Option<Vec<(String, HostPort)>> {
    let mut all: Vec<(String, HostPort)> = Vec::new();
    for part in text.split(',') {
        let (name, address) = part.split_once("://").or_else(|| part.split_once('='))?;
        let address = HostPort::parse(address)?;
        if !is_name(name) || all.len() == LISTENERS || all.iter().any(|(other, _)| other == name) {
            return None;
        }
        all.push((name.to_owned(), address));
    }
    Some(all)
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Option<Vec<String>> {
        Some(listen(text)?.iter().map(|(name, address)| format!("{name} {address}")).collect())
    }

    #[test]
    fn both_notations_and_both_families() {
        let owned = |all: &[&str]| Some(all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(texts("127.0.0.1:9092"), owned(&["PLAINTEXT 127.0.0.1:9092"]));
        assert_eq!(texts("[::]:9092"), owned(&["PLAINTEXT [::]:9092"]));
        assert_eq!(texts(":9092"), owned(&["PLAINTEXT 0.0.0.0:9092"]));
        assert_eq!(texts("A=:9092"), owned(&["A 0.0.0.0:9092"]));
        assert_eq!(texts("IN=[::1]:9092,OUT=0.0.0.0:9094"), owned(&["IN [::1]:9092", "OUT 0.0.0.0:9094"]));
        assert_eq!(texts("IN://h:1,OUT://[fd00::7]:2"), owned(&["IN h:1", "OUT [fd00::7]:2"]));
    }

    #[test]
    fn what_is_no_list_of_listeners_is_refused() {
        let wrong = [
            "",
            ",",
            "h:1,h:2",
            "A=h:1,",
            "A=h:1,B",
            "A=h:1,A=h:2",
            "=h:1",
            "A B=h:1",
            "A=h",
            "A=::1:9092",
            "A=h:70000",
        ];
        for text in wrong {
            assert_eq!(texts(text), None, "{text}");
        }
        let many = |count: usize| (0..count).map(|i| format!("L{i}=h:{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(texts(&many(LISTENERS)).map(|all| all.len()), Some(LISTENERS));
        assert_eq!(texts(&many(LISTENERS + 1)), None);
    }
}
