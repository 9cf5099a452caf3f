//! The door of the write path: what is let into the buffer, and what is turned away with a definite, retriable
//! answer. Owns the buffer, what is known of the store's room, and whether the writer is open; does not own the memory
//! budget, which has held back the socket long before. Pure; one mutex around it is all the locking there is.

use bytes::BytesMut;
use kafscale_metadata::TopicPartition;
use tokio::time::Instant;

use super::buffer::{Buffer, BundleLimits, Pending};
use super::flush::Waiting;
use super::space::{Room, Space};
use super::ticket::{Dropped, Hold, Receipt, Ticket, Written};
use super::validate::ValidBatch;

/// Whether batches are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Yes.
    Open,
    /// No more; what is inside is written.
    Closing,
    /// No more, and nothing is inside.
    Shut,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) buffer: Buffer,
    pub(crate) space: Space,
    door: Door,
    /// Bytes of sealed batches that have not been told.
    pub(crate) sealed_bytes: usize,
    max_bytes: usize,
}

impl Admission {
    pub(crate) fn new(max_bytes: usize, free_reserve: u64) -> Self {
        Self {
            buffer: Buffer::default(),
            space: Space::new(free_reserve),
            door: Door::Open,
            sealed_bytes: 0,
            max_bytes,
        }
    }

    /// Lets a request's batches in, all or none.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        connection: u64,
        batches: Vec<(TopicPartition, ValidBatch)>,
        hold: Hold,
    ) -> Vec<Receipt> {
        let refusal = self.refuses(now, batches.iter().map(|(_, batch)| batch.bytes()).sum());
        let mut receipts = Vec::with_capacity(batches.len());
        for (partition, batch) in batches {
            let (ticket, receipt) = Ticket::new(hold.clone());
            receipts.push(receipt);
            match refusal {
                Some(why) => ticket.tell(Written::Dropped(why)),
                None => self.buffer.push(connection, Pending { partition, batch, ticket }),
            }
        }
        receipts
    }

    pub(crate) fn waiting(&self, limits: BundleLimits) -> Waiting {
        match self.door {
            _ if self.buffer.is_empty() => Waiting::Nothing,
            _ if self.buffer.fills(limits) => Waiting::Bundle,
            Door::Open => Waiting::Some,
            Door::Closing | Door::Shut => Waiting::Last,
        }
    }

    /// Lets nothing more in; what waits is to be written.
    pub(crate) fn close(&mut self) {
        if self.door == Door::Open {
            self.door = Door::Closing;
        }
    }

    /// Lets nothing more in, and turns away what waits.
    pub(crate) fn shut(&mut self) -> usize {
        self.door = Door::Shut;
        self.turn_away(Dropped::Stopping)
    }

    /// Turns away what waits.
    pub(crate) fn turn_away(&mut self, why: Dropped) -> usize {
        turn_away(self.buffer.take_all(), why)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.door == Door::Open
    }

    fn refuses(&self, now: Instant, bytes: usize) -> Option<Dropped> {
        match self.door {
            Door::Closing | Door::Shut => return Some(Dropped::Stopping),
            Door::Open => {}
        }
        if self.space.room(now) == Room::TooLittle {
            return Some(Dropped::StoreFull);
        }
        let waiting = self.buffer.bytes() + self.sealed_bytes;
        // One request is always let into an empty writer: refused for its size it would be refused for ever.
        (waiting > 0 && waiting + bytes > self.max_bytes).then_some(Dropped::Overloaded)
    }
}

/// Tells batches that they will not be written; returns how many they were.
pub(crate) fn turn_away(batches: Vec<Pending>, why: Dropped) -> usize {
    let count = batches.len();
    for pending in batches {
        pending.ticket.tell(Written::Dropped(why));
    }
    count
}

/// Copies the batches of a request out of its frame if they are less than half of it.
///
/// A batch is a slice of the frame it came in, and pins all of it while it waits and while it is cached; the cache
/// counts the batch's bytes only. A client that sends frames of 8 MiB with one small valid batch in each would make a
/// cache of a gigabyte hold a hundred. With this rule memory is at most twice what is counted. A usual Produce
/// request is nearly all records: it is never copied.
pub(crate) fn compact(
    frame_bytes: usize,
    batches: Vec<(TopicPartition, ValidBatch)>,
) -> Vec<(TopicPartition, ValidBatch)> {
    let used: usize = batches.iter().map(|(_, batch)| batch.bytes()).sum();
    if used >= frame_bytes / 2 {
        return batches;
    }
    let mut copies = BytesMut::with_capacity(used);
    batches.into_iter().map(|(partition, batch)| (partition, batch.copied_into(&mut copies))).collect()
}
