//! Sessions: who appends, how far each has numbered its entries, and which object numbers it may use.
//!
//! An ended session stays: a repeat of one of its entries must still be recognised, and its numbers that were reserved
//! and never referenced are the names of orphans.

use std::collections::BTreeMap;

use crate::command::{Listener, Nonce, ObjectKind, Reservation};

/// Whether a session is to coordinate groups; the better one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Standing {
    /// It stops, or cannot reach its own listener: only if there is no other.
    Withdrawn,
    /// It has said nothing yet: only if none is ready. A broker that dies in its first minute, again and again, takes
    /// no groups.
    #[default]
    New,
    /// It has lived for a while.
    Ready,
}

/// One life of one broker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub(crate) nonce: Nonce,
    pub(crate) broker_id: i32,
    pub(crate) identity: u128,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) rack: Option<String>,
    pub(crate) standing: Standing,
    /// The ordinal of its end.
    pub(crate) ended: Option<u64>,
    /// The number of its next entry.
    pub(crate) next_n: u64,
    /// In order of `end`; neighbours differ in kind.
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) low: u32,
}

impl Session {
    /// Its nonce.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// The broker's id in Kafka's sense; −1 if its opening was refused.
    #[must_use]
    pub fn broker_id(&self) -> i32 {
        self.broker_id
    }

    /// What proves that a restarted process is the same broker.
    #[must_use]
    pub fn identity(&self) -> u128 {
        self.identity
    }

    /// Where clients reach it; empty once it has ended.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The broker's zone, if it has one.
    #[must_use]
    pub fn rack(&self) -> Option<&str> {
        self.rack.as_deref()
    }

    /// Whether groups go to it; [`Standing::New`] once it has ended.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// The ordinal of the entry that ended it.
    #[must_use]
    pub fn ended(&self) -> Option<u64> {
        self.ended
    }

    /// The `n` that its next entry must have.
    #[must_use]
    pub fn next_n(&self) -> u64 {
        self.next_n
    }

    /// One past the last object number that it may use.
    #[must_use]
    pub fn reserved(&self) -> u32 {
        self.reservations.last().map_or(0, |r| r.end)
    }

    /// The object numbers that were reserved, by kind: each range begins where the one before ends, the first at 0.
    #[must_use]
    pub fn reservations(&self) -> &[Reservation] {
        &self.reservations
    }

    /// No object number below it will be referenced any more.
    #[must_use]
    pub fn low(&self) -> u32 {
        self.low
    }

    /// What a number was reserved for, if it was.
    #[must_use]
    pub fn kind_of(&self, number: u32) -> Option<ObjectKind> {
        let index = self.reservations.partition_point(|r| r.end <= number);
        self.reservations.get(index).map(|r| r.kind)
    }
}

/// All sessions, and the live one of each broker id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    pub(crate) by_nonce: BTreeMap<Nonce, Session>,
    pub(crate) live: BTreeMap<i32, Nonce>,
    /// See [`crate::State::session_changes`].
    pub(crate) changes: u64,
}

impl Sessions {
    pub(crate) fn get(&self, nonce: Nonce) -> Option<&Session> {
        self.by_nonce.get(&nonce)
    }

    pub(crate) fn is_live(&self, nonce: Nonce) -> bool {
        self.get(nonce).is_some_and(Session::is_live)
    }

    /// Ends a session; a second end does nothing.
    pub(crate) fn end(&mut self, nonce: Nonce, ordinal: u64) {
        let Some(session) = self.by_nonce.get_mut(&nonce) else { return };
        if session.ended.is_none() {
            session.ended = Some(ordinal);
            session.listeners = Vec::new();
            session.rack = None;
            session.standing = Standing::New;
            self.live.remove(&session.broker_id);
        }
    }
}
