//! Planted bugs: each must make a named check fail within a bounded number of seeds. A check that cannot fail proves
//! nothing.

use kafscale_sim::disk::Op;
use kafscale_sim::plant::Bug;
use kafscale_sim::scenario::{Limits, Scenario};
use kafscale_sim::world::run;

/// Plays seeds until one of `checks` fails.
fn must_be_found(bug: Bug, seeds: u64, checks: &[&str]) {
    let mut others = Vec::new();
    for seed in 1..=seeds {
        let report = run(&Scenario::draw(seed, Limits::NONE), Some(bug), false);
        if let Some(found) = report.violations.iter().find(|found| checks.contains(&found.check)) {
            println!("{bug:?}: seed {seed}, {}: {}", found.check, found.what);
            return;
        }
        others.extend(report.violations.into_iter().map(|found| (seed, found)));
    }
    others.truncate(5);
    panic!("{bug:?} was not found by {checks:?} in {seeds} seeds; found otherwise: {others:?}");
}

#[test]
fn objects_are_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::Sync, "/bundle/"), 300, &["objects"]);
}

#[test]
fn names_of_objects_are_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::SyncDir, "/bundle/"), 300, &["objects"]);
}

#[test]
fn journal_frames_are_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::SyncData, "/journal/"), 300, &["acknowledged"]);
}

#[test]
fn names_of_journal_files_are_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::SyncDir, "/data/journal/"), 300, &["acknowledged", "start"]);
}

#[test]
fn a_cut_tail_is_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::SyncCut, "/journal/"), 2_000, &["refused", "start", "journal"]);
}

#[test]
fn snapshots_are_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::Sync, "/snapshot/"), 300, &["same-state", "start"]);
}

#[test]
fn the_pointer_is_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::Sync, "/pointer"), 300, &["start"]);
}

#[test]
fn the_pointers_name_is_not_fsynced() {
    must_be_found(Bug::NoFsync(Op::SyncDir, "/pointer"), 1_000, &["pointer", "start"]);
}

#[test]
fn the_entry_goes_before_the_object() {
    must_be_found(Bug::EntryBeforeObject, 300, &["objects"]);
}

#[test]
fn acknowledged_before_the_fsync() {
    must_be_found(Bug::AcknowledgeBeforeFsync, 300, &["acknowledged"]);
}

#[test]
fn acknowledged_before_the_fold() {
    must_be_found(Bug::AcknowledgeBeforeFold, 300, &["acknowledged"]);
}

#[test]
fn a_dead_batch_is_served() {
    must_be_found(Bug::ServeDeadBatches, 300, &["once"]);
}

#[test]
fn a_fetch_session_forgets_changes() {
    must_be_found(Bug::ForgetChanges, 300, &["progress"]);
}

#[test]
fn a_generation_is_answered_before_it_is_journalled() {
    must_be_found(Bug::GenerationBeforeJournal, 300, &["generations", "handed-out"]);
}

#[test]
fn a_commit_of_an_old_generation_is_taken() {
    must_be_found(Bug::OldGenerationCommits, 300, &["committed"]);
}

#[test]
fn an_assignment_is_lost_in_a_restart() {
    must_be_found(Bug::AssignmentLost, 300, &["handed-out"]);
}

#[test]
fn a_dead_member_stays_for_ever() {
    must_be_found(Bug::MemberKept, 300, &["evicted"]);
}

#[test]
fn members_are_forgotten_in_a_restart() {
    must_be_found(Bug::MembersForgotten, 300, &["kept"]);
}

#[test]
fn whoever_asks_is_a_member() {
    must_be_found(Bug::DeadAnswered, 300, &["generations"]);
}

#[test]
fn a_commit_is_acknowledged_before_the_fold() {
    must_be_found(Bug::CommitBeforeFold, 300, &["committed"]);
}

#[test]
fn an_equal_commit_is_skipped_while_another_is_pending() {
    must_be_found(Bug::EqualSkipped, 300, &["commit-order"]);
}

#[test]
fn offsets_expire_too_early() {
    must_be_found(Bug::ExpiredTooEarly, 300, &["expiry"]);
}
