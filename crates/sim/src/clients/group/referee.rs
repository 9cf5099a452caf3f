//! Says when a group has settled: in the quiet phase all living members must come to one generation, have all
//! partitions of their topics, each once, and read and commit to the end; whoever is dead must be out. Asks the
//! broker like any tool, and compares with what the members know of themselves. A group that does not settle in time is
//! reported by the world, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafscale_wire::Request;
use kafscale_wire::describe_groups::DescribeGroupsRequest;
use tokio::time::{Duration, sleep};

use super::desk::Desk;
use super::messages::{self, Ids};
use super::protocol::Partition;
use super::{Reason, Standing};
use crate::clients::Shared;
use crate::clients::link::{Link, Lost};
use crate::clients::lookup::{Bound, PATIENCE, ends, topics};
use crate::history::groups::{Told, What, Who};
use crate::phase::Phase;

const FIND_VERSION: i16 = 4;
const DESCRIBE_VERSION: i16 = 5;
const OFFSETS_VERSION: i16 = 8;
const EVERY: Duration = Duration::from_millis(500);
const UNASSIGNED: &str = "not all partitions are assigned";
/// So many looks. A static leader that comes back is not told that it leads, or not what was assigned: partitions that
/// were added meanwhile are seen by nobody, with Kafka too, until the leader joins for another reason.
const NUDGE_AFTER: u32 = 20;

/// Runs the referee of a group until it has settled and all its members are gone.
pub async fn run(shared: Arc<Shared>, group: String) {
    shared.phase.reached(Phase::Quiet).await;
    let name = format!("{group} referee");
    let mut desk = Desk::new(&shared, &name, &group, FIND_VERSION);
    let mut unassigned = 0;
    loop {
        let verdict =
            look(&shared, &name, &group, &mut desk).await.unwrap_or(Err(progress("nobody answers".to_owned())));
        let Err(reason) = verdict else { break };
        unassigned = if reason.what == UNASSIGNED { unassigned + 1 } else { 0 };
        if unassigned % NUDGE_AFTER == NUDGE_AFTER - 1 {
            *shared.board.lock().nudges.entry(group.clone()).or_default() += 1;
        }
        shared.board.lock().reasons.insert(group.clone(), reason);
        sleep(EVERY).await;
    }
    shared.board.lock().over.insert(group.clone());
    shared.trace.line(format_args!("{group} has settled"));
    shared.board.lock().reasons.insert(group.clone(), progress("members do not go".to_owned()));
    while shared.board.lock().of(&group).next().is_some() {
        sleep(EVERY).await;
    }
    shared.board.lock().reasons.remove(&group);
}

/// Whether it has settled; the error is what it waits for.
async fn look(shared: &Arc<Shared>, name: &str, group: &str, desk: &mut Desk) -> Result<Result<(), Reason>, Lost> {
    let living: Vec<Standing> = shared.board.lock().of(group).cloned().collect();
    let mut link = Link::connect(shared, name).await?;
    let known = topics(shared, &mut link, None, false).await?;
    let wanted: BTreeSet<String> = living.iter().flat_map(|member| member.topics.iter().cloned()).collect();
    let known: BTreeMap<String, u32> = known.into_iter().map(|found| (found.name, found.partitions)).collect();
    let sizes: BTreeMap<String, u32> = known.into_iter().filter(|(topic, _)| wanted.contains(topic)).collect();
    if let Err(why) = owners(&living, &sizes) {
        return Ok(Err(progress(why)));
    }
    if let Err(why) = described(shared, &mut link, group, &living).await? {
        return Ok(Err(why));
    }
    let mut goal: BTreeMap<Partition, i64> = BTreeMap::new();
    for (topic, partitions) in &sizes {
        let ends = ends(shared, &mut link, topic, *partitions, Bound::Latest).await?;
        goal.extend((0..).zip(ends).filter_map(|(index, end)| Some(((topic.clone(), index), end?))));
    }
    let request = messages::offsets(OFFSETS_VERSION, group, None, &Ids::new());
    let who = Who { generation: -1, ..Who::default() };
    let told = desk.ask(OFFSETS_VERSION, &request, (&who, What::Offsets(None)), |r| {
        Some(messages::fetched(OFFSETS_VERSION, r, &Ids::new()))
    });
    let Some(Told::Offsets(told)) = told.await else { return Err(Lost) };
    let behind = goal.into_iter().find_map(|((topic, partition), end)| {
        let committed = told.iter().find(|told| told.topic == topic && told.partition == partition);
        let committed = committed.map_or(-1, |told| told.offset);
        (committed != end).then(|| format!("{topic}-{partition}: {committed} of {end} is committed"))
    });
    Ok(behind.map_or(Ok(()), |why| Err(progress(why))))
}

fn progress(what: String) -> Reason {
    Reason { check: "progress", what }
}

/// One generation, all partitions, each once.
fn owners(living: &[Standing], sizes: &BTreeMap<String, u32>) -> Result<(), String> {
    if let Some(member) = living.iter().find(|member| !member.settled) {
        return Err(format!("{member:?} has not settled"));
    }
    let generations: BTreeSet<i32> = living.iter().map(|member| member.generation).collect();
    if generations.len() > 1 {
        return Err(format!("its members are in the generations {generations:?}"));
    }
    let mut owned: BTreeSet<&Partition> = BTreeSet::new();
    for partition in living.iter().flat_map(|member| &member.assigned) {
        if !owned.insert(partition) {
            return Err(format!("{partition:?} has two owners"));
        }
    }
    let all: BTreeSet<Partition> =
        sizes.iter().flat_map(|(topic, count)| (0..*count).map(|index| (topic.clone(), index))).collect();
    if owned.into_iter().eq(all.iter()) { Ok(()) } else { Err(UNASSIGNED.to_owned()) }
}

/// The broker's members are those who live.
async fn described(
    shared: &Shared,
    link: &mut Link,
    group: &str,
    living: &[Standing],
) -> Result<Result<(), Reason>, Lost> {
    let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
    let response = link.call(DESCRIBE_VERSION, &request, PATIENCE).await?;
    let described = response.groups.first().ok_or(Lost)?;
    shared.history.lock().answered(DescribeGroupsRequest::KEY, described.error_code);
    let members: BTreeSet<&str> = described.members.iter().map(|member| member.member_id.as_str()).collect();
    let alive: BTreeSet<&str> = living.iter().map(|member| member.member.as_str()).collect();
    let state = described.group_state.as_str();
    let expected: &[&str] = if alive.is_empty() { &["Empty", "Dead"] } else { &["Stable"] };
    if members != alive {
        let what = format!("its members are {members:?}, and {alive:?} live");
        return Ok(Err(Reason { check: "evicted", what }));
    }
    Ok(if expected.contains(&state) { Ok(()) } else { Err(progress(format!("it is {state}"))) })
}
