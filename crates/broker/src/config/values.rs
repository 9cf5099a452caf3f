//! The values that settings take, and how they are written.

use std::fmt;
use std::path::PathBuf;

/// A host (name or address) and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// The port; 0 lets the system choose where one listens.
    pub port: u16,
}

impl HostPort {
    /// Parses `host:port`, `[ipv6]:port` or `:port` (every IPv4 address, as Go writes it).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|_| v6)?,
            None if host.is_empty() => "0.0.0.0",
            None => Some(host).filter(|host| is_host(host) && !host.contains(':'))?,
        };
        Some(Self { host: host.to_owned(), port })
    }

    /// Whether this stands for every address of the machine.
    pub(super) fn is_wildcard(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A path, as it is written.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Whether `text` can be a host's name or address (IPv6 without brackets).
pub(super) fn is_host(text: &str) -> bool {
    let v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let name = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    !text.is_empty() && text.len() <= 253 && (v6 || name)
}

/// How severe a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something may fail.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    fn parse(text: &str) -> Option<Self> {
        match &*text.to_ascii_lowercase() {
            "error" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// Which log lines are written: those of a level, and of other levels from single modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// The least severe lines.
    pub level: LogLevel,
    /// The least severe lines from modules whose path begins so; the longest counts.
    pub modules: Vec<(String, LogLevel)>,
}

impl LogFilter {
    /// What [`LogFilter::parse`] takes, for messages.
    pub const TAKES: &str =
        "error, warn, info, debug or trace, and others for single modules as in info,kafscale_broker::ledger=debug";

    /// Parses `info` or `info,kafscale_broker::ledger=debug`: one level, and any number of modules with theirs.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut level, mut modules) = (None, Vec::new());
        for part in text.split(',') {
            match part.split_once('=') {
                Some((module, of)) if is_module(module) => modules.push((module.to_owned(), LogLevel::parse(of)?)),
                None if level.is_none() => level = Some(LogLevel::parse(part)?),
                Some(_) | None => return None,
            }
        }
        Some(Self { level: level?, modules })
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        self.modules.iter().try_for_each(|(module, level)| write!(f, ",{module}={level}"))
    }
}

/// Whether `text` can be the path of a module, such as `kafscale_broker::ledger`.
fn is_module(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split("::").all(word)
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parses a number of bytes: `1073741824`, `512MiB`, `1GB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
