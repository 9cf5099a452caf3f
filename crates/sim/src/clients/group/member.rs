//! A process that is a member of a group, as Kafka's clients are (`AbstractCoordinator`, `ConsumerCoordinator`): finds
//! the coordinator, joins, assigns if it leads, syncs, gives signs of life, reads from what was committed, commits, and
//! does with each error what they do. What befalls it is in [`super::life`].
//!
//! 1. An eager member commits and gives all up before it joins; a cooperative one keeps reading, gives up what the new
//!    assignment lacks, and joins again if that was anything (KIP-429).
//! 2. REBALANCE_IN_PROGRESS: join. ILLEGAL_GENERATION: without partitions, join. UNKNOWN_MEMBER_ID: the same as a new
//!    member. FENCED_INSTANCE_ID: the end.
//! 3. An answer to what was asked in another generation is not listened to.

mod asking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafscale_wire::ErrorCode;
use kafscale_wire::heartbeat::HeartbeatResponse;
use kafscale_wire::join_group::JoinGroupResponse;
use kafscale_wire::leave_group::LeaveGroupResponse;
use kafscale_wire::offset_commit::OffsetCommitResponse;
use kafscale_wire::offset_fetch::OffsetFetchResponse;
use kafscale_wire::sync_group::SyncGroupResponse;
use tokio::time::{Duration, sleep, timeout};

use super::desk::{Answered, Desk};
use super::plan::MemberPlan;
use super::protocol::{Partition, Subscription, decode_assignment};
use super::reader::{FetchStyle, Reader};
use super::{Standing, messages};
use crate::clients::Shared;
use crate::clients::link::Lost;
use crate::history::groups::{Cause, Told, What, Who};
use crate::phase::Phase;
use crate::rng::Rng;

/// How long it waits before it asks again what was refused.
const BACKOFF_MS: u64 = 100;
/// It looks around at least so often.
const GLANCE_MS: u64 = 500;

/// Why a process does not go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is time for something else.
    Due,
    /// Another process has its instance id.
    Fenced,
    /// The coordinator does not take it.
    Refused(i16),
    /// The group has settled and everybody may go.
    Over,
}

/// How far it is with joining.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// It has to join.
    Out,
    /// It asked to.
    Joining,
    /// It leads these (id, instance, subscription), and has to assign.
    Leading(Vec<(String, Option<String>, Bytes)>),
    /// It has to ask for its assignment.
    Following,
    /// It asked for it.
    Syncing,
    /// It has it.
    In,
}

/// Its place in the group.
struct Seat {
    stage: Stage,
    who: Who,
    protocol: String,
    /// Why it will join next.
    cause: Cause,
    /// What it assigned: topics and their partitions. For the leader.
    led: Option<BTreeMap<String, u32>>,
    /// The topics of all members, for the leader.
    all_topics: BTreeSet<String>,
    /// What it told that it wants.
    wants: Vec<String>,
    /// It leaves before it joins.
    leaves: bool,
    /// How often the referee has made it join again.
    nudges: u32,
    /// What it had, and in which generation.
    had: (BTreeSet<Partition>, i32),
}

/// When it does what next.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    join_ms: u64,
    heartbeat_ms: u64,
    commit_ms: u64,
    offsets_ms: u64,
}

/// See the module's documentation.
pub struct Member {
    shared: Arc<Shared>,
    /// What it does.
    pub plan: MemberPlan,
    rng: Rng,
    desk: Desk,
    reader: Reader,
    seat: Seat,
    due: Due,
    /// What was last committed of each partition, as far as it knows.
    kept: BTreeMap<Partition, i64>,
}

impl Member {
    /// A new process.
    pub fn new(shared: &Arc<Shared>, plan: &MemberPlan, rng: Rng) -> Self {
        let style = FetchStyle { version: plan.versions.fetch, max_wait_ms: plan.pace.max_wait_ms };
        let who = Who { member: String::new(), instance: plan.instance.clone(), generation: -1 };
        let seat = Seat {
            stage: Stage::Out,
            who,
            protocol: String::new(),
            cause: Cause::New,
            led: None,
            all_topics: BTreeSet::new(),
            wants: Vec::new(),
            leaves: false,
            nudges: 0,
            had: (BTreeSet::new(), -1),
        };
        Self {
            shared: Arc::clone(shared),
            plan: plan.clone(),
            rng,
            desk: Desk::new(shared, &plan.name, &plan.group, plan.versions.find),
            reader: Reader::new(shared, &plan.name, &plan.group, style),
            seat,
            due: Due::default(),
            kept: BTreeMap::new(),
        }
    }

    /// Does what a member does, until a time (as long as there are faults) or an end.
    pub async fn live(&mut self, until_ms: u64) -> End {
        loop {
            let faults = self.shared.phase() == Phase::Faults;
            if self.shared.board.lock().over.contains(&self.plan.group) {
                return End::Over;
            }
            let nudges = self.shared.board.lock().nudges.get(&self.plan.group).copied().unwrap_or(0);
            if self.seat.stage == Stage::In && nudges > self.seat.nudges {
                self.seat.nudges = nudges;
                self.rejoin(Cause::Own, 0);
            }
            if faults && self.now() >= until_ms {
                return End::Due;
            }
            self.tick().await;
            self.stand();
            let until_ms = if faults { until_ms } else { u64::MAX };
            let wait_ms = self.due_ms().min(until_ms).saturating_sub(self.now()).clamp(1, GLANCE_MS);
            tokio::select! {
                biased;
                answered = self.desk.answer() => {
                    if let Some(end) = self.hear(answered).await {
                        return end;
                    }
                }
                answer = self.reader.answer() => self.reader.read(answer),
                () = sleep(Duration::from_millis(wait_ms)) => {}
            }
        }
    }

    fn now(&self) -> u64 {
        self.shared.clock.ms()
    }

    fn due_ms(&self) -> u64 {
        let desk = self.desk.due_ms().unwrap_or(u64::MAX);
        let stage = match self.seat.stage {
            Stage::Out => self.due.join_ms,
            Stage::Following => 0,
            Stage::Joining | Stage::Leading(_) => u64::MAX,
            Stage::Syncing | Stage::In => self.due.heartbeat_ms.min(self.due.commit_ms),
        };
        desk.min(stage).min(self.reader.due_ms())
    }

    /// Tells the referee.
    fn stand(&self) {
        let settled = self.seat.stage == Stage::In && self.reader.unplaced().is_empty();
        let standing = Standing {
            member: self.seat.who.member.clone(),
            generation: self.seat.who.generation,
            settled,
            topics: self.plan.topics.clone(),
            assigned: self.reader.partitions(),
        };
        let mut board = self.shared.board.lock();
        board.standings.insert((self.plan.group.clone(), self.plan.name.clone()), standing);
    }

    /// Does all that is due.
    async fn tick(&mut self) {
        if self.desk.is_overdue() {
            self.desk.close();
        }
        if !self.desk.is_open() {
            if matches!(self.seat.stage, Stage::Joining | Stage::Leading(_) | Stage::Following | Stage::Syncing) {
                self.seat.stage = Stage::Out;
            }
            self.desk.open().await;
        }
        if self.reader.wants_look() {
            self.look().await;
        }
        if self.desk.is_open() {
            self.take_part().await;
        }
        if !(self.plan.commits.sync && self.desk.waits_for("offset commit")) {
            self.reader.fetch().await;
        }
    }

    async fn take_part(&mut self) {
        match &self.seat.stage {
            Stage::Out if self.now() >= self.due.join_ms => self.join().await,
            Stage::Leading(_) => self.lead().await,
            Stage::Following => self.sync(&[]).await,
            Stage::Out | Stage::Joining | Stage::Syncing | Stage::In => {}
        }
        let now_ms = self.now();
        // Also while it is too busy to join.
        let waits = self.seat.stage == Stage::Out && self.seat.who.generation >= 0;
        let seated = waits || matches!(self.seat.stage, Stage::Syncing | Stage::In);
        if seated && now_ms >= self.due.heartbeat_ms && !self.desk.waits_for("heartbeat") {
            self.due.heartbeat_ms = now_ms + self.plan.pace.heartbeat_ms;
            let version = self.plan.versions.heartbeat;
            let request = messages::heartbeat(version, &self.plan.group, &self.seat.who);
            self.desk.send(version, &request, &self.seat.who, What::Heartbeat).await;
        }
        if self.seat.stage == Stage::In && now_ms >= self.due.offsets_ms && !self.desk.waits_for("offset fetch") {
            self.ask_offsets().await;
        }
        if now_ms >= self.due.commit_ms && !self.desk.waits_for("offset commit") {
            self.due.commit_ms = now_ms + self.plan.pace.commit_ms;
            self.commit().await;
        }
    }

    /// Looks at the topics; whoever leads joins again if they are not those that it assigned.
    async fn look(&mut self) {
        let mut names = self.seat.all_topics.clone();
        names.extend(self.plan.topics.iter().cloned());
        if self.reader.look(&names).await.is_err() {
            return;
        }
        let sizes = self.reader.sizes(&self.seat.all_topics);
        if self.seat.stage == Stage::In && self.seat.led.as_ref().is_some_and(|led| *led != sizes) {
            self.rejoin(Cause::Own, 0);
        }
    }

    /// It will join, after a pause.
    fn rejoin(&mut self, cause: Cause, pause_ms: u64) {
        self.seat.stage = Stage::Out;
        self.seat.cause = self.seat.cause.max(cause);
        self.due.join_ms = self.due.join_ms.max(self.now() + pause_ms);
    }

    /// What it had is another's by now.
    fn lose(&mut self) {
        self.reader.take(&BTreeSet::new());
        self.kept.clear();
        self.seat.who.generation = -1;
        self.seat.led = None;
    }

    /// It wants other topics from now on.
    pub fn subscribe(&mut self, topics: Vec<String>) {
        self.plan.topics = topics;
        if self.seat.stage == Stage::In {
            self.rejoin(Cause::Own, 0);
        }
    }

    /// It joins nothing for a while.
    pub fn dawdle(&mut self, ms: u64) {
        self.due.join_ms = self.now() + ms;
    }

    /// It loses its connections.
    pub fn disconnect(&mut self) {
        self.desk.close();
        self.reader.close();
    }

    /// It is gone, without a word.
    pub fn vanish(&mut self) {
        self.disconnect();
        let name = (self.plan.group.clone(), self.plan.name.clone());
        self.shared.board.lock().standings.remove(&name);
    }

    /// Says good-bye, if members of its kind do, and is gone.
    pub async fn leave(&mut self) {
        if self.plan.instance.is_none() && !self.seat.who.member.is_empty() && self.desk.is_open() {
            self.say_good_bye().await;
            while self.desk.waits_for("leave") {
                let Ok(Ok(answered)) = timeout(Duration::from_secs(10), self.desk.answer()).await else { break };
                let _nothing_matters_any_more = self.hear(Ok(answered)).await;
            }
        }
        self.vanish();
    }

    /// Takes an answer, or the loss of the connection.
    async fn hear(&mut self, answered: Result<Answered, Lost>) -> Option<End> {
        let Ok(answered) = answered else {
            self.desk.close();
            return None;
        };
        let asked = {
            let history = self.shared.history.lock();
            let asked = &history.groups.asked[answered.index];
            (asked.who.clone(), asked.what.clone())
        };
        let (version, ids) = (self.plan.versions.offsets, self.reader.ids());
        let told = match &asked.1 {
            What::Join { .. } => self.desk.tell::<JoinGroupResponse>(answered, |r| Some(messages::joined(r))),
            What::Sync { .. } => self.desk.tell::<SyncGroupResponse>(answered, |r| Some(messages::synced(r))),
            What::Heartbeat => self.desk.tell::<HeartbeatResponse>(answered, |r| Some(Told::Code(r.error_code))),
            What::Leave(_) => self.desk.tell::<LeaveGroupResponse>(answered, |r| Some(messages::left(r))),
            What::Commit(parts) => self.desk.tell::<OffsetCommitResponse>(answered, |r| messages::committed(parts, r)),
            What::Offsets(_) | What::DeleteGroup | What::DeleteOffsets(_) => {
                self.desk.tell::<OffsetFetchResponse>(answered, |r| Some(messages::fetched(version, r, &ids)))
            }
        };
        let Some(told) = told else {
            self.desk.close();
            return None;
        };
        self.react(asked, told).await
    }

    async fn react(&mut self, (who, what): (Who, What), told: Told) -> Option<End> {
        let same = who == self.seat.who;
        // While it joins, what it asked before does not matter any more.
        let listens = match what {
            What::Join { .. } => self.seat.stage == Stage::Joining,
            What::Sync { .. } => self.seat.stage == Stage::Syncing && same,
            What::Heartbeat | What::Commit(_) | What::Offsets(_) => self.seat.stage == Stage::In && same,
            What::Leave(_) | What::DeleteGroup | What::DeleteOffsets(_) => false,
        };
        if !listens {
            return None;
        }
        match told {
            Told::Joined { generation, protocol, leader, member, skips, members } => {
                let leads = leader == member && !skips;
                (self.seat.led, self.seat.all_topics) = (None, BTreeSet::new());
                if skips {
                    self.watch(&members);
                }
                self.seat.who.generation = generation;
                self.seat.who.member = member;
                (self.seat.protocol, self.seat.cause) = (protocol, Cause::Told);
                self.seat.stage = if leads { Stage::Leading(members) } else { Stage::Following };
            }
            Told::Named(member) => {
                self.seat.who.member = member;
                self.rejoin(Cause::New, 0);
            }
            Told::Synced(assignment) => self.seat_with(assignment).await,
            Told::Each(codes) => {
                if let What::Commit(parts) = &what {
                    let kept = parts.iter().zip(&codes).filter(|(_, code)| **code == 0);
                    self.kept.extend(kept.map(|(part, _)| ((part.topic.clone(), part.partition), part.offset)));
                }
                let bad = codes.iter().copied().find(|code| *code != 0)?;
                return self.fail(&what, bad);
            }
            Told::Offsets(offsets) => {
                for told in offsets.iter().filter(|told| told.code == 0) {
                    self.reader.place(&(told.topic.clone(), told.partition), told.offset);
                }
                if let What::Offsets(None) = what {
                    // What is not in a list of all was not committed.
                    self.reader.unplaced().iter().for_each(|at| self.reader.place(at, -1));
                }
            }
            Told::Code(0) => {}
            Told::Code(code) => return self.fail(&what, code),
        }
        None
    }

    /// It leads a group that has its assignment (KIP-814): it has to see when topics change.
    fn watch(&mut self, members: &[(String, Option<String>, Bytes)]) {
        let topics = members.iter().filter_map(|(_, _, bytes)| Subscription::decode(bytes.clone()).ok());
        self.seat.all_topics = topics.flat_map(|subscription| subscription.topics).collect();
        self.seat.led = Some(self.reader.sizes(&self.seat.all_topics));
    }

    /// It has an assignment.
    async fn seat_with(&mut self, assignment: Bytes) {
        let partitions = match decode_assignment(assignment) {
            Ok(partitions) => partitions,
            Err(why) => {
                let what = why.context(format!("{} cannot read its assignment", self.plan.name));
                self.shared.history.lock().odd("handed-out", &what);
                BTreeSet::new()
            }
        };
        self.seat.stage = Stage::In;
        let gives_up = self.reader.partitions().iter().any(|at| !partitions.contains(at));
        if gives_up {
            self.commit().await;
        }
        self.reader.take(&partitions);
        self.kept.retain(|at, _| partitions.contains(at));
        self.seat.had = (partitions, self.seat.who.generation);
        let foreign = self.seat.had.0.iter().any(|(topic, _)| !self.seat.wants.contains(topic));
        if gives_up || foreign || self.seat.wants != self.plan.topics {
            // A static member that comes back gets what it had, whatever it wants now: only a new one changes that.
            self.seat.leaves = foreign;
            self.rejoin(Cause::Own, 0);
        }
    }

    /// Does what Kafka's clients do with an error.
    fn fail(&mut self, what: &What, code: i16) -> Option<End> {
        let error = ErrorCode::from(code);
        let joins = matches!(what, What::Join { .. });
        if [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable].contains(&error) {
            self.desk.close();
        } else if error == ErrorCode::UnknownMemberId {
            self.lose();
            self.seat.who.member = String::new();
            self.rejoin(Cause::New, BACKOFF_MS);
        } else if error == ErrorCode::IllegalGeneration {
            self.lose();
            self.rejoin(Cause::Told, BACKOFF_MS);
        } else if error == ErrorCode::RebalanceInProgress {
            self.rejoin(Cause::Told, if joins { BACKOFF_MS } else { 0 });
        } else if error == ErrorCode::FencedInstanceId {
            return Some(End::Fenced);
        } else if joins && error != ErrorCode::CoordinatorLoadInProgress {
            return Some(End::Refused(code));
        } else if matches!(what, What::Join { .. } | What::Sync { .. }) {
            self.rejoin(Cause::Told, BACKOFF_MS);
        }
        None
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.vanish();
    }
}
