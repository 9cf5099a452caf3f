//! Committed offsets: `committed` (what was acknowledged is in the journal; what is in the journal was sent),
//! `commit-order` (in the order in which the machines took them), `offsets-read` (what is told is what the journal said then), `expiry`, `deleted`, `consumed`
//! (nothing is committed that the group did not read).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use kafscale_metadata::{Command, GroupStage, Nonce, Outcome, TopicId, TopicPartition};
use kafscale_wire::ErrorCode;

use super::super::{Truth, Violation, break_rule};
use crate::chronicle::groups::{Said, Stored, Timeline, View};
use crate::clients::group::protocol::Subscription;
use crate::history::groups::{Asked, CommitPart, GroupHistory, OffsetTold, Reply, Told, What};

/// Errors that do not say whether it was done.
const UNKNOWN: [ErrorCode; 5] = [
    ErrorCode::UnknownServerError,
    ErrorCode::RequestTimedOut,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
    ErrorCode::CoordinatorLoadInProgress,
];

/// Judges all of the module's checks.
pub(super) fn judge(history: &GroupHistory, truth: &Truth, found: &mut Vec<Violation>) {
    judge_commits(history, truth, found);
    judge_order(truth, found);
    for asked in &history.asked {
        match (&asked.what, asked.told()) {
            (What::Offsets(wanted), Some((told_ms, Told::Offsets(told)))) => {
                judge_read(&truth.groups, asked, told_ms, (wanted.is_none(), told), found);
            }
            (What::DeleteGroup, Some((told_ms, Told::Code(0)))) => {
                let then = truth.groups.between(asked.asked_ms, told_ms);
                let mut views = truth.groups.versions(&asked.group, then.clone());
                // A commit may have made it again in the entry that deletes it.
                let deletes = |command: &Command| matches!(command, Command::DeleteGroup { .. });
                if views.all(|(_, view)| view.is_some()) && !is_said(&truth.groups, &asked.group, then, deletes) {
                    break_rule(
                        found,
                        "deleted",
                        format!("{} was deleted for {}, and is there", asked.group, asked.client),
                    );
                }
            }
            (What::DeleteOffsets(partitions), Some((told_ms, Told::Each(codes)))) => {
                let done = partitions.iter().zip(codes).filter(|(_, code)| **code == 0);
                done.for_each(|(partition, _)| judge_deleted(&truth.groups, asked, told_ms, partition, found));
            }
            _ => {}
        }
    }
    for said in &truth.groups.said {
        judge_removal(history, truth, said, found);
    }
    judge_consumed(history, truth, found);
}

/// One stored part of a commit: where it is in the journal.
struct Landed<'a> {
    at: (u64, usize),
    session: Nonce,
    group: &'a str,
    generation: i32,
    member: &'a str,
    partition: TopicPartition,
    offset: i64,
    metadata: &'a str,
    taken: bool,
}

/// A part of a commit, as somebody asked for it.
struct Wanted<'a> {
    /// Of the broker, where it is known.
    session: Option<Nonce>,
    group: &'a str,
    generation: i32,
    member: &'a str,
    partition: Named<'a>,
    offset: i64,
    metadata: &'a str,
}

/// A partition by its topic's name or id.
enum Named<'a> {
    Name(&'a str, u32),
    Id(TopicPartition),
}

impl Named<'_> {
    fn is(&self, partition: TopicPartition, truth: &Truth) -> bool {
        match self {
            Self::Id(id) => *id == partition,
            Self::Name(name, index) => {
                *index == partition.partition && truth.names.get(&partition.topic).is_some_and(|known| known == name)
            }
        }
    }
}

impl<'a> Wanted<'a> {
    fn by(asked: &'a Asked, part: &'a CommitPart) -> Self {
        let id = TopicPartition { topic: TopicId(part.topic_id), partition: part.partition };
        Self {
            session: None,
            group: &asked.group,
            generation: asked.who.generation,
            member: &asked.who.member,
            partition: if part.topic_id == 0 { Named::Name(&part.topic, part.partition) } else { Named::Id(id) },
            offset: part.offset,
            metadata: &part.metadata,
        }
    }

    fn is(&self, landed: &Landed<'_>, truth: &Truth) -> bool {
        self.offset == landed.offset
            && self.metadata == landed.metadata
            && self.group == landed.group
            && self.generation == landed.generation
            && self.member == landed.member
            && self.session.is_none_or(|session| session == landed.session)
            && self.partition.is(landed.partition, truth)
    }

    /// The first entry of these after which the commit changed nothing: what was stored was equal, and who asked could
    /// commit.
    fn unchanged(&self, truth: &Truth, then: RangeInclusive<u64>) -> Option<u64> {
        let outside = self.generation < 0 && self.member.is_empty();
        let same = |view: &View| {
            let may = if outside {
                view.members.is_empty()
            } else {
                let member = view.members.contains_key(self.member);
                view.generation == self.generation && member && view.stage == GroupStage::Assigned
            };
            may && view.offsets.iter().any(|(partition, stored)| {
                stored.offset == self.offset && stored.metadata == self.metadata && self.partition.is(*partition, truth)
            })
        };
        let mut versions = truth.groups.versions(self.group, then);
        versions.find(|(_, view)| view.is_some_and(same)).map(|(ordinal, _)| ordinal)
    }
}

fn landed(timeline: &Timeline) -> Vec<Landed<'_>> {
    let mut landed = Vec::new();
    for said in &timeline.said {
        let (Command::CommitOffsets(commit), Outcome::Offsets(verdicts)) = (&said.command, &said.outcome) else {
            continue;
        };
        let stored = commit.offsets.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_none());
        landed.extend(stored.map(|(offset, _)| Landed {
            at: (said.ordinal, said.index),
            session: said.session,
            group: &commit.group,
            generation: commit.generation,
            member: &commit.member,
            partition: offset.partition,
            offset: offset.offset,
            metadata: &offset.metadata,
            taken: false,
        }));
    }
    landed
}

/// The landed parts in order, found by group, offset and metadata.
struct Landings<'a> {
    all: Vec<Landed<'a>>,
    index: BTreeMap<(&'a str, i64, &'a str), Vec<usize>>,
}

impl<'a> Landings<'a> {
    fn of(timeline: &'a Timeline) -> Self {
        let all = landed(timeline);
        let mut index: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (n, part) in all.iter().enumerate() {
            index.entry((part.group, part.offset, part.metadata)).or_default().push(n);
        }
        Self { all, index }
    }

    /// The first that nobody has taken, behind `floor` and read between these times.
    fn first(
        &self,
        wanted: &Wanted<'_>,
        truth: &Truth,
        floor: (u64, usize),
        times: RangeInclusive<u64>,
    ) -> Option<usize> {
        let of = self.index.get(&(wanted.group, wanted.offset, wanted.metadata))?;
        of.iter().copied().find(|n| {
            let landed = &self.all[*n];
            let read_ms = truth.groups.read_ms(landed.at.0);
            !landed.taken && landed.at > floor && times.contains(&read_ms) && wanted.is(landed, truth)
        })
    }
}

/// Each acknowledged part landed, or was equal to what was there, between the question and the answer; each landed part
/// was asked for, once.
fn judge_commits(history: &GroupHistory, truth: &Truth, found: &mut Vec<Violation>) {
    let mut landings = Landings::of(&truth.groups);
    let mut others: Vec<(u64, Wanted<'_>)> = Vec::new();
    for asked in &history.asked {
        let What::Commit(parts) = &asked.what else { continue };
        for (n, part) in parts.iter().enumerate() {
            let wanted = Wanted::by(asked, part);
            match &asked.reply {
                Reply::Told(told_ms, Told::Each(codes)) if codes[n] == 0 => {
                    let at = landings.first(&wanted, truth, (0, 0), asked.asked_ms..=*told_ms);
                    if let Some(at) = at {
                        landings.all[at].taken = true;
                        continue;
                    }
                    if wanted.unchanged(truth, truth.groups.between(asked.asked_ms, *told_ms)).is_none() {
                        let Asked { client, group, who, asked_ms, .. } = asked;
                        let what = format!(
                            "{client}: {}-{} at {} in {group} by {who:?}, asked at {asked_ms} ms, acknowledged at \
                             {told_ms} ms: not in the journal then",
                            part.topic, part.partition, part.offset
                        );
                        break_rule(found, "committed", what);
                    }
                }
                Reply::Told(_, Told::Each(codes)) if !UNKNOWN.contains(&ErrorCode::from(codes[n])) => {}
                Reply::Told(..) | Reply::Lost(_) | Reply::Open => others.push((asked.asked_ms, wanted)),
            }
        }
    }
    for landed in landings.all.iter().filter(|landed| !landed.taken) {
        let read_ms = truth.groups.read_ms(landed.at.0);
        let from = others.iter().position(|(asked_ms, wanted)| *asked_ms <= read_ms && wanted.is(landed, truth));
        if let Some(from) = from {
            others.remove(from);
        } else {
            let Landed { at, group, generation, member, partition, offset, .. } = landed;
            let what = format!(
                "entry {}: offset {offset} of {partition:?} is committed in {group} by {member:?} in generation \
                 {generation}; nobody asked for it, or not so often",
                at.0
            );
            break_rule(found, "committed", what);
        }
    }
}

/// The commits of a partition count in the order in which the group's machine took them: also one that writes nothing,
/// because it is equal to what is there, comes after all that were on their way before it.
fn judge_order(truth: &Truth, found: &mut Vec<Violation>) {
    let mut landings = Landings::of(&truth.groups);
    let mut floors: BTreeMap<(&str, TopicPartition), (u64, usize)> = BTreeMap::new();
    for entered in &truth.groups.entered {
        for (n, (partition, offset, metadata)) in entered.parts.iter().enumerate() {
            let wanted = Wanted {
                session: Some(entered.session),
                group: &entered.group,
                generation: entered.generation,
                member: &entered.member,
                partition: Named::Id(*partition),
                offset: *offset,
                metadata,
            };
            let stored = entered.answer.as_ref().is_some_and(|(_, stored)| stored.get(n) == Some(&true));
            let told_ms = entered.answer.as_ref().map_or(u64::MAX, |(told_ms, _)| *told_ms);
            let floor = floors.entry((&entered.group, *partition)).or_default();
            if let Some(at) = landings.first(&wanted, truth, *floor, entered.asked_ms..=told_ms) {
                landings.all[at].taken = true;
                *floor = landings.all[at].at;
                continue;
            }
            if !stored {
                continue;
            }
            let then = truth.groups.between(entered.asked_ms, told_ms);
            let then = (*then.start()).max(floor.0)..=*then.end();
            if wanted.unchanged(truth, then).is_none() {
                let what = format!(
                    "{offset} of {partition:?} in {}, taken at {} ms, is acknowledged at {told_ms} ms, and what was \
                     taken before comes after it, in entry {}",
                    entered.group, entered.asked_ms, floor.0
                );
                break_rule(found, "commit-order", what);
            }
        }
    }
}

/// There is one entry after which everything that was told was so.
fn judge_read(
    timeline: &Timeline,
    asked: &Asked,
    told_ms: u64,
    (all, told): (bool, &[OffsetTold]),
    found: &mut Vec<Violation>,
) {
    let then = timeline.between(asked.asked_ms, told_ms);
    let mut why = String::new();
    for ordinal in then.clone() {
        match differs(timeline, &asked.group, ordinal, (all, told)) {
            None => return,
            Some(what) => why = what,
        }
    }
    let what = format!(
        "{} asked at {} ms for offsets of {} and was told at {told_ms} ms; never between entries {then:?} was it so, in \
         the end: {why}",
        asked.client, asked.asked_ms, asked.group
    );
    break_rule(found, "offsets-read", what);
}

fn differs(timeline: &Timeline, group: &str, ordinal: u64, (all, told): (bool, &[OffsetTold])) -> Option<String> {
    let view = timeline.group(group, ordinal);
    let mut seen = BTreeSet::new();
    for told in told.iter().filter(|told| told.code == 0) {
        let topic =
            if told.topic_id == 0 { timeline.topic(&told.topic, ordinal) } else { Some(TopicId(told.topic_id)) };
        let partition = topic.map(|topic| TopicPartition { topic, partition: told.partition });
        let stored: Option<&Stored> = partition.and_then(|partition| view?.offsets.get(&partition));
        let expected = stored.map_or((-1, ""), |stored| (stored.offset, stored.metadata.as_str()));
        if expected != (told.offset, told.metadata.as_str()) {
            return Some(format!("{told:?} is told, {expected:?} is stored"));
        }
        seen.extend(partition);
    }
    let left_out = view.into_iter().flat_map(|view| view.offsets.keys()).find(|partition| !seen.contains(partition));
    left_out.filter(|_| all).map(|partition| format!("{partition:?} is left out"))
}

/// Whether the fold did such a command about the group, in one of these entries.
fn is_said(timeline: &Timeline, group: &str, then: RangeInclusive<u64>, is_it: impl Fn(&Command) -> bool) -> bool {
    let done = |said: &Said| said.outcome == Outcome::Done && then.contains(&said.ordinal);
    timeline.said.iter().any(|said| done(said) && said.command.group() == Some(group) && is_it(&said.command))
}

fn judge_deleted(
    timeline: &Timeline,
    asked: &Asked,
    told_ms: u64,
    (name, partition): &(String, u32),
    found: &mut Vec<Violation>,
) {
    let then = timeline.between(asked.asked_ms, told_ms);
    let mut at = None;
    let gone = then.clone().any(|ordinal| {
        at = timeline.topic(name, ordinal).map(|topic| TopicPartition { topic, partition: *partition });
        let stored = at.and_then(|at| timeline.group(&asked.group, ordinal)?.offsets.get(&at));
        stored.is_none()
    });
    // It may have been committed again in the entry that deletes it.
    let deletes = |command: &Command| {
        if let Command::DeleteOffsets { partitions, .. } = command {
            partitions.iter().any(|p| Some(*p) == at)
        } else {
            false
        }
    };
    if !gone && !is_said(timeline, &asked.group, then, deletes) {
        let what =
            format!("{}: the offset of {name}-{partition} in {} was deleted, and is there", asked.client, asked.group);
        break_rule(found, "deleted", what);
    }
}

/// Whatever is removed was old enough, or somebody asked for it.
fn judge_removal(history: &GroupHistory, truth: &Truth, said: &Said, found: &mut Vec<Violation>) {
    let timeline = &truth.groups;
    let read_ms = timeline.read_ms(said.ordinal);
    let by_client = |wanted: fn(&What) -> bool, group: &str| {
        let asks = |asked: &&Asked| wanted(&asked.what) && asked.group == group && asked.asked_ms <= read_ms;
        history.asked.iter().any(|asked| asks(&asked))
    };
    if let Command::DeleteGroup { group } = &said.command
        && said.outcome == Outcome::Done
    {
        if timeline.group(group, said.ordinal - 1).is_some_and(|view| !view.members.is_empty()) {
            break_rule(found, "deleted", format!("entry {}: {group} is deleted with members in it", said.ordinal));
        }
        if !by_client(|what| *what == What::DeleteGroup, group) {
            break_rule(found, "deleted", format!("entry {}: {group} is deleted, and nobody asked", said.ordinal));
        }
    }
    if let Command::DeleteOffsets { group, .. } = &said.command
        && !by_client(|what| matches!(what, What::DeleteOffsets(_)), group)
    {
        let what = format!("entry {}: offsets of {group} are deleted, and nobody asked", said.ordinal);
        break_rule(found, "deleted", what);
    }
    if let Command::ExpireOffsets { group, .. } = &said.command {
        judge_expiry(truth, said, group, found);
    }
}

fn judge_expiry(truth: &Truth, said: &Said, group: &str, found: &mut Vec<Violation>) {
    let timeline = &truth.groups;
    let crowded = timeline.said.iter().filter(|other| other.ordinal == said.ordinal).count() > 1;
    let Some(before) = timeline.group(group, said.ordinal - 1).filter(|_| !crowded) else { return };
    let after = timeline.group(group, said.ordinal);
    let wanted = before.members.values().filter_map(|member| Subscription::decode(member.subscription.clone()).ok());
    let wanted: BTreeSet<String> = wanted.flat_map(|subscription| subscription.topics).collect();
    for (partition, stored) in &before.offsets {
        if after.is_some_and(|after| after.offsets.contains_key(partition)) {
            continue;
        }
        let age_ms = said.time_ms - stored.committed_ms;
        if age_ms < truth.offsets_retention_ms {
            let what = format!("entry {}: {group} loses {partition:?} after {age_ms} ms: {stored:?}", said.ordinal);
            break_rule(found, "expiry", what);
        }
        if truth.names.get(&partition.topic).is_some_and(|name| wanted.contains(name)) {
            let what = format!("entry {}: {group} loses {partition:?}, to which a member subscribes", said.ordinal);
            break_rule(found, "expiry", what);
        }
    }
}

/// What a group commits, its members have read, from the beginning on. (Where only members commit, and the topic
/// was never deleted: of topics of one name a reader does not know which one it read.)
fn judge_consumed(history: &GroupHistory, truth: &Truth, found: &mut Vec<Violation>) {
    let committers = |asked: &&Asked| asked.who.generation < 0 && matches!(asked.what, What::Commit(_));
    let open: BTreeSet<&str> = history.asked.iter().filter(committers).map(|asked| asked.group.as_str()).collect();
    for part in landed(&truth.groups).iter().filter(|part| !open.contains(part.group) && part.offset > 0) {
        let Some(name) = truth.names.get(&part.partition.topic) else { continue };
        if truth.named(name).count() != 1 {
            continue;
        }
        let read = history.read.get(&(part.group.to_owned(), name.clone(), part.partition.partition));
        let first = read.and_then(|ranges| ranges.first());
        if first.is_none_or(|range| range.start > 0 || range.end < part.offset) {
            let what = format!(
                "entry {}: {} commits {} of {name}-{}, and read {read:?}",
                part.at.0, part.group, part.offset, part.partition.partition
            );
            break_rule(found, "consumed", what);
        }
    }
}
