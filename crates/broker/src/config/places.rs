//! Where records and their order are kept: one directory for both, or a bucket for the records and a directory for the
//! journal. Owns which settings go together; what each value of a bucket may be is the store's to say ([`S3Settings`]).

use std::fmt;
use std::path::PathBuf;

use kafscale_log::store::s3::{S3Options, S3Settings, Secret, SettingsError};

use super::{ConfigError, Given, SETTINGS, values};

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The journal's directory, and the identity of the broker.
    pub directory: PathBuf,
    /// The records.
    pub objects: Objects,
}

/// Where records and snapshots are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objects {
    /// In the same directory.
    Directory,
    /// In a bucket.
    S3(Box<S3Settings>),
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.directory.display();
        match &self.objects {
            Objects::Directory => write!(f, "{directory}"),
            Objects::S3(settings) => write!(f, "{settings} and {directory}"),
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
    /// A value of the bucket.
    #[error(transparent)]
    S3(#[from] SettingsError),
}

const STORE: &str = "--store (KAFSCALE_STORE, KAFSCALE_S3_BUCKET)";
const JOURNAL: &str = "--journal (KAFSCALE_JOURNAL)";

pub(super) fn parse(given: &Given<'_>) -> Result<Places, ConfigError> {
    let (store, journal) = (store_url(given), directory(given)?);
    let has_both = given.text("data-dir").is_some();
    match (store, journal) {
        (Some(url), Some(directory)) if !has_both => {
            let settings = S3Settings::new(s3(given, url)?).map_err(PlacesError::from)?;
            Ok(Places { directory, objects: Objects::S3(Box::new(settings)) })
        }
        (None, None) => {
            nothing_of_a_bucket(given)?;
            let directory = given.get("data-dir", values::path, PathBuf::from)?;
            Ok(Places { directory, objects: Objects::Directory })
        }
        (store, _) if has_both => {
            Err(PlacesError::Twice { other: if store.is_some() { STORE } else { JOURNAL } }.into())
        }
        (Some(_), _) => {
            let fix = "add --journal file:///DIR (KAFSCALE_JOURNAL)";
            Err(PlacesError::Half { given: STORE, what: "records", other: "journal's entries", fix }.into())
        }
        (None, Some(_)) => {
            let fix = "add --store s3://BUCKET/PREFIX (KAFSCALE_STORE), or say --data-dir DIR in place of --journal";
            Err(PlacesError::Half { given: JOURNAL, what: "journal's entries", other: "records", fix }.into())
        }
    }
}

/// A bucket whose name alone was forgotten: its records would go into a directory.
fn nothing_of_a_bucket(given: &Given<'_>) -> Result<(), PlacesError> {
    let of_a_bucket = SETTINGS.iter().filter(|setting| setting.flag.starts_with("s3-"));
    match of_a_bucket.map(|setting| (setting.flag, setting.variables[0])).find(|(flag, _)| given.text(flag).is_some()) {
        Some((flag, variable)) => Err(PlacesError::NoBucket { flag, variable }),
        None => Ok(()),
    }
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

/// The journal's directory.
fn directory(given: &Given<'_>) -> Result<Option<PathBuf>, ConfigError> {
    given.optional("journal", |url| url.strip_prefix("file://").filter(|path| path.starts_with('/')).map(PathBuf::from))
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
