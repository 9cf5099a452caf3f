//! Who sleeps until a partition advances. Owns the registrations; does not own what a sleeper looks for, nor the
//! fold that wakes it.
//!
//! No wake-up is lost, because of one order: a sleeper (1) registers, (2) looks at the state, (3) sleeps; the fold
//! (a) changes the state, (b) wakes. If (2) does not see the change, (2) came before (a), so (1) came before (b),
//! and (b) leaves a token that (3) finds.
//!
//! A sleeper gives each partition a mark, and learns the marks of those that advanced: of thousands it looks at these
//! alone. A registration may outlive a sleep; what advances meanwhile is marked too.
//!
//! Memory is bounded: one entry of a set for each partition that is waited for, at most
//! [`MAX_WAITING_PARTITIONS`](crate::limits::MAX_WAITING_PARTITIONS), and one mark for each of these.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafscale_metadata::{TopicId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::MAX_WAITING_PARTITIONS;

/// All sleepers of one broker. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Waiters {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    /// By topic: small keys make it a third of the work that it is with the topic in each.
    waits: BTreeMap<TopicId, BTreeSet<Wait>>,
    /// How many, of all topics.
    len: usize,
    sleepers: BTreeMap<u64, Arc<Woken>>,
}

/// A sleeper waits for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    partition: u32,
    sleeper: u64,
    mark: u32,
}

/// What has happened to one sleeper.
#[derive(Debug, Default)]
struct Woken {
    /// Locked after the table, never before it.
    marks: Mutex<BTreeSet<u32>>,
    notify: Notify,
}

impl Waiters {
    /// Nobody sleeps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes whoever waits for one of these partitions. The fold's driver calls this after every applied entry, with
    /// the partitions that advanced.
    pub fn wake(&self, partitions: &[TopicPartition]) {
        let table = self.table.lock();
        for partition in partitions {
            table.wake(partition.topic, partition.partition..=partition.partition);
        }
    }

    /// Wakes whoever waits for a partition of this topic: it was deleted.
    pub fn wake_topic(&self, topic: TopicId) {
        self.table.lock().wake(topic, 0..=u32::MAX);
    }

    /// Wakes everybody: the broker stops.
    pub fn wake_all(&self) {
        self.table.lock().sleepers.values().for_each(|sleeper| sleeper.notify.notify_one());
    }

    /// How many partitions are waited for, counted once for each sleeper.
    pub fn len(&self) -> usize {
        self.table.lock().len
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A sleeper that waits for these partitions, each with its mark. `None` if too many wait already.
    pub(crate) fn watch(&self, partitions: impl IntoIterator<Item = (TopicPartition, u32)>) -> Option<Watch> {
        let woken = Arc::new(Woken::default());
        let mut table = self.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.sleepers.insert(id, Arc::clone(&woken));
        drop(table);
        let mut watch = Watch { id, woken, partitions: BTreeSet::new(), table: Arc::clone(&self.table) };
        watch.add(partitions).then_some(watch)
    }
}

impl Table {
    fn wake(&self, topic: TopicId, partitions: RangeInclusive<u32>) {
        let Some(waits) = self.waits.get(&topic) else { return };
        let first = Wait { partition: *partitions.start(), sleeper: 0, mark: 0 };
        let last = Wait { partition: *partitions.end(), sleeper: u64::MAX, mark: u32::MAX };
        for wait in waits.range(first..=last) {
            if let Some(sleeper) = self.sleepers.get(&wait.sleeper) {
                sleeper.marks.lock().insert(wait.mark);
                sleeper.notify.notify_one();
            }
        }
    }

    fn insert(&mut self, topic: TopicId, wait: Wait) {
        self.len += usize::from(self.waits.entry(topic).or_default().insert(wait));
    }

    fn remove(&mut self, topic: TopicId, wait: Wait) {
        let Some(waits) = self.waits.get_mut(&topic) else { return };
        self.len -= usize::from(waits.remove(&wait));
        if waits.is_empty() {
            self.waits.remove(&topic);
        }
    }
}

/// A registration; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    id: u64,
    woken: Arc<Woken>,
    partitions: BTreeSet<(TopicPartition, u32)>,
    table: Arc<Mutex<Table>>,
}

impl Watch {
    /// Waits for more. False if too many wait already: then it may wait for a part of them.
    #[must_use]
    pub(crate) fn add(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, u32)>) -> bool {
        let mut table = self.table.lock();
        for (partition, mark) in partitions {
            if table.len >= MAX_WAITING_PARTITIONS {
                return false;
            }
            table.insert(partition.topic, self.wait(partition, mark));
            self.partitions.insert((partition, mark));
        }
        true
    }

    /// Waits no longer for a partition.
    pub(crate) fn remove(&mut self, partition: TopicPartition, mark: u32) {
        self.partitions.remove(&(partition, mark));
        self.table.lock().remove(partition.topic, self.wait(partition, mark));
    }

    fn wait(&self, partition: TopicPartition, mark: u32) -> Wait {
        Wait { partition: partition.partition, sleeper: self.id, mark }
    }

    /// The marks of what was woken since this was asked last.
    pub(crate) fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.woken.marks.lock())
    }

    /// Returns once a partition was woken since the registration, or since this returned last.
    pub(crate) async fn woken(&self) {
        self.woken.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.sleepers.remove(&self.id);
        for (partition, mark) in &self.partitions {
            table.remove(partition.topic, self.wait(*partition, *mark));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn partition(topic: u128, partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId(topic), partition }
    }

    #[test]
    fn a_wake_before_the_sleep_is_kept_and_only_its_partition_wakes() {
        let waiters = Waiters::new();
        let a = waiters.watch([(partition(1, 0), 10), (partition(1, 5), 15), (partition(1, 5), 15)]).unwrap();
        let b = waiters.watch([(partition(2, 0), 20)]).unwrap();
        assert_eq!(waiters.len(), 3);
        waiters.wake(&[partition(1, 5), partition(3, 0)]);
        assert!(a.woken().now_or_never().is_some());
        assert!(a.woken().now_or_never().is_none(), "one wake, one token");
        assert_eq!((a.take(), a.take()), (BTreeSet::from([15]), BTreeSet::new()));
        assert!(b.woken().now_or_never().is_none() && b.take().is_empty());
        waiters.wake_topic(TopicId(2));
        assert!(a.woken().now_or_never().is_none());
        assert!(b.woken().now_or_never().is_some());
        assert_eq!(b.take(), BTreeSet::from([20]));
        waiters.wake_all();
        assert!(a.woken().now_or_never().is_some() && b.woken().now_or_never().is_some());
        drop((a, b));
        assert!(waiters.is_empty() && waiters.table.lock().sleepers.is_empty());
    }

    #[test]
    fn a_watch_changes_while_it_lasts() {
        let waiters = Waiters::new();
        let mut watch = waiters.watch([(partition(1, 0), 0)]).unwrap();
        assert!(watch.add([(partition(1, 1), 1)]));
        watch.remove(partition(1, 0), 0);
        watch.remove(partition(9, 9), 9);
        waiters.wake(&[partition(1, 0), partition(1, 1)]);
        assert_eq!(watch.take(), BTreeSet::from([1]));
        assert_eq!(waiters.len(), 1);
    }
}
