//! The assignors of Kafka's consumers, which the leader of a group runs: from the members' subscriptions to each
//! member's partitions. Pure; written from what Kafka's clients do, not from their code.

use std::collections::{BTreeMap, BTreeSet};

use super::protocol::{Partition, Subscription};

/// Which partitions each member gets, by member id.
pub type Assignment = BTreeMap<String, BTreeSet<Partition>>;

/// An assignor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Each topic by itself, in ranges.
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// Even, and each keeps what it had.
    Sticky,
    /// The same; what changes its owner is given up first and given out in the next generation (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// Its name in JoinGroup.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky].into_iter().find(|a| a.name() == name)
    }

    /// Gives every partition of `topics` (how many each has) to one member that wants the topic, if there is one.
    pub fn assign(self, members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<String, u32>) -> Assignment {
        match self {
            Self::Range => range(members, topics),
            Self::RoundRobin => round_robin(members, topics),
            Self::Sticky => sticky(members, topics),
            Self::CooperativeSticky => cooperative(members, topics),
        }
    }
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    /// Its instance id, if it is static.
    pub instance: Option<String>,
    /// What it wants and has.
    pub subscription: Subscription,
}

impl Subscriber {
    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|wanted| wanted == topic)
    }
}

/// Static members by their instance ids, before the others: so that a new member id changes nothing.
fn in_order(members: &BTreeMap<String, Subscriber>) -> Vec<(&str, &Subscriber)> {
    let mut order: Vec<(&str, &Subscriber)> = members.iter().map(|(id, member)| (id.as_str(), member)).collect();
    order.sort_by_key(|(id, member)| (member.instance.is_none(), member.instance.as_deref().unwrap_or(id)));
    order
}

fn nothing(members: &BTreeMap<String, Subscriber>) -> Assignment {
    members.keys().map(|id| (id.clone(), BTreeSet::new())).collect()
}

fn range(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<String, u32>) -> Assignment {
    let mut assignment = nothing(members);
    for (topic, partitions) in topics {
        let takers: Vec<&str> =
            in_order(members).into_iter().filter(|(_, member)| member.wants(topic)).map(|(id, _)| id).collect();
        let Ok(count) = u32::try_from(takers.len()) else { continue };
        let mut next = 0;
        for (n, id) in (0..count).zip(takers) {
            let share = partitions / count + u32::from(n < partitions % count);
            give(&mut assignment, id, (next..next + share).map(|partition| (topic.clone(), partition)));
            next += share;
        }
    }
    assignment
}

fn give(assignment: &mut Assignment, id: &str, partitions: impl IntoIterator<Item = Partition>) {
    assignment.entry(id.to_owned()).or_default().extend(partitions);
}

fn all(topics: &BTreeMap<String, u32>) -> impl Iterator<Item = Partition> {
    topics.iter().flat_map(|(topic, count)| (0..*count).map(move |partition| (topic.clone(), partition)))
}

fn round_robin(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<String, u32>) -> Assignment {
    let mut assignment = nothing(members);
    let order = in_order(members);
    let mut turn = 0;
    for partition in all(topics) {
        let takers = (0..order.len()).map(|n| (turn + n) % order.len());
        let taker = takers.into_iter().find(|n| order[*n].1.wants(&partition.0));
        if let Some(taker) = taker {
            give(&mut assignment, order[taker].0, [partition]);
            turn = taker + 1;
        }
    }
    assignment
}

/// Who has each partition by its own word: of several the one with the newest generation; of several of the same, none.
fn owners<'a>(
    members: &'a BTreeMap<String, Subscriber>,
    topics: &BTreeMap<String, u32>,
) -> BTreeMap<Partition, &'a str> {
    let mut claims: BTreeMap<Partition, Vec<(i32, &str)>> = BTreeMap::new();
    for (id, member) in members {
        for partition in &member.subscription.owned {
            let exists = topics.get(&partition.0).is_some_and(|count| partition.1 < *count);
            if exists && member.wants(&partition.0) {
                claims.entry(partition.clone()).or_default().push((member.subscription.generation, id));
            }
        }
    }
    let winner = |(partition, mut claims): (Partition, Vec<(i32, &'a str)>)| {
        claims.sort_unstable();
        let (newest, id) = claims.pop()?;
        claims.iter().all(|(generation, _)| *generation < newest).then_some((partition, id))
    };
    claims.into_iter().filter_map(winner).collect()
}

fn sticky(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<String, u32>) -> Assignment {
    let mut assignment = nothing(members);
    let owners = owners(members, topics);
    for (partition, id) in &owners {
        give(&mut assignment, id, [partition.clone()]);
    }
    for partition in all(topics).filter(|partition| !owners.contains_key(partition)) {
        let takers = members.iter().filter(|(_, member)| member.wants(&partition.0));
        let least = takers.min_by_key(|(id, _)| (assignment[*id].len(), (*id).clone())).map(|(id, _)| id.clone());
        if let Some(id) = least {
            give(&mut assignment, &id, [partition]);
        }
    }
    while let Some((from, to, partition)) = better(members, &assignment) {
        assignment.entry(from).or_default().remove(&partition);
        give(&mut assignment, &to, [partition]);
    }
    assignment
}

/// A move that makes the assignment more even: each shrinks the sum of squares, so there is a last one.
fn better(members: &BTreeMap<String, Subscriber>, assignment: &Assignment) -> Option<(String, String, Partition)> {
    let mut full: Vec<(&String, &BTreeSet<Partition>)> = assignment.iter().collect();
    full.sort_by_key(|(id, has)| (std::cmp::Reverse(has.len()), (*id).clone()));
    for (from, has) in full {
        for partition in has.iter().rev() {
            let takers = members.iter().filter(|(_, member)| member.wants(&partition.0));
            let least = takers.min_by_key(|(id, _)| (assignment[*id].len(), (*id).clone()));
            if let Some((to, _)) = least.filter(|(to, _)| assignment[*to].len() + 1 < has.len()) {
                return Some((from.clone(), to.clone(), partition.clone()));
            }
        }
    }
    None
}

/// As sticky, but nobody gets what another has not given up yet.
fn cooperative(members: &BTreeMap<String, Subscriber>, topics: &BTreeMap<String, u32>) -> Assignment {
    let mut assignment = sticky(members, topics);
    let mut claims: BTreeMap<&Partition, BTreeSet<&str>> = BTreeMap::new();
    for (id, member) in members {
        for partition in &member.subscription.owned {
            claims.entry(partition).or_default().insert(id);
        }
    }
    for (id, has) in &mut assignment {
        has.retain(|partition| claims.get(partition).is_none_or(|owners| owners.iter().all(|owner| *owner == id)));
    }
    assignment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(topics: &[&str], owned: &[(&str, u32)], generation: i32) -> Subscriber {
        let owned = owned.iter().map(|(topic, partition)| ((*topic).to_owned(), *partition)).collect();
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Subscriber { instance: None, subscription: Subscription { version: 2, topics, owned, generation } }
    }

    fn group<const N: usize>(members: [(&str, Subscriber); N]) -> BTreeMap<String, Subscriber> {
        members.into_iter().map(|(id, member)| (id.to_owned(), member)).collect()
    }

    fn topics<const N: usize>(topics: [(&str, u32); N]) -> BTreeMap<String, u32> {
        topics.into_iter().map(|(topic, partitions)| (topic.to_owned(), partitions)).collect()
    }

    fn shown(assignment: &Assignment) -> Vec<(String, Vec<String>)> {
        let name = |(topic, partition): &Partition| format!("{topic}{partition}");
        assignment.iter().map(|(id, has)| (id.clone(), has.iter().map(name).collect())).collect()
    }

    fn expect(assignment: &Assignment, expected: &[(&str, &[&str])]) {
        let expected: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(id, has)| ((*id).to_owned(), has.iter().map(|name| (*name).to_owned()).collect()))
            .collect();
        assert_eq!(shown(assignment), expected);
    }

    /// The examples of Kafka's documentation of each assignor.
    #[test]
    fn range_and_round_robin_as_kafka_documents_them() {
        let members = group([("c0", member(&["a", "b"], &[], -1)), ("c1", member(&["a", "b"], &[], -1))]);
        let all = topics([("a", 3), ("b", 3)]);
        expect(&Assignor::Range.assign(&members, &all), &[("c0", &["a0", "a1", "b0", "b1"]), ("c1", &["a2", "b2"])]);
        expect(
            &Assignor::RoundRobin.assign(&members, &all),
            &[("c0", &["a0", "a2", "b1"]), ("c1", &["a1", "b0", "b2"])],
        );
        let members = group([
            ("c0", member(&["a"], &[], -1)),
            ("c1", member(&["a", "b"], &[], -1)),
            ("c2", member(&["a", "b", "c"], &[], -1)),
        ]);
        let all = topics([("a", 1), ("b", 2), ("c", 3)]);
        expect(
            &Assignor::RoundRobin.assign(&members, &all),
            &[("c0", &["a0"]), ("c1", &["b0"]), ("c2", &["b1", "c0", "c1", "c2"])],
        );
    }

    #[test]
    fn static_members_are_ordered_by_their_instance_ids() {
        let named = |instance: &str| Subscriber { instance: Some(instance.to_owned()), ..member(&["a"], &[], -1) };
        let members = group([("x", named("i2")), ("y", named("i1")), ("b", member(&["a"], &[], -1))]);
        expect(
            &Assignor::Range.assign(&members, &topics([("a", 3)])),
            &[("b", &["a2"]), ("x", &["a1"]), ("y", &["a0"])],
        );
    }

    #[test]
    fn sticky_keeps_what_it_can_and_is_even() {
        let members = group([
            ("c0", member(&["a"], &[("a", 0), ("a", 1), ("a", 2), ("a", 3)], 4)),
            ("c1", member(&["a"], &[], -1)),
        ]);
        let all = topics([("a", 4)]);
        expect(&Assignor::Sticky.assign(&members, &all), &[("c0", &["a0", "a1"]), ("c1", &["a2", "a3"])]);
        // Cooperatively, c1 gets nothing before c0 has given it up.
        expect(&Assignor::CooperativeSticky.assign(&members, &all), &[("c0", &["a0", "a1"]), ("c1", &[])]);
    }

    #[test]
    fn of_two_claims_the_newer_generation_counts() {
        let members = group([("c0", member(&["a"], &[("a", 0)], 3)), ("c1", member(&["a"], &[("a", 0)], 5))]);
        expect(&Assignor::Sticky.assign(&members, &topics([("a", 2)])), &[("c0", &["a1"]), ("c1", &["a0"])]);
        // The old owner has not given it up by its own word: nobody gets it in this generation.
        expect(&Assignor::CooperativeSticky.assign(&members, &topics([("a", 2)])), &[("c0", &["a1"]), ("c1", &[])]);
    }

    #[test]
    fn each_partition_has_just_one_owner_that_wants_it() {
        let mut rng = crate::rng::Rng::new(7);
        for _ in 0..500 {
            let names = ["a", "b", "c"];
            let topics: BTreeMap<String, u32> =
                names.iter().map(|name| ((*name).to_owned(), u32::try_from(rng.within(0..5)).unwrap())).collect();
            let mut members = BTreeMap::new();
            for n in 0..rng.within(1..6) {
                let wanted: Vec<&str> = names.iter().copied().filter(|_| rng.chance(60)).collect();
                let owned: Vec<(&str, u32)> =
                    names.iter().map(|name| (*name, u32::try_from(rng.within(0..6)).unwrap())).collect();
                let generation = i32::try_from(rng.within(0..3)).unwrap();
                members.insert(format!("m{n}"), member(&wanted, &owned, generation));
            }
            for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky] {
                let assignment = assignor.assign(&members, &topics);
                let wanted = all(&topics).filter(|(topic, _)| members.values().any(|member| member.wants(topic)));
                let mut given: Vec<Partition> = assignment.values().flatten().cloned().collect();
                given.sort_unstable();
                assert_eq!(given, wanted.collect::<Vec<_>>(), "{assignor:?}");
                let fits = |(id, has): (&String, &BTreeSet<Partition>)| has.iter().all(|(t, _)| members[id].wants(t));
                assert!(assignment.iter().all(fits), "{assignor:?}");
            }
        }
    }
}
