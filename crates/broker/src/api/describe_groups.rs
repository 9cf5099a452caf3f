//! DescribeGroups (key 15), versions 0–6.
//!
//! Groups with their members as the coordinator has them, behind a barrier. What members said and were assigned is
//! shown while the group is stable, as in Kafka. A group that does not exist is "Dead" without an error, and from v6 on
//! GROUP_ID_NOT_FOUND with a message (KIP-1043). v4 has static members (KIP-345). Authorized operations (v3, KIP-430)
//! are all that there are for a group, as Kafka says while it has no ACLs. A group of another broker is NOT_COORDINATOR.

use kafscale_groups::{DescribedMember, Description};
use kafscale_wire::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use kafscale_wire::{ErrorCode, Text};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 15, name: "DescribeGroups", advertised: 0..=6, served: 0..=6 };

/// Kafka's name of the state of a group that is none.
const DEAD: &str = "Dead";
/// Bits of Kafka's numbers of operations: read, delete, describe, describe and alter configs.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(super) async fn handle(context: &Context, call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let passed = context.groups.barrier().await;
    let describe = |group_id: Text| match passed {
        Ok(()) => match context.groups.describe(&group_id) {
            Ok(Some(found)) => describe(group_id, found),
            Ok(None) => unknown(call.version, group_id),
            Err(error) => DescribedGroup { error_code: errors::group(&error).code(), group_id, ..Default::default() },
        },
        Err(_stopped) => {
            DescribedGroup { error_code: ErrorCode::NotCoordinator.code(), group_id, ..Default::default() }
        }
    };
    let mut groups: Vec<DescribedGroup> = request.groups.into_iter().map(describe).collect();
    if request.include_authorized_operations {
        let without_error = groups.iter_mut().filter(|group| group.error_code == 0);
        without_error.for_each(|group| group.authorized_operations = ALL_OPERATIONS);
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

fn describe(group_id: Text, found: Description) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: Text::from_static(found.stage.as_str()),
        protocol_type: Text::from(found.protocol_type),
        protocol_data: Text::from(found.protocol),
        members: found.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(found: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: Text::from(&*found.id),
        group_instance_id: found.instance.map(Text::from),
        client_id: Text::from(found.client_id),
        client_host: Text::from(found.client_host),
        member_metadata: found.subscription,
        member_assignment: found.assignment,
    }
}

fn unknown(version: i16, group_id: Text) -> DescribedGroup {
    let error = if version >= 6 { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
    DescribedGroup {
        error_code: error.code(),
        error_message: (version >= 6).then(|| Text::from(format!("Group {} not found.", &*group_id))),
        group_id,
        group_state: Text::from_static(DEAD),
        ..Default::default()
    }
}
