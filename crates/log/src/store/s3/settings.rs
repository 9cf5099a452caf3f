//! What a person says about the bucket, checked and made into types. Owns which values are allowed and what each error
//! says (the setting, its value, the fix); does no I/O, reads no environment. Secrets are shown by nothing in here.

use std::fmt;

use hyper::Uri;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A text that no log, no error and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who signs with it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The values as they were given; what is `None` was not.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// `http://HOST:PORT` or `https://HOST:PORT` of a server that is not Amazon's.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// Whether the bucket is in the path (`HOST/BUCKET/KEY`) and not in the host's name. Without it: yes with an endpoint,
    /// or when the bucket's name has a dot.
    pub path_style: Option<bool>,
    /// Access key id.
    pub access_key: Option<String>,
    /// Secret access key.
    pub secret_key: Option<Secret>,
    /// What temporary credentials have beside the two keys.
    pub session_token: Option<Secret>,
    /// The KMS key that objects are encrypted with (SSE-KMS): an ARN, an id or an alias.
    pub kms_key: Option<String>,
    /// Whether uploads go without a SHA-256 of their bytes in the signature, which saves a millisecond and more for each
    /// MiB. Without it: yes over TLS, which protects the bytes itself.
    pub unsigned_payload: Option<bool>,
    /// Certificates (PEM) of authorities that are trusted beside the system's.
    pub authorities: Option<Vec<u8>>,
}

/// Where objects are and how they are reached: [`S3Options`] that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Settings {
    pub(super) bucket: String,
    /// Without a slash at either end; empty for none.
    pub(super) prefix: String,
    /// Scheme and host, with the bucket in the host's name unless `path_style`.
    pub(super) endpoint: String,
    pub(super) region: String,
    pub(super) path_style: bool,
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) session_token: Option<Secret>,
    pub(super) kms_key: Option<String>,
    pub(super) unsigned_payload: bool,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl fmt::Display for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// A value that cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another value is needed.
    #[error("{setting} {value:?} {problem}; {fix}")]
    Invalid {
        /// The setting, in words.
        setting: &'static str,
        /// Its value, without what is secret in it.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
        /// What to write instead.
        fix: &'static str,
    },
    /// A value is needed.
    #[error("{setting} is missing; {fix}")]
    Missing {
        /// The setting, in words.
        setting: &'static str,
        /// How to give it.
        fix: &'static str,
    },
}

const URL_FORM: &str = "write s3://BUCKET or s3://BUCKET/PREFIX";
const ENDPOINT_FORM: &str = "write http://HOST:PORT or https://HOST:PORT";
/// S3 allows keys of 1,024 bytes; the longest name below the prefix has fewer than 200.
const MAX_PREFIX_BYTES: usize = 512;

impl S3Settings {
    /// Checks every value by itself and with the others.
    ///
    /// # Errors
    /// The first value that cannot be right.
    pub fn new(options: S3Options) -> Result<Self, SettingsError> {
        let (bucket, prefix) = parse_url(&options.url)?;
        let host = options.endpoint.as_deref().map(parse_endpoint).transpose()?;
        let region = region(options.region, host.is_some())?;
        let path_style = options.path_style.unwrap_or(host.is_some() || bucket.contains('.'));
        let host = host.unwrap_or_else(|| ("https", format!("s3.{region}.amazonaws.com")));
        let endpoint = match (path_style, host) {
            (true, (scheme, host)) => format!("{scheme}://{host}"),
            (false, (scheme, host)) => format!("{scheme}://{bucket}.{host}"),
        };
        let (access_key, secret_key) = keys(options.access_key, options.secret_key)?;
        let session_token = options.session_token.filter(|token| !token.0.is_empty());
        if let Some(token) = &session_token {
            check_secret("S3 session token", token)?;
        }
        let kms_key = options.kms_key.filter(|key| !key.is_empty());
        if let Some(key) = &kms_key {
            check_text("KMS key", key, "give the key's ARN, id or alias (KAFSCALE_S3_KMS_ARN)")?;
        }
        Ok(Self {
            unsigned_payload: options.unsigned_payload.unwrap_or(endpoint.starts_with("https:")),
            authorities: options.authorities.map_or(Ok(vec![]), |pem| parse_authorities(&pem))?,
            bucket,
            prefix,
            endpoint,
            region,
            path_style,
            access_key,
            secret_key,
            session_token,
            kms_key,
        })
    }

    /// The key of an object.
    pub(super) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }
}

fn invalid(setting: &'static str, value: &str, problem: &'static str, fix: &'static str) -> SettingsError {
    SettingsError::Invalid { setting, value: value.to_owned(), problem, fix }
}

/// Bucket and prefix of `s3://BUCKET/PREFIX`.
fn parse_url(url: &str) -> Result<(String, String), SettingsError> {
    let wrong = |problem, fix| Err(invalid("store URL", url, problem, fix));
    let Some(rest) = url.strip_prefix("s3://") else {
        return wrong("does not begin with s3://", URL_FORM);
    };
    if let Some((_, after)) = rest.rsplit_once('@') {
        // What is before it may be a password.
        let shown = format!("s3://…@{after}");
        let fix = "give credentials as KAFSCALE_S3_ACCESS_KEY and KAFSCALE_S3_SECRET_KEY";
        return Err(invalid("store URL", &shown, "has credentials in it", fix));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let has_prefix = !prefix.is_empty();
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if bucket.is_empty() {
        return wrong("names no bucket", URL_FORM);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(fits) {
        return wrong("has a bucket that no S3 would make", "a bucket has 3 to 63 letters, digits, dots and hyphens");
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return wrong("has a prefix of more than 512 bytes", "keys have an end: choose a shorter prefix");
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "/!-_.*'()=+,".contains(c);
    if !prefix.chars().all(fits) {
        return wrong("has a prefix with unusual characters", "use letters, digits, and ! - _ . * ' ( ) = + , only");
    }
    if has_prefix && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong(
            "has an empty, `.` or `..` part in its prefix",
            "many tools could not reach such keys: leave it out",
        );
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

/// Scheme and host (with port) of an endpoint.
fn parse_endpoint(endpoint: &str) -> Result<(&'static str, String), SettingsError> {
    let wrong = |problem, fix| Err(invalid("S3 endpoint", endpoint, problem, fix));
    if let Some((_, after)) = endpoint.rsplit_once('@') {
        let shown = format!("…@{after}");
        return Err(invalid("S3 endpoint", &shown, "has credentials in it", ENDPOINT_FORM));
    }
    let Ok(uri) = endpoint.parse::<Uri>() else {
        return wrong("is no address", ENDPOINT_FORM);
    };
    let scheme = match uri.scheme_str() {
        Some("http") => "http",
        Some("https") => "https",
        Some(_) | None => return wrong("does not begin with http:// or https://", ENDPOINT_FORM),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return wrong(
            "has more behind its host than a port",
            "the bucket belongs into the store URL, s3://BUCKET/PREFIX",
        );
    }
    match uri.authority() {
        Some(host) if !host.host().is_empty() => Ok((scheme, host.to_string())),
        Some(_) | None => wrong("names no host", ENDPOINT_FORM),
    }
}

fn region(given: Option<String>, has_endpoint: bool) -> Result<String, SettingsError> {
    let region = match given.filter(|region| !region.is_empty()) {
        Some(region) => region,
        // What servers that know no regions expect in a signature.
        None if has_endpoint => return Ok("us-east-1".to_owned()),
        None => {
            let fix = "give the bucket's region (KAFSCALE_S3_REGION), or an endpoint (KAFSCALE_S3_ENDPOINT)";
            return Err(SettingsError::Missing { setting: "S3 region", fix });
        }
    };
    // It becomes a part of a host's name.
    if region.len() <= 63 && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        return Ok(region);
    }
    Err(invalid("S3 region", &region, "is no region", "write it as in eu-central-1"))
}

fn keys(access_key: Option<String>, secret_key: Option<Secret>) -> Result<(String, Secret), SettingsError> {
    let fix = "give KAFSCALE_S3_ACCESS_KEY and KAFSCALE_S3_SECRET_KEY, for temporary credentials KAFSCALE_S3_SESSION_TOKEN too";
    let access_key = access_key.filter(|key| !key.is_empty());
    let secret_key = secret_key.filter(|key| !key.0.is_empty());
    let access_key = access_key.ok_or(SettingsError::Missing { setting: "S3 access key", fix })?;
    let secret_key = secret_key.ok_or(SettingsError::Missing { setting: "S3 secret key", fix })?;
    check_text("S3 access key", &access_key, "copy it anew: it has no spaces or line ends")?;
    check_secret("S3 secret key", &secret_key)?;
    Ok((access_key, secret_key))
}

/// A value that becomes part of a header, or of what is signed.
fn check_text(setting: &'static str, value: &str, fix: &'static str) -> Result<(), SettingsError> {
    if value.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid(setting, value, "has a space, a line end or a character that is not ASCII in it", fix))
}

fn check_secret(setting: &'static str, secret: &Secret) -> Result<(), SettingsError> {
    check_text(setting, &secret.0, "").map_err(|_| {
        let problem = "has a space, a line end or a character that is not ASCII in it";
        invalid(setting, "(secret)", problem, "copy it anew: an end of line at the end of a file is often the cause")
    })
}

fn parse_authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let fix = "give certificates as PEM: -----BEGIN CERTIFICATE----- and so on";
    let wrong = |problem| invalid("S3 certificate authorities", "(a file)", problem, fix);
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(certificates) if certificates.is_empty() => Err(wrong("hold no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(wrong("are damaged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> S3Options {
        S3Options {
            url: url.to_owned(),
            region: Some("eu-north-1".to_owned()),
            access_key: Some("AKIAEXAMPLE".to_owned()),
            secret_key: Some(Secret::new("hush-hush")),
            session_token: Some(Secret::new("hush-token")),
            ..S3Options::default()
        }
    }

    fn settings(options: S3Options) -> S3Settings {
        S3Settings::new(options).unwrap()
    }

    #[test]
    fn a_url_is_a_bucket_and_a_prefix() {
        let parsed = |url| settings(options(url));
        for (url, bucket, prefix, key) in [
            ("s3://records", "records", "", "a/b"),
            ("s3://records/", "records", "", "a/b"),
            ("s3://records/kafka", "records", "kafka", "kafka/a/b"),
            ("s3://my.records/team-1/kafka/", "my.records", "team-1/kafka", "team-1/kafka/a/b"),
        ] {
            let got = parsed(url);
            assert_eq!((&*got.bucket, &*got.prefix, &*got.key("a/b")), (bucket, prefix, key), "{url}");
        }
    }

    #[test]
    fn each_wrong_value_is_named_with_its_fix() {
        let url = |url: &str| options(url);
        let with = |change: fn(&mut S3Options)| {
            let mut options = options("s3://records");
            change(&mut options);
            options
        };
        let cases = [
            (url(""), "store URL \"\" does not begin with s3://; write s3://BUCKET or s3://BUCKET/PREFIX"),
            (url("file:///d"), "does not begin with s3://"),
            (url("s3://"), "names no bucket"),
            (url("s3:///prefix"), "names no bucket"),
            (url("s3://ab"), "3 to 63 letters"),
            (url("s3://a bucket"), "no S3 would make"),
            (url("s3://records?x=y"), "no S3 would make"),
            (url("s3://records/a//b"), "empty, `.` or `..` part"),
            (url("s3://records//"), "empty, `.` or `..` part"),
            (url("s3://records/../b"), "empty, `.` or `..` part"),
            (url("s3://records/ü"), "unusual characters"),
            (url(&format!("s3://records/{}", "x".repeat(513))), "more than 512 bytes"),
            (with(|o| o.endpoint = Some("localhost:9000".into())), "does not begin with http:// or https://"),
            (with(|o| o.endpoint = Some("ftp://h".into())), "does not begin with http:// or https://"),
            (
                with(|o| o.endpoint = Some("http://h:9000/records".into())),
                "S3 endpoint \"http://h:9000/records\" has more",
            ),
            (with(|o| o.endpoint = Some("http://h:9000/?a=b".into())), "has more behind its host"),
            (with(|o| o.endpoint = Some("http://".into())), "is no address"),
            (with(|o| o.region = None), "S3 region is missing; give the bucket's region (KAFSCALE_S3_REGION)"),
            (with(|o| o.region = Some("eu/west".into())), "S3 region \"eu/west\" is no region"),
            (with(|o| o.access_key = None), "S3 access key is missing; give KAFSCALE_S3_ACCESS_KEY"),
            (with(|o| o.access_key = Some("AKIA\n".into())), "S3 access key \"AKIA\\n\" has a space"),
            (with(|o| o.secret_key = Some(Secret::new(""))), "S3 secret key is missing"),
            (with(|o| o.secret_key = Some(Secret::new("hush\n"))), "S3 secret key \"(secret)\" has a space"),
            (with(|o| o.session_token = Some(Secret::new("hush hush"))), "S3 session token \"(secret)\" has a space"),
            (with(|o| o.kms_key = Some("arn x".into())), "KMS key \"arn x\" has a space"),
            (with(|o| o.authorities = Some(b"hello".to_vec())), "hold no certificate"),
            (
                with(|o| o.authorities = Some(b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n".to_vec())),
                "are damaged",
            ),
        ];
        for (options, expected) in cases {
            let error = S3Settings::new(options.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{options:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for url in ["s3://AKIA:hush@records/x", "s3://AKIA:hu@sh@records"] {
            let error = S3Settings::new(options(url)).unwrap_err().to_string();
            assert!(error.contains("has credentials in it") && !error.contains("hu"), "{error}");
        }
        let mut wrong = options("s3://records");
        wrong.endpoint = Some("http://AKIA:hush@host".to_owned());
        let error = S3Settings::new(wrong).unwrap_err().to_string();
        assert!(error.contains("has credentials in it") && !error.contains("hush"), "{error}");
        let given = options("s3://records/x");
        assert!(!format!("{given:?} {:?}", settings(given.clone())).contains("hush"));
    }

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        let place = |url: &str, endpoint: Option<&str>, path_style| {
            let endpoint = endpoint.map(str::to_owned);
            let got = settings(S3Options { endpoint, path_style, ..options(url) });
            (got.endpoint, got.path_style, got.unsigned_payload)
        };
        let aws = "https://s3.eu-north-1.amazonaws.com".to_owned();
        assert_eq!(place("s3://abc", None, None), ("https://abc.s3.eu-north-1.amazonaws.com".to_owned(), false, true));
        assert_eq!(place("s3://abc", None, Some(true)), (aws.clone(), true, true));
        assert_eq!(place("s3://a.b.c", None, None), (aws, true, true));
        let here = Some("http://[::1]:9000/");
        assert_eq!(place("s3://abc", here, None), ("http://[::1]:9000".to_owned(), true, false));
        assert_eq!(place("s3://abc", Some("https://s3.x.org"), Some(false)).0, "https://abc.s3.x.org");
    }

    #[test]
    fn the_region_may_be_left_out_beside_an_endpoint() {
        let given = S3Options { endpoint: Some("http://h:1".to_owned()), region: None, ..options("s3://abc") };
        assert_eq!(settings(given).region, "us-east-1");
    }
}
