//! LeaveGroup (key 13), versions 0–5.
//!
//! A member leaves, and the others join again. The journal hears of it with the next generation; the last member's
//! leaving makes an empty generation at once. v3 takes several members (KIP-345), also by their instance alone, which is how an
//! administrator removes static ones; each has an error of its own. v5's reason (KIP-800) is logged at level debug.

use kafscale_groups::{Error, Leaver};
use kafscale_wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};
use kafscale_wire::{ErrorCode, Text};
use tracing::debug;

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 13, name: "LeaveGroup", advertised: 0..=5, served: 0..=5 };

pub(super) async fn handle(context: &Context, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let members = if call.version < 3 {
        vec![MemberIdentity { member_id: request.member_id, ..Default::default() }]
    } else {
        request.members
    };
    for MemberIdentity { member_id, reason, .. } in &members {
        let (group, member) = (&*request.group_id, &**member_id);
        debug!(group, member, reason = reason.as_deref().unwrap_or_default(), "a member leaves");
    }
    let leavers = members.iter().map(leaver).collect();
    let answered = context.groups.leave(&request.group_id, leavers).await;
    match answered {
        Err(error) => refuse(&error),
        Ok(results) if call.version < 3 => {
            let only = results.into_iter().next().unwrap_or(Ok(()));
            LeaveGroupResponse { error_code: errors::group_result(only).code(), ..Default::default() }
        }
        Ok(results) => {
            let members = members.into_iter().zip(results).map(|(member, result)| respond(member, result)).collect();
            LeaveGroupResponse { members, ..Default::default() }
        }
    }
}

fn leaver(member: &MemberIdentity) -> Leaver {
    let owned = |text: &Text| String::from(text.as_str());
    Leaver { member_id: owned(&member.member_id), instance: member.group_instance_id.as_ref().map(owned) }
}

fn respond(member: MemberIdentity, result: Result<(), Error>) -> MemberResponse {
    let MemberIdentity { member_id, group_instance_id, .. } = member;
    MemberResponse { member_id, group_instance_id, error_code: errors::group_result(result).code() }
}

fn refuse(error: &Error) -> LeaveGroupResponse {
    let error_code: ErrorCode = errors::group(error);
    LeaveGroupResponse { error_code: error_code.code(), ..Default::default() }
}
