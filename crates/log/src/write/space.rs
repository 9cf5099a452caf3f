//! Whether the store has room. Owns what was last learned of its free bytes, and for how long that may be believed;
//! asks nobody itself. Pure.
//!
//! While there is less than a reserve, produce is refused: what is left is for the journal, snapshots and upkeep, so
//! that the broker goes on reading and deleting and comes back by itself. It is asked for when something is about to
//! be sealed, never by a timer: an idle broker does nothing, and the first request after a while is the probe that
//! finds the disk roomy again.

use std::time::Duration;

use tokio::time::Instant;

/// For how long an answer of the store is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// What is known of the store's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Go on.
    Enough,
    /// Write nothing.
    TooLittle,
    /// Ask the store.
    Stale,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Space {
    reserve: u64,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    free: u64,
    until: Instant,
    /// Written since.
    spent: u64,
}

impl Space {
    pub(crate) fn new(reserve: u64) -> Self {
        // At least a byte, so that a store that has said "full" is full where there is no reserve.
        Self { reserve: reserve.max(1), known: None }
    }

    /// The store's answer.
    pub(crate) fn learn(&mut self, now: Instant, free: u64) {
        self.known = Some(Known { free, until: now + BELIEVED_FOR, spent: 0 });
    }

    /// A bundle of this size goes to the store.
    pub(crate) fn spend(&mut self, bytes: u64) {
        if let Some(known) = &mut self.known {
            known.spent = known.spent.saturating_add(bytes);
        }
    }

    pub(crate) fn room(&self, now: Instant) -> Room {
        match &self.known {
            Some(known) if now < known.until => {
                if known.free < self.reserve {
                    Room::TooLittle
                } else if known.free.saturating_sub(known.spent) < self.reserve {
                    // By our own counting the reserve is reached, long before the second is over: look again.
                    Room::Stale
                } else {
                    Room::Enough
                }
            }
            Some(_) | None => Room::Stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use kafscale_ports::clock::{Clock, SystemClock};

    use super::*;

    #[test]
    fn an_answer_is_believed_for_a_second_or_until_the_reserve_is_written() {
        let now = SystemClock.now();
        let mut space = Space::new(100);
        assert_eq!(space.room(now), Room::Stale);
        space.learn(now, 150);
        assert_eq!(space.room(now), Room::Enough);
        space.spend(50);
        assert_eq!(space.room(now), Room::Enough);
        space.spend(1);
        assert_eq!(space.room(now), Room::Stale);
        space.learn(now, 99);
        assert_eq!(space.room(now), Room::TooLittle);
        assert_eq!(space.room(now + BELIEVED_FOR), Room::Stale, "the next request is the probe");
    }
}
