//! DeleteGroups (key 42), versions 0–2.
//!
//! Forgets groups without members, and their offsets; answered when the journal has it. A group with members is
//! NON_EMPTY_GROUP, one that does not exist GROUP_ID_NOT_FOUND; behind a barrier, since nothing was journalled then. A
//! group that is named twice is answered once.

use std::collections::BTreeSet;

use kafscale_wire::Text;
use kafscale_wire::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 42, name: "DeleteGroups", advertised: 0..=2, served: 0..=2 };

pub(super) async fn handle(context: &Context, _: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let passed = context.groups.barrier().await;
    let mut named = BTreeSet::new();
    let groups: Vec<Text> = request.groups_names.into_iter().filter(|group| named.insert(group.clone())).collect();
    // All enter before the first is waited for, so that they share entries.
    let entered: Vec<_> = match passed {
        Ok(()) => groups.iter().map(|group| Ok(context.groups.delete_group(group))).collect(),
        Err(stopped) => groups.iter().map(|_| Err(errors::coordinator_stopped(stopped))).collect(),
    };
    let mut results = Vec::with_capacity(groups.len());
    for (group_id, entered) in groups.into_iter().zip(entered) {
        let error = match entered {
            Ok(deleted) => errors::group_result(deleted.await),
            Err(error) => error,
        };
        results.push(DeletableGroupResult { group_id, error_code: error.code() });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}
