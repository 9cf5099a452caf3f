//! Where records and their order are kept: one directory for both, or a bucket for the records, and for the journal a
//! directory or etcd. Owns which settings go together; what each value of a bucket may be is the store's to say
//! ([`S3Settings`]), what each of etcd may be is [`etcd`](super::etcd)'s.

use std::fmt;
use std::path::PathBuf;

use kafscale_log::store::s3::{S3Options, S3Settings, Secret, SettingsError};

use super::etcd::{self, EtcdSettings};
use super::{ConfigError, Given, SETTINGS, values};

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The journal.
    pub order: Order,
    /// The records.
    pub objects: Objects,
}

/// Where the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// In a directory, with the identity of the one broker that there is.
    Directory(PathBuf),
    /// In etcd, for several brokers.
    Etcd(Box<EtcdSettings>),
}

/// Where records and snapshots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objects {
    /// In the same directory.
    Directory,
    /// In a bucket, and perhaps copied to another one that is read first.
    S3(Box<S3Settings>, Option<Box<S3Settings>>),
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Objects::S3(settings, _) = &self.objects {
            write!(f, "{settings} and ")?;
        }
        match &self.order {
            Order::Directory(directory) => write!(f, "{}", directory.display()),
            Order::Etcd(etcd) => write!(f, "etcd://{}/{}", etcd.endpoints.join(","), etcd.root),
        }
    }
}

/// Why the settings name no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacesError {
    /// One of the two is missing.
    #[error("{given} says where the {what} are, and nothing says where the {other} are: {fix}")]
    Half {
        /// The setting that is there.
        given: &'static str,
        /// What it is about.
        what: &'static str,
        /// What is missing.
        other: &'static str,
        /// What to add.
        fix: &'static str,
    },
    /// Two settings say the same.
    #[error(
        "--data-dir (KAFSCALE_DATA_DIR) is for both, records and journal, and {other} is there too: leave one of them out"
    )]
    Twice {
        /// The other one.
        other: &'static str,
    },
    /// Something is said of a bucket that nobody named.
    #[error(
        "--{flag} ({variable}) is about a bucket, and none is named: add --store s3://BUCKET/PREFIX (KAFSCALE_STORE)"
    )]
    NoBucket {
        /// The flag that is there, or whose variable is.
        flag: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// Something is said of etcd, and the journal is not there.
    #[error(
        "--{flag} ({variable}) is about etcd, and the journal is not in one: add --journal etcd://HOST:PORT (KAFSCALE_JOURNAL)"
    )]
    NoEtcd {
        /// The flag that is there, or whose variable is.
        flag: &'static str,
        /// Its variable.
        variable: &'static str,
    },
    /// One of two that go together.
    #[error("{given} needs {missing} beside it: add it")]
    Alone {
        /// The one that is there.
        given: &'static str,
        /// The other one.
        missing: &'static str,
    },
    /// A value of the bucket.
    #[error(transparent)]
    S3(#[from] SettingsError),
}

const STORE: &str = "--store (KAFSCALE_STORE, KAFSCALE_S3_BUCKET)";
const JOURNAL: &str = "--journal (KAFSCALE_JOURNAL, KAFSCALE_ETCD_ENDPOINTS)";

pub(super) fn parse(given: &Given<'_>) -> Result<Places, ConfigError> {
    let (store, order) = (store_url(given), order(given)?);
    let has_both = given.text("data-dir").is_some();
    if !matches!(order, Some(Order::Etcd(_))) {
        nothing_of("etcd", given, |flag, variable| PlacesError::NoEtcd { flag, variable })?;
    }
    match (store, order) {
        (Some(url), Some(order)) if !has_both => {
            let primary = s3(given, url)?;
            let replica = replica(given, &primary).map(S3Settings::new).transpose().map_err(PlacesError::from)?;
            let primary = S3Settings::new(primary).map_err(PlacesError::from)?;
            Ok(Places { order, objects: Objects::S3(Box::new(primary), replica.map(Box::new)) })
        }
        (None, None) => {
            for what in ["s3", "read"] {
                nothing_of(what, given, |flag, variable| PlacesError::NoBucket { flag, variable })?;
            }
            let directory = given.get("data-dir", values::path, PathBuf::from)?;
            Ok(Places { order: Order::Directory(directory), objects: Objects::Directory })
        }
        (store, _) if has_both => {
            Err(PlacesError::Twice { other: if store.is_some() { STORE } else { JOURNAL } }.into())
        }
        (Some(_), _) => {
            let fix = "add --journal file:///DIR, or etcd://HOST:PORT for several brokers (KAFSCALE_JOURNAL)";
            Err(PlacesError::Half { given: STORE, what: "records", other: "journal's entries", fix }.into())
        }
        (None, Some(_)) => {
            let fix = "add --store s3://BUCKET/PREFIX (KAFSCALE_STORE), or say --data-dir DIR in place of --journal";
            Err(PlacesError::Half { given: JOURNAL, what: "journal's entries", other: "records", fix }.into())
        }
    }
}

/// Nothing may be said of what nobody named. A bucket whose name alone was forgotten: its records would go into a
/// directory.
fn nothing_of(
    what: &str,
    given: &Given<'_>,
    error: impl Fn(&'static str, &'static str) -> PlacesError,
) -> Result<(), PlacesError> {
    let about = |flag: &str| flag.split_once('-').is_some_and(|(first, _)| first == what);
    let said = SETTINGS.iter().find(|setting| about(setting.flag) && given.text(setting.flag).is_some());
    said.map_or(Ok(()), |setting| Err(error(setting.flag, setting.variables[0])))
}

/// The reference system has a variable for the bucket and one for the prefix.
fn store_url(given: &Given<'_>) -> Option<String> {
    let url = given.flag("store").or_else(|| given.variable("KAFSCALE_STORE")).map(str::to_owned);
    url.or_else(|| {
        let bucket = given.variable("KAFSCALE_S3_BUCKET")?;
        let prefix = given.variable("KAFSCALE_S3_NAMESPACE").unwrap_or_default();
        Some(format!("s3://{bucket}/{prefix}"))
    })
}

fn order(given: &Given<'_>) -> Result<Option<Order>, ConfigError> {
    if let Some(etcd) = etcd::parse(given)? {
        return Ok(Some(Order::Etcd(Box::new(etcd))));
    }
    let path = |url: &str| url.strip_prefix("file://").filter(|path| path.starts_with('/')).map(PathBuf::from);
    Ok(given.optional("journal", path)?.map(Order::Directory))
}

/// The bucket that is read first: as the primary, but for what is said of it.
fn replica(given: &Given<'_>, primary: &S3Options) -> Option<S3Options> {
    let bucket = || {
        let bucket = given.variable("KAFSCALE_S3_READ_BUCKET")?;
        Some(format!("s3://{bucket}/{}", given.variable("KAFSCALE_S3_NAMESPACE").unwrap_or_default()))
    };
    let named = given.flag("read-store").or_else(|| given.variable("KAFSCALE_READ_STORE")).map(str::to_owned);
    let url = named.or_else(bucket)?;
    let text = |flag| given.text(flag).map(str::to_owned);
    let endpoint = text("s3-read-endpoint").or_else(|| primary.endpoint.clone());
    Some(S3Options {
        url,
        endpoint,
        region: text("s3-read-region").or_else(|| primary.region.clone()),
        ..primary.clone()
    })
}

fn s3(given: &Given<'_>, url: String) -> Result<S3Options, ConfigError> {
    let text = |flag| given.text(flag).map(str::to_owned);
    Ok(S3Options {
        url,
        endpoint: text("s3-endpoint"),
        region: text("s3-region"),
        path_style: given.optional("s3-path-style", values::boolean)?,
        access_key: text("s3-access-key"),
        secret_key: text("s3-secret-key").map(Secret::new),
        session_token: text("s3-session-token").map(Secret::new),
        kms_key: text("s3-kms-arn"),
        unsigned_payload: given.optional("s3-unsigned-payload", values::boolean)?,
        // TLS takes the system's authorities, or those of SSL_CERT_FILE.
        authorities: None,
    })
}
