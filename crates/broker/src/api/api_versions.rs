//! ApiVersions (key 18), versions 0–4.
//!
//! Answers the table [`super::APIS`]. A version above ours gets error 35 in the form of version 0, with the whole list
//! of keys, and the connection goes on: the client picks a version and asks again (KIP-511). The client's software
//! name and version (v3) are ignored. No features are advertised: there is no cluster-wide feature that a client
//! could use (transactions v2, KIP-890, and the new group protocol, KIP-848, are not served).

use kafscale_wire::ErrorCode;
use kafscale_wire::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use kafscale_wire::frame::encode_response;

use super::{APIS, Call, Context, Supported};
use crate::connection::{Answer, Reply};

pub(super) const API: Supported = Supported { key: 18, name: "ApiVersions", advertised: 0..=4, served: 0..=4 };

pub(super) async fn handle(_: &Context, _: &Call, _: ApiVersionsRequest) -> ApiVersionsResponse {
    response(ErrorCode::None)
}

/// The answer to a version that is not served.
pub(super) fn unsupported(call: &Call) -> Reply {
    let slices = encode_response(call.correlation_id, 0, &response(ErrorCode::UnsupportedVersion));
    Reply::Send(Answer { slices, hold: Vec::new(), failed: true })
}

fn response(error: ErrorCode) -> ApiVersionsResponse {
    let api_keys = APIS.iter().map(|api| ApiVersion {
        api_key: api.key,
        min_version: *api.advertised.start(),
        max_version: *api.advertised.end(),
    });
    ApiVersionsResponse { error_code: error.code(), api_keys: api_keys.collect(), ..Default::default() }
}
