//! One partition's batches in a producer, numbered and retried as Java's 4.x client does (`RecordAccumulator`,
//! `TransactionManager`, without transactions). Pure: the producer says what was sent, answered and lost.
//!
//! 1. Batches that have a sequence are the first of the queue, in order; each is on the wire or waits for a retry.
//! 2. A batch that is retried goes only as the first: later ones wait until it is known.
//! 3. After OUT_OF_ORDER_SEQUENCE_NUMBER the batch is retried as it is, if an earlier one is not known yet; else the
//!    epoch is bumped and all numbered batches of the partition are numbered anew from 0.
//! 4. A batch that was given up after a retry leaves the sequence unresolved: nothing new is numbered until all that
//!    are in flight are known; then either the sequence fits, or the epoch is bumped.

use std::collections::VecDeque;
use std::ops::Range;

use kafscale_wire::ErrorCode;

use super::batch::Numbering;

/// How long a batch waits before it is sent again.
const RETRY_BACKOFF_MS: u64 = 100;

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ready,
    /// Not before this time.
    Retry(u64),
    /// In the request with this correlation id, of this connection.
    OnWire(i32),
}

/// A batch of a producer.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its index in the history.
    pub index: usize,
    /// Its records.
    pub ids: Range<u64>,
    /// When it is given up.
    pub deadline_ms: u64,
    /// Its numbering, if it has one.
    pub numbering: Option<Numbering>,
    /// How often it was sent.
    pub attempts: u32,
    stage: Stage,
    /// Some attempt's outcome is not known.
    doubtful: bool,
    was_reset: bool,
}

impl Queued {
    fn records(&self) -> i32 {
        i32::try_from(self.ids.end - self.ids.start).expect("a batch has few records")
    }
}

/// What came out of an answer, a loss or the passing of time for one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is in the log, at this offset if the broker said so.
    Acked(usize, Option<i64>),
    /// Definitely not in the log: each attempt was refused, or there was none.
    Refused(usize, i16),
    /// Given up, and nobody knows.
    GivenUp(usize),
    /// An attempt ended without an answer that says what became of it.
    Doubted(usize),
    /// It got another sequence although an earlier attempt's outcome is not known.
    Renumbered(usize),
    /// The epoch must be bumped.
    WantsBump,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Queue {
    numbered: bool,
    batches: VecDeque<Queued>,
    next_sequence: i32,
    last_acked: i32,
    /// Id and epoch of `next_sequence`.
    producer: Option<(i64, i16)>,
    unresolved: bool,
}

impl Queue {
    /// An empty queue; `numbered` if the producer is idempotent.
    pub fn new(numbered: bool) -> Self {
        Self { numbered, batches: VecDeque::new(), next_sequence: 0, last_acked: -1, producer: None, unresolved: false }
    }

    /// Adds a batch.
    pub fn push(&mut self, index: usize, ids: Range<u64>, deadline_ms: u64) {
        let (stage, doubtful, was_reset) = (Stage::Ready, false, false);
        self.batches.push_back(Queued {
            index,
            ids,
            deadline_ms,
            numbering: None,
            attempts: 0,
            stage,
            doubtful,
            was_reset,
        });
    }

    /// Whether all batches are known.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// How many batches are not known.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    fn has_numbered(&self) -> bool {
        self.batches.front().is_some_and(|batch| batch.numbering.is_some())
    }

    /// The batch that may be sent now, numbered and marked as on the wire.
    pub fn take(&mut self, correlation: i32, producer: Option<(i64, i16)>, now_ms: u64) -> Option<Queued> {
        let at = self.batches.iter().position(|batch| !matches!(batch.stage, Stage::OnWire(_)))?;
        if matches!(self.batches[at].stage, Stage::Retry(not_before) if not_before > now_ms) {
            return None;
        }
        if self.numbered {
            let producer = producer?;
            match self.batches[at].numbering {
                Some(_) if at > 0 => return None,
                Some(_) => {}
                None => self.number(at, producer)?,
            }
        }
        let batch = &mut self.batches[at];
        batch.stage = Stage::OnWire(correlation);
        batch.attempts += 1;
        Some(batch.clone())
    }

    fn number(&mut self, at: usize, producer: (i64, i16)) -> Option<()> {
        if self.unresolved {
            return None;
        }
        if self.producer != Some(producer) {
            if self.has_numbered() {
                return None;
            }
            (self.producer, self.next_sequence, self.last_acked) = (Some(producer), 0, -1);
        }
        let batch = &mut self.batches[at];
        batch.numbering = Some(Numbering { id: producer.0, epoch: producer.1, sequence: self.next_sequence });
        self.next_sequence += batch.records();
        Some(())
    }

    /// The answer for the batch that was sent under this correlation id.
    pub fn answered(&mut self, correlation: i32, code: i16, offset: i64, now_ms: u64) -> Vec<Event> {
        let Some(at) = self.batches.iter().position(|batch| batch.stage == Stage::OnWire(correlation)) else {
            return Vec::new();
        };
        let error = ErrorCode::from(code);
        if error == ErrorCode::None {
            return vec![self.acked(at, Some(offset))];
        }
        if error == ErrorCode::DuplicateSequenceNumber {
            return vec![self.acked(at, None)];
        }
        if error == ErrorCode::OutOfOrderSequenceNumber && self.numbered {
            self.retry(at, now_ms);
            let as_it_is = !self.unresolved && (self.batches[at].was_reset || !self.is_next(at));
            return if as_it_is { Vec::new() } else { vec![Event::WantsBump] };
        }
        if !is_retriable(error) {
            return vec![self.refused(at, code)];
        }
        self.retry(at, now_ms);
        let may_be_there = [ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::RequestTimedOut].contains(&error);
        self.batches[at].doubtful |= may_be_there;
        if may_be_there { vec![Event::Doubted(self.batches[at].index)] } else { Vec::new() }
    }

    fn acked(&mut self, at: usize, offset: Option<i64>) -> Event {
        let batch = self.batches.remove(at).expect("found a moment ago");
        if let Some(numbering) = batch.numbering {
            self.last_acked = self.last_acked.max(numbering.sequence + batch.records() - 1);
        }
        Event::Acked(batch.index, offset)
    }

    fn is_next(&self, at: usize) -> bool {
        self.batches[at].numbering.is_some_and(|numbering| numbering.sequence == self.last_acked + 1)
    }

    fn retry(&mut self, at: usize, now_ms: u64) {
        self.batches[at].stage = Stage::Retry(now_ms + RETRY_BACKOFF_MS);
    }

    /// Fails a batch for good; those behind it close the gap in the numbering.
    fn refused(&mut self, at: usize, code: i16) -> Event {
        let batch = self.batches.remove(at).expect("found a moment ago");
        if let Some(gone) = batch.numbering {
            self.next_sequence -= batch.records();
            for later in self.batches.iter_mut().skip(at) {
                let Some(numbering) = &mut later.numbering else { continue };
                if numbering.sequence > gone.sequence {
                    numbering.sequence -= batch.records();
                    later.was_reset = true;
                }
            }
        }
        if batch.doubtful { Event::GivenUp(batch.index) } else { Event::Refused(batch.index, code) }
    }

    /// No answer will come (acks=0): what is on the wire is done with.
    pub fn forget(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.batches.retain(|batch| {
            let sent = matches!(batch.stage, Stage::OnWire(_));
            if sent {
                events.extend([Event::Doubted(batch.index), Event::GivenUp(batch.index)]);
            }
            !sent
        });
        events
    }

    /// The connection is lost: what was on the wire may have arrived.
    pub fn lost(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for batch in &mut self.batches {
            if matches!(batch.stage, Stage::OnWire(_)) {
                batch.stage = Stage::Retry(now_ms + RETRY_BACKOFF_MS);
                batch.doubtful = true;
                events.push(Event::Doubted(batch.index));
            }
        }
        events
    }

    /// Gives up what is past its deadline, and looks whether the sequence is known again.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(at) = self.batches.iter().position(|batch| batch.deadline_ms <= now_ms) {
            let batch = self.batches.remove(at).expect("found a moment ago");
            if batch.numbering.is_some() {
                self.unresolved = true;
            }
            let on_wire = matches!(batch.stage, Stage::OnWire(_));
            events.extend(on_wire.then_some(Event::Doubted(batch.index)));
            events.push(if batch.doubtful || on_wire {
                Event::GivenUp(batch.index)
            } else {
                Event::Refused(batch.index, ErrorCode::RequestTimedOut.code())
            });
        }
        if self.unresolved && !self.has_numbered() {
            if self.next_sequence == self.last_acked + 1 {
                self.unresolved = false;
            } else {
                events.push(Event::WantsBump);
            }
        }
        events
    }

    /// The epoch was bumped because of this partition: all numbered batches begin at 0 again.
    pub fn renumber(&mut self, producer: (i64, i16)) -> Vec<Event> {
        (self.producer, self.next_sequence, self.last_acked, self.unresolved) = (Some(producer), 0, -1, false);
        let mut events = Vec::new();
        for batch in self.batches.iter_mut().filter(|batch| batch.numbering.is_some()) {
            batch.numbering = Some(Numbering { id: producer.0, epoch: producer.1, sequence: self.next_sequence });
            batch.was_reset = true;
            self.next_sequence += batch.records();
            if batch.doubtful || matches!(batch.stage, Stage::OnWire(_)) {
                events.push(Event::Renumbered(batch.index));
            }
        }
        events
    }

    /// When something is to be done next although no answer comes: a retry or a deadline.
    pub fn next_due_ms(&self, now_ms: u64) -> Option<u64> {
        let due = |batch: &Queued| match batch.stage {
            // A retry that is past its pause waits for an answer, not for the time.
            Stage::Retry(not_before) if not_before > now_ms => not_before.min(batch.deadline_ms),
            Stage::Retry(_) | Stage::Ready | Stage::OnWire(_) => batch.deadline_ms,
        };
        self.batches.iter().map(due).min()
    }
}

/// As Kafka's `Errors` table has it, for what a broker of ours may answer to Produce.
fn is_retriable(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::CorruptMessage
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::NetworkException
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::KafkaStorageError
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::UnknownTopicId
    )
}
