//! Sealed bundles on their way into the order. Owns the stage of each, the order of commits, retries and giving up;
//! does no I/O (`driver`). Pure: events go in, [`Effect`]s come out.
//!
//! 1. Uploads run in parallel, at most a window of them. Object numbers are asked for one at a time, in seal order.
//! 2. Commits leave in seal order. A bundle is handed to the ledger as soon as all before it were, without waiting
//!    for their verdicts: the ledger keeps the order of calls and groups them into one entry. A bundle that waits
//!    for a retry holds those behind it. (Letting those pass that share no producer with it was rejected: a
//!    partition's order would depend on which upload failed, for little.)
//! 3. A bundle that failed has another try as another object, since what is half stored under the old name stays
//!    there. A name is settled when no PUT of it can land any more, and not before: a PUT of unknown outcome keeps
//!    its number for the session's life.
//! 4. A bundle that is given up takes with it the later, uncommitted batches of the same producers and partitions.
//!    Else, where the fold has no state of a producer, batch 2 would be its start, and batch 1, sent again, a
//!    refused old one: lost. Neighbours of those batches go on; their runs are split (`bundle`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_metadata::{CommitBundle, ObjectId, Verdict};
use tokio::time::Instant;

use super::buffer::{Numbering, Pending};
use super::bundle::Bundle;
use super::metrics::Metrics;
use super::ticket::Dropped;
use crate::ledger::CommitError;
use crate::limits::{MAX_BUNDLES_IN_FLIGHT, MAX_UPLOAD_ATTEMPTS, UPLOAD_GIVE_UP_MS};

/// The first wait before another try; it doubles each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// No try begins when a bundle is older than this, and one that runs is abandoned.
const GIVE_UP_AFTER: Duration = Duration::from_millis(UPLOAD_GIVE_UP_MS);

/// Names a bundle in here: its place in the seal order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BundleId(u64);

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Get an object number, then say [`Pipeline::numbered`].
    Number(BundleId),
    /// Store an object, then say [`Pipeline::uploaded`]; abandon it at the deadline.
    Upload { bundle: BundleId, object: ObjectId, slices: Vec<Bytes>, deadline: Instant },
    /// Commit, in the order of these effects, then say [`Pipeline::committed`].
    Commit { bundle: BundleId, command: CommitBundle },
    /// The object's name will not be used any more.
    Settle(ObjectId),
    /// Batches of these numberings that are not sealed yet cannot be committed.
    TakeAlong(BTreeSet<Numbering>),
}

/// How an upload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadError {
    /// The store is full; nothing was stored.
    Full,
    /// Nothing was stored, nor will be.
    Refused,
    /// It may be stored, now or later.
    Unknown,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pipeline {
    cluster: u128,
    /// How many uploads may run at a time.
    window: usize,
    /// In seal order.
    flights: VecDeque<Flight>,
    sealed: u64,
    effects: VecDeque<Effect>,
    metrics: Arc<Metrics>,
}

/// One bundle. A batch is in exactly one flight, and a flight leaves when its batches have been told; an empty one
/// (all taken along) stays only until the running call of its stage has an answer.
#[derive(Debug)]
struct Flight {
    id: BundleId,
    bundle: Bundle,
    stage: Stage,
    attempts: u32,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be uploaded, for the first time or again.
    Sealed { not_before: Instant },
    /// Waiting for an object number.
    Numbering,
    /// A PUT is on its way.
    Uploading { object: ObjectId },
    /// Durable, waiting for its turn to be committed.
    Uploaded { object: ObjectId },
    /// Handed to the ledger: no batch can be taken back.
    Committing { object: ObjectId },
}

impl Pipeline {
    pub(crate) fn new(cluster: u128, window: usize, metrics: Arc<Metrics>) -> Self {
        assert!(window > 0, "an upload window of nothing");
        Self { cluster, window, flights: VecDeque::new(), sealed: 0, effects: VecDeque::new(), metrics }
    }

    /// Whether a bundle that is sealed now can be uploaded at once. If not it had better not be sealed: it would
    /// wait as well, and grow no more.
    pub(crate) fn has_room(&self) -> bool {
        self.flights.len() < MAX_BUNDLES_IN_FLIGHT && self.to_upload() < self.window
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Bytes of all batches in here.
    pub(crate) fn bytes(&self) -> usize {
        self.flights.iter().map(|flight| flight.bundle.bytes()).sum()
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Pipeline::advance`] though nothing happened.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let waits = self.flights.iter().filter_map(|flight| match flight.stage {
            Stage::Sealed { not_before } if not_before > now => Some(not_before),
            Stage::Sealed { .. }
            | Stage::Numbering
            | Stage::Uploading { .. }
            | Stage::Uploaded { .. }
            | Stage::Committing { .. } => None,
        });
        waits.min()
    }

    pub(crate) fn seal(&mut self, now: Instant, batches: Vec<Pending>) {
        self.flights.push_back(Flight {
            id: BundleId(self.sealed),
            bundle: Bundle::new(batches),
            stage: Stage::Sealed { not_before: now },
            attempts: 0,
            deadline: now + GIVE_UP_AFTER,
        });
        self.sealed += 1;
        self.advance(now);
    }

    /// Starts what can start.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.number_next(now);
        self.commit_next();
    }

    /// An object number for a bundle.
    pub(crate) fn numbered(&mut self, now: Instant, bundle: BundleId, object: ObjectId) {
        match self.find(bundle) {
            Some(at) if self.flights[at].bundle.is_empty() => {
                self.effects.push_back(Effect::Settle(object));
                self.flights.remove(at);
            }
            Some(at) => {
                let flight = &mut self.flights[at];
                flight.stage = Stage::Uploading { object };
                flight.attempts += 1;
                let slices = flight.bundle.assemble(self.cluster, object);
                self.effects.push_back(Effect::Upload { bundle, object, slices, deadline: flight.deadline });
            }
            None => self.effects.push_back(Effect::Settle(object)),
        }
        self.advance(now);
    }

    /// How an upload ended.
    pub(crate) fn uploaded(&mut self, now: Instant, bundle: BundleId, result: Result<(), UploadError>) {
        let Some(at) = self.find(bundle) else { return };
        let Stage::Uploading { object } = self.flights[at].stage else {
            unreachable!("an upload that was not started has ended")
        };
        match result {
            Ok(()) => {
                self.metrics.uploads.add(1);
                self.flights[at].stage = Stage::Uploaded { object };
            }
            Err(UploadError::Unknown) => self.retry(now, at, Dropped::StoreFailed),
            Err(UploadError::Refused) => {
                self.effects.push_back(Effect::Settle(object));
                self.retry(now, at, Dropped::StoreFailed);
            }
            Err(UploadError::Full) => {
                self.effects.push_back(Effect::Settle(object));
                // A store that is full is full at the next try too; the client's retry finds out when it is not.
                self.give_up(at, Dropped::StoreFull);
            }
        }
        self.advance(now);
    }

    /// The ledger's answer to a commit.
    pub(crate) fn committed(&mut self, now: Instant, bundle: BundleId, result: Result<Vec<Vec<Verdict>>, CommitError>) {
        let at = self.find(bundle).expect("a bundle in commit stays until its verdict");
        let Stage::Committing { object } = self.flights[at].stage else {
            unreachable!("a commit that was not started has ended")
        };
        match result {
            Ok(verdicts) => {
                self.effects.push_back(Effect::Settle(object));
                let flight = self.flights.remove(at).expect("it was found");
                flight.bundle.answer(verdicts);
            }
            Err(CommitError::Refused) => {
                self.effects.push_back(Effect::Settle(object));
                self.give_up(at, Dropped::JournalFull);
            }
            Err(CommitError::Unknown) => {
                // It may be referenced, so it is never settled. What is behind it is not held back: if it landed
                // they are in order, and if not the fold never passes this session's entries after it.
                let flight = self.flights.remove(at).expect("it was found");
                flight.bundle.unknown();
            }
        }
        self.advance(now);
    }

    /// The session has ended: nothing more will be committed. What was handed to the ledger is told its verdict;
    /// everything else never reached the journal.
    pub(crate) fn stop(&mut self) {
        let (committing, stopped) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| matches!(flight.stage, Stage::Committing { .. }));
        self.flights = committing;
        let stopped: VecDeque<Flight> = stopped;
        for flight in stopped {
            self.metrics.dropped.add(flight.bundle.len());
            flight.bundle.dropped(Dropped::Stopping);
        }
    }

    fn number_next(&mut self, now: Instant) {
        if self.flights.iter().any(|flight| flight.stage == Stage::Numbering) || self.uploads() >= self.window {
            return;
        }
        let ready = |stage| matches!(stage, Stage::Sealed { not_before } if not_before <= now);
        if let Some(flight) = self.flights.iter_mut().find(|flight| ready(flight.stage)) {
            flight.stage = Stage::Numbering;
            self.effects.push_back(Effect::Number(flight.id));
        }
    }

    fn commit_next(&mut self) {
        let mut at = 0;
        while let Some(flight) = self.flights.get_mut(at) {
            match flight.stage {
                Stage::Committing { .. } => at += 1,
                Stage::Uploaded { object } if flight.bundle.is_empty() => {
                    self.effects.push_back(Effect::Settle(object));
                    self.flights.remove(at);
                }
                Stage::Uploaded { object } => {
                    flight.stage = Stage::Committing { object };
                    let command = flight.bundle.commit(object);
                    self.effects.push_back(Effect::Commit { bundle: flight.id, command });
                    at += 1;
                }
                Stage::Sealed { .. } | Stage::Numbering | Stage::Uploading { .. } => break,
            }
        }
    }

    fn retry(&mut self, now: Instant, at: usize, why: Dropped) {
        let flight = &mut self.flights[at];
        let not_before = now + FIRST_BACKOFF * (1 << (flight.attempts - 1));
        if flight.bundle.is_empty() {
            self.flights.remove(at);
            return;
        }
        if flight.attempts >= MAX_UPLOAD_ATTEMPTS || not_before >= flight.deadline {
            return self.give_up(at, why);
        }
        self.metrics.retries.add(1);
        flight.stage = Stage::Sealed { not_before };
    }

    fn give_up(&mut self, at: usize, why: Dropped) {
        let flight = self.flights.remove(at).expect("the bundle to give up is there");
        let numberings = flight.bundle.numberings();
        self.metrics.given_up.add(1);
        self.metrics.dropped.add(flight.bundle.len());
        flight.bundle.dropped(why);
        for later in self.flights.range_mut(at..) {
            if matches!(later.stage, Stage::Committing { .. }) {
                continue; // cannot be taken back; the fold will judge it
            }
            let taken = later.bundle.take(&numberings);
            self.metrics.dropped.add(taken.len());
            taken.dropped(Dropped::Predecessor);
        }
        let is_over = |flight: &Flight| matches!(flight.stage, Stage::Sealed { .. }) && flight.bundle.is_empty();
        self.flights.retain(|flight| !is_over(flight));
        self.effects.push_back(Effect::TakeAlong(numberings));
    }

    /// PUTs that run or are about to.
    fn uploads(&self) -> usize {
        let runs = |stage| matches!(stage, Stage::Numbering | Stage::Uploading { .. });
        self.flights.iter().filter(|flight| runs(flight.stage)).count()
    }

    /// Those, and the ones that will be.
    fn to_upload(&self) -> usize {
        let will = |stage| matches!(stage, Stage::Sealed { .. } | Stage::Numbering | Stage::Uploading { .. });
        self.flights.iter().filter(|flight| will(flight.stage)).count()
    }

    fn find(&self, bundle: BundleId) -> Option<usize> {
        self.flights.binary_search_by_key(&bundle, |flight| flight.id).ok()
    }
}
