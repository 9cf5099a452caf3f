//! An admin: creates topics, deletes some, creates them again under the same name.

use std::sync::Arc;

use kafscale_wire::create_topics::{CreatableTopic, CreateTopicsRequest};
use kafscale_wire::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use kafscale_wire::{ErrorCode, Request};
use tokio::time::{Duration, sleep};

use super::Shared;
use super::link::{Link, Lost};
use super::lookup::PATIENCE;
use crate::history::TopicChange;
use crate::phase::Phase;
use crate::rng::Rng;

const CREATE_VERSION: i16 = 7;
const DELETE_VERSION: i16 = 6;

/// What an admin does, in order.
#[derive(Debug, Clone)]
pub struct AdminPlan {
    /// (milliseconds after the one before, topic, its partitions or `None` to delete it).
    pub steps: Vec<(u64, String, Option<u32>)>,
}

/// Runs an admin until it has done all its steps, quickly once the faults are over. Creations are repeated until they are
/// known; a deletion is asked once.
pub async fn run(shared: Arc<Shared>, plan: AdminPlan, mut rng: Rng) {
    for (pause_ms, topic, partitions) in plan.steps {
        tokio::select! {
            biased;
            () = shared.phase.reached(Phase::Healing) => {}
            () = sleep(Duration::from_millis(pause_ms)) => {}
        }
        let Some(partitions) = partitions else {
            if shared.phase() == Phase::Faults {
                let asked_ms = shared.clock.ms();
                let code = delete(&shared, &topic).await.ok();
                note(&shared, TopicChange { topic, deletes: true, asked_ms, code });
            }
            continue;
        };
        loop {
            let asked_ms = shared.clock.ms();
            let code = create(&shared, &topic, partitions).await.ok();
            note(&shared, TopicChange { topic: topic.clone(), deletes: false, asked_ms, code });
            let known = [ErrorCode::None, ErrorCode::TopicAlreadyExists].map(ErrorCode::code);
            if code.is_some_and(|code| known.contains(&code)) {
                break;
            }
            sleep(Duration::from_millis(rng.within(50..400))).await;
        }
    }
}

fn note(shared: &Shared, change: TopicChange) {
    let mut history = shared.history.lock();
    history.note(format_args!("admin {change:?}"));
    history.changes.push(change);
}

async fn create(shared: &Arc<Shared>, topic: &str, partitions: u32) -> Result<i16, Lost> {
    let num_partitions = i32::try_from(partitions).expect("few partitions");
    let topic = CreatableTopic { name: topic.into(), num_partitions, replication_factor: -1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let mut link = Link::connect(shared, "admin").await?;
    let response = link.call(CREATE_VERSION, &request, PATIENCE).await?;
    let code = response.topics.first().map(|topic| topic.error_code).ok_or(Lost)?;
    shared.history.lock().answered(CreateTopicsRequest::KEY, code);
    Ok(code)
}

async fn delete(shared: &Arc<Shared>, topic: &str) -> Result<i16, Lost> {
    let topic = DeleteTopicState { name: Some(topic.into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    let mut link = Link::connect(shared, "admin").await?;
    let response = link.call(DELETE_VERSION, &request, PATIENCE).await?;
    let code = response.responses.first().map(|topic| topic.error_code).ok_or(Lost)?;
    shared.history.lock().answered(DeleteTopicsRequest::KEY, code);
    Ok(code)
}
