//! DescribeConfigs (key 32), versions 1–4.
//!
//! Topics are described by the settings of [`topic_config`], each with its source: the topic or the default. Asked for
//! by name, a setting that there is not is left out, as Kafka does. A broker has no settings that clients could use:
//! its list is empty. Any other kind of resource is refused by its number. Synonyms, types and documentation (v3) are
//! not given.

use kafscale_log::Ledger;
use kafscale_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult,
};
use kafscale_wire::{ErrorCode, Text};

use super::topic_config;
use super::{Call, Context, Supported};

pub(super) const API: Supported = Supported { key: 32, name: "DescribeConfigs", advertised: 1..=4, served: 1..=4 };

/// Kafka's numbers for kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

type Configs = Vec<DescribeConfigsResourceResult>;

pub(super) async fn handle(context: &Context, _: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let described = match resource.resource_type {
            TOPIC => describe_topic(context, &resource).await,
            BROKER => Ok(Vec::new()),
            other => Err((ErrorCode::InvalidRequest, format!("resources of type {other} have no settings here"))),
        };
        results.push(report(resource, described));
    }
    DescribeConfigsResponse { results, ..Default::default() }
}

async fn describe_topic(context: &Context, asked: &DescribeConfigsResource) -> Result<Configs, (ErrorCode, String)> {
    let name = &asked.resource_name;
    let unknown = |error| (error, format!("there is no topic '{name}'"));
    let id = context.topic_by_name(name).await.map_err(unknown)?;
    let state = context.replica.state();
    let topic = state.topic(id).ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?;
    let is_asked =
        |setting: &str| asked.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key == setting));
    let described = topic_config::describe(topic.configs()).filter(|described| is_asked(described.setting.name));
    let result = described.map(|described| DescribeConfigsResourceResult {
        name: Text::from(described.setting.name),
        value: Some(Text::from(described.value)),
        config_source: described.source,
        ..Default::default()
    });
    Ok(result.collect())
}

fn report(resource: DescribeConfigsResource, described: Result<Configs, (ErrorCode, String)>) -> DescribeConfigsResult {
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
