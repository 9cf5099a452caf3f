//! What a member asks the coordinator: to join, its assignment (and everybody's, if it leads), committed offsets, to
//! commit, to leave. What it is answered is in [`super`].

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use bytes::Bytes;

use super::super::assign::{Assignor, Subscriber};
use super::super::messages;
use super::super::protocol::{Partition, Subscription, encode_assignment};
use super::{BACKOFF_MS, Member, Stage};
use crate::clients::link::Lost;
use crate::history::groups::{Cause, CommitPart, What, Who};

impl Member {
    /// Asks to take part in the next generation.
    pub(super) async fn join(&mut self) {
        if std::mem::take(&mut self.seat.leaves) {
            self.say_good_bye().await;
            self.lose();
            (self.seat.who.member, self.seat.cause) = (String::new(), Cause::New);
        }
        if self.plan.is_eager() {
            let had = self.reader.partitions();
            if !had.is_empty() {
                self.commit().await;
                self.seat.had = (had, self.seat.who.generation);
                self.reader.take(&BTreeSet::new());
                self.kept.clear();
            }
        } else {
            self.seat.had.0 = self.reader.partitions();
        }
        let protocols: Vec<(String, Bytes)> = self
            .plan
            .assignors
            .iter()
            .map(|assignor| (assignor.name().to_owned(), self.subscription(*assignor)))
            .collect();
        let (version, pace) = (self.plan.versions.join, self.plan.pace);
        let who = Who { generation: -1, ..self.seat.who.clone() };
        let mut request = messages::join(version, &self.plan.group, &who, &protocols);
        request.session_timeout_ms = pace.session_timeout_ms;
        let rebalance_timeout_ms = if version == 0 { pace.session_timeout_ms } else { pace.rebalance_timeout_ms };
        if version >= 1 {
            request.rebalance_timeout_ms = rebalance_timeout_ms;
        }
        let session_timeout_ms = pace.session_timeout_ms;
        let what = What::Join { cause: self.seat.cause, protocols, session_timeout_ms, rebalance_timeout_ms };
        self.seat.wants.clone_from(&self.plan.topics);
        self.seat.stage = Stage::Joining;
        self.desk.send(version, &request, &who, what).await;
    }

    /// What it tells the leader. What it had goes where the assignor looks for it.
    fn subscription(&self, assignor: Assignor) -> Bytes {
        let (had, generation) = &self.seat.had;
        let remembers = assignor == Assignor::Sticky && self.plan.is_eager() && *generation >= 0;
        let keeps = !self.plan.is_eager();
        Subscription {
            version: self.plan.versions.subscription,
            topics: self.plan.topics.clone(),
            owned: if remembers || keeps { had.clone() } else { BTreeSet::new() },
            generation: if remembers || keeps { *generation } else { -1 },
        }
        .encode(remembers)
    }

    /// Assigns, once it knows all topics.
    pub(super) async fn lead(&mut self) {
        let Stage::Leading(members) = &self.seat.stage else { return };
        let mut subscribers = BTreeMap::new();
        for (id, instance, bytes) in members.clone() {
            match Subscription::decode(bytes) {
                Ok(subscription) => {
                    subscribers.insert(id, Subscriber { instance, subscription });
                }
                Err(why) => {
                    let what = why.context(format!("{} cannot read the subscription of {id}", self.plan.name));
                    self.shared.history.lock().odd("handed-out", &what);
                }
            }
        }
        let wanted = subscribers.values().flat_map(|member| member.subscription.topics.iter().cloned());
        let topics: BTreeSet<String> = wanted.collect();
        if self.reader.look(&topics).await == Err(Lost) {
            return;
        }
        let sizes = self.reader.sizes(&topics);
        let Some(assignor) = Assignor::named(&self.seat.protocol) else {
            let what = anyhow!("{} is to assign by {:?}", self.plan.name, self.seat.protocol);
            return self.shared.history.lock().odd("handed-out", &what);
        };
        let version = self.plan.versions.subscription.min(1);
        let assignment = assignor.assign(&subscribers, &sizes);
        let encode = |(id, partitions)| (id, encode_assignment(version, &partitions));
        let assignments: Vec<(String, Bytes)> = assignment.into_iter().map(encode).collect();
        (self.seat.led, self.seat.all_topics) = (Some(sizes), topics);
        self.sync(&assignments).await;
    }

    /// Asks for its assignment; the leader brings everybody's.
    pub(super) async fn sync(&mut self, assignments: &[(String, Bytes)]) {
        let version = self.plan.versions.sync;
        let who = self.seat.who.clone();
        let request = messages::sync(version, &self.plan.group, &who, &self.seat.protocol, assignments);
        self.seat.stage = Stage::Syncing;
        self.due.heartbeat_ms = self.now() + self.plan.pace.heartbeat_ms;
        self.desk.send(version, &request, &who, What::Sync { assignments: assignments.to_vec() }).await;
    }

    /// Asks what was committed of the partitions of which it does not know where it is.
    pub(super) async fn ask_offsets(&mut self) {
        let ids = self.reader.ids();
        let wanted: Vec<Partition> =
            self.reader.unplaced().into_iter().filter(|(topic, _)| ids.contains_key(topic)).collect();
        if wanted.is_empty() {
            return;
        }
        self.due.offsets_ms = self.now() + BACKOFF_MS;
        let version = self.plan.versions.offsets;
        let all = version >= 2 && self.rng.chance(20);
        let wanted = (!all).then_some(wanted);
        let request = messages::offsets(version, &self.plan.group, wanted.as_deref(), &ids);
        self.desk.send(version, &request, &self.seat.who, What::Offsets(wanted)).await;
    }

    /// Commits where it is; some members now and then go back, and at once commit again what they had committed.
    pub async fn commit(&mut self) {
        if self.seat.who.generation < 0 {
            return;
        }
        let places: Vec<(Partition, i64)> = self.reader.positions().map(|(at, next)| (at.clone(), next)).collect();
        let back = self.rng.chance(self.plan.commits.back_percent);
        let offsets = places.into_iter().map(|(at, next)| {
            let offset = if back { self.rng.within(0..next.unsigned_abs() + 1).cast_signed() } else { next };
            (at, offset)
        });
        let offsets: Vec<(Partition, i64)> = offsets.collect();
        let held: BTreeSet<Partition> = offsets.iter().map(|(at, _)| at.clone()).collect();
        self.commit_these(offsets).await;
        if back {
            let again = self.kept.iter().filter(|(at, _)| held.contains(*at)).map(|(at, offset)| (at.clone(), *offset));
            let again: Vec<(Partition, i64)> = again.collect();
            self.commit_these(again).await;
        }
    }

    async fn commit_these(&mut self, offsets: Vec<(Partition, i64)>) {
        let version = self.plan.versions.commit;
        let ids = self.reader.ids();
        let metadata = if self.plan.commits.marked { self.shared.history.lock().groups.mark() } else { String::new() };
        let part = |((topic, partition), offset): (Partition, i64)| {
            let id = if version >= messages::BY_ID_FROM { ids.get(&topic)?.0 } else { 0 };
            Some(CommitPart { topic, topic_id: id, partition, offset, metadata: metadata.clone() })
        };
        let parts: Vec<CommitPart> = offsets.into_iter().filter_map(part).collect();
        if parts.is_empty() {
            return;
        }
        let request = messages::commit(version, &self.plan.group, &self.seat.who, &parts);
        self.desk.send(version, &request, &self.seat.who, What::Commit(parts)).await;
    }

    /// Says that it leaves.
    pub(super) async fn say_good_bye(&mut self) {
        let (version, member) = (self.plan.versions.leave, self.seat.who.member.clone());
        let instance = self.plan.instance.clone().filter(|_| version >= 3);
        let request = messages::leave(version, &self.plan.group, &member, instance.as_deref());
        self.desk.send(version, &request, &self.seat.who, What::Leave(vec![(member, instance)])).await;
    }
}
