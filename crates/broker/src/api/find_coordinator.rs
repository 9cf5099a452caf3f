//! FindCoordinator (key 10), versions 0–6.
//!
//! The coordinator of a group is the one whose commands of it the fold takes, at the address of the listener that the
//! client came in by, and read behind a barrier: whoever was just told NOT_COORDINATOR is not sent back. A coordinator
//! that has no listener of that name is COORDINATOR_NOT_AVAILABLE, and so is every answer of a broker whose session is
//! over. For a transactional id (key type 1, v1) it is this broker: a client that got none would look for one for ever,
//! while InitProducerId refuses it in words. Share groups (key type 2, v6, KIP-932) are INVALID_REQUEST, as Kafka says
//! without them. v4 asks for several keys at once (KIP-699).

use kafscale_wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use kafscale_wire::{ErrorCode, Text};

use super::brokers::{self, Broker};
use super::{Call, Context, Supported};

pub(super) const API: Supported = Supported { key: 10, name: "FindCoordinator", advertised: 0..=6, served: 0..=6 };

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const NONE: ErrorCode = ErrorCode::CoordinatorNotAvailable;

pub(super) async fn handle(context: &Context, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let fresh = context.groups.barrier().await.is_ok();
    let find = |key: Text| {
        let found = if fresh { find(context, call, request.key_type, &key) } else { Err(NONE) };
        respond(key, &found)
    };
    if call.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = find(request.key);
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }
}

fn find(context: &Context, call: &Call, key_type: i8, key: &str) -> Result<Broker, ErrorCode> {
    match key_type {
        GROUP => brokers::coordinator(&context.groups.state(), key, call).ok_or(NONE),
        TRANSACTION => brokers::this(context, call).ok_or(NONE),
        _ => Err(ErrorCode::InvalidRequest),
    }
}

fn respond(key: Text, found: &Result<Broker, ErrorCode>) -> Coordinator {
    match found {
        Ok(broker) => Coordinator {
            key,
            node_id: broker.id,
            host: broker.host.clone(),
            port: broker.port,
            error_message: Some(Text::default()),
            ..Default::default()
        },
        Err(error) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(Text::from(error.name())),
            ..Default::default()
        },
    }
}
