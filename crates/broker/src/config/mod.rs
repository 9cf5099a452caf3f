//! Settings: parsed once, into types. Owns every name by which something can be set, and is the only place that
//! reads the environment.
//!
//! Each setting has one name in two spellings, a flag and a `KAFSCALE_*` variable; the flag wins. [`SETTINGS`] is
//! the table of them: command-line help and documentation are made from it. A name that is not in it is an error,
//! since a mistyped setting that is ignored is found out in production.

mod data_dir;
mod etcd;
mod listeners;
mod names;
mod places;
mod values;

use std::time::Duration;

pub use data_dir::{DataDir, DataDirError, FORMAT, Identity, ObjectsIn};
pub use etcd::{EtcdSettings, TlsFiles};
pub use listeners::KafkaListener;
pub use names::{SETTINGS, Setting};
pub use places::{Objects, Order, Places, PlacesError};
pub use values::{HostPort, LogFilter, LogFormat, LogLevel};

use crate::limits::MIN_MEMORY_BYTES;
use names::variable_of;

const MIB: u64 = 1024 * 1024;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where journal and objects are.
    pub places: Places,
    /// This broker's id.
    pub broker_id: i32,
    /// The zone that it is in.
    pub rack: Option<String>,
    /// Addresses.
    pub addresses: Addresses,
    /// Memory.
    pub memory: Memory,
    /// Topics that come into being by use.
    pub topics: Topics,
    /// Consumer groups.
    pub groups: Groups,
    /// Objects written in a second on average, at most; none: what suits the store.
    pub flush_per_second: Option<u32>,
    /// Journal entries from one snapshot of the state to the next.
    pub snapshot_entries: u64,
    /// How long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
    /// Logs.
    pub log: Log,
}

/// Where the broker listens, and what it tells clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The Kafka protocol: at least one listener.
    pub kafka: Vec<KafkaListener>,
    /// HTTP.
    pub http: HostPort,
}

/// Memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// For requests and answers under way, bytes.
    pub budget_bytes: u64,
    /// For objects kept for reading, bytes.
    pub cache_bytes: u64,
}

/// Topics that come into being by use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topics {
    /// Whether they do.
    pub auto_create: bool,
    /// With how many partitions.
    pub auto_create_partitions: i32,
}

/// Consumer groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// How long the first generation of an empty group waits for more members.
    pub initial_rebalance_delay_ms: u32,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Which lines are written.
    pub filter: LogFilter,
    /// How they are written.
    pub format: LogFormat,
    /// From which duration on a request is named in a line; none: never.
    pub slow_request: Option<Duration>,
}

/// What some defaults are derived from.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Memory that this process may use, bytes.
    pub memory_bytes: u64,
}

/// Why settings were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No setting has this name.
    #[error("{name} is not a setting; the nearest one is {nearest}")]
    Unknown {
        /// The name as it was given.
        name: String,
        /// The nearest name that exists.
        nearest: &'static str,
    },
    /// The value is none that this setting takes.
    #[error("{name}={value:?} is not valid: it takes {expected}")]
    Invalid {
        /// The flag or variable.
        name: String,
        /// The value as it was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Clients cannot be told to connect to every address.
    #[error(
        "{listen} means every address of this machine, which clients cannot connect to: say which one they are to \
         use with --advertise {named}HOST:PORT (KAFSCALE_ADVERTISE)"
    )]
    NoAdvertised {
        /// What is listened on.
        listen: HostPort,
        /// The listener's name and '='; nothing if it has no name of its own.
        named: String,
    },
    /// It is not clear where the data is.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// An address is advertised for a listener that there is not.
    #[error("{by} has an address for {name}, and the listeners are {}: say the same names there and in --listen", .known.join(", "))]
    UnknownListener {
        /// The flag or variable.
        by: &'static str,
        /// The name that is none.
        name: String,
        /// The names that are.
        known: Vec<String>,
    },
    /// One address is advertised, and there are several listeners.
    #[error(
        "{by} is for one listener, and there are {listeners}: say which address belongs to which with \
         --advertise NAME=HOST:PORT,NAME=HOST:PORT (KAFSCALE_ADVERTISE)"
    )]
    WhichListener {
        /// The flag or variable.
        by: &'static str,
        /// How many there are.
        listeners: usize,
    },
}

/// The stored formats that this release writes and, with all older ones, reads: what an upgrade must not go back from.
#[must_use]
pub fn formats() -> String {
    let (entries, snapshots) = (kafscale_metadata::limits::FEATURE_LEVEL, kafscale_metadata::snapshot::VERSION);
    let (journal, objects) = (kafscale_journal::file::VERSION, kafscale_log::segment::FORMAT_VERSION);
    format!(
        "data directory {FORMAT}, journal {journal}, entries {entries}, snapshots {snapshots}, objects {objects}; \
         older ones are read"
    )
}

/// The `KAFSCALE_*` variables of this process.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(names::PREFIX))
        .collect()
}

/// Where to reach the HTTP listener of a broker with these settings, from the same machine: every address is the
/// loopback one. The other settings are not looked at.
///
/// # Errors
/// If the address is not valid.
pub fn http_address(flags: &[(String, String)], variables: &[(String, String)]) -> Result<HostPort, ConfigError> {
    let mut address = http(&Given { flags, variables })?;
    if address.is_wildcard() {
        address.host = if address.host.contains(':') { "::1".to_owned() } else { "127.0.0.1".to_owned() };
    }
    Ok(address)
}

impl Settings {
    /// Parses flags (names as in [`SETTINGS`], without dashes) and variables.
    ///
    /// # Errors
    /// If a name is not known or a value is not valid.
    pub fn parse(
        flags: &[(String, String)],
        variables: &[(String, String)],
        machine: Machine,
    ) -> Result<Self, ConfigError> {
        names::check(flags, variables)?;
        let given = Given { flags, variables };
        Ok(Self {
            places: places::parse(&given)?,
            broker_id: given.get("broker-id", |v| v.parse().ok().filter(|id| *id >= 0), parsed)?,
            rack: given.text("rack").map(str::to_owned),
            addresses: addresses(&given)?,
            memory: memory(&given, machine)?,
            topics: Topics {
                auto_create: given.get("auto-create-topics", values::boolean, parsed)?,
                auto_create_partitions: given.get(
                    "auto-create-partitions",
                    |v| v.parse().ok().filter(|n| (1..=10_000).contains(n)),
                    parsed,
                )?,
            },
            groups: Groups {
                initial_rebalance_delay_ms: given.get(
                    "group-initial-rebalance-delay-ms",
                    |v| v.parse().ok().filter(|ms| *ms <= 600_000),
                    parsed,
                )?,
            },
            flush_per_second: given
                .optional("flush-per-second", |v| v.parse().ok().filter(|n| (1..=10_000).contains(n)))?,
            snapshot_entries: given.get(
                "snapshot-entries",
                |v| v.parse().ok().filter(|n| (10..=1_000_000).contains(n)),
                parsed,
            )?,
            offsets_retention: given
                .get("offsets-retention-minutes", minutes, |v| minutes(v).expect(TABLE_IS_RIGHT))?,
            log: Log {
                filter: given.get("log-level", LogFilter::parse, |v| LogFilter::parse(v).expect(TABLE_IS_RIGHT))?,
                format: given.get("log-format", LogFormat::parse, |v| LogFormat::parse(v).expect(TABLE_IS_RIGHT))?,
                slow_request: given.get("slow-request-ms", milliseconds, |v| milliseconds(v).expect(TABLE_IS_RIGHT))?,
            },
        })
    }
}

const TABLE_IS_RIGHT: &str = "a default in the table is valid: a test parses them all";

fn parsed<T: std::str::FromStr>(default: &str) -> T {
    default.parse().ok().expect(TABLE_IS_RIGHT)
}

/// A duration; none for 0.
fn milliseconds(text: &str) -> Option<Option<Duration>> {
    text.parse().ok().map(|ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into())))
}

/// As Kafka takes them: from 1, and no more than an `INT32` of them.
fn minutes(text: &str) -> Option<Duration> {
    let minutes = text.parse().ok().filter(|n: &i32| *n > 0)?;
    Some(Duration::from_secs(60 * u64::from(minutes.unsigned_abs())))
}

fn addresses(given: &Given<'_>) -> Result<Addresses, ConfigError> {
    Ok(Addresses { kafka: listeners::parse(given)?, http: http(given)? })
}

fn http(given: &Given<'_>) -> Result<HostPort, ConfigError> {
    given.get("http", HostPort::parse, |default| HostPort::parse(default).expect(TABLE_IS_RIGHT))
}

/// A quarter of the machine for the budget and an eighth for the cache, within bounds: beside the broker, the page
/// cache of a local directory wants the rest.
fn memory(given: &Given<'_>, machine: Machine) -> Result<Memory, ConfigError> {
    let least = MIN_MEMORY_BYTES as u64;
    let budget = (machine.memory_bytes / 4).clamp(least, 1024 * MIB);
    let cache = (machine.memory_bytes / 8).min(512 * MIB);
    Ok(Memory {
        budget_bytes: given.get("memory", |v| values::bytes(v).filter(|b| *b >= least), |_| budget)?,
        cache_bytes: given.get("cache", values::bytes, |_| cache)?,
    })
}

/// What was given, by name.
struct Given<'a> {
    flags: &'a [(String, String)],
    variables: &'a [(String, String)],
}

impl<'a> Given<'a> {
    fn flag(&self, flag: &str) -> Option<&'a str> {
        self.flags.iter().rev().find(|(name, _)| name == flag).map(|(_, value)| &**value)
    }

    /// A variable's value; an empty one counts as not set, as charts and compose files leave them.
    fn variable(&self, variable: &str) -> Option<&'a str> {
        let set = self.variables.iter().find(|(name, value)| name == variable && !names::is_injected(name, value));
        set.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// The value of the flag, else of its variable.
    fn text(&self, flag: &str) -> Option<&'a str> {
        self.flag(flag).or_else(|| self.variable(variable_of(flag)))
    }

    fn get<T>(
        &self,
        flag: &str,
        parse: impl Fn(&str) -> Option<T>,
        default: impl Fn(&'static str) -> T,
    ) -> Result<T, ConfigError> {
        Ok(self.optional(flag, parse)?.unwrap_or_else(|| default(names::of(flag).default)))
    }

    fn optional<T>(&self, flag: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let variable = variable_of(flag);
        let (name, value) = match (self.flag(flag), self.variable(variable)) {
            (Some(value), _) => (format!("--{flag}"), value),
            (None, Some(value)) => (variable.to_owned(), value),
            (None, None) => return Ok(None),
        };
        parse(value).map(Some).ok_or_else(|| self.invalid(flag, &name, value))
    }

    fn advertised_host(&self) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.variable("KAFSCALE_BROKER_HOST") else { return Ok(None) };
        let valid = values::is_host(value);
        if valid { Ok(Some(value.to_owned())) } else { Err(self.invalid("advertise", "KAFSCALE_BROKER_HOST", value)) }
    }

    fn advertised_port(&self) -> Result<Option<u16>, ConfigError> {
        let Some(value) = self.variable("KAFSCALE_BROKER_PORT") else { return Ok(None) };
        match value.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            Ok(_) | Err(_) => Err(self.invalid("advertise", "KAFSCALE_BROKER_PORT", value)),
        }
    }

    fn invalid(&self, flag: &str, name: &str, value: &str) -> ConfigError {
        let expected = names::of(flag).takes.to_owned();
        ConfigError::Invalid { name: name.to_owned(), value: value.to_owned(), expected }
    }
}

#[cfg(test)]
mod tests;
