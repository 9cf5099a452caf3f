//! What was asked and answered: counters by method, and the last requests one by one. Bounded.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::faults::{Fault, Method};

/// So many requests are remembered.
const LOG_ENTRIES: usize = 20_000;
/// So many are shown at once.
const PAGE_ENTRIES: usize = 1000;

/// The counters.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Since the server started.
    pub uptime_ms: u64,
    /// Objects, in all buckets.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Requests that have no end yet.
    pub in_flight: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Requests that have ended.
    pub methods: BTreeMap<Method, MethodStats>,
}

/// The counters of one method.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MethodStats {
    /// Requests that have ended, in whatever way.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Faults by name; an outage is one too.
    pub faults: BTreeMap<Fault, u64>,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its number, in the order of ends, from 1.
    pub n: u64,
    /// When it arrived, since the server started.
    pub at_ms: u64,
    /// How long it took.
    pub ms: u64,
    /// What it was.
    pub method: Method,
    /// Its path, and what it asked for there.
    pub path: String,
    /// Its `Range` header.
    pub range: Option<String>,
    /// Whether its body is outside of its signature.
    pub unsigned_payload: bool,
    /// The answer's status; none if there was no answer.
    pub status: Option<u16>,
    /// What was made to go wrong.
    pub fault: Fault,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) methods: BTreeMap<Method, MethodStats>,
    log: VecDeque<Entry>,
    ended: u64,
}

impl Book {
    /// A request has ended.
    pub(crate) fn enter(&mut self, mut entry: Entry) {
        self.ended += 1;
        entry.n = self.ended;
        let method = self.methods.entry(entry.method).or_default();
        method.requests += 1;
        method.bytes_in += entry.bytes_in;
        method.bytes_out += entry.bytes_out;
        if let Some(status) = entry.status {
            *method.statuses.entry(status).or_default() += 1;
        }
        if entry.fault != Fault::None {
            *method.faults.entry(entry.fault).or_default() += 1;
        }
        if self.log.len() == LOG_ENTRIES {
            self.log.pop_front();
        }
        self.log.push_back(entry);
    }

    /// The requests after number `after`, oldest first.
    pub(crate) fn log(&self, after: u64) -> Vec<Entry> {
        self.log.iter().filter(|entry| entry.n > after).take(PAGE_ENTRIES).cloned().collect()
    }

    /// Forgets everything but the numbering.
    pub(crate) fn clear(&mut self) {
        self.methods.clear();
        self.log.clear();
    }
}
