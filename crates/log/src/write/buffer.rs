//! Batches that wait to be sealed: one queue for each connection, in arrival order. Owns the order inside a
//! connection (which is each producer's order) and the sharing of a bundle's room among connections; does not own
//! when to seal (`flush`), nor what becomes of what was taken (`pipeline`). Pure.
//!
//! Room is shared by deficit round robin, by bytes: one client that fills the buffer with megabytes delays another's
//! first batch by at most a quantum for each busy connection, never by all that it has queued.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kafscale_metadata::TopicPartition;

use super::ticket::Ticket;
use super::validate::ValidBatch;

/// What a connection may put into a bundle in one round. Of the order of a producer's default batch (16 KiB), so
/// that most turns take whole batches; larger batches save up for a few rounds.
const QUANTUM_BYTES: usize = 64 << 10;

/// One batch on its way, with the duty to tell its waiter.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) partition: TopicPartition,
    pub(crate) batch: ValidBatch,
    pub(crate) ticket: Ticket,
}

/// Who numbers batches: an idempotent producer on a partition. Epochs are not told apart: a producer that raised its
/// epoch goes on in the order in which it sent.
pub(crate) type Numbering = (TopicPartition, i64);

/// How much may go into one bundle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BundleLimits {
    pub(crate) bytes: usize,
    pub(crate) batches: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    queues: BTreeMap<u64, Queue>,
    /// The connections with something queued; the front one has the turn.
    turns: VecDeque<u64>,
    bytes: usize,
    batches: usize,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arrived>,
    /// Bytes that the connection may still take in its turn.
    deficit: usize,
}

#[derive(Debug)]
struct Arrived {
    number: u64,
    pending: Pending,
}

impl Pending {
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    pub(crate) fn numbering(&self) -> Option<Numbering> {
        self.batch.meta().producer.map(|producer| (self.partition, producer.id))
    }
}

impl Buffer {
    pub(crate) fn push(&mut self, connection: u64, pending: Pending) {
        self.bytes += pending.bytes();
        self.batches += 1;
        self.arrivals += 1;
        let queue = self.queues.entry(connection).or_default();
        if queue.waiting.is_empty() {
            self.turns.push_back(connection);
        }
        queue.waiting.push_back(Arrived { number: self.arrivals, pending });
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// Whether waiting longer would not make a larger bundle.
    pub(crate) fn fills(&self, limits: BundleLimits) -> bool {
        self.bytes >= limits.bytes || self.batches >= limits.batches
    }

    /// Takes one bundle's batches: grouped by partition, inside a partition in arrival order. A batch that is larger
    /// than a bundle is taken alone.
    pub(crate) fn seal(&mut self, limits: BundleLimits) -> Vec<Pending> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(&connection) = self.turns.front() {
            let queue = self.queues.get_mut(&connection).expect("a connection in turn has a queue");
            let next = queue.waiting.front().expect("a connection in turn has something queued").pending.bytes();
            let fits = taken.len() < limits.batches && bytes + next <= limits.bytes;
            if !fits && !taken.is_empty() {
                // It keeps its turn and goes first into the next bundle. Looking for smaller batches of others
                // instead would let them push a large one back for ever.
                break;
            }
            if queue.deficit < next {
                queue.deficit += QUANTUM_BYTES;
                self.turns.rotate_left(1);
                continue;
            }
            queue.deficit -= next;
            bytes += next;
            taken.extend(queue.waiting.pop_front());
            if queue.waiting.is_empty() {
                self.queues.remove(&connection);
                self.turns.pop_front();
            }
        }
        self.bytes -= bytes;
        self.batches -= taken.len();
        taken.sort_by_key(|arrived: &Arrived| (arrived.pending.partition, arrived.number));
        taken.into_iter().map(|arrived| arrived.pending).collect()
    }

    /// Takes out the batches of some numberings: one before them was given up.
    pub(crate) fn take(&mut self, numberings: &BTreeSet<Numbering>) -> Vec<Pending> {
        self.extract(|pending| pending.numbering().is_some_and(|numbering| numberings.contains(&numbering)))
    }

    /// Takes out everything, in no order that means something.
    pub(crate) fn take_all(&mut self) -> Vec<Pending> {
        self.extract(|_| true)
    }

    fn extract(&mut self, which: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for queue in self.queues.values_mut() {
            let (out, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut queue.waiting).into_iter().partition(|arrived| which(&arrived.pending));
            queue.waiting = kept;
            taken.extend(out.into_iter().map(|arrived| arrived.pending));
        }
        self.queues.retain(|_, queue| !queue.waiting.is_empty());
        self.turns.retain(|connection| self.queues.contains_key(connection));
        self.bytes -= taken.iter().map(Pending::bytes).sum::<usize>();
        self.batches -= taken.len();
        taken
    }
}
