//! The groups of a scenario: who is in them, as which kind of client, and what befalls them. Not every world has some;
//! they draw from forks of their own, so that a world's other parts are what they were before there were groups.

use super::Limits;
use crate::clients::group::assign::Assignor;
use crate::clients::group::plan::{Commits, Deed, Episode, GroupPlan, MemberPlan, OutsiderPlan, Pace, Versions};
use crate::rng::Rng;

/// In a hundred worlds.
const WORLDS_WITH_GROUPS: u64 = 60;

/// What the members of a group have in common.
struct Kind<'a> {
    group: &'a str,
    topics: &'a [String],
    assignors: Vec<Assignor>,
    /// All are clients of the same kind.
    versions: Option<Versions>,
    crowd: u64,
}

/// The groups of the world with this root.
pub(super) fn draw(root: &Rng, topics: &[String], limits: Limits) -> Vec<GroupPlan> {
    let mut rng = root.fork("groups", 0);
    if !rng.chance(WORLDS_WITH_GROUPS) {
        return Vec::new();
    }
    let count = [1, 1, 1, 2, 3][rng.index(5)];
    let count = limits.groups.min(count) as u64;
    (0..count).map(|n| group(&root.fork("group", n), n, topics, limits)).collect()
}

/// How long offsets are kept: Kafka's week, or so short that some expire.
pub(super) fn retention_ms(root: &Rng) -> i64 {
    [7 * 24 * 3_600_000, 7 * 24 * 3_600_000, 20_000, 60_000][root.fork("retention", 0).index(4)]
}

/// How long the first generation of a group waits for more members: Kafka's three seconds, or less.
pub(super) fn delay_ms(root: &Rng) -> u64 {
    [0, 100, 3_000][root.fork("group delay", 0).index(3)]
}

fn group(root: &Rng, number: u64, topics: &[String], limits: Limits) -> GroupPlan {
    let mut rng = root.fork("group", 0);
    let name = format!("g{number}");
    let mut crowd = [1, 2, 3, 3, 4, 6][rng.index(6)];
    if rng.chance(10) {
        crowd = rng.within(7..11);
    }
    // Nobody is ever in it, but offsets are committed.
    let simple = rng.chance(12);
    let assignors = match rng.within(0..100) {
        0..25 => vec![Assignor::Range],
        25..40 => vec![Assignor::RoundRobin],
        40..60 => vec![Assignor::Sticky],
        60..90 => vec![Assignor::CooperativeSticky],
        _ => vec![Assignor::RoundRobin, Assignor::Range],
    };
    let versions = rng.chance(60).then(|| Versions::ALL[rng.index(Versions::ALL.len())]);
    let kind = Kind { group: &name, topics, assignors, versions, crowd };
    let members = if simple { 0 } else { limits.members.min(usize::try_from(crowd).unwrap_or(0)) as u64 };
    let outsiders = if simple { 2 } else { rng.within(0..3) };
    GroupPlan {
        members: (0..members).map(|n| member(&mut root.fork("member", n), n, &kind, limits)).collect(),
        outsiders: (0..outsiders).map(|n| outsider(&mut root.fork("outsider", n), n, &kind, simple)).collect(),
        deeds: deeds(&mut root.fork("deeds", 0), topics, simple, limits),
        name,
    }
}

fn member(rng: &mut Rng, number: u64, kind: &Kind, limits: Limits) -> MemberPlan {
    let versions = kind.versions.unwrap_or_else(|| Versions::ALL[rng.index(Versions::ALL.len())]);
    let instance = versions.has_instances() && rng.chance(45);
    let session_timeout_ms = [6_000, 10_000, 20_000][rng.index(3)];
    let mut assignors = kind.assignors.clone();
    if rng.chance(50) {
        assignors.reverse();
    }
    let late_ms = if rng.chance(70) { 50 } else { 6_000 };
    let count = if rng.chance(40) { 0 } else { rng.within(1..5) };
    let count = usize::try_from(count).unwrap_or(0).min(limits.episodes);
    let episodes = (0..count).map(|_| episode(rng, kind.topics, instance)).collect();
    MemberPlan {
        name: format!("{} m{number}", kind.group),
        group: kind.group.to_owned(),
        instance: instance.then(|| format!("i{number}")),
        topics: some(rng, kind.topics, 70),
        assignors,
        versions,
        pace: Pace {
            first_ms: rng.within(0..late_ms),
            session_timeout_ms,
            rebalance_timeout_ms: [3_000, 10_000, 20_000][rng.index(3)],
            heartbeat_ms: [100, 500, 1_500, 3_000][rng.index(4)],
            // Many members commit less often: a world is not to take longer.
            commit_ms: [100, 500, 3_000][rng.index(3)] * (1 + kind.crowd / 4),
            max_wait_ms: [500, 2_000, 5_000][rng.index(3)],
        },
        commits: Commits {
            marked: rng.chance(40),
            sync: rng.chance(40),
            back_percent: if rng.chance(25) { 30 } else { 0 },
        },
        episodes,
    }
}

/// All topics, or some.
fn some(rng: &mut Rng, topics: &[String], all_percent: u64) -> Vec<String> {
    if rng.chance(all_percent) {
        return topics.to_vec();
    }
    let first = rng.index(topics.len());
    let count = 1 + rng.index(topics.len());
    topics.iter().cycle().skip(first).take(count).cloned().collect()
}

fn episode(rng: &mut Rng, topics: &[String], instance: bool) -> (u64, Episode) {
    let (gap_ms, away_ms) = ([300, 2_000, 10_000][rng.index(3)], [100, 3_000, 25_000][rng.index(3)]);
    let (gap_ms, away_ms) = (rng.within(0..gap_ms), rng.within(0..away_ms));
    let hang_ms = [3_000, 30_000][rng.index(2)];
    let gone = rng.chance(15);
    let episode = match rng.within(0..100) {
        0..35 => Episode::Crash { down_ms: (!gone).then_some(away_ms) },
        35..50 => Episode::Hang { ms: rng.within(500..hang_ms) },
        50..62 => Episode::Leave { away_ms: (!gone).then_some(away_ms) },
        62..72 if instance => Episode::Double,
        62..78 => Episode::Subscribe(some(rng, topics, 40)),
        78..88 => Episode::Dawdle { ms: rng.within(500..15_000) },
        _ => Episode::Reconnect,
    };
    (gap_ms, episode)
}

fn outsider(rng: &mut Rng, number: u64, kind: &Kind, simple: bool) -> OutsiderPlan {
    OutsiderPlan {
        name: format!("{} o{number}", kind.group),
        group: kind.group.to_owned(),
        topics: kind.topics.to_vec(),
        versions: Versions::ALL[rng.index(Versions::ALL.len())],
        every_ms: [50, 300, 2_000][rng.index(3)],
        commits: simple || rng.chance(25),
    }
}

fn deeds(rng: &mut Rng, topics: &[String], simple: bool, limits: Limits) -> Vec<(u64, Deed)> {
    // Where nobody is a member, they succeed.
    let count = if simple { rng.within(5..40) } else { [0, 0, 1, 2, 3, 8, 20][rng.index(7)] };
    let count = usize::try_from(count).unwrap_or(0).min(limits.episodes);
    let mut deed = || {
        let gap_ms = [100, 500, 5_000][rng.index(3)];
        let gap_ms = rng.within(0..gap_ms);
        let topic = topics[rng.index(topics.len())].clone();
        let deed = match rng.within(0..100) {
            0..30 => Deed::DeleteGroup,
            30..65 => Deed::DeleteOffsets(topic),
            65..80 if !simple => Deed::AddPartitions(topic, u32::try_from(rng.within(1..3)).expect("a small number")),
            80.. if !simple => Deed::Remove(format!("i{}", rng.within(0..4))),
            _ => Deed::DeleteGroup,
        };
        (gap_ms, deed)
    };
    (0..count).map(|_| deed()).collect()
}
