//! SyncGroup (key 14), versions 0–5.
//!
//! Parked until the leader's assignment is in the journal; each member gets its own part of it, untouched. v3 has
//! static members (KIP-345); from v5 on the member says which protocol it takes to be chosen (KIP-559), and the answer
//! says it too: a request without it is INCONSISTENT_GROUP_PROTOCOL. As with JoinGroup, what is parked does not keep
//! the frame.

use bytes::Bytes;
use kafscale_groups::{Error, Sync, Synced};
use kafscale_wire::Text;
use kafscale_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

use super::{Call, Context, Supported, errors};
use crate::connection::Frame;

pub(super) const API: Supported = Supported { key: 14, name: "SyncGroup", advertised: 0..=5, served: 0..=5 };

pub(super) async fn handle(
    context: &Context,
    call: &Call,
    request: SyncGroupRequest,
    frame: Frame,
) -> SyncGroupResponse {
    if call.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return refuse(&Error::InconsistentProtocol);
    }
    let group = String::from(request.group_id.as_str());
    let sync = plan(request);
    let Frame { bytes, reservation } = frame;
    drop(bytes);
    match context.groups.sync(&group, sync, reservation).await {
        Ok(synced) => respond(synced),
        Err(error) => refuse(&error),
    }
}

fn plan(request: SyncGroupRequest) -> Sync {
    let owned = |text: &Text| String::from(text.as_str());
    let copied =
        |given: &SyncGroupRequestAssignment| (owned(&given.member_id), Bytes::copy_from_slice(&given.assignment));
    Sync {
        member_id: owned(&request.member_id),
        instance: request.group_instance_id.as_ref().map(owned),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(owned),
        protocol: request.protocol_name.as_ref().map(owned),
        assignments: request.assignments.iter().map(copied).collect(),
    }
}

fn respond(synced: Synced) -> SyncGroupResponse {
    SyncGroupResponse {
        protocol_type: Some(Text::from(synced.protocol_type)),
        protocol_name: Some(Text::from(synced.protocol)),
        assignment: synced.assignment,
        ..Default::default()
    }
}

fn refuse(error: &Error) -> SyncGroupResponse {
    SyncGroupResponse { error_code: errors::group(error).code(), ..Default::default() }
}
