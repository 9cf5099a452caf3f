//! A second fold, naive on purpose: the oracle. It keeps every batch that was ever accepted in plain lists and works out
//! everything anew from them, so that a mistake in the clever fold is not repeated here. It shares the command types
//! and the limits with `fold`, and no code.
//!
//! Only for tests and the simulator (feature `reference`): it is slow, and forgets nothing.

use crate::command::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, ObjectId, ObjectKind, OpenSession, Outcome, ProducerBatch,
    Refusal, TopicId, TopicPartition, Verdict,
};
use crate::fold::{Applied, Stop};
use crate::limits;

mod check;
mod check_groups;
mod coordinators;
mod groups;

/// A batch that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveBatch {
    /// The offset of its first record.
    pub first_offset: i64,
    /// How many offsets it takes.
    pub records: u32,
    /// The object that holds it.
    pub object: ObjectId,
    /// Where it begins in the object, in bytes.
    pub position: u32,
    /// Its length, in bytes.
    pub bytes: u32,
    /// Its largest timestamp.
    pub max_timestamp: i64,
    /// Its producer's numbering.
    pub producer: Option<ProducerBatch>,
    /// The producer has expired since: the numbering counts no more.
    pub forgotten: bool,
}

struct RefTopic {
    id: TopicId,
    name: String,
    partitions: Vec<Vec<LiveBatch>>,
    lenient: Vec<(u32, i64)>,
}

struct RefSession {
    nonce: u64,
    broker_id: i32,
    live: bool,
    /// What it said of itself last.
    ready: Option<bool>,
    next_n: u64,
    ranges: Vec<(ObjectKind, u32)>,
    low: u32,
}

struct RefProducer {
    id: i64,
    last_activity: i64,
    strict: bool,
}

/// The naive state.
#[derive(Default)]
pub struct Reference {
    ordinal: u64,
    sessions: Vec<RefSession>,
    topics: Vec<RefTopic>,
    producers: Vec<RefProducer>,
    next_id: i64,
    /// What deleted topics left, in the order of deletion.
    deleted: Vec<(String, Vec<(u32, i64)>)>,
    published: Vec<u64>,
    groups: Vec<groups::RefGroup>,
    parts: Vec<groups::RefParts>,
    /// Who lived, and what each said of itself; and how often that became another.
    living: Vec<(u64, Option<bool>)>,
    changes: u64,
}

impl Reference {
    /// Before the first entry.
    #[must_use]
    pub fn new() -> Reference {
        Reference::default()
    }

    /// All partitions that exist, by topic id and index.
    #[must_use]
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut all = Vec::new();
        for topic in &self.topics {
            for partition in 0..topic.partitions.len() {
                all.push(TopicPartition { topic: topic.id, partition: partition as u32 });
            }
        }
        all.sort();
        all
    }

    /// The live batches of a partition, by offset; none if it does not exist.
    #[must_use]
    pub fn batches(&self, partition: TopicPartition) -> &[LiveBatch] {
        for topic in &self.topics {
            if topic.id == partition.topic && (partition.partition as usize) < topic.partitions.len() {
                return &topic.partitions[partition.partition as usize];
            }
        }
        &[]
    }

    /// Applies the next entry, as [`crate::apply`] must.
    pub fn apply(&mut self, ordinal: u64, entry: &Entry) -> Result<Applied, Stop> {
        if ordinal != self.ordinal + 1 {
            return Err(Stop::Ordinal { after: self.ordinal, got: ordinal });
        }
        if entry.feature_level > limits::FEATURE_LEVEL {
            return Err(Stop::Newer { level: entry.feature_level });
        }
        let known = self.sessions.iter().position(|s| s.nonce == entry.nonce);
        let next = known.map_or(0, |i| self.sessions[i].next_n);
        if entry.n > next {
            return Err(Stop::Gap { nonce: entry.nonce, expected: next, got: entry.n });
        }
        self.ordinal = ordinal;
        if entry.n < next {
            return Ok(Applied { repeat: true, ..Applied::default() });
        }
        if known.is_none() {
            self.sessions.push(RefSession {
                nonce: entry.nonce,
                broker_id: -1,
                live: false,
                ready: None,
                next_n: 0,
                ranges: vec![],
                low: 0,
            });
        }
        let me = known.unwrap_or(self.sessions.len() - 1);
        Ok(self.apply_commands(me, entry))
    }

    fn apply_commands(&mut self, me: usize, entry: &Entry) -> Applied {
        let mut applied = Applied::default();
        let header = self.header_ok(me, entry);
        let mut was_live = self.sessions[me].live;
        for (i, command) in entry.commands.iter().enumerate() {
            let mut outcome = Outcome::Refused(Refusal::NotAllowed);
            if let Command::OpenSession(open) = command {
                if header && entry.n == 0 && i == 0 {
                    outcome = self.open(me, entry, open);
                }
            } else if header && self.sessions[me].live {
                outcome = self.command(me, entry, command, &mut applied);
            }
            was_live = was_live || self.sessions[me].live;
            applied.outcomes.push(outcome);
        }
        self.sessions[me].next_n += 1;
        if header && was_live {
            for r in &entry.reserved {
                self.sessions[me].ranges.push((r.kind, r.end));
            }
            if entry.low > self.sessions[me].low {
                self.sessions[me].low = entry.low;
            }
        }
        applied.advanced.sort();
        applied.advanced.dedup();
        applied
    }

    fn header_ok(&self, me: usize, entry: &Entry) -> bool {
        let mut ends: Vec<u32> = self.sessions[me].ranges.last().map(|(_, end)| *end).into_iter().collect();
        ends.extend(entry.reserved.iter().map(|r| r.end));
        let rising = ends.windows(2).all(|w| w[0] < w[1]) && ends.first().is_none_or(|first| *first > 0);
        rising && entry.low <= ends.last().copied().unwrap_or(0)
    }

    fn open(&mut self, me: usize, entry: &Entry, open: &OpenSession) -> Outcome {
        let long = |text: &String| text.len() > limits::ADDRESS_BYTES;
        let bad_listener = open.listeners.iter().any(|l| long(&l.name) || long(&l.host));
        let bad_rack = open.rack.iter().any(long);
        if open.broker_id < 0 || open.listeners.len() > limits::LISTENERS || bad_listener || bad_rack {
            return Outcome::Refused(Refusal::NotAllowed);
        }
        let older = self.sessions.iter().position(|s| s.live && s.broker_id == open.broker_id);
        if older.is_none() && self.sessions.iter().filter(|s| s.live).count() >= limits::LIVE_SESSIONS {
            return Outcome::Refused(Refusal::LimitReached);
        }
        if let Some(older) = older {
            self.sessions[older].live = false;
            self.session_ended(self.sessions[older].nonce);
        }
        self.sessions[me].live = true;
        self.sessions[me].broker_id = open.broker_id;
        self.sessions_changed(entry);
        Outcome::Done
    }

    fn command(&mut self, me: usize, entry: &Entry, command: &Command, applied: &mut Applied) -> Outcome {
        let done = |ok: bool, refusal: Refusal| if ok { Outcome::Done } else { Outcome::Refused(refusal) };
        if let Some(group) = command.group()
            && entry.feature_level >= limits::COORDINATORS_SINCE
            && self.coordinator(group) != Some(entry.nonce)
        {
            return Outcome::Refused(Refusal::NotCoordinator);
        }
        match command {
            Command::OpenSession(_) => Outcome::Refused(Refusal::NotAllowed),
            Command::SetReady { ready } => {
                self.sessions[me].ready = Some(*ready);
                self.sessions_changed(entry);
                Outcome::Done
            }
            Command::EndSession { nonce } => {
                let found = self.sessions.iter_mut().find(|s| s.nonce == *nonce);
                let known = found.is_some();
                found.into_iter().for_each(|s| s.live = false);
                self.session_ended(*nonce);
                self.sessions_changed(entry);
                done(known, Refusal::NotAllowed)
            }
            Command::CreateTopic(create) => self.create(create),
            Command::DeleteTopic { topic } => {
                let deleted = self.delete(*topic);
                applied.deleted.extend(deleted.then_some(*topic));
                done(deleted, Refusal::UnknownTopicOrPartition)
            }
            Command::CommitBundle(bundle) => self.commit(me, entry, bundle, applied),
            Command::AllocateProducerIds { count } => self.allocate(*count, entry.time_ms),
            Command::ExpireProducers { idle } => {
                self.expire(idle);
                Outcome::Done
            }
            Command::PublishSnapshot { object, ordinal } => {
                let newer = self.published.iter().all(|p| p < ordinal) && *ordinal > 0 && *ordinal < self.ordinal;
                let ok = newer && self.may_use(me, *object, ObjectKind::Snapshot);
                self.published.extend(ok.then_some(*ordinal));
                done(ok, Refusal::NotAllowed)
            }
            Command::AddPartitions { topic, count } => self.add_partitions(*topic, *count),
            Command::CompleteJoin(join) => self.join(entry, join),
            Command::CompleteSync(sync) => self.sync(entry, sync),
            Command::ReplaceMember(replace) => self.replace(replace),
            Command::CommitOffsets(commit) => self.commit_offsets(entry, commit),
            Command::DeleteOffsets { group, partitions } => self.delete_offsets(group, partitions),
            Command::ExpireOffsets { group, generation, offsets } => self.expire_offsets(group, *generation, offsets),
            Command::DeleteGroup { group } => self.delete_group(group),
        }
    }

    fn may_use(&self, me: usize, object: ObjectId, kind: ObjectKind) -> bool {
        let session = &self.sessions[me];
        let reserved_for = session.ranges.iter().find(|(_, end)| object.number < *end).map(|(kind, _)| *kind);
        object.nonce == session.nonce && object.number >= session.low && reserved_for == Some(kind)
    }

    fn create(&mut self, create: &CreateTopic) -> Outcome {
        let refused = Outcome::Refused;
        let odd =
            |c: char| !(c.is_ascii_lowercase() || c.is_ascii_uppercase() || c.is_ascii_digit() || "._-".contains(c));
        let name = &create.name;
        if name.is_empty() || name == "." || name == ".." || name.chars().any(odd) || name.chars().count() > 249 {
            return refused(Refusal::InvalidTopicName);
        }
        if create.partitions < 1 || create.partitions > limits::PARTITIONS_PER_TOPIC {
            return refused(Refusal::InvalidPartitions);
        }
        let bad_config = |(k, v): (&String, &String)| {
            k.is_empty() || k.len() > limits::CONFIG_NAME_BYTES || v.len() > limits::CONFIG_VALUE_BYTES
        };
        if create.configs.len() > limits::CONFIGS_PER_TOPIC || create.configs.iter().any(bad_config) {
            return refused(Refusal::NotAllowed);
        }
        if self.topics.iter().any(|t| t.id == create.topic || t.name == *name) {
            return refused(Refusal::TopicExists);
        }
        let partitions: usize = self.topics.iter().map(|t| t.partitions.len()).sum();
        if self.topics.len() + 1 > limits::TOPICS
            || (partitions + create.partitions as usize) as u64 > limits::PARTITIONS
        {
            return refused(Refusal::LimitReached);
        }
        let mut lenient = Vec::new();
        self.deleted.retain(|(deleted, pairs)| {
            if deleted == name {
                lenient.extend(pairs);
            }
            deleted != name
        });
        let partitions = vec![Vec::new(); create.partitions as usize];
        self.topics.push(RefTopic { id: create.topic, name: name.clone(), partitions, lenient });
        Outcome::Done
    }

    fn delete(&mut self, id: TopicId) -> bool {
        let Some(index) = self.topics.iter().position(|t| t.id == id) else { return false };
        let topic = self.topics.remove(index);
        let mut pairs = topic.lenient;
        for (index, batches) in topic.partitions.iter().enumerate() {
            for batch in batches.iter().filter(|b| !b.forgotten) {
                pairs.extend(batch.producer.map(|p| (index as u32, p.id)));
            }
        }
        pairs.sort();
        pairs.dedup();
        pairs.retain(|(_, id)| self.producers.iter().any(|p| p.id == *id && p.strict));
        if !pairs.is_empty() {
            self.deleted.push((topic.name, pairs));
        }
        let lent: usize = self.topics.iter().map(|t| t.lenient.len()).sum();
        while self.deleted.iter().map(|(_, pairs)| pairs.len()).sum::<usize>() + lent > limits::REMEMBERED_PAIRS
            && !self.deleted.is_empty()
        {
            self.deleted.remove(0);
        }
        self.topic_deleted(id);
        true
    }

    fn add_partitions(&mut self, id: TopicId, count: u32) -> Outcome {
        let all: u64 = self.topics.iter().map(|t| t.partitions.len() as u64).sum();
        let Some(topic) = self.topics.iter_mut().find(|t| t.id == id) else {
            return Outcome::Refused(Refusal::UnknownTopicOrPartition);
        };
        let now = topic.partitions.len() as u64;
        if u64::from(count) <= now || count > limits::PARTITIONS_PER_TOPIC {
            return Outcome::Refused(Refusal::InvalidPartitions);
        }
        if all - now + u64::from(count) > limits::PARTITIONS {
            return Outcome::Refused(Refusal::LimitReached);
        }
        topic.partitions.resize(count as usize, Vec::new());
        Outcome::Done
    }

    fn allocate(&mut self, count: u32, time_ms: i64) -> Outcome {
        if count == 0 || count > limits::PRODUCER_IDS_PER_COMMAND {
            return Outcome::Refused(Refusal::NotAllowed);
        }
        if self.producers.len() + count as usize > limits::LIVING_PRODUCERS {
            return Outcome::Refused(Refusal::LimitReached);
        }
        let count = i128::from(count);
        let mut first = i128::from(self.next_id);
        while let Some(taken) =
            self.producers.iter().map(|p| i128::from(p.id)).find(|id| (first..first + count).contains(id))
        {
            first = taken + 1;
        }
        if first + count > i128::from(i64::MAX) {
            return Outcome::Refused(Refusal::LimitReached);
        }
        for id in first..first + count {
            self.producers.push(RefProducer { id: id as i64, last_activity: time_ms, strict: true });
        }
        self.next_id = (first + count) as i64;
        Outcome::ProducerIds { first: first as i64 }
    }

    fn expire(&mut self, idle: &[(i64, i64)]) {
        for (id, last_activity) in idle {
            let Some(at) = self.producers.iter().position(|p| p.id == *id && p.last_activity == *last_activity) else {
                continue;
            };
            self.producers.remove(at);
            for batch in self.topics.iter_mut().flat_map(|t| &mut t.partitions).flatten() {
                batch.forgotten |= batch.producer.is_some_and(|p| p.id == *id);
            }
        }
    }

    fn commit(&mut self, me: usize, entry: &Entry, bundle: &CommitBundle, applied: &mut Applied) -> Outcome {
        let object = ObjectId { nonce: entry.nonce, number: bundle.number };
        if !self.may_use(me, object, ObjectKind::Bundle) {
            return Outcome::Refused(Refusal::NotAllowed);
        }
        let mut all = Vec::new();
        for run in &bundle.runs {
            let total: u64 = run.batches.iter().map(|b| u64::from(b.bytes)).sum();
            let fits = u64::from(run.position) + total <= u64::from(u32::MAX);
            let mut verdicts = Vec::new();
            let mut position = u64::from(run.position);
            for batch in &run.batches {
                let verdict = match (self.find(run.partition), fits) {
                    (None, _) => Verdict::Refused(Refusal::UnknownTopicOrPartition),
                    (Some(_), false) => Verdict::Refused(Refusal::NotAllowed),
                    (Some(to), true) => self.batch(to, batch, (object, position as u32), entry.time_ms),
                };
                if matches!(verdict, Verdict::Accepted { .. }) {
                    applied.advanced.push(run.partition);
                }
                position += u64::from(batch.bytes);
                verdicts.push(verdict);
            }
            all.push(verdicts);
        }
        Outcome::Bundle(all)
    }

    fn find(&self, partition: TopicPartition) -> Option<(usize, usize)> {
        let topic = self.topics.iter().position(|t| t.id == partition.topic)?;
        let index = partition.partition as usize;
        (index < self.topics[topic].partitions.len()).then_some((topic, index))
    }

    fn batch(&mut self, to: (usize, usize), batch: &BatchMeta, at: (ObjectId, u32), time_ms: i64) -> Verdict {
        let (topic, index) = to;
        let negative = batch.producer.is_some_and(|p| p.id < 0 || p.epoch < 0 || p.first_sequence < 0);
        let empty = batch.bytes == 0 || batch.records == 0 || batch.records > i32::MAX as u32;
        if batch.transactional || negative || empty {
            return Verdict::Refused(Refusal::NotAllowed);
        }
        let batches = &self.topics[topic].partitions[index];
        let first_offset = batches.last().map_or(0, |b| b.first_offset + i64::from(b.records));
        if i128::from(first_offset) + i128::from(batch.records) > i128::from(i64::MAX) {
            return Verdict::Refused(Refusal::LimitReached);
        }
        if let Some(numbering) = batch.producer {
            match self.numbered(topic, index, numbering, batch.records) {
                Ok(None) => self.note(numbering.id, time_ms),
                Ok(Some(first_offset)) => return Verdict::Duplicate { first_offset, log_start: 0 },
                Err(refusal) => return Verdict::Refused(refusal),
            }
        }
        self.topics[topic].partitions[index].push(LiveBatch {
            first_offset,
            records: batch.records,
            object: at.0,
            position: at.1,
            bytes: batch.bytes,
            max_timestamp: batch.max_timestamp,
            producer: batch.producer,
            forgotten: false,
        });
        Verdict::Accepted { first_offset, log_start: 0 }
    }

    /// Accepted, or the offset of the batch that this one repeats.
    fn numbered(&self, topic: usize, index: usize, new: ProducerBatch, records: u32) -> Result<Option<i64>, Refusal> {
        let living = self.producers.iter().find(|p| p.id == new.id);
        let foreign = self.producers.iter().filter(|p| !p.strict).count();
        let full = foreign >= limits::FOREIGN_PRODUCERS || self.producers.len() >= limits::LIVING_PRODUCERS;
        if living.is_none() && full {
            return Err(Refusal::LimitReached);
        }
        let batches = &self.topics[topic].partitions[index];
        let of_id = batches.iter().filter(|b| !b.forgotten && b.producer.is_some_and(|p| p.id == new.id));
        let of_id: Vec<(LiveBatch, ProducerBatch)> = of_id.filter_map(|b| Some((*b, b.producer?))).collect();
        let Some((_, newest)) = of_id.last() else {
            let lenient = self.topics[topic].lenient.contains(&(index as u32, new.id));
            let must_start = living.is_some_and(|p| p.strict) && !lenient;
            return if must_start && new.first_sequence != 0 { Err(Refusal::OutOfOrderSequence) } else { Ok(None) };
        };
        if new.epoch < newest.epoch {
            return Err(Refusal::FencedEpoch);
        }
        if new.epoch > newest.epoch {
            return if new.first_sequence == 0 { Ok(None) } else { Err(Refusal::OutOfOrderSequence) };
        }
        let of_epoch: Vec<_> = of_id.into_iter().filter(|(_, p)| p.epoch == new.epoch).collect();
        same_epoch(&of_epoch, new, records)
    }

    fn note(&mut self, id: i64, time_ms: i64) {
        for producer in &mut self.producers {
            if producer.id == id {
                producer.last_activity = producer.last_activity.max(time_ms);
                return;
            }
        }
        self.producers.push(RefProducer { id, last_activity: time_ms, strict: false });
    }
}

/// Numbers all records that the epoch's batches hold without wrapping, and looks where the new batch would lie.
fn same_epoch(old: &[(LiveBatch, ProducerBatch)], new: ProducerBatch, records: u32) -> Result<Option<i64>, Refusal> {
    const WRAP: i128 = 1 << 31;
    for (batch, producer) in &old[old.len().saturating_sub(5)..] {
        if producer.first_sequence == new.first_sequence && batch.records == records {
            return Ok(Some(batch.first_offset));
        }
    }
    let start = i128::from(old[0].1.first_sequence);
    let count: i128 = old.iter().map(|(b, _)| i128::from(b.records)).sum();
    let kept: i128 = old[old.len().saturating_sub(5)..].iter().map(|(b, _)| i128::from(b.records)).sum();
    let next = start + count;
    if next % WRAP == i128::from(new.first_sequence) {
        return Ok(None);
    }
    let mut first = i128::from(new.first_sequence);
    while first + WRAP < next {
        first += WRAP;
    }
    let certain_from = start.max(next - (1 << 30));
    if first >= certain_from && first + i128::from(records) <= next - kept {
        return Err(Refusal::DuplicateSequence);
    }
    Err(Refusal::OutOfOrderSequence)
}
