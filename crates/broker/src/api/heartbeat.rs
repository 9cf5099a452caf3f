//! Heartbeat (key 12), versions 0–4.
//!
//! Says that a member is alive, and learns whether it has to join again (REBALANCE_IN_PROGRESS). Never touches the
//! journal. v3 has static members (KIP-345).

use kafscale_groups::Heartbeat;
use kafscale_wire::Text;
use kafscale_wire::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 12, name: "Heartbeat", advertised: 0..=4, served: 0..=4 };

pub(super) async fn handle(context: &Context, _: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let owned = |text: &Text| String::from(text.as_str());
    let heartbeat = Heartbeat {
        member_id: owned(&request.member_id),
        instance: request.group_instance_id.as_ref().map(owned),
        generation: request.generation_id,
    };
    let answered = context.groups.heartbeat(&request.group_id, heartbeat).await;
    HeartbeatResponse { error_code: errors::group_result(answered).code(), ..Default::default() }
}
