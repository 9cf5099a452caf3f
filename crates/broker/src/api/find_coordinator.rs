//! FindCoordinator (key 10), versions 0–6.
//!
//! Any broker coordinates any group while there is one broker, so the answer is this one, at the address of the
//! listener that the client came in by. A transactional id (key type 1, v1) is answered alike: a client that got no
//! coordinator would look for one for ever, while InitProducerId refuses it in words. Share groups (key type 2, v6,
//! KIP-932) are INVALID_REQUEST, as Kafka says without them. v4 asks for several keys at once (KIP-699). A broker whose
//! session is over answers COORDINATOR_NOT_AVAILABLE.

use kafscale_wire::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use kafscale_wire::{ErrorCode, Text};

use super::brokers::{self, Broker};
use super::{Call, Context, Supported};

pub(super) const API: Supported = Supported { key: 10, name: "FindCoordinator", advertised: 0..=6, served: 0..=6 };

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) async fn handle(context: &Context, call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let found = find(context, call, request.key_type);
    if call.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(|key| respond(key, &found)).collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = respond(request.key, &found);
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }
}

fn find(context: &Context, call: &Call, key_type: i8) -> Result<Broker, ErrorCode> {
    match key_type {
        GROUP | TRANSACTION => brokers::this(context, call).ok_or(ErrorCode::CoordinatorNotAvailable),
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
