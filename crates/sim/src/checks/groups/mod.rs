//! Consumer groups: what clients were told against the journal's own story (invariant 7, and what a group's members may
//! rely on). An answer must have been true at some moment between the question and itself; the broker of that moment
//! had read all entries that anybody had read before the question, and none that nobody had read before the answer.
//!
//! Reading order: [`story`] (generations and commits, told by the commands alone), [`offsets`], [`members`].

mod members;
mod offsets;
mod story;

use self::story::Story;
use super::{Truth, Violation};
use crate::history::History;

/// Judges everything about groups.
pub(super) fn judge(history: &History, truth: &Truth, found: &mut Vec<Violation>) {
    let story = Story::of(&truth.groups, found);
    offsets::judge(&history.groups, truth, found);
    members::judge(&history.groups, &truth.groups, &story, found);
}
