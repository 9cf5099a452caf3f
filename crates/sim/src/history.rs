//! What the clients of a world asked and were told, with virtual times: the evidence that the checks judge. Owns no
//! judgement, but for what a client sees at once (an answer to nothing it asked).

pub mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::Error;

use self::groups::GroupHistory;
use crate::trace::Trace;

/// What became of a batch, as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known (yet): it may be in the log or not.
    Unknown,
    /// It has this base offset.
    Acked(i64),
    /// The broker said that it had it already, and not where.
    AckedSomewhere,
    /// It was never sent, or each time definitely refused; with the last error code.
    Refused(i16),
}

/// A batch's way to the broker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    /// How many there were.
    pub made: u32,
    /// How many of these may have succeeded without an answer that says so.
    pub doubted: u32,
    /// The producer gave the batch another sequence after an attempt whose outcome it does not know.
    pub renumbered: bool,
}

/// One batch of one producer.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Which producer.
    pub producer: usize,
    /// Its records.
    pub ids: Range<u64>,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// It carries a producer id and sequences.
    pub idempotent: bool,
    /// It was made after the faults: it must succeed.
    pub quiet: bool,
    /// It was sent with acks=0: nothing will ever be known.
    pub silent: bool,
    /// How often it was sent, and how.
    pub attempts: Attempts,
    /// When it was made.
    pub made_ms: u64,
    /// When its fate was known.
    pub known_ms: Option<u64>,
    /// See [`Fate`].
    pub fate: Fate,
}

/// Where a record was seen: topic name, topic id (0 where the version has none), partition, offset.
pub type Place = (String, u128, u32, i64);

/// A creation or deletion of a topic.
#[derive(Debug, Clone)]
pub struct TopicChange {
    /// The name.
    pub topic: String,
    /// True if deleted.
    pub deletes: bool,
    /// When it was asked.
    pub asked_ms: u64,
    /// What was answered; `None` if the answer was lost.
    pub code: Option<i16>,
}

/// An answer to "what is the latest offset?".
#[derive(Debug, Clone)]
pub struct Latest {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// When it was asked.
    pub asked_ms: u64,
    /// The answer.
    pub offset: i64,
}

/// How many answers there were, by API key and error code.
pub type Tally = BTreeMap<(i16, i16), u64>;

/// See the module's documentation.
pub struct History {
    trace: Trace,
    /// All batches, in the order in which they were made.
    pub sent: Vec<Sent>,
    /// What consumers saw where.
    pub seen: BTreeMap<Place, BTreeSet<u64>>,
    /// Topics' creations and deletions.
    pub changes: Vec<TopicChange>,
    /// Answers about the ends of partitions.
    pub latest: Vec<Latest>,
    /// High watermarks that went back, answers that nobody asked for, batches that cannot be read.
    pub oddities: Vec<(&'static str, String)>,
    /// Requests that were sent, answered, and lost with their connection.
    pub requests: [u64; 3],
    /// What was asked of the coordinator of groups.
    pub groups: GroupHistory,
    /// Answers by key and code.
    pub answers: Tally,
    next_id: u64,
}

impl History {
    /// Nothing happened.
    pub fn new(trace: Trace) -> Self {
        Self {
            groups: GroupHistory::new(trace.clone()),
            trace,
            sent: Vec::new(),
            seen: BTreeMap::new(),
            changes: Vec::new(),
            latest: Vec::new(),
            oddities: Vec::new(),
            requests: [0; 3],
            answers: Tally::new(),
            next_id: 0,
        }
    }

    /// A new batch of `records` records; its index and its records' ids.
    pub fn make(&mut self, mut batch: Sent, records: u64) -> (usize, Range<u64>) {
        batch.ids = self.next_id..self.next_id + records;
        self.next_id += records;
        let index = self.sent.len();
        self.trace.line(format_args!(
            "p{} makes {index} = {:?} for {}-{}",
            batch.producer, batch.ids, batch.topic, batch.partition
        ));
        let ids = batch.ids.clone();
        self.sent.push(batch);
        (index, ids)
    }

    /// A batch's fate is known.
    pub fn decide(&mut self, index: usize, fate: Fate, now_ms: u64) {
        self.trace.line(format_args!("batch {index}: {fate:?}"));
        let batch = &mut self.sent[index];
        batch.fate = fate;
        batch.known_ms = Some(now_ms);
    }

    /// A consumer saw a record.
    pub fn see(&mut self, place: Place, id: u64) {
        self.seen.entry(place).or_default().insert(id);
    }

    /// Something that must not be, whatever else happens; `check` names the broken rule.
    pub fn odd(&mut self, check: &'static str, what: &Error) {
        self.trace.line(format_args!("odd ({check}): {what:#}"));
        self.oddities.push((check, format!("{what:#}")));
    }

    /// Counts an answer.
    pub fn answered(&mut self, key: i16, code: i16) {
        *self.answers.entry((key, code)).or_default() += 1;
    }

    /// Writes a line into the trace.
    pub fn note(&self, text: std::fmt::Arguments<'_>) {
        self.trace.line(text);
    }
}
