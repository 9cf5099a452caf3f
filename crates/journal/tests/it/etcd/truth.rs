//! What really happened in the store, by its own events, and the rules that every history of a journal keeps. Owns the
//! judgement of random schedules.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafscale_journal::etcd::kv::Event;
use kafscale_journal::etcd::model::World;
use kafscale_journal::{Position, Record};

use super::lab::everything;

/// A session as its key told it.
#[derive(Debug, Clone)]
struct Session {
    next: u64,
    /// The revision at which it lost its right.
    ended: Option<u64>,
}

/// All changes of a store, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Truth {
    seen: u64,
    sessions: BTreeMap<u64, Session>,
    /// Who has each broker id.
    holders: BTreeMap<Bytes, u64>,
    pub(crate) records: Vec<Record>,
    /// Entries that came again under an old number.
    pub(crate) repeats: u64,
    pub(crate) pointers: Vec<Bytes>,
    /// The store went back in time: sessions that lived through it keep no rules any more.
    pub(crate) rewound: bool,
}

impl Truth {
    /// Takes what has happened since the last time. Must be called before anything is compacted.
    pub(crate) fn take(&mut self, world: &World) {
        let groups = world.with(|store| store.events(&everything(), self.seen + 1, usize::MAX)).unwrap();
        for (revision, events) in groups {
            self.seen = revision;
            self.revision(revision, &events);
        }
    }

    fn revision(&mut self, revision: u64, events: &[Event]) {
        let (mut entry, mut head) = (None, None);
        for event in events {
            let key = std::str::from_utf8(&event.kv.key).unwrap();
            let kv = &event.kv;
            match key.strip_prefix("lab/").unwrap().split('/').collect::<Vec<_>>()[..] {
                ["session", _] => self.session(revision, event),
                ["pointer"] => self.pointers.push(kv.value.clone()),
                // Truncation.
                ["journal", "e", ..] if event.deleted => {}
                ["journal", "e", nonce, n] => {
                    let name = (u64::from_str_radix(nonce, 16).unwrap(), n.parse::<u64>().unwrap());
                    assert_eq!(kv.version, 1, "an entry never replaces one: {event:?}");
                    assert!(entry.replace((name, kv.value.clone())).is_none(), "one entry a revision");
                }
                ["journal", "head"] => assert!(!event.deleted && head.replace(kv.version).is_none()),
                _ => panic!("{key}"),
            }
        }
        match (entry, head) {
            (Some((name, bytes)), Some(version)) => self.entry(revision, name, bytes, version),
            (None, None) => {}
            other => panic!("half a pair in revision {revision}: {other:?}"),
        }
    }

    fn session(&mut self, revision: u64, event: &Event) {
        if let Some(older) = self.holders.remove(&event.kv.key) {
            self.sessions.get_mut(&older).unwrap().ended = Some(revision);
        }
        if event.deleted {
            return;
        }
        let nonce = u64::from_be_bytes(event.kv.value[1..9].try_into().unwrap());
        // A late duplicate of an opening can land once more, when its entry was truncated and its lease is still there: a
        // ghost that appends nothing, for its fence is another one.
        self.sessions.entry(nonce).or_insert(Session { next: 0, ended: None });
        self.holders.insert(event.kv.key.clone(), nonce);
    }

    fn entry(&mut self, revision: u64, (nonce, n): (u64, u64), bytes: Bytes, version: u64) {
        let position = Position { ordinal: self.records.len() as u64 + 1, revision };
        assert_eq!(position.ordinal, version, "ordinals have no gaps");
        let ends = std::str::from_utf8(&bytes).unwrap().split_once(" ends ").map(|(_, victim)| victim.parse().unwrap());
        self.records.push(Record { position, nonce, n, entry: bytes });
        if self.rewound {
            return;
        }
        if let Some(victim) = ends {
            let victim: u64 = victim;
            let victim = self.sessions.get_mut(&victim).expect("who is ended was there");
            victim.ended.get_or_insert(revision);
        }
        let session = self.sessions.get_mut(&nonce).expect("an opening comes first");
        let is_over = session.ended.is_some_and(|ended| ended < revision);
        assert!(!is_over || (n == 0 && session.next > 0), "{nonce} {n} after the session's end");
        assert!(n <= session.next, "{nonce} {n}: the next was {}", session.next);
        if n < session.next {
            self.repeats += 1;
        }
        session.next = session.next.max(n + 1);
    }

    pub(crate) fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// The places of an entry: none, one, or more if it came again after a truncation.
    pub(crate) fn places(&self, nonce: u64, n: u64, bytes: &Bytes) -> Vec<Position> {
        let is_it = |record: &&Record| (record.nonce, record.n, &record.entry) == (nonce, n, bytes);
        self.records.iter().filter(is_it).map(|record| record.position).collect()
    }

    pub(crate) fn has(&self, record: &Record) -> bool {
        let index = usize::try_from(record.position.ordinal).unwrap() - 1;
        self.records.get(index) == Some(record)
    }

    /// What a reader got is what happened, at its place.
    pub(crate) fn check_read(&self, record: &Record) {
        let index = usize::try_from(record.position.ordinal).unwrap() - 1;
        assert_eq!(self.records.get(index), Some(record), "a reader got something else");
    }
}
