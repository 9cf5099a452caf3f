//! How etcd is reached, and as whom this broker is known there. Owns the notation of the journal's URL and which settings
//! of etcd go together; certificates are read when the journal is opened.

use std::path::PathBuf;

use kafscale_journal::etcd::client::User;
use xxhash_rust::xxh3::xxh3_128;

use super::places::PlacesError;
use super::{ConfigError, Given};

const SCHEME: &str = "etcd://";
const CA: &str = "--etcd-ca (KAFSCALE_ETCD_CA)";
const DEFAULT_PORT: u16 = 2379;
const DEFAULT_ROOT: &str = "kafscale";

/// Where the journal in etcd is, and who this broker is to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `HOST:PORT` of members.
    pub endpoints: Vec<String>,
    /// What the cluster's keys begin with.
    pub root: String,
    /// Certificates, if connections are encrypted.
    pub tls: Option<TlsFiles>,
    /// Who we are to etcd, if it asks.
    pub user: Option<User>,
    /// What proves that a restarted process is the same broker; random if nothing was said.
    pub token: Option<u128>,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signed the members' certificates.
    pub authorities: PathBuf,
    /// Our certificate and its key, if the members ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What the journal's URL or the reference system's variable says; none if neither is about etcd.
pub(super) fn parse(given: &Given<'_>) -> Result<Option<EtcdSettings>, ConfigError> {
    let url = given.text("journal").map(|url| ("--journal", url));
    let endpoints = given.variable("KAFSCALE_ETCD_ENDPOINTS").map(|list| ("KAFSCALE_ETCD_ENDPOINTS", list));
    let Some((name, text)) = url.or(endpoints) else { return Ok(None) };
    let list = match text.strip_prefix(SCHEME) {
        Some(rest) => rest,
        // A file's URL is somebody else's to read.
        None if name == "--journal" => return Ok(None),
        None => text,
    };
    let (endpoints, root) = location(list).ok_or_else(|| given.invalid("journal", name, text))?;
    let token = given.text("identity").map(|text| xxh3_128(text.as_bytes()));
    let tls = tls(given)?;
    if tls.is_none() && list.contains("https://") {
        // Without it a password would go over the network as it is.
        return Err(PlacesError::Alone { given: "https:// before a member of etcd", missing: CA }.into());
    }
    Ok(Some(EtcdSettings { endpoints, root, tls, user: user(given)?, token }))
}

/// `HOST[:PORT],…[/ROOT]`; each host may have `http://` or `https://` before it, as the reference system's lists do.
fn location(text: &str) -> Option<(Vec<String>, String)> {
    let text = text.replace("http://", "").replace("https://", "");
    let (hosts, root) = text.split_once('/').unwrap_or((&text, ""));
    let root = root.trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !root.chars().all(is_plain) || root.contains("//") || root.starts_with('/') {
        return None;
    }
    let endpoints = hosts.split(',').map(endpoint).collect::<Option<Vec<_>>>()?;
    Some((endpoints, if root.is_empty() { DEFAULT_ROOT } else { root }.to_owned()))
}

fn endpoint(text: &str) -> Option<String> {
    let text = text.trim();
    let after_host = text.rfind(']').map_or(text, |end| &text[end..]);
    let whole = if after_host.contains(':') { text.to_owned() } else { format!("{text}:{DEFAULT_PORT}") };
    let (host, port) = whole.rsplit_once(':')?;
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c));
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(whole)
}

fn tls(given: &Given<'_>) -> Result<Option<TlsFiles>, PlacesError> {
    let file = |flag| given.text(flag).map(PathBuf::from);
    let client = match (file("etcd-cert"), file("etcd-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(PlacesError::Alone { given: "--etcd-cert", missing: "--etcd-key" }),
        (None, Some(_)) => return Err(PlacesError::Alone { given: "--etcd-key", missing: "--etcd-cert" }),
    };
    match (file("etcd-ca"), client) {
        (Some(authorities), client) => Ok(Some(TlsFiles { authorities, client })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(PlacesError::Alone { given: "--etcd-cert", missing: CA }),
    }
}

fn user(given: &Given<'_>) -> Result<Option<User>, PlacesError> {
    match (given.text("etcd-username"), given.text("etcd-password")) {
        (Some(name), Some(password)) => Ok(Some(User { name: name.to_owned(), password: password.to_owned() })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(PlacesError::Alone { given: "--etcd-username", missing: "--etcd-password (KAFSCALE_ETCD_PASSWORD)" })
        }
        (None, Some(_)) => {
            Err(PlacesError::Alone { given: "--etcd-password", missing: "--etcd-username (KAFSCALE_ETCD_USERNAME)" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_root() {
        let (endpoints, root) = location("a,b:7,[::1],[::2]:8").unwrap();
        assert_eq!(endpoints, ["a:2379", "b:7", "[::1]:2379", "[::2]:8"]);
        assert_eq!(root, "kafscale");
        assert_eq!(location("http://a:1,https://b:2/x/y/").unwrap(), (vec!["a:1".into(), "b:2".into()], "x/y".into()));
        for wrong in ["", "a,", "a:0", "a:x", "a b", "a/x y", "a//x", ":1"] {
            assert_eq!(location(wrong), None, "{wrong}");
        }
    }
}
