//! DescribeCluster (key 60), versions 0–2.
//!
//! The brokers as Metadata tells them, each at the address of the listener that the client came in by, and this broker
//! as the controller: any broker takes admin requests. v1's endpoint type (KIP-919) must be that of brokers: there are
//! no controllers to connect to. v2's fenced brokers (KIP-1073) do not exist: a broker whose session is over is gone.
//! Authorized operations are not reported: there are no ACLs.

use kafscale_wire::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};
use kafscale_wire::{ErrorCode, Text};

use super::{Call, Context, Supported, brokers};

pub(super) const API: Supported = Supported { key: 60, name: "DescribeCluster", advertised: 0..=2, served: 0..=2 };

/// Kafka's numbers for kinds of endpoints.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(context: &Context, call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        let error = match request.endpoint_type {
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        let words = format!("this is an endpoint of brokers (1); asked was for type {}", request.endpoint_type);
        return DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(Text::from(words)),
            ..Default::default()
        };
    }
    let brokers = brokers::all(context, call).into_iter();
    let brokers: Vec<_> = brokers
        .map(|broker| DescribeClusterBroker {
            broker_id: broker.id,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
            is_fenced: false,
        })
        .collect();
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: context.cluster_id.clone(),
        controller_id: brokers::controller(context, brokers.iter().map(|broker| broker.broker_id)),
        brokers,
        ..Default::default()
    }
}
