//! Members: `generations` (whoever was told to be in a generation was in it, by the journal), `handed-out` (the leader
//! sees what members told, each gets just the leader's bytes), `owners` (a partition has one owner in a generation),
//! `kept` (nobody is thrown out who was alive, and nobody has to join again without a reason: a restart is none).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafscale_metadata::GroupStage;
use kafscale_wire::ErrorCode;

use super::super::{Violation, break_rule};
use super::story::{Generation, Story};
use crate::chronicle::groups::{Timeline, View};
use crate::clients::group::protocol::{Partition, decode_assignment};
use crate::history::groups::{Asked, Cause, GroupHistory, Reply, Told, What, Who};

/// How long a request may still be on its way when its client has lost the connection.
const ON_ITS_WAY_MS: u64 = 70_000;

/// Who has each partition of a group's generation, which is named by its entry.
type Owners = BTreeMap<(String, u64, Partition), String>;

/// Judges all of the module's checks.
pub(super) fn judge(history: &GroupHistory, timeline: &Timeline, story: &Story, found: &mut Vec<Violation>) {
    let mut owners = Owners::new();
    for asked in &history.asked {
        let Some((told_ms, told)) = asked.told() else { continue };
        let then = Then { timeline, asked, told_ms };
        match (&asked.what, told) {
            (What::Join { .. }, Told::Joined { .. }) => judge_join(&then, told, found),
            (What::Sync { .. }, Told::Synced(assignment)) => {
                if let Some(ordinal) = judge_sync(&then, assignment, found) {
                    judge_owner(&then, story, (ordinal, assignment), &mut owners, found);
                }
            }
            (What::Heartbeat, Told::Code(0)) => {
                let is_in = |view: &View| is_member(view, &asked.who);
                then.must_be("generations", "is told that it is a member", is_in, found);
            }
            (What::Heartbeat | What::Sync { .. } | What::Commit(_), Told::Code(code)) => {
                judge_refusal(history, &then, *code, found);
            }
            (What::Commit(_), Told::Each(codes)) => {
                let code = codes.iter().copied().find(|code| *code != 0);
                code.into_iter().for_each(|code| judge_refusal(history, &then, code, found));
            }
            _ => {}
        }
    }
    for generation in &story.generations {
        judge_assignment(history, generation, found);
        judge_cause(history, timeline, story, generation, found);
    }
}

/// An answer, and the journal while it was made.
struct Then<'a> {
    timeline: &'a Timeline,
    asked: &'a Asked,
    told_ms: u64,
}

impl<'a> Then<'a> {
    fn views(&self) -> impl Iterator<Item = (u64, Option<&'a View>)> {
        let timeline = self.timeline;
        timeline.versions(&self.asked.group, timeline.between(self.asked.asked_ms, self.told_ms))
    }

    /// The first entry after which it was so; a broken rule if there is none.
    fn must_be(
        &self,
        check: &'static str,
        what: &str,
        so: impl Fn(&View) -> bool,
        found: &mut Vec<Violation>,
    ) -> Option<u64> {
        let at = self.views().find(|(_, view)| view.is_some_and(&so)).map(|(ordinal, _)| ordinal);
        if at.is_none() {
            let Asked { client, group, who, asked_ms, .. } = self.asked;
            let view = self.views().last().and_then(|(_, view)| view).map(|view| (view.generation, &view.members));
            let what = format!(
                "{client} {what}: {group} by {who:?}, asked at {asked_ms} ms, told at {} ms; in the journal it was {view:?}",
                self.told_ms
            );
            break_rule(found, check, what);
        }
        at
    }
}

fn is_member(view: &View, who: &Who) -> bool {
    view.generation == who.generation && view.members.contains_key(&who.member)
}

fn judge_join(then: &Then<'_>, told: &Told, found: &mut Vec<Violation>) {
    let Told::Joined { generation, protocol, leader, member, skips, members } = told else { return };
    let is_it = |view: &View| {
        view.generation == *generation && view.members.contains_key(member) && view.stage != GroupStage::Empty
    };
    let begun = then.must_be("generations", &format!("is told that generation {generation} has begun"), is_it, found);
    if begun.is_none() {
        return;
    }
    let leads = leader == member && !skips;
    // Old versions have no instance ids.
    let named = members.iter().any(|(_, instance, _)| instance.is_some());
    let as_told = |view: &View| {
        let listed = members.iter().map(|(id, instance, bytes)| (id, instance.as_ref(), bytes));
        let there = view.members.iter().map(|(id, member)| {
            let instance = member.instance.as_ref().filter(|_| named);
            (id, instance, &member.subscription)
        });
        let listed: BTreeSet<_> = listed.collect();
        is_it(view)
            && view.protocol == *protocol
            && (!leads || view.leader == *member)
            && (members.is_empty() != leads || *skips)
            && (members.is_empty() || listed == there.collect::<BTreeSet<_>>())
    };
    then.must_be("handed-out", &format!("is told {told:?}"), as_told, found);
}

/// The entry after which the assignment was the member's.
fn judge_sync(then: &Then<'_>, assignment: &Bytes, found: &mut Vec<Violation>) -> Option<u64> {
    let who = &then.asked.who;
    let has = |view: &View| {
        let has = view.members.get(&who.member).is_some_and(|member| member.assignment == *assignment);
        view.generation == who.generation && view.stage == GroupStage::Assigned && has
    };
    then.must_be("handed-out", &format!("gets the assignment {assignment:?}"), has, found)
}

/// Nobody else got one of the partitions in this generation.
fn judge_owner(
    then: &Then<'_>,
    story: &Story,
    (ordinal, assignment): (u64, &Bytes),
    owners: &mut Owners,
    found: &mut Vec<Violation>,
) {
    let who = &then.asked.who;
    let generation = story.generation(&then.asked.group, who.generation, ordinal);
    let (Some(generation), Ok(partitions)) = (generation, decode_assignment(assignment.clone())) else { return };
    // A static member that came back has another id, and the place that it had.
    let place = who.instance.as_ref().map_or_else(|| who.member.clone(), |instance| format!("instance {instance}"));
    for partition in partitions {
        let before = owners.insert((generation.group.clone(), generation.ordinal, partition.clone()), place.clone());
        if before.as_ref().is_some_and(|before| *before != place) {
            let what =
                format!("{partition:?} has {before:?} and {place} in {} {}", generation.group, generation.number);
            break_rule(found, "owners", what);
        }
    }
}

/// The journal has just what a leader sent, and no partition twice.
fn judge_assignment(history: &GroupHistory, generation: &Generation, found: &mut Vec<Violation>) {
    let Some((ordinal, assigned)) = &generation.assigned else { return };
    let mut owned = BTreeSet::new();
    for partition in assigned.values().flat_map(|bytes| decode_assignment(bytes.clone()).unwrap_or_default()) {
        if !owned.insert(partition.clone()) {
            let what = format!("entry {ordinal}: {partition:?} twice in {} {}", generation.group, generation.number);
            break_rule(found, "owners", what);
        }
    }
    let is_sent = |asked: &Asked| {
        let What::Sync { assignments } = &asked.what else { return false };
        let sent: BTreeMap<&String, &Bytes> = assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        let empty = Bytes::new();
        asked.group == generation.group
            && asked.who.generation == generation.number
            && assigned.iter().all(|(id, bytes)| **sent.get(id).unwrap_or(&&empty) == *bytes)
            && sent.iter().all(|(id, bytes)| assigned.get(*id) == Some(*bytes) || !generation.members.contains_key(*id))
    };
    if !history.asked.iter().any(is_sent) {
        let what =
            format!("entry {ordinal}: no leader sent the assignment of {} {}", generation.group, generation.number);
        break_rule(found, "handed-out", what);
    }
}

/// A member that the journal has, in the generation that it says, is refused only if it was silent for too long.
fn judge_refusal(history: &GroupHistory, then: &Then<'_>, code: i16, found: &mut Vec<Violation>) {
    let asked = then.asked;
    let out = [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration, ErrorCode::FencedInstanceId];
    if asked.who.generation < 0 || !out.contains(&ErrorCode::from(code)) {
        return;
    }
    let views: Vec<_> = then.views().collect();
    if !views.iter().all(|(_, view)| view.is_some_and(|view| is_member(view, &asked.who))) {
        return;
    }
    let Some(view) = views.last().and_then(|(_, view)| *view) else { return };
    if left_or_replaced(history, asked, then.told_ms) {
        return;
    }
    let patience_ms = view.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0);
    let session_ms = view.members.get(&asked.who.member).map_or(0, |member| member.session_timeout_ms);
    let alive_ms = last_sign(history, asked, then.told_ms);
    let until_ms = alive_ms + u64::try_from(patience_ms.min(session_ms)).unwrap_or(0);
    if then.told_ms < until_ms {
        let what = format!(
            "{} is refused with {code} at {} ms: {} by {:?}, which was alive at {alive_ms} ms and is in the journal",
            asked.client, then.told_ms, asked.group, asked.who
        );
        break_rule(found, "kept", what);
    }
}

/// When the coordinator must have known last that a member lives: what it granted, or its own start.
fn last_sign(history: &GroupHistory, asked: &Asked, now_ms: u64) -> u64 {
    let granted = history.asked.iter().filter(|other| {
        let kind = matches!(other.what, What::Heartbeat | What::Sync { .. });
        let told = other.told().is_some_and(|(told_ms, told)| told.is_ok() && told_ms <= asked.asked_ms);
        kind && told && other.group == asked.group && other.who.member == asked.who.member
    });
    let granted_ms = granted.map(|other| other.asked_ms).max().unwrap_or(0);
    let served_ms = history.served_ms.iter().copied().filter(|served| *served <= now_ms).max().unwrap_or(0);
    granted_ms.max(served_ms)
}

/// Somebody said that the member leaves, or another process took its instance id.
fn left_or_replaced(history: &GroupHistory, asked: &Asked, now_ms: u64) -> bool {
    let who = &asked.who;
    history.asked.iter().any(|other| {
        if other.group != asked.group || other.asked_ms > now_ms {
            return false;
        }
        match &other.what {
            What::Leave(left) => {
                left.iter().any(|(id, instance)| *id == who.member || (instance.is_some() && *instance == who.instance))
            }
            What::Join { .. } => {
                who.instance.is_some() && other.who.instance == who.instance && other.who.member != who.member
            }
            What::Sync { .. }
            | What::Heartbeat
            | What::Commit(_)
            | What::Offsets(_)
            | What::DeleteGroup
            | What::DeleteOffsets(_) => false,
        }
    })
}

/// A new generation of a group with members has a reason: somebody came, left, or was lost, or wanted something else.
fn judge_cause(
    history: &GroupHistory,
    timeline: &Timeline,
    story: &Story,
    generation: &Generation,
    found: &mut Vec<Violation>,
) {
    let place = |(id, instance): (&String, &Option<String>)| instance.clone().unwrap_or_else(|| id.clone());
    let now: BTreeSet<String> = generation.members.iter().map(place).collect();
    let lost = generation.before.iter().map(place).any(|place| !now.contains(&place));
    if generation.before.is_empty() || lost {
        return;
    }
    let earlier = story.generations.iter().filter(|other| other.group == generation.group);
    let before = earlier.filter(|other| other.ordinal < generation.ordinal).map(|other| other.ordinal).max();
    let from_ms = timeline.read_ms(before.unwrap_or(0));
    let until_ms = timeline.read_ms(generation.ordinal);
    let caused = history.asked.iter().enumerate().any(|(n, asked)| {
        let late_ms = match asked.reply {
            Reply::Open => u64::MAX,
            Reply::Lost(at_ms) => at_ms + ON_ITS_WAY_MS,
            Reply::Told(at_ms, _) => at_ms,
        };
        asked.group == generation.group
            && asked.asked_ms <= until_ms
            && late_ms >= from_ms
            && is_cause(history, n, asked)
    });
    if !caused {
        let what = format!(
            "entry {}: {} begins generation {} without a reason, since {from_ms} ms",
            generation.ordinal, generation.group, generation.number
        );
        break_rule(found, "kept", what);
    }
}

/// A request that makes a coordinator form a new generation.
fn is_cause(history: &GroupHistory, n: usize, asked: &Asked) -> bool {
    match asked.what {
        What::Leave(_) => true,
        What::Join { cause: Cause::New | Cause::Own, .. } => true,
        What::Join { cause: Cause::Told, .. } => {
            // It was told to, or it does not know what became of what it asked before: then it is as good as new.
            let before = history.asked[..n].iter().rev().find(|other| {
                other.client == asked.client && matches!(other.what, What::Join { .. } | What::Sync { .. })
            });
            let rebalance = ErrorCode::RebalanceInProgress.code();
            before.is_none_or(|before| match &before.reply {
                Reply::Told(_, told) => !told.is_ok() && *told != Told::Code(rebalance),
                Reply::Open | Reply::Lost(_) => true,
            })
        }
        What::Sync { .. }
        | What::Heartbeat
        | What::Commit(_)
        | What::Offsets(_)
        | What::DeleteGroup
        | What::DeleteOffsets(_) => false,
    }
}
