//! Which offsets may be forgotten, by Kafka's rules (KIP-211): a look at the state, for whoever proposes it. The fold
//! decides by what was seen, so a look that is late does no harm.
//!
//! - A group without members: what was neither committed nor left behind by the last member since `before_ms`. A group
//!   that nobody ever joined has no such moment, and its commits count alone. One without offsets goes as a whole.
//! - A group of consumers with its assignments: the offsets of topics that no member subscribes to, if they were not
//!   committed since. If one member's subscription cannot be read, nothing.
//! - Any other group: nothing.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::{CommittedOffset, Group, GroupStage};
use crate::command::TopicPartition;
use crate::limits::{EXPIRED_BYTES, EXPIRED_LOOKS};
use crate::state::State;
use crate::subscription::subscribed_topics;

/// What one [`crate::Command::ExpireOffsets`] should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The group.
    pub group: Arc<str>,
    /// Its generation.
    pub generation: i32,
    /// The offsets, with the times of their commits. None: the group holds nothing, and can go.
    pub offsets: Vec<(TopicPartition, i64)>,
}

/// What a look found, and where to look next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpiredOffsets {
    /// What to propose.
    pub found: Vec<Expired>,
    /// The group to go on from, once that is decided; none at the end.
    pub next: Option<Arc<str>>,
}

impl State {
    /// Offsets that may be forgotten, of groups from `from` on: what fits one entry, and what a short look finds.
    #[must_use]
    pub fn expired_offsets(&self, before_ms: i64, from: &str) -> ExpiredOffsets {
        let mut out = ExpiredOffsets::default();
        let (mut bytes, mut looks) = (0_usize, 0_usize);
        for (id, group) in self.groups.by_id.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
            if looks >= EXPIRED_LOOKS || bytes >= EXPIRED_BYTES {
                out.next = Some(id.clone());
                break;
            }
            looks += 1 + group.members().len() + group.offset_count();
            let Some(expiry) = Expiry::of(self, group, before_ms) else { continue };
            let (offsets, cost, more) = expiry.offsets(group, EXPIRED_BYTES.saturating_sub(bytes + 64 + id.len()));
            if !offsets.is_empty() || (group.offset_count() == 0 && expiry.takes_group(group)) {
                bytes += 64 + id.len() + cost;
                out.found.push(Expired { group: id.clone(), generation: group.generation, offsets });
            }
            if more {
                out.next = Some(id.clone());
                break;
            }
        }
        out
    }
}

/// What may go of one group.
struct Expiry<'a> {
    state: &'a State,
    before_ms: i64,
    /// Of a group without members: when its last one left.
    left_ms: Option<i64>,
    /// Of a group with members: what they subscribe to.
    subscribed: BTreeSet<&'a str>,
}

impl<'a> Expiry<'a> {
    fn of(state: &'a State, group: &'a Group, before_ms: i64) -> Option<Expiry<'a>> {
        let mut expiry = Expiry { state, before_ms, left_ms: None, subscribed: BTreeSet::new() };
        match group.stage {
            GroupStage::Empty => {
                let left_ms = if group.protocol_type().is_empty() { i64::MIN } else { group.changed_ms };
                expiry.left_ms = Some(left_ms);
                (left_ms < before_ms).then_some(expiry)
            }
            GroupStage::Assigned if group.protocol_type() == "consumer" => {
                for member in group.members() {
                    expiry.subscribed.extend(subscribed_topics(&member.subscription)?);
                }
                Some(expiry)
            }
            GroupStage::Joined | GroupStage::Assigned => None,
        }
    }

    /// The group's offsets that may go, as many as `room` bytes hold; about how many bytes they take, and whether there
    /// are more.
    fn offsets(&self, group: &Group, room: usize) -> (Vec<(TopicPartition, i64)>, usize, bool) {
        let (mut offsets, mut bytes) = (Vec::<(TopicPartition, i64)>::new(), 0);
        for (partition, offset) in group.offsets().filter(|(partition, offset)| self.takes(*partition, offset)) {
            if bytes >= room {
                return (offsets, bytes, true);
            }
            bytes += if offsets.last().is_some_and(|(last, _)| last.topic == partition.topic) { 16 } else { 36 };
            offsets.push((partition, offset.committed_ms));
        }
        (offsets, bytes, false)
    }

    fn takes(&self, partition: TopicPartition, offset: &CommittedOffset) -> bool {
        let subscribed =
            || self.state.topic(partition.topic).is_some_and(|topic| self.subscribed.contains(topic.name()));
        offset.committed_ms < self.before_ms && !subscribed()
    }

    /// A group that holds nothing goes once it did not change for as long.
    fn takes_group(&self, group: &Group) -> bool {
        self.left_ms.is_some() && group.changed_ms < self.before_ms
    }
}
