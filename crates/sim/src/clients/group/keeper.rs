//! What an administrator does to a group while it is in use: deletes it or some of its offsets, gives its topics more
//! partitions, removes a static member. Each is asked once, while there are faults.

use std::sync::Arc;

use kafscale_wire::Request;
use kafscale_wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafscale_wire::delete_groups::DeleteGroupsRequest;
use tokio::time::{Duration, sleep};

use super::desk::Desk;
use super::messages;
use super::plan::{Deed, GroupPlan};
use crate::clients::Shared;
use crate::clients::link::{Link, Lost};
use crate::clients::lookup::{PATIENCE, topics};
use crate::history::groups::{Told, What, Who};
use crate::phase::Phase;

const FIND_VERSION: i16 = 3;
const LEAVE_VERSION: i16 = 4;
const DELETE_VERSION: i16 = 2;
const PARTITIONS_VERSION: i16 = 3;

/// Runs the keeper of a group.
pub async fn run(shared: Arc<Shared>, plan: GroupPlan) {
    let name = format!("{} keeper", plan.name);
    for (pause_ms, deed) in plan.deeds {
        tokio::select! {
            biased;
            () = shared.phase.reached(Phase::Healing) => return,
            () = sleep(Duration::from_millis(pause_ms)) => {}
        }
        shared.trace.line(format_args!("{name}: {deed:?}"));
        let mut desk = Desk::new(&shared, &name, &plan.name, FIND_VERSION);
        let who = Who { generation: -1, ..Who::default() };
        match deed {
            Deed::DeleteGroup => {
                let request = DeleteGroupsRequest { groups_names: vec![plan.name.as_str().into()] };
                let said = |r: &kafscale_wire::delete_groups::DeleteGroupsResponse| {
                    r.results.first().map(|result| Told::Code(result.error_code))
                };
                desk.ask(DELETE_VERSION, &request, (&who, What::DeleteGroup), said).await;
            }
            Deed::DeleteOffsets(topic) => {
                let partitions: Vec<_> = (0..4).map(|partition| (topic.clone(), partition)).collect();
                let request = messages::delete_offsets(&plan.name, &partitions);
                let what = What::DeleteOffsets(partitions.clone());
                desk.ask(0, &request, (&who, what), |r| Some(messages::deleted(&partitions, r))).await;
            }
            Deed::AddPartitions(topic, more) => {
                // Whether it was done is seen by everybody who looks.
                let _seen_or_not = add_partitions(&shared, &name, &topic, more).await;
            }
            Deed::Remove(instance) => {
                let request = messages::leave(LEAVE_VERSION, &plan.name, "", Some(&instance));
                let what = What::Leave(vec![(String::new(), Some(instance))]);
                desk.ask(LEAVE_VERSION, &request, (&who, what), |r| Some(messages::left(r))).await;
            }
        }
    }
}

async fn add_partitions(shared: &Arc<Shared>, name: &str, topic: &str, more: u32) -> Result<(), Lost> {
    let mut link = Link::connect(shared, name).await?;
    let known = topics(shared, &mut link, Some(&[topic.to_owned()]), false).await?;
    let Some(found) = known.first() else { return Ok(()) };
    let count = i32::try_from(found.partitions + more).expect("few partitions");
    let topic = CreatePartitionsTopic { name: topic.into(), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let response = link.call(PARTITIONS_VERSION, &request, PATIENCE).await?;
    let code = response.results.first().map(|result| result.error_code).ok_or(Lost)?;
    shared.history.lock().answered(CreatePartitionsRequest::KEY, code);
    Ok(())
}
