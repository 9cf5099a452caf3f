//! The settings of topics: what is honoured, with Kafka's names, defaults and checks. What is not in the table is
//! refused by name; nothing is accepted and then ignored. `cleanup.policy=delete` and `retention.ms=-1` are there
//! because they say what is true today: nothing is ever deleted.

use std::collections::BTreeMap;

use kafscale_log::limits::{DEFAULT_MAX_BATCH_BYTES, MAX_BATCH_BYTES};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// What may be set, in words.
    pub allowed: &'static str,
    /// What Kafka calls a broker's setting that is the default for its topics.
    pub(super) broker_name: &'static str,
    pub(super) kind: Kind,
    apply: fn(&mut TopicConfig, &str) -> bool,
}

/// All settings that are honoured, by name.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        default: "delete",
        allowed: "delete",
        broker_name: "log.cleanup.policy",
        kind: Kind::List,
        apply: |_, v| v == "delete",
    },
    Setting {
        name: "compression.type",
        default: "producer",
        allowed: "producer",
        broker_name: "compression.type",
        kind: Kind::String,
        apply: |_, v| v == "producer",
    },
    Setting {
        name: "max.message.bytes",
        default: "1048588",
        allowed: "0 to 8388608",
        broker_name: "message.max.bytes",
        kind: Kind::Int,
        apply: |config, v| store(&mut config.max_batch_bytes, v.parse().ok().filter(|bytes| *bytes <= MAX_BATCH_BYTES)),
    },
    Setting {
        name: "message.timestamp.after.max.ms",
        default: "3600000",
        allowed: "0 to 9223372036854775807",
        broker_name: "log.message.timestamp.after.max.ms",
        kind: Kind::Long,
        apply: |config, v| store(&mut config.timestamp_after_max_ms, v.parse().ok().filter(|ms| *ms >= 0)),
    },
    Setting {
        name: "message.timestamp.before.max.ms",
        default: "9223372036854775807",
        allowed: "0 to 9223372036854775807",
        broker_name: "log.message.timestamp.before.max.ms",
        kind: Kind::Long,
        apply: |config, v| store(&mut config.timestamp_before_max_ms, v.parse().ok().filter(|ms| *ms >= 0)),
    },
    Setting {
        name: "message.timestamp.type",
        default: "CreateTime",
        allowed: "CreateTime or LogAppendTime",
        broker_name: "log.message.timestamp.type",
        kind: Kind::String,
        apply: |config, v| store(&mut config.log_append_time, timestamp_type(v)),
    },
    Setting {
        name: "min.insync.replicas",
        default: "1",
        allowed: "1 or more",
        broker_name: "min.insync.replicas",
        kind: Kind::Int,
        apply: |_, v| v.parse::<u32>().is_ok_and(|n| n > 0),
    },
    Setting {
        name: "retention.bytes",
        default: "-1",
        allowed: "-1 (nothing is deleted yet)",
        broker_name: "log.retention.bytes",
        kind: Kind::Long,
        apply: |_, v| v == "-1",
    },
    Setting {
        name: "retention.ms",
        default: "-1",
        allowed: "-1 (nothing is deleted yet)",
        broker_name: "log.retention.ms",
        kind: Kind::Long,
        apply: |_, v| v == "-1",
    },
];

/// What a value is, in Kafka's numbers (KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(super) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// Where a setting comes from, in Kafka's numbers (KIP-226): the topic.
const TOPIC_CONFIG: i8 = 1;
/// As [`TOPIC_CONFIG`]: the default.
pub(super) const DEFAULT_CONFIG: i8 = 5;

/// A setting as it holds for one topic.
pub(super) struct Described<'a> {
    pub(super) setting: &'static Setting,
    pub(super) value: &'a str,
    /// Kafka's number for where the value comes from.
    pub(super) source: i8,
}

/// All settings of a topic, by name.
pub(super) fn describe(configs: &BTreeMap<String, String>) -> impl Iterator<Item = Described<'_>> {
    SETTINGS.iter().map(|setting| match configs.get(setting.name) {
        Some(value) => Described { setting, value, source: TOPIC_CONFIG },
        None => Described { setting, value: setting.default, source: DEFAULT_CONFIG },
    })
}

/// A topic's settings as the write path needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// The largest record batch, with its header, in bytes.
    pub max_batch_bytes: u32,
    /// How far in the past a record's timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// How far in the future a record's timestamp may be.
    pub timestamp_after_max_ms: i64,
    /// Records get the broker's time instead of the producer's.
    pub log_append_time: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            max_batch_bytes: DEFAULT_MAX_BATCH_BYTES,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            log_append_time: false,
        }
    }
}

/// A setting that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such setting here.
    #[error("setting '{name}' is not supported; supported are: {}", names())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The value is not one of those that are allowed.
    #[error("setting '{name}' cannot be '{value}': allowed is {allowed}")]
    Invalid {
        /// Which setting.
        name: String,
        /// What was asked for.
        value: String,
        /// What may be asked for.
        allowed: &'static str,
    },
}

impl TopicConfig {
    /// Parses what differs from the defaults.
    pub fn parse(configs: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut parsed = Self::default();
        for (name, value) in configs {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            let setting = setting.ok_or_else(|| ConfigError::Unknown { name: name.clone() })?;
            if !(setting.apply)(&mut parsed, value) {
                let (name, value) = (name.clone(), value.clone());
                return Err(ConfigError::Invalid { name, value, allowed: setting.allowed });
            }
        }
        Ok(parsed)
    }
}

fn store<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

fn timestamp_type(value: &str) -> Option<bool> {
    match value {
        "CreateTime" => Some(false),
        "LogAppendTime" => Some(true),
        _ => None,
    }
}

fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<TopicConfig, ConfigError> {
        TopicConfig::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn the_table_states_the_defaults() {
        for setting in SETTINGS {
            assert_eq!(parse(setting.name, setting.default), Ok(TopicConfig::default()), "{}", setting.name);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let error = parse("segment.bytes", "1").unwrap_err().to_string();
        assert!(error.contains("'segment.bytes'") && error.contains("max.message.bytes"), "{error}");
        let error = parse("retention.ms", "1000").unwrap_err().to_string();
        assert!(error.contains("'retention.ms'") && error.contains("'1000'") && error.contains("-1"), "{error}");
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(parse("max.message.bytes", "2000000").map(|c| c.max_batch_bytes), Ok(2_000_000));
        assert!(parse("max.message.bytes", "999999999").is_err());
        assert!(parse("message.timestamp.after.max.ms", "-1").is_err());
        assert_eq!(parse("message.timestamp.type", "LogAppendTime").map(|c| c.log_append_time), Ok(true));
    }
}
