//! The invariants of DESIGN §11 that apply on one machine, each a named check over the evidence of a whole run. (Those
//! that are cheap at each step are judged by [`crate::chronicle`] and by the clients, under the same names.)
//!
//! | check | invariant |
//! |---|---|
//! | `acknowledged` | 1: an acknowledged record is at its offset, for ever |
//! | `reads` | 1, 2: what anybody read is what the log holds; no gaps, no damage, nothing out of range |
//! | `offsets` | 2: offsets are given once, without gaps |
//! | `once` | 3, 4: an idempotent producer's record is there at most once |
//! | `order` | 3: one producer's records of a partition keep their order |
//! | `refused` | 4: what was definitely refused is not there |
//! | `whole` | 4: a batch is there whole or not at all |
//! | `same-state` | 5: snapshot and tail give the same state as the whole journal |
//! | `journal`, `verdicts`, `answers` | 6: one order, the reference's verdicts, each request answered once |
//! | `latest` | 1: an end of a partition that was asked for is not older than the question |
//! | `fenced`, `generations` | 7: a commit is of the present generation; generations grow, and begin in the journal |
//! | `committed`, `commit-order`, `offsets-read` | 7: an acknowledged commit stays until it is overwritten by a later one, and everybody sees it |
//! | `owners`, `handed-out` | 7: in a generation a partition has one owner, and members get the leader's bytes |
//! | `kept`, `evicted` | 7: who lives stays, across restarts too; who is dead goes |
//! | `deleted`, `expiry`, `consumed` | 7: nothing is forgotten too early, nothing is committed that was not read |
//! | `numbers`, `pointer` | 8 |
//! | `objects` | 9: each object that an extent names is there, whole |
//! | `progress`, `memory`, `start` | 10 |

mod groups;
mod log;
mod producers;

use std::collections::BTreeMap;

use kafscale_metadata::TopicId;

use crate::chronicle::groups::Timeline;
use crate::history::History;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which check.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
}

/// One partition's log as it is stored: the record ids of each batch, by first offset.
pub type StoredLog = BTreeMap<i64, Vec<u64>>;

/// What really happened, as journal and objects say.
#[derive(Debug, Default)]
pub struct Truth {
    /// All topics that there ever were.
    pub names: BTreeMap<TopicId, String>,
    /// Those that exist at the end.
    pub living: BTreeMap<TopicId, u32>,
    /// The logs, of deleted topics too.
    pub logs: BTreeMap<(TopicId, u32), StoredLog>,
    /// The story of the groups.
    pub groups: Timeline,
    /// How long an offset is kept that nobody commits anew.
    pub offsets_retention_ms: i64,
}

impl Truth {
    /// The topics that ever had this name.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = TopicId> + 'a {
        self.names.iter().filter(move |(_, known)| known.as_str() == name).map(|(id, _)| *id)
    }

    /// The record at an offset.
    fn record(&self, topic: TopicId, partition: u32, offset: i64) -> Option<u64> {
        let log = self.logs.get(&(topic, partition))?;
        let (first, ids) = log.range(..=offset).next_back()?;
        ids.get(usize::try_from(offset - first).ok()?).copied()
    }
}

/// Judges a run by everything that is known of it.
pub fn judge(history: &History, truth: &Truth, last_read: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for (check, what) in history.oddities.iter().chain(&last_read.oddities) {
        found.push(Violation { check, what: what.clone() });
    }
    log::offsets(truth, &mut found);
    log::reads(history, truth, &mut found);
    log::read_in_the_end(last_read, truth, &mut found);
    log::latest(history, truth, &mut found);
    producers::judge(history, truth, &mut found);
    groups::judge(history, truth, &mut found);
    found
}

fn break_rule(found: &mut Vec<Violation>, check: &'static str, what: String) {
    found.push(Violation { check, what });
}
