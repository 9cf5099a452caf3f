//! Who sleeps until a partition advances. Owns the registrations; does not own what a sleeper looks for, nor the
//! fold that wakes it.
//!
//! No wake-up is lost, because of one order: a sleeper (1) registers, (2) looks at the state, (3) sleeps; the fold
//! (a) changes the state, (b) wakes. If (2) does not see the change, (2) came before (a), so (1) came before (b),
//! and (b) leaves a token that (3) finds.
//!
//! Memory is bounded: one entry of a set for each partition that is waited for, at most
//! [`MAX_WAITING_PARTITIONS`](crate::limits::MAX_WAITING_PARTITIONS).

use std::collections::{BTreeMap, BTreeSet};
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
    /// Which sleeper waits for which partition.
    waits: BTreeSet<(TopicPartition, u64)>,
    sleepers: BTreeMap<u64, Arc<Notify>>,
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
            table.wake(*partition, *partition);
        }
    }

    /// Wakes whoever waits for a partition of this topic: it was deleted.
    pub fn wake_topic(&self, topic: TopicId) {
        let partition = |partition| TopicPartition { topic, partition };
        self.table.lock().wake(partition(0), partition(u32::MAX));
    }

    /// Wakes everybody: the broker stops.
    pub fn wake_all(&self) {
        self.table.lock().sleepers.values().for_each(|sleeper| sleeper.notify_one());
    }

    /// How many partitions are waited for, counted once for each sleeper.
    pub fn len(&self) -> usize {
        self.table.lock().waits.len()
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a sleeper. `None` if too many wait already.
    pub(crate) fn register(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Option<Sleeper> {
        let mut table = self.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        let notify = Arc::new(Notify::new());
        table.sleepers.insert(id, Arc::clone(&notify));
        let mut sleeper = Sleeper { id, notify, partitions: Vec::new(), table: Arc::clone(&self.table) };
        for partition in partitions {
            if table.waits.len() >= MAX_WAITING_PARTITIONS {
                drop(table); // dropping the sleeper takes the lock
                return None;
            }
            if table.waits.insert((partition, id)) {
                sleeper.partitions.push(partition);
            }
        }
        Some(sleeper)
    }
}

impl Table {
    fn wake(&self, first: TopicPartition, last: TopicPartition) {
        for (_, id) in self.waits.range((first, 0)..=(last, u64::MAX)) {
            if let Some(sleeper) = self.sleepers.get(id) {
                sleeper.notify_one();
            }
        }
    }
}

/// A registration; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Sleeper {
    id: u64,
    notify: Arc<Notify>,
    partitions: Vec<TopicPartition>,
    table: Arc<Mutex<Table>>,
}

impl Sleeper {
    /// Returns once a partition was woken since the registration, or since this returned last.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        table.sleepers.remove(&self.id);
        for partition in &self.partitions {
            table.waits.remove(&(*partition, self.id));
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
        let a = waiters.register([partition(1, 0), partition(1, 5), partition(1, 5)]).unwrap();
        let b = waiters.register([partition(2, 0)]).unwrap();
        assert_eq!(waiters.len(), 3);
        waiters.wake(&[partition(1, 5), partition(3, 0)]);
        assert!(a.woken().now_or_never().is_some());
        assert!(a.woken().now_or_never().is_none(), "one wake, one token");
        assert!(b.woken().now_or_never().is_none());
        waiters.wake_topic(TopicId(2));
        assert!(a.woken().now_or_never().is_none());
        assert!(b.woken().now_or_never().is_some());
        waiters.wake_all();
        assert!(a.woken().now_or_never().is_some() && b.woken().now_or_never().is_some());
        drop((a, b));
        assert!(waiters.is_empty() && waiters.table.lock().sleepers.is_empty());
    }
}
