//! All sessions: which epoch each expects, and which goes when there is no room. Pure: time and randomness are
//! arguments.
//!
//! Room is a number of sessions and a number of bytes. Kafka's rules of eviction (KIP-227) without its privileged
//! sessions, which are those of followers, of which there are none here: a newcomer takes the place of the session that
//! was unused the longest, if for two minutes; else of the smallest that is older than two minutes and not larger than
//! the newcomer. So an old session is safe from small newcomers and a young one from all: who opens sessions in a loop
//! gets none any more, and reads on without. The bound in bytes is ours: Kafka counts sessions only, and one of its
//! sessions may have any number of partitions. For bytes only unused sessions make room: else one huge newcomer would
//! push out all old ones.

use std::collections::BTreeMap;
use std::time::Duration;

use kafscale_wire::ErrorCode;
use tokio::time::Instant;

use super::session::Session;
use super::{Asked, FINAL_EPOCH, FIRST_EPOCH, NO_SESSION};
use crate::limits::{MAX_FETCH_SESSION_BYTES, MAX_FETCH_SESSIONS};

/// Kafka's `min.incremental.fetch.session.eviction.ms`.
const SAFE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Table {
    sessions: BTreeMap<i32, Entry>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    /// What the next request has to say.
    epoch: i32,
    by_id: bool,
    opened: Instant,
    used: Instant,
    partitions: usize,
    bytes: u64,
    /// None while a request has it.
    session: Option<Session>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives a session to the request that is next by its epoch.
    pub(super) fn borrow(&mut self, asked: Asked, now: Instant) -> Result<Session, ErrorCode> {
        let entry = self.sessions.get_mut(&asked.session).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if entry.epoch != asked.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if entry.by_id != asked.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let session = entry.session.take().ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
        entry.used = now;
        entry.epoch = next(entry.epoch);
        Ok(session)
    }

    /// Takes a session back, unless it was evicted or closed meanwhile or has grown too large: its id if it goes on.
    pub(super) fn give_back(&mut self, id: i32, session: Session) -> i32 {
        let Some(entry) = self.sessions.get_mut(&id).filter(|entry| entry.session.is_none()) else { return NO_SESSION };
        self.bytes = self.bytes - entry.bytes + session.bytes();
        (entry.partitions, entry.bytes, entry.session) = (session.len(), session.bytes(), Some(session));
        if self.bytes > MAX_FETCH_SESSION_BYTES {
            self.remove(id);
            return NO_SESSION;
        }
        id
    }

    /// Keeps a session if there is room, or another has to make room: its id.
    pub(super) fn open(&mut self, session: Session, now: Instant, mut random: impl FnMut() -> u64) -> i32 {
        let bytes = session.bytes();
        while !self.has_room(bytes) {
            let Some(id) = self.unused(now).or_else(|| self.smaller(session.len(), now)) else { return NO_SESSION };
            self.remove(id);
        }
        let id = loop {
            let id =
                i32::from_ne_bytes(random().to_ne_bytes()[..4].try_into().expect("four of eight bytes")) & i32::MAX;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.bytes += bytes;
        let (epoch, by_id, partitions) = (next(FIRST_EPOCH), session.by_id(), session.len());
        let entry = Entry { epoch, by_id, opened: now, used: now, partitions, bytes, session: Some(session) };
        self.sessions.insert(id, entry);
        id
    }

    pub(super) fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.bytes -= entry.bytes;
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.sessions.len() < MAX_FETCH_SESSIONS && self.bytes + bytes <= MAX_FETCH_SESSION_BYTES
    }

    /// The session that was unused the longest, if for long enough.
    fn unused(&self, now: Instant) -> Option<i32> {
        let (id, entry) = self.sessions.iter().min_by_key(|(id, entry)| (entry.used, **id))?;
        (now - entry.used > SAFE).then_some(*id)
    }

    /// The smallest of the old sessions that are not larger than a newcomer, if there are too many sessions.
    fn smaller(&self, newcomer: usize, now: Instant) -> Option<i32> {
        if self.sessions.len() < MAX_FETCH_SESSIONS {
            return None;
        }
        let old = self.sessions.iter().filter(|(_, entry)| now - entry.opened > SAFE && entry.partitions <= newcomer);
        old.min_by_key(|(id, entry)| (entry.partitions, **id)).map(|(id, _)| *id)
    }
}

/// The epoch after this one. It wraps past the one that opens a session.
fn next(epoch: i32) -> i32 {
    match epoch {
        ..=FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => FIRST_EPOCH + 1,
        epoch => epoch + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::{Key, Want};
    use super::*;
    use kafscale_metadata::{State, TopicId};

    const SECOND: Duration = Duration::from_secs(1);

    fn session(partitions: u32) -> Session {
        let mut session = Session::new(true);
        want(&mut session, TopicId(7), partitions);
        session
    }

    fn want(session: &mut Session, topic: TopicId, partitions: u32) {
        let wants = (0..partitions).map(|index| Want { index, offset: 0, max_bytes: 1 });
        session.want(&Key::Id(topic), &State::default(), wants);
    }

    fn asked(session: i32, epoch: i32) -> Asked {
        Asked { session, epoch, by_id: true }
    }

    /// A table with a time and random numbers that begin with one that is not allowed.
    struct World {
        table: Table,
        now: Instant,
        random: u64,
    }

    #[expect(clippy::disallowed_methods, reason = "where time begins")]
    fn world() -> World {
        World { table: Table::default(), now: Instant::now(), random: 0 }
    }

    impl World {
        fn open(&mut self, partitions: u32) -> i32 {
            let random = &mut self.random;
            self.table.open(session(partitions), self.now, || {
                *random += 1;
                *random / 2 // each twice: the second is taken
            })
        }

        fn turn(&mut self, id: i32, epoch: i32) -> Result<i32, ErrorCode> {
            let session = self.table.borrow(asked(id, epoch), self.now)?;
            Ok(self.table.give_back(id, session))
        }
    }

    #[test]
    fn epochs_go_up_by_one_and_wrap_past_the_first() {
        let mut world = world();
        let id = world.open(1);
        assert_eq!(world.turn(id, 1), Ok(id));
        for wrong in [1, 3, i32::MAX, -2] {
            assert_eq!(world.turn(id, wrong), Err(ErrorCode::InvalidFetchSessionEpoch));
        }
        assert_eq!(world.turn(id, 2), Ok(id));
        assert_eq!(world.turn(id + 1, 3), Err(ErrorCode::FetchSessionIdNotFound));
        let by_name = Asked { by_id: false, ..asked(id, 3) };
        assert_eq!(world.table.borrow(by_name, world.now).unwrap_err(), ErrorCode::FetchSessionTopicIdError);
        assert_eq!([i32::MAX, -1, 0, 1].map(next), [1, -1, 1, 2]);
    }

    #[test]
    fn a_session_has_one_request_at_a_time_and_may_be_closed_meanwhile() {
        let mut world = world();
        let id = world.open(1);
        let borrowed = world.table.borrow(asked(id, 1), world.now).unwrap();
        assert_eq!(world.turn(id, 2), Err(ErrorCode::InvalidFetchSessionEpoch));
        world.table.remove(id);
        assert_eq!(world.table.give_back(id, borrowed), NO_SESSION);
        assert_eq!((world.table.len(), world.table.bytes()), (0, 0));
    }

    #[test]
    fn young_sessions_stay_and_old_ones_go_for_larger_ones() {
        let mut world = world();
        let ids: Vec<i32> = (0..MAX_FETCH_SESSIONS).map(|n| world.open(if n == 500 { 2 } else { 3 })).collect();
        assert!(ids.iter().all(|id| *id > 0));
        assert_eq!(world.open(100), NO_SESSION, "all are young");

        world.now += SAFE;
        ids.iter().for_each(|id| assert_eq!(world.turn(*id, 1), Ok(*id)));
        world.now += SECOND;
        assert_eq!(world.open(1), NO_SESSION, "all are larger, and in use");
        assert_ne!(world.open(2), NO_SESSION);
        assert_eq!(world.turn(ids[500], 2), Err(ErrorCode::FetchSessionIdNotFound), "it was the smallest");
        assert_eq!(world.table.len(), MAX_FETCH_SESSIONS);

        ids.iter()
            .filter(|id| **id != ids[7] && **id != ids[500])
            .for_each(|id| assert_eq!(world.turn(*id, 2), Ok(*id)));
        world.now += SAFE;
        assert_ne!(world.open(1), NO_SESSION);
        assert_eq!(world.turn(ids[7], 2), Err(ErrorCode::FetchSessionIdNotFound), "it was unused the longest");
    }

    #[test]
    fn memory_is_bounded_by_bytes_too() {
        let mut world = world();
        let large = u32::try_from(MAX_FETCH_SESSION_BYTES / super::super::session::PARTITION_BYTES / 4).unwrap();
        let ids = [0; 3].map(|_| world.open(large));
        assert!(ids.iter().all(|id| *id > 0));
        assert_eq!(world.open(large), NO_SESSION);
        assert!(world.table.bytes() <= MAX_FETCH_SESSION_BYTES);

        let mut grown = world.table.borrow(asked(ids[0], 1), world.now).unwrap();
        want(&mut grown, TopicId(8), large);
        assert_eq!(world.table.give_back(ids[0], grown), NO_SESSION, "it has grown too large");
        assert_eq!(world.table.len(), 2);

        world.now += SAFE + SECOND;
        assert_eq!(world.turn(ids[1], 1), Ok(ids[1]));
        assert_ne!([world.open(large), world.open(large)], [NO_SESSION; 2], "the unused one went");
        assert_eq!(world.turn(ids[1], 2), Ok(ids[1]));
        assert_eq!(world.turn(ids[2], 1), Err(ErrorCode::FetchSessionIdNotFound));
    }
}
