//! The fold against the naive reference over random histories, and against itself through snapshots.

use kafscale_metadata::reference::Reference;
use kafscale_metadata::{Entry, Outcome, Refusal, State, Verdict, apply, snapshot};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::generate::{Sent, Step, fit, history};

/// A state that only ever folds, one that goes through a snapshot now and then, and the reference.
#[derive(Default)]
struct Three {
    state: State,
    restored: State,
    reference: Reference,
    sent: Sent,
}

impl Three {
    /// Applies the step to all; gives what came out.
    fn step(&mut self, step: Step) -> Vec<Outcome> {
        let Step::Entry { n_off, entry } = step else {
            let bytes = snapshot::encode(&self.restored);
            self.restored = snapshot::decode(&bytes).expect("a snapshot decodes");
            assert_eq!(snapshot::encode(&self.restored), bytes);
            return Vec::new();
        };
        let entry = fit(&self.state, &mut self.sent, n_off, entry);
        let decoded = Entry::decode(&entry.encode()).expect("an entry decodes");
        assert_eq!(decoded, entry);
        let ordinal = self.state.ordinal() + 1;
        let before = self.state.clone();
        let applied = apply(&mut self.state, ordinal, &entry);
        assert_eq!(applied, apply(&mut self.restored, ordinal, &decoded));
        assert_eq!(applied, self.reference.apply(ordinal, &entry));
        match applied {
            Ok(applied) => {
                assert_ne!(self.state.hash(), before.hash());
                self.reference.check(&self.state).unwrap();
                applied.outcomes
            }
            Err(_) => {
                assert_eq!(self.state, before, "a stop leaves the state alone");
                Vec::new()
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.state, self.restored);
        assert_eq!(self.state.hash(), self.restored.hash());
        assert_eq!(self.state.content_hash(), self.restored.content_hash());
    }
}

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn fold_and_reference_agree(steps in history(80)) {
        let mut three = Three::default();
        for step in steps {
            three.step(step);
        }
        three.check();
    }
}

/// What the histories never reach they do not test.
#[test]
fn histories_reach_every_verdict() {
    let mut runner = TestRunner::deterministic();
    let mut counts = [0_u32; 18];
    for _ in 0..1_200 {
        let steps = history(80).new_tree(&mut runner).unwrap().current();
        let mut three = Three::default();
        for step in steps {
            for outcome in three.step(step) {
                count(&outcome, &mut counts);
            }
        }
        three.check();
    }
    println!("accepted, duplicate, each refusal, offsets, done, not the coordinator: {counts:?}");
    assert!(counts.iter().all(|c| *c > 20), "{counts:?}");
}

fn count(outcome: &Outcome, counts: &mut [u32; 18]) {
    match outcome {
        Outcome::Bundle(runs) => {
            for verdict in runs.iter().flatten() {
                let slot = match verdict {
                    Verdict::Accepted { .. } => 0,
                    Verdict::Duplicate { .. } => 1,
                    Verdict::Refused(refusal) => slot(*refusal),
                };
                counts[slot] += 1;
            }
        }
        Outcome::Refused(refusal) => counts[slot(*refusal)] += 1,
        Outcome::Offsets(verdicts) => {
            for verdict in verdicts {
                counts[verdict.map_or(15, slot)] += 1;
            }
        }
        Outcome::Done => counts[16] += 1,
        Outcome::ProducerIds { .. } => {}
    }
}

fn slot(refusal: Refusal) -> usize {
    match refusal {
        Refusal::UnknownTopicOrPartition => 2,
        Refusal::TopicExists => 3,
        Refusal::InvalidTopicName => 4,
        Refusal::InvalidPartitions => 5,
        Refusal::OutOfOrderSequence => 6,
        Refusal::FencedEpoch => 7,
        Refusal::DuplicateSequence => 8,
        Refusal::UnknownGroup => 10,
        Refusal::UnknownMember => 11,
        Refusal::IllegalGeneration => 12,
        Refusal::RebalanceInProgress => 13,
        Refusal::GroupNotEmpty => 14,
        Refusal::NotCoordinator => 17,
        // Most limits are far away: `bounds` reaches them.
        Refusal::NotAllowed | Refusal::LimitReached => 9,
    }
}
