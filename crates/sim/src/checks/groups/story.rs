//! The journal's commands about groups, followed once more, by rules written down here and nowhere else: which
//! generation a group is in and who is in it. Judges `fenced` (no commit of another generation, of nobody, or without an
//! assignment is stored) and that generations grow one by one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafscale_metadata::{Command, CommitOffsets, CompleteJoin, CompleteSync, Outcome, ReplaceMember};

use super::super::{Violation, break_rule};
use crate::chronicle::groups::{Said, Timeline};

/// A generation of a group, from its beginning on.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    /// Of which group.
    pub(super) group: String,
    /// Its number.
    pub(super) number: i32,
    /// The entry that made it.
    pub(super) ordinal: u64,
    /// Its members when it began, with their instance ids.
    pub(super) members: BTreeMap<String, Option<String>>,
    /// Those of the one before; empty if there was none.
    pub(super) before: BTreeMap<String, Option<String>>,
    /// Its assignments, when they were there, by the entry that brought them.
    pub(super) assigned: Option<(u64, BTreeMap<String, Bytes>)>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// All generations, in order.
    pub(super) generations: Vec<Generation>,
}

/// What is known of a group at one point of the story.
#[derive(Debug, Default)]
struct Now {
    generation: i32,
    /// By id, with the instance.
    members: BTreeMap<String, Option<String>>,
    assigned: bool,
    /// Parts of a join, and of an assignment, that wait for their last one.
    joining: BTreeMap<String, Option<String>>,
    syncing: BTreeMap<String, Bytes>,
}

impl Now {
    fn replace(&mut self, replace: &ReplaceMember) {
        if let Some(instance) = self.members.remove(&*replace.old) {
            self.members.insert(replace.new.id.to_string(), instance);
        }
    }
}

impl Story {
    /// Follows all commands.
    pub(super) fn of(timeline: &Timeline, found: &mut Vec<Violation>) -> Self {
        let mut story = Self::default();
        let mut groups: BTreeMap<String, Now> = BTreeMap::new();
        for said in &timeline.said {
            let Some(group) = said.command.group() else { continue };
            let known = groups.contains_key(group);
            let now = groups.entry(group.to_owned()).or_default();
            let done = said.outcome == Outcome::Done;
            let goes_on = match &said.command {
                Command::CommitOffsets(commit) => {
                    let stored = judge_commit(said, commit, known, now, found);
                    known || stored
                }
                Command::CompleteJoin(join) if done => {
                    story.join(said, join, now, found);
                    true
                }
                Command::CompleteSync(sync) if done => {
                    story.sync(said, sync, now);
                    true
                }
                Command::ReplaceMember(replace) if done => {
                    now.replace(replace);
                    true
                }
                Command::DeleteGroup { .. } if done => false,
                // Refused, or an expiry, which removes a group of which nothing is left.
                Command::CompleteJoin(_)
                | Command::CompleteSync(_)
                | Command::ReplaceMember(_)
                | Command::DeleteGroup { .. }
                | Command::DeleteOffsets { .. }
                | Command::ExpireOffsets { .. } => known && timeline.group(group, said.ordinal).is_some(),
                Command::OpenSession(_)
                | Command::EndSession { .. }
                | Command::SetReady { .. }
                | Command::CreateTopic(_)
                | Command::DeleteTopic { .. }
                | Command::AddPartitions { .. }
                | Command::CommitBundle(_)
                | Command::AllocateProducerIds { .. }
                | Command::ExpireProducers { .. }
                | Command::PublishSnapshot { .. } => continue,
            };
            if !goes_on {
                groups.remove(group);
            }
        }
        story
    }

    fn join(&mut self, said: &Said, join: &CompleteJoin, now: &mut Now, found: &mut Vec<Violation>) {
        if join.part.index == 0 {
            now.joining.clear();
        }
        now.joining.extend(join.members.iter().map(|member| (member.id.to_string(), member.instance.clone())));
        if join.generation != now.generation + 1 {
            let what = format!("{}: generation {} follows {}", join.group, join.generation, now.generation);
            break_rule(found, "generations", what);
        }
        if !join.part.last {
            return;
        }
        let members = std::mem::take(&mut now.joining);
        let before = std::mem::replace(&mut now.members, members.clone());
        (now.generation, now.assigned) = (join.generation, members.is_empty());
        self.generations.push(Generation {
            group: join.group.clone(),
            number: join.generation,
            ordinal: said.ordinal,
            members,
            before,
            assigned: None,
        });
    }

    fn sync(&mut self, said: &Said, sync: &CompleteSync, now: &mut Now) {
        if sync.part.index == 0 {
            now.syncing.clear();
        }
        now.syncing.extend(sync.assignments.iter().map(|(id, bytes)| (id.to_string(), bytes.clone())));
        if !sync.part.last {
            return;
        }
        now.assigned = true;
        let assignments = std::mem::take(&mut now.syncing);
        if let Some(generation) = self.generations.iter_mut().rev().find(|generation| generation.group == sync.group) {
            generation.assigned = Some((said.ordinal, assignments));
        }
    }

    /// The generation of this number that a group was in after an entry.
    pub(super) fn generation(&self, group: &str, number: i32, ordinal: u64) -> Option<&Generation> {
        let earlier = |generation: &&Generation| generation.group == group && generation.ordinal <= ordinal;
        self.generations.iter().rfind(earlier).filter(|found| found.number == number)
    }
}

/// Judges one commit; true if anything of it is stored.
fn judge_commit(said: &Said, commit: &CommitOffsets, known: bool, now: &Now, found: &mut Vec<Violation>) -> bool {
    let Outcome::Offsets(verdicts) = &said.outcome else { return false };
    if !verdicts.contains(&None) {
        return false;
    }
    let outside = commit.generation < 0 && commit.member.is_empty();
    let allowed = if outside {
        now.members.is_empty()
    } else {
        known && commit.generation == now.generation && now.members.contains_key(&commit.member) && now.assigned
    };
    if !allowed {
        let members: BTreeSet<&String> = now.members.keys().collect();
        let what = format!(
            "entry {}: a commit of {:?} in generation {} of {} is stored; it was in {} with {members:?} (assigned: {})",
            said.ordinal, commit.member, commit.generation, commit.group, now.generation, now.assigned
        );
        break_rule(found, "fenced", what);
    }
    true
}
