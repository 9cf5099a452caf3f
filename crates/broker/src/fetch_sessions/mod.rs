//! Fetch sessions (KIP-227): the broker remembers what a consumer reads, so that the consumer sends, and is sent, what
//! has changed. Owns the sessions, their epochs and their bound; what has changed is the [`Interest`]'s to know, and
//! what a request says is [`crate::api`]'s.
//!
//! In reading order: [`session`] (topics and partitions of one session), [`table`] (all of them: epochs, room).
//!
//! A request borrows its session for as long as it lasts: a [`Turn`]. Two requests of one session at the same time
//! cannot come from a client that waits for its answers; the later one is refused by its epoch. A turn that is dropped
//! with its connection gives the session back, whose epoch has gone on: a client that never saw the answer cannot go on
//! with the session, and begins anew. Sessions are in memory only: after a restart every client is told
//! FETCH_SESSION_ID_NOT_FOUND and begins anew.

mod session;
mod table;

use std::sync::Arc;

use kafscale_log::read::Interest;
use kafscale_ports::Env;
use kafscale_wire::ErrorCode;
use parking_lot::Mutex;

pub(crate) use session::{Key, Session, Want};
use table::Table;

/// What a request without a session, and an answer that opens none, have as the session's id.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a request that opens a session.
const FIRST_EPOCH: i32 = 0;
/// The epoch of a request that wants none.
const FINAL_EPOCH: i32 = -1;

/// All sessions of one broker. A clone shares them.
#[derive(Clone)]
pub struct FetchSessions {
    env: Env,
    table: Arc<Mutex<Table>>,
}

/// What a request says of sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) session: i32,
    pub(crate) epoch: i32,
    /// It names topics by id (v13).
    pub(crate) by_id: bool,
}

impl Asked {
    /// Whether the request lists everything that is wanted.
    pub(crate) fn is_full(self) -> bool {
        matches!(self.epoch, FIRST_EPOCH | FINAL_EPOCH)
    }
}

/// One request's work on a session.
pub(crate) struct Turn {
    sessions: FetchSessions,
    session: Session,
    stage: Stage,
}

/// What becomes of the session at the end of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It was for this request alone.
    Once,
    /// It is kept if there is room.
    Opening,
    /// It is the table's.
    Borrowed(i32),
}

impl FetchSessions {
    /// None yet.
    pub fn new(env: Env) -> Self {
        Self { env, table: Arc::default() }
    }

    /// How many sessions there are, and what they take at most, bytes.
    pub fn len_and_bytes(&self) -> (usize, u64) {
        let table = self.table.lock();
        (table.len(), table.bytes())
    }

    /// The session that a request is about.
    pub(crate) fn begin(&self, asked: Asked) -> Result<Turn, ErrorCode> {
        let mut table = self.table.lock();
        let turn = |session, stage| Turn { sessions: self.clone(), session, stage };
        if asked.is_full() {
            table.remove(asked.session);
            let stage = if asked.epoch == FIRST_EPOCH { Stage::Opening } else { Stage::Once };
            return Ok(turn(Session::new(asked.by_id), stage));
        }
        let session = table.borrow(asked, self.env.clock.now())?;
        Ok(turn(session, Stage::Borrowed(asked.session)))
    }
}

impl Turn {
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(crate) fn interest(&mut self) -> &mut Interest {
        self.session.interest()
    }

    /// Ends the turn before its answer is sent: the id that the answer names. A session that has become empty, or too
    /// large for the room there is, is over; the client hears it from the id.
    pub(crate) fn finish(mut self) -> i32 {
        let stage = std::mem::replace(&mut self.stage, Stage::Once);
        let session = std::mem::replace(&mut self.session, Session::new(false));
        let mut table = self.sessions.table.lock();
        let now = self.sessions.env.clock.now();
        match stage {
            Stage::Once => NO_SESSION,
            Stage::Opening => table.open(session, now, || self.sessions.env.random.u64()),
            Stage::Borrowed(id) if session.is_empty() => {
                table.remove(id);
                NO_SESSION
            }
            Stage::Borrowed(id) => table.give_back(id, session),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Stage::Borrowed(id) = self.stage {
            let session = std::mem::replace(&mut self.session, Session::new(false));
            self.sessions.table.lock().give_back(id, session);
        }
    }
}
