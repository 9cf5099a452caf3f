//! The report: what was broken, and what happened, counted: which fault at which stage, and what became of the batches
//! and of the groups' requests that were under way.

use std::collections::BTreeSet;

use kafscale_metadata::{Command, GroupStage, Outcome};

use super::{Happened, Report, World};
use crate::chronicle::groups::Timeline;
use crate::history::groups::{Asked, GroupHistory, Reply};
use crate::history::{Fate, History};

impl World<'_> {
    /// Sums up.
    pub(super) fn report(mut self) -> Report {
        let shared = std::sync::Arc::clone(&self.shared);
        let history = shared.history.lock();
        let happened = std::mem::take(&mut self.record.happened);
        happened.iter().for_each(|happened| self.count_batches(&history, happened));
        if !self.scenario.groups.is_empty() {
            let timeline = self.chronicle.timeline();
            happened.iter().for_each(|happened| self.count_groups(&history.groups, &timeline, happened));
            self.count_commands(&timeline);
        }
        let coverage = &mut self.record.coverage;
        for ((key, code), n) in &history.answers {
            coverage.add(&format!("answers of API key {key} with error code {code}"), *n);
        }
        let records: u64 = history.sent.iter().map(|batch| batch.ids.end - batch.ids.start).sum();
        coverage.add("records made", records);
        coverage.add("batches made", history.sent.len() as u64);
        let renumbered = history.sent.iter().filter(|batch| batch.attempts.renumbered).count();
        coverage.add("batches renumbered by their producer", renumbered as u64);
        coverage.add("lives", self.lives.begun);
        coverage.add("virtual seconds", self.clock.ms() / 1000);
        coverage.add("groups", self.scenario.groups.len() as u64);
        let members: usize = self.scenario.groups.iter().map(|group| group.members.len()).sum();
        coverage.add("members of groups", members as u64);
        let (trace, trace_hash) = (self.trace.lines(), self.trace.hash());
        Report { violations: self.record.violations, coverage: self.record.coverage, trace, trace_hash }
    }

    fn count_batches(&mut self, history: &History, happened: &Happened) {
        self.record.coverage.count(happened.fault, &happened.stage, "times");
        let under_way = history.sent.iter().filter(|batch| {
            let open = batch.known_ms.is_none_or(|known| known >= happened.at_ms);
            batch.made_ms <= happened.at_ms && open
        });
        let outcomes = under_way.map(|batch| match batch.fate {
            Fate::Acked(_) | Fate::AckedSomewhere => "acked",
            Fate::Refused(_) => "refused",
            Fate::Unknown => "unknown",
        });
        let outcomes: BTreeSet<&'static str> = outcomes.collect();
        self.count_outcomes(happened.fault, &happened.stage, outcomes);
    }

    fn count_outcomes(&mut self, fault: &'static str, stage: &str, outcomes: BTreeSet<&'static str>) {
        let idle = outcomes.is_empty().then_some("idle");
        outcomes.into_iter().chain(idle).for_each(|outcome| self.record.coverage.count(fault, stage, outcome));
    }

    /// What became of the requests about groups that were under way, by kind; and at which stages the groups were.
    fn count_groups(&mut self, history: &GroupHistory, timeline: &Timeline, happened: &Happened) {
        let open = |asked: &&Asked| {
            asked.asked_ms <= happened.at_ms && asked.over_ms().is_none_or(|over_ms| over_ms >= happened.at_ms)
        };
        let mut seen: BTreeSet<(&'static str, &'static str)> = BTreeSet::new();
        for asked in history.asked.iter().filter(open) {
            let outcome = match &asked.reply {
                Reply::Told(_, told) if told.is_ok() => "acked",
                Reply::Told(..) => "refused",
                Reply::Open | Reply::Lost(_) => "unknown",
            };
            seen.insert((asked.what.name(), outcome));
        }
        let kinds: BTreeSet<&'static str> = seen.iter().map(|(kind, _)| *kind).collect();
        for kind in kinds {
            let stage = format!("{kind} under way");
            self.record.coverage.count(happened.fault, &stage, "times");
            let outcomes = seen.iter().filter(|(of, _)| *of == kind).map(|(_, outcome)| *outcome).collect();
            self.count_outcomes(happened.fault, &stage, outcomes);
        }
        let now = *timeline.between(happened.at_ms, happened.at_ms).end();
        let stages: BTreeSet<&'static str> = timeline
            .groups()
            .filter_map(|group| timeline.group(group, now))
            .map(|view| match view.stage {
                GroupStage::Empty => "a group without members",
                GroupStage::Joined => "a group without assignment",
                GroupStage::Assigned => "a group at work",
            })
            .collect();
        stages.into_iter().for_each(|stage| self.record.coverage.count(happened.fault, stage, "times"));
    }

    fn count_commands(&mut self, timeline: &Timeline) {
        for said in &timeline.said {
            let what = match (&said.command, &said.outcome) {
                (Command::CompleteJoin(join), Outcome::Done) if join.members.is_empty() => {
                    "generations without members"
                }
                (Command::CompleteJoin(_), Outcome::Done) => "generations with members",
                (Command::CompleteSync(_), Outcome::Done) => "assignments",
                (Command::ReplaceMember(_), Outcome::Done) => "static members that came back",
                (Command::CommitOffsets(_), Outcome::Offsets(_)) => "commits written",
                (Command::DeleteOffsets { .. }, Outcome::Done) => "deletions of offsets",
                (Command::ExpireOffsets { .. }, Outcome::Done) => "expiries of offsets",
                (Command::DeleteGroup { .. }, Outcome::Done) => "deletions of groups",
                _ => "commands about groups that the fold refused",
            };
            self.record.coverage.add(what, 1);
        }
    }
}
