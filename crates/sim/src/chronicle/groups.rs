//! The groups as the journal tells them: each version of each group, by the entry that made it, and every command about
//! a group with its verdict. What an answer said must have been so at some moment between the question and the answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafscale_metadata::{Applied, Command, Entry, Group, GroupStage, Nonce, Outcome, State, TopicId, TopicPartition};

/// A member in one version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Its instance id.
    pub instance: Option<String>,
    /// Without a sign of life for so long it is out.
    pub session_timeout_ms: i32,
    /// It comes back within this when a generation is formed.
    pub rebalance_timeout_ms: i32,
    /// What it told.
    pub subscription: Bytes,
    /// What it got.
    pub assignment: Bytes,
}

/// An offset in one version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The offset.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
    /// When, by the journal's clock.
    pub committed_ms: i64,
}

/// One version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its generation.
    pub generation: i32,
    /// How far the generation is.
    pub stage: GroupStage,
    /// What its members agreed on.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// By member id.
    pub members: Arc<BTreeMap<String, MemberView>>,
    /// What was committed.
    pub offsets: BTreeMap<TopicPartition, Stored>,
}

/// A command about a group, or several: those of parts stand together at their last one.
#[derive(Debug, Clone)]
pub struct Said {
    /// The entry.
    pub ordinal: u64,
    /// The session that wrote it.
    pub session: Nonce,
    /// Which command of the entry.
    pub index: usize,
    /// The entry's time.
    pub time_ms: i64,
    /// The command.
    pub command: Command,
    /// Its verdict.
    pub outcome: Outcome,
}

/// A commit as a group's machine took it, and what the machine answered.
#[derive(Debug, Clone)]
pub struct Entered {
    /// In which session of the broker.
    pub session: Nonce,
    /// The group.
    pub group: String,
    /// As the client has it; -1 if it is no member.
    pub generation: i32,
    /// The member; empty if it is none.
    pub member: String,
    /// Each offset with what the client remembers with it.
    pub parts: Vec<(TopicPartition, i64, String)>,
    /// When it came.
    pub asked_ms: u64,
    /// When it was answered, and which parts are stored.
    pub answer: Option<(u64, Vec<bool>)>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// When each entry was first read by a broker.
    read_ms: Vec<u64>,
    groups: BTreeMap<String, Vec<(u64, Option<View>)>>,
    names: BTreeMap<String, Vec<(u64, Option<TopicId>)>>,
    /// All commands about groups, in order.
    pub said: Vec<Said>,
    /// All commits that machines took, in order.
    pub entered: Vec<Entered>,
}

impl Timeline {
    /// When the entry was first read; nothing that follows from it can have been answered before.
    pub fn read_ms(&self, ordinal: u64) -> u64 {
        let index = usize::try_from(ordinal).unwrap_or(0);
        index.checked_sub(1).and_then(|index| self.read_ms.get(index)).copied().unwrap_or(0)
    }

    /// The entries after each of which a broker may have been when it took a question that was asked at `asked_ms` and
    /// answered at `told_ms`: it had read all that had been read before.
    pub fn between(&self, asked_ms: u64, told_ms: u64) -> RangeInclusive<u64> {
        let first = self.read_ms.partition_point(|read_ms| *read_ms < asked_ms);
        let last = self.read_ms.partition_point(|read_ms| *read_ms <= told_ms);
        first as u64..=last as u64
    }

    /// The group after an entry.
    pub fn group(&self, group: &str, ordinal: u64) -> Option<&View> {
        let versions = self.groups.get(group)?;
        let at = versions.partition_point(|(from, _)| *from <= ordinal);
        versions.get(at.checked_sub(1)?)?.1.as_ref()
    }

    /// All versions that a group had while the broker was after one of these entries, each with its first such entry.
    pub fn versions<'a>(
        &'a self,
        group: &'a str,
        ordinals: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Option<&'a View>)> + 'a {
        let (first, last) = ordinals.into_inner();
        let later = self.groups.get(group).into_iter().flatten();
        let later = later.filter(move |(from, _)| *from > first && *from <= last);
        std::iter::once((first, self.group(group, first))).chain(later.map(|(from, view)| (*from, view.as_ref())))
    }

    /// All groups that there ever were.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// The topic of that name after an entry.
    pub fn topic(&self, name: &str, ordinal: u64) -> Option<TopicId> {
        let versions = self.names.get(name)?;
        let at = versions.partition_point(|(from, _)| *from <= ordinal);
        versions.get(at.checked_sub(1)?)?.1
    }

    /// The name of a topic that exists after an entry.
    pub fn name(&self, topic: TopicId, ordinal: u64) -> Option<&str> {
        self.names.keys().map(String::as_str).find(|name| self.topic(name, ordinal) == Some(topic))
    }

    /// Takes the next entry, which led to this state.
    pub(super) fn push(&mut self, entry: &Entry, applied: Option<&Applied>, state: &State, now_ms: u64) {
        let ordinal = state.ordinal();
        self.read_ms.push(now_ms);
        let outcomes = applied.map(|applied| applied.outcomes.as_slice()).unwrap_or_default();
        let mut touched: Vec<String> = Vec::new();
        for (index, (command, outcome)) in entry.commands.iter().zip(outcomes).enumerate() {
            if let Some(group) = command.group() {
                touched.push(group.to_owned());
                let (command, outcome) = (command.clone(), outcome.clone());
                self.said.push(Said { ordinal, session: entry.nonce, index, time_ms: entry.time_ms, command, outcome });
            }
            let change = match (command, outcome) {
                (Command::CreateTopic(create), Outcome::Done) => Some((create.name.clone(), Some(create.topic))),
                (Command::DeleteTopic { topic }, Outcome::Done) => {
                    touched.extend(self.groups.keys().cloned());
                    self.name(*topic, ordinal).map(|name| (name.to_owned(), None))
                }
                _ => None,
            };
            if let Some((name, topic)) = change {
                self.names.entry(name).or_default().push((ordinal, topic));
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|group| self.note(&group, ordinal, state));
    }

    fn note(&mut self, group: &str, ordinal: u64, state: &State) {
        let versions = self.groups.entry(group.to_owned()).or_default();
        let before = versions.last().and_then(|(_, view)| view.as_ref());
        let mut now = state.group(group).map(view);
        if let (Some(before), Some(now)) = (before, &mut now)
            && before.members == now.members
        {
            now.members = Arc::clone(&before.members);
        }
        if versions.last().map(|(_, view)| view) != Some(&now) {
            versions.push((ordinal, now));
        }
    }
}

fn view(group: &Group) -> View {
    let members = group.members().map(|member| {
        let view = MemberView {
            instance: member.instance().map(str::to_owned),
            session_timeout_ms: member.session_timeout_ms(),
            rebalance_timeout_ms: member.rebalance_timeout_ms(),
            subscription: member.subscription().clone(),
            assignment: member.assignment().clone(),
        };
        (member.id().to_string(), view)
    });
    let offsets = group.offsets().map(|(partition, stored)| {
        let metadata = stored.metadata.to_string();
        (partition, Stored { offset: stored.offset, metadata, committed_ms: stored.committed_ms })
    });
    View {
        generation: group.generation(),
        stage: group.stage(),
        protocol: group.protocol().to_owned(),
        leader: group.leader().to_owned(),
        members: Arc::new(members.collect()),
        offsets: offsets.collect(),
    }
}
