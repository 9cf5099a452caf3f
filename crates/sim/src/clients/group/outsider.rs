//! A client that is no member of a group: reads its committed offsets again and again, as tools do, and may commit too,
//! with generation -1: allowed while the group has no members.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::{Duration, sleep};

use super::desk::Desk;
use super::messages::{self, BY_ID_FROM};
use super::plan::OutsiderPlan;
use super::protocol::Partition;
use super::reader::{FetchStyle, Reader};
use crate::clients::Shared;
use crate::history::groups::{CommitPart, OffsetTold, Told, What, Who};
use crate::phase::Phase;
use crate::rng::Rng;

/// Runs an outsider until the faults are over, and once more.
pub async fn run(shared: Arc<Shared>, plan: OutsiderPlan, rng: Rng) {
    let style = FetchStyle { version: plan.versions.fetch, max_wait_ms: 0 };
    let reader = Reader::new(&shared, &plan.name, &plan.group, style);
    let desk = Desk::new(&shared, &plan.name, &plan.group, plan.versions.find);
    let mut outsider = Outsider { shared, plan, rng, desk, reader, told: Vec::new() };
    loop {
        let quiet = outsider.shared.is_quiet();
        outsider.turn().await;
        if quiet {
            return;
        }
        let pause = Duration::from_millis(outsider.plan.every_ms);
        tokio::select! {
            biased;
            () = outsider.shared.phase.reached(Phase::Quiet) => {}
            () = sleep(pause) => {}
        }
    }
}

struct Outsider {
    shared: Arc<Shared>,
    plan: OutsiderPlan,
    rng: Rng,
    desk: Desk,
    reader: Reader,
    /// What it was told last.
    told: Vec<OffsetTold>,
}

impl Outsider {
    async fn turn(&mut self) {
        if self.reader.wants_look() {
            let names: BTreeSet<String> = self.plan.topics.iter().cloned().collect();
            // Without topics it asks for all.
            let _known_or_not = self.reader.look(&names).await;
        }
        if self.plan.commits && self.shared.phase() == Phase::Faults && self.rng.chance(60) {
            self.commit().await;
        }
        self.ask().await;
    }

    fn partition(&mut self) -> Partition {
        let topic = self.plan.topics[self.rng.index(self.plan.topics.len())].clone();
        // Sometimes one that is not there.
        (topic, u32::try_from(self.rng.within(0..5)).expect("a small number"))
    }

    async fn commit(&mut self) {
        let version = self.plan.versions.commit;
        let ids = self.reader.ids();
        let mut parts = if self.rng.chance(40) { self.again() } else { self.anything() };
        if version >= BY_ID_FROM {
            parts.retain_mut(|part| {
                part.topic_id = ids.get(&part.topic).map_or(0, |id| id.0);
                part.topic_id != 0
            });
        }
        if parts.is_empty() {
            return;
        }
        let who = Who { generation: -1, ..Who::default() };
        let request = messages::commit(version, &self.plan.group, &who, &parts);
        let what = What::Commit(parts.clone());
        self.desk.ask(version, &request, (&who, what), |response| messages::committed(&parts, response)).await;
    }

    /// What is committed already, as far as it knows.
    fn again(&self) -> Vec<CommitPart> {
        let part = |told: &OffsetTold| CommitPart {
            topic: told.topic.clone(),
            topic_id: 0,
            partition: told.partition,
            offset: told.offset,
            metadata: told.metadata.clone(),
        };
        self.told.iter().filter(|told| told.offset >= 0 && !told.topic.is_empty()).map(part).collect()
    }

    fn anything(&mut self) -> Vec<CommitPart> {
        let metadata = if self.rng.chance(50) { self.shared.history.lock().groups.mark() } else { String::new() };
        let partitions: BTreeSet<Partition> = (0..self.rng.within(1..4)).map(|_| self.partition()).collect();
        let part = |(topic, partition): Partition| {
            let offset = self.rng.within(0..50).cast_signed();
            CommitPart { topic, topic_id: 0, partition, offset, metadata: metadata.clone() }
        };
        partitions.into_iter().map(part).collect()
    }

    async fn ask(&mut self) {
        let version = self.plan.versions.offsets;
        let ids = self.reader.ids();
        let known = self.plan.topics.iter().filter(|topic| version < BY_ID_FROM || ids.contains_key(*topic));
        let known: Vec<Partition> =
            known.flat_map(|topic| (0..5).map(|partition| (topic.clone(), partition))).collect();
        let all = version >= 2 && self.rng.chance(40);
        let wanted = (!all).then_some(known);
        if wanted.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let who = Who { generation: -1, ..Who::default() };
        let request = messages::offsets(version, &self.plan.group, wanted.as_deref(), &ids);
        let what = What::Offsets(wanted);
        let told = self.desk.ask(version, &request, (&who, what), |r| Some(messages::fetched(version, r, &ids))).await;
        if let Some(Told::Offsets(told)) = told {
            self.told = told;
        }
    }
}
