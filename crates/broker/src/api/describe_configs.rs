//! DescribeConfigs (key 32), versions 1–4.
//!
//! Topics are described by the settings of [`topic_config`], each with its source: the topic or the default. A broker
//! is described by those of [`broker_config`], all of them read-only; only this one, by its id: clients ask each broker
//! for its own. Without an id the settings that all brokers share are meant: there are none. Any other kind of resource
//! is refused by its number. Asked for by name, a setting that there is not is left out, and no names ask for all, as
//! with Kafka. Synonyms are what Kafka calls the broker's setting behind a topic's. v3 has types, and in place of
//! documentation (KIP-569) what is allowed.

use kafscale_log::Ledger;
use kafscale_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafscale_wire::{ErrorCode, Text};

use super::topic_config::{self, DEFAULT_CONFIG};
use super::{Call, Context, Supported, broker_config, errors};

pub(super) const API: Supported = Supported { key: 32, name: "DescribeConfigs", advertised: 1..=4, served: 1..=4 };

/// Kafka's numbers for kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// What is set when the broker is started, in Kafka's numbers for sources (KIP-226).
const STATIC_BROKER_CONFIG: i8 = 4;

type Configs = Vec<DescribeConfigsResourceResult>;
type Refused = (ErrorCode, String);

/// What the request wants to know beside names and values.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

pub(super) async fn handle(context: &Context, _: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let wanted = Wanted { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let described = match resource.resource_type {
            TOPIC => describe_topic(context, &resource, wanted).await,
            BROKER => describe_broker(context, &resource, wanted),
            other => Err((ErrorCode::InvalidRequest, format!("resources of type {other} have no settings here"))),
        };
        results.push(report(resource, described));
    }
    DescribeConfigsResponse { results, ..Default::default() }
}

async fn describe_topic(
    context: &Context,
    asked: &DescribeConfigsResource,
    wanted: Wanted,
) -> Result<Configs, Refused> {
    let name = &asked.resource_name;
    let unknown = || (errors::no_topic(name), format!("there is no topic '{name}'"));
    let failed = |error| (error, format!("topic '{name}' cannot be looked up now"));
    let found = context.topic_by_name(name).await;
    let id = found.map_err(|e| if e == ErrorCode::UnknownTopicOrPartition { unknown() } else { failed(e) })?;
    let state = context.replica.state();
    let topic = state.topic(id).ok_or_else(unknown)?;
    let described = topic_config::describe(topic.configs()).filter(|described| is_asked(asked, described.setting.name));
    let result = described.map(|described| {
        let setting = described.setting;
        let mut synonyms = Vec::new();
        if described.source != DEFAULT_CONFIG {
            synonyms.push(synonym(setting.name, described.value, described.source));
        }
        synonyms.push(synonym(setting.broker_name, setting.default, DEFAULT_CONFIG));
        DescribeConfigsResourceResult {
            name: Text::from(setting.name),
            value: Some(Text::from(described.value)),
            config_source: described.source,
            synonyms: if wanted.synonyms { synonyms } else { Vec::new() },
            config_type: setting.kind as i8,
            documentation: wanted.documentation.then(|| Text::from(format!("allowed: {}", setting.allowed))),
            ..Default::default()
        }
    });
    Ok(result.collect())
}

fn describe_broker(context: &Context, asked: &DescribeConfigsResource, wanted: Wanted) -> Result<Configs, Refused> {
    let (name, id) = (asked.resource_name.as_str(), context.broker_id);
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() != Ok(id) {
        let words = format!("this is broker {id}, which cannot describe broker '{name}'");
        return Err((ErrorCode::InvalidRequest, words));
    }
    let described = broker_config::describe(context).into_iter().filter(|described| is_asked(asked, described.name));
    let result = described.map(|described| DescribeConfigsResourceResult {
        name: Text::from(described.name),
        value: Some(Text::from(described.value.as_str())),
        read_only: true,
        config_source: STATIC_BROKER_CONFIG,
        synonyms: match wanted.synonyms {
            true => vec![synonym(described.name, &described.value, STATIC_BROKER_CONFIG)],
            false => Vec::new(),
        },
        config_type: described.kind as i8,
        ..Default::default()
    });
    Ok(result.collect())
}

fn is_asked(asked: &DescribeConfigsResource, setting: &str) -> bool {
    let keys = asked.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    keys.is_none_or(|keys| keys.iter().any(|key| key == setting))
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: Text::from(name), value: Some(Text::from(value)), source }
}

fn report(resource: DescribeConfigsResource, described: Result<Configs, Refused>) -> DescribeConfigsResult {
    let (error, words, configs) = match described {
        Ok(configs) => (ErrorCode::None, None, configs),
        Err((error, words)) => (error, Some(Text::from(words)), Vec::new()),
    };
    DescribeConfigsResult {
        error_code: error.code(),
        error_message: words,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs,
    }
}
