//! The names of all settings, and what to make of names that are none.

use super::{ConfigError, LogFilter};

/// What all our variables begin with.
pub(super) const PREFIX: &str = "KAFSCALE_";

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag, without dashes.
    pub flag: &'static str,
    /// The variables; one, but for the advertised address: the reference system keeps its host and its port apart.
    pub variables: &'static [&'static str],
    /// The value's name in help texts.
    pub value: &'static str,
    /// The default, as it would be typed; empty if it is derived, see `help`.
    pub default: &'static str,
    /// What values it takes, for messages.
    pub takes: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// All settings.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    Setting { flag: "data-dir", variables: &["KAFSCALE_DATA_DIR"], value: "DIR", default: "./kafscale-data",
        takes: "a directory", help: "Where the journal and the objects are, both; created if missing" },
    Setting { flag: "store", variables: &["KAFSCALE_STORE", "KAFSCALE_S3_BUCKET", "KAFSCALE_S3_NAMESPACE"], value: "URL", default: "",
        takes: "s3://BUCKET or s3://BUCKET/PREFIX (KAFSCALE_S3_BUCKET takes a bucket, KAFSCALE_S3_NAMESPACE a prefix)",
        help: "Where the objects are, in place of --data-dir" },
    Setting { flag: "journal", variables: &["KAFSCALE_JOURNAL", "KAFSCALE_ETCD_ENDPOINTS"], value: "URL", default: "",
        takes: "file:///DIR with an absolute path, or etcd://HOST:PORT,HOST:PORT or etcd://HOST:PORT/PREFIX (KAFSCALE_ETCD_ENDPOINTS takes HOST:PORT,HOST:PORT)",
        help: "Where the journal is, with --store; etcd for several brokers; created if missing" },
    Setting { flag: "etcd-username", variables: &["KAFSCALE_ETCD_USERNAME"], value: "NAME", default: "",
        takes: "a user of etcd", help: "Who asks" },
    Setting { flag: "etcd-password", variables: &["KAFSCALE_ETCD_PASSWORD"], value: "SECRET", default: "",
        takes: "a password", help: "The password of it; as a variable, since flags are seen by everybody on the machine" },
    Setting { flag: "etcd-ca", variables: &["KAFSCALE_ETCD_CA"], value: "FILE", default: "",
        takes: "a file of certificates in PEM", help: "Who signed the certificates of etcd's members; connections are encrypted then" },
    Setting { flag: "etcd-cert", variables: &["KAFSCALE_ETCD_CERT"], value: "FILE", default: "",
        takes: "a file of certificates in PEM", help: "The certificate that this broker shows to etcd" },
    Setting { flag: "etcd-key", variables: &["KAFSCALE_ETCD_KEY"], value: "FILE", default: "",
        takes: "a file with a key in PEM", help: "The key of --etcd-cert" },
    Setting { flag: "s3-endpoint", variables: &["KAFSCALE_S3_ENDPOINT"], value: "URL", default: "",
        takes: "http://HOST:PORT or https://HOST:PORT", help: "An S3 server that is not Amazon's" },
    Setting { flag: "s3-region", variables: &["KAFSCALE_S3_REGION"], value: "REGION", default: "",
        takes: "a region, such as eu-central-1", help: "The bucket's region; not needed with an endpoint" },
    Setting { flag: "s3-path-style", variables: &["KAFSCALE_S3_PATH_STYLE"], value: "BOOL", default: "",
        takes: "true or false", help: "Whether the bucket is in the path and not in the host's name [default: with an endpoint]" },
    Setting { flag: "s3-access-key", variables: &["KAFSCALE_S3_ACCESS_KEY"], value: "ID", default: "",
        takes: "an access key id", help: "Who asks" },
    Setting { flag: "s3-secret-key", variables: &["KAFSCALE_S3_SECRET_KEY"], value: "SECRET", default: "",
        takes: "a secret access key", help: "The secret of it; as a variable, since flags are seen by everybody on the machine" },
    Setting { flag: "s3-session-token", variables: &["KAFSCALE_S3_SESSION_TOKEN"], value: "SECRET", default: "",
        takes: "a session token", help: "What temporary credentials have beside" },
    Setting { flag: "s3-kms-arn", variables: &["KAFSCALE_S3_KMS_ARN"], value: "KEY", default: "",
        takes: "the ARN, id or alias of a key", help: "The KMS key that objects are encrypted with" },
    Setting { flag: "s3-unsigned-payload", variables: &["KAFSCALE_S3_UNSIGNED_PAYLOAD"], value: "BOOL", default: "",
        takes: "true or false", help: "Whether signatures leave the body out, which saves time [default: over TLS]" },
    Setting { flag: "read-store", variables: &["KAFSCALE_READ_STORE", "KAFSCALE_S3_READ_BUCKET"], value: "URL", default: "",
        takes: "s3://BUCKET or s3://BUCKET/PREFIX (KAFSCALE_S3_READ_BUCKET takes a bucket, with the prefix in KAFSCALE_S3_NAMESPACE)",
        help: "A copy of the store's bucket that is read first, and the store when an object is not in it or it fails" },
    Setting { flag: "s3-read-region", variables: &["KAFSCALE_S3_READ_REGION"], value: "REGION", default: "",
        takes: "a region, such as eu-central-1", help: "The region of --read-store [default: as --s3-region]" },
    Setting { flag: "s3-read-endpoint", variables: &["KAFSCALE_S3_READ_ENDPOINT"], value: "URL", default: "",
        takes: "http://HOST:PORT or https://HOST:PORT", help: "The S3 server of --read-store [default: as --s3-endpoint]" },
    Setting { flag: "listen", variables: &["KAFSCALE_BROKER_ADDR"], value: "[NAME=]HOST:PORT,…", default: "127.0.0.1:9092",
        takes: "HOST:PORT, [IPV6]:PORT, or :PORT for every address; several as NAME=HOST:PORT,NAME=HOST:PORT, 16 at most, each name once",
        help: "Where Kafka clients connect" },
    Setting { flag: "advertise", variables: &["KAFSCALE_ADVERTISE", "KAFSCALE_BROKER_HOST", "KAFSCALE_BROKER_PORT"], value: "[NAME=]HOST:PORT,…", default: "",
        takes: "HOST:PORT, or NAME=HOST:PORT,NAME=HOST:PORT, with an address that clients can connect to (KAFSCALE_BROKER_HOST takes a host, KAFSCALE_BROKER_PORT a port from 1 to 65535)",
        help: "The address that clients are told to use, for each listener [default: the one listened on]" },
    Setting { flag: "http", variables: &["KAFSCALE_METRICS_ADDR"], value: "HOST:PORT", default: "127.0.0.1:9093",
        takes: "HOST:PORT, or :PORT for every address", help: "Where /livez, /readyz and /metrics are" },
    Setting { flag: "broker-id", variables: &["KAFSCALE_BROKER_ID"], value: "N", default: "0",
        takes: "a number from 0 to 2147483647", help: "This broker's id in the cluster" },
    Setting { flag: "identity", variables: &["KAFSCALE_IDENTITY"], value: "TEXT", default: "",
        takes: "any text, such as the UID of a pod", help: "What proves that a restarted broker is the same one: it takes its old session over at once [default: none, a restart waits for the old session's end]" },
    Setting { flag: "rack", variables: &["KAFSCALE_RACK"], value: "ZONE", default: "",
        takes: "the name of a zone", help: "The zone that this broker is in; clients that name theirs are led to brokers in it" },
    Setting { flag: "memory", variables: &["KAFSCALE_MEMORY"], value: "BYTES", default: "",
        takes: "a number of bytes of at least 32MiB, such as 512MiB", help: "Memory for requests and answers under way [default: a quarter of the machine's, at most 1GiB]" },
    Setting { flag: "cache", variables: &["KAFSCALE_CACHE_BYTES"], value: "BYTES", default: "",
        takes: "a number of bytes, such as 512MiB", help: "Memory for objects kept for reading [default: an eighth of the machine's, at most 512MiB]" },
    Setting { flag: "auto-create-topics", variables: &["KAFSCALE_AUTO_CREATE_TOPICS"], value: "BOOL", default: "true",
        takes: "true or false", help: "Whether a topic is created when a client first asks for it" },
    Setting { flag: "auto-create-partitions", variables: &["KAFSCALE_AUTO_CREATE_PARTITIONS"], value: "N", default: "1",
        takes: "a number from 1 to 10000", help: "The partitions of a topic created so" },
    Setting { flag: "group-initial-rebalance-delay-ms", variables: &["KAFSCALE_GROUP_INITIAL_REBALANCE_DELAY_MS"], value: "MS", default: "1000",
        takes: "a number of milliseconds from 0 to 600000", help: "How long the first generation of an empty consumer group waits for more members" },
    Setting { flag: "flush-per-second", variables: &["KAFSCALE_FLUSH_PER_SECOND"], value: "N", default: "",
        takes: "a number from 1 to 10000", help: "Objects written in a second, at most, while none is full [default: 100, in a bucket 5]" },
    Setting { flag: "snapshot-entries", variables: &["KAFSCALE_SNAPSHOT_ENTRIES"], value: "N", default: "10000",
        takes: "a number from 10 to 1000000", help: "Journal entries after which the state is written as a snapshot (or 8 MiB of them)" },
    Setting { flag: "offsets-retention-minutes", variables: &["KAFSCALE_OFFSETS_RETENTION_MINUTES"], value: "N", default: "10080",
        takes: "a number of minutes from 1 to 2147483647", help: "How long committed offsets are kept once their group has no members, or none that subscribes to the topic" },
    Setting { flag: "log-level", variables: &["KAFSCALE_LOG_LEVEL"], value: "LEVEL", default: "info",
        takes: LogFilter::TAKES, help: "The least severe log lines that are written" },
    Setting { flag: "slow-request-ms", variables: &["KAFSCALE_SLOW_REQUEST_MS"], value: "MS", default: "1000",
        takes: "a number of milliseconds, 0 for never", help: "Requests that take longer are named in the log; a fetch that waits for records does not" },
    Setting { flag: "log-format", variables: &["KAFSCALE_LOG_FORMAT"], value: "FORMAT", default: "text",
        takes: "text or json", help: "How log lines are written" },
];

pub(super) fn of(flag: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.flag == flag).expect("only settings of the table are asked for")
}

pub(super) fn variable_of(flag: &str) -> &'static str {
    of(flag).variables[0]
}

/// Refuses names that are no setting's.
pub(super) fn check(flags: &[(String, String)], variables: &[(String, String)]) -> Result<(), ConfigError> {
    let known = SETTINGS.iter().map(|setting| setting.flag);
    if let Some((name, _)) = flags.iter().find(|(name, _)| SETTINGS.iter().all(|s| s.flag != name)) {
        return Err(ConfigError::Unknown { name: format!("--{name}"), nearest: nearest(name, known) });
    }
    let known = || SETTINGS.iter().flat_map(|setting| setting.variables.iter().copied());
    let unknown = variables.iter().find(|(name, value)| {
        name.starts_with(PREFIX) && !is_injected(name, value) && known().all(|variable| variable != name)
    });
    match unknown {
        Some((name, _)) => Err(ConfigError::Unknown { name: name.clone(), nearest: nearest(name, known()) }),
        None => Ok(()),
    }
}

/// Whether Kubernetes made this variable, for a service whose name begins with `kafscale` (the variables that
/// Docker's links had). `KAFSCALE_BROKER_PORT` is both a setting and what a service `kafscale-broker` makes; the
/// value tells.
pub(super) fn is_injected(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix("KAFSCALE") else { return false };
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let by_protocol = |part: &str| {
        let mut words = part.split('_');
        let port = words.next().is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()));
        port && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && is_url)
        || rest.match_indices("_PORT_").any(|(at, found)| by_protocol(&rest[at + found.len()..]))
}

/// A name that begins with what was given, else the one with the fewest edits; the first of equals.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> &'static str {
    known.min_by_key(|candidate| (!candidate.starts_with(name), distance(name, candidate))).expect("there are settings")
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn what_kubernetes_injects_is_known_by_its_shape() {
        for (name, value) in [
            ("KAFSCALE_PORT", "tcp://10.0.0.1:9092"),
            ("KAFSCALE_BROKER_PORT", "tcp://10.0.0.1:9092"),
            ("KAFSCALE_SERVICE_HOST", "10.0.0.1"),
            ("KAFSCALE_SERVICE_PORT", "9092"),
            ("KAFSCALE_BROKER_SERVICE_PORT_KAFKA", "9092"),
            ("KAFSCALE_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
            ("KAFSCALE_BROKER_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("KAFSCALE_BROKER_PORT_9092_TCP_PROTO", "tcp"),
        ] {
            assert!(is_injected(name, value), "{name}");
        }
        for (name, value) in [("KAFSCALE_BROKER_PORT", "9092"), ("KAFSCALE_PORT_X", "1"), ("KAFSCALE_CACHE_BYTES", "1")]
        {
            assert!(!is_injected(name, value), "{name}");
        }
    }
}
