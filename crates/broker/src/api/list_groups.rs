//! ListGroups (key 16), versions 0–5.
//!
//! All groups that this broker coordinates, behind a barrier: clients ask each broker; also those that have committed offsets and never had members, whose protocol type is
//! empty. v4 filters by state (KIP-518) and v5 by type (KIP-848), in any case of letters; every group here is "classic",
//! and a state or a type that does not exist matches nothing.

use kafscale_groups::Listed;
use kafscale_wire::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use kafscale_wire::{ErrorCode, Text};

use super::{Call, Context, Supported};

pub(super) const API: Supported = Supported { key: 16, name: "ListGroups", advertised: 0..=5, served: 0..=5 };

/// Kafka's name of the type of groups with the protocol of JoinGroup and SyncGroup.
const CLASSIC: &str = "classic";

pub(super) async fn handle(context: &Context, _: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    if context.groups.barrier().await.is_err() {
        return ListGroupsResponse { error_code: ErrorCode::NotCoordinator.code(), ..Default::default() };
    }
    if !passes(&request.types_filter, CLASSIC) {
        return ListGroupsResponse::default();
    }
    let pick = |listed: Listed<'_>| passes(&request.states_filter, listed.stage.as_str()).then(|| respond(listed));
    ListGroupsResponse { groups: context.groups.list(pick), ..Default::default() }
}

/// An empty filter lets everything pass.
fn passes(filter: &[Text], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
}

fn respond(listed: Listed<'_>) -> ListedGroup {
    ListedGroup {
        group_id: Text::from(listed.group),
        protocol_type: Text::from(listed.protocol_type),
        group_state: Text::from_static(listed.stage.as_str()),
        group_type: Text::from_static(CLASSIC),
    }
}
