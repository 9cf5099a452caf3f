//! A journal in memory, for tests: several brokers' sessions on one journal, and every fault at a test's word.
//!
//! Owns the rules of a shared journal as the port's contract says them, and the faults of the way to it: a request
//! that was lost, a reply that was lost, a request that arrives late or twice, a session that ends in between, a
//! truncation or a rewind under a reader. Nothing is durable, and no fault comes unasked.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::sessions::{LiveSession, Sessions, Victim};
use crate::{AppendError, Identity, Journal, OpenError, Pointer, Position, ReadError, Record};

const READ_BYTES: usize = 4 << 20;

/// What happens to one attempt to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing bad.
    None,
    /// It is not done, and the caller is told so.
    Refuse,
    /// It is not done, and the caller does not know.
    LoseRequest,
    /// It is done, and the caller does not know.
    LoseReply,
    /// The caller does not know, and it is delivered by [`MemoryJournal::deliver_late`].
    Delay,
    /// It is done and answered, and arrives once more at [`MemoryJournal::deliver_late`].
    Duplicate,
    /// The session loses its right first: its lease expired, or another broker ended it.
    ExpireBefore,
    /// It is done, then the session loses its right, and the caller does not know.
    ExpireAfter,
}

/// An attempt to append, as a test's hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The session.
    pub nonce: u64,
    /// The entry's number in it; 0 is its opening.
    pub n: u64,
}

type Hook = Box<dyn FnMut(Attempt) -> Fault + Send>;

/// A request that changes the journal.
#[derive(Clone)]
struct Request {
    nonce: u64,
    n: u64,
    entry: Bytes,
    what: What,
}

#[derive(Clone)]
enum What {
    Open(Identity),
    Append,
    Leave,
    Publish(Pointer),
    EndOther(Victim),
    Expel(Victim),
}

struct Session {
    identity: Identity,
    live: bool,
    next_n: u64,
    opening: Bytes,
}

enum Refusal {
    Fenced,
    InUse(i32),
    /// The session that was to be ended is alive.
    Alive,
}

#[derive(Default)]
struct Inside {
    records: VecDeque<Record>,
    end: u64,
    sessions: BTreeMap<u64, Session>,
    committed: BTreeMap<(u64, u64), u64>,
    pointer: Option<Pointer>,
    late: VecDeque<Request>,
    hook: Option<Hook>,
    failing_reads: u64,
    dead: bool,
    forget_truncated: bool,
}

/// A journal in memory. Share it (`Arc`) among all brokers of a test.
pub struct MemoryJournal {
    inside: Mutex<Inside>,
    changed: watch::Sender<()>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self { inside: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

fn place(ordinal: u64) -> Position {
    Position { ordinal, revision: ordinal }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer (a test's fault)")
}

fn dead() -> io::Error {
    io::Error::other("the journal has failed for good (a test's fault)")
}

impl MemoryJournal {
    /// An empty journal that does no wrong.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on `hook` decides over each attempt to append, openings too.
    pub fn set_faults(&self, hook: impl FnMut(Attempt) -> Fault + Send + 'static) {
        self.inside.lock().hook = Some(Box::new(hook));
    }

    /// The next attempts fare like this, one each; after them all is well.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut faults: VecDeque<Fault> = faults.into_iter().collect();
        self.set_faults(move |_| faults.pop_front().unwrap_or(Fault::None));
    }

    /// Delivers what was delayed or doubled, in order. Returns how many of them changed the journal.
    pub fn deliver_late(&self) -> usize {
        let changed = self.change(|inside| {
            let before = inside.end;
            while let Some(request) = inside.late.pop_front() {
                // Nobody waits for what it says.
                let _ = inside.apply(request);
            }
            inside.end - before
        });
        usize::try_from(changed).unwrap_or(usize::MAX)
    }

    /// Takes a session's right away without an entry, as an expired lease does.
    pub fn expire_session(&self, nonce: u64) {
        self.change(|inside| inside.expire(nonce));
    }

    /// Ends a session from outside: `entry` is its last, with the session's next number.
    pub fn end_session(&self, nonce: u64, entry: Bytes) -> Option<Position> {
        self.change(|inside| {
            inside.expire(nonce);
            let n = inside.sessions.get(&nonce)?.next_n;
            let position = inside.put(nonce, n, entry);
            // The number may be that of an append of the session's own which is under way: it is not this entry.
            inside.committed.remove(&(nonce, n));
            Some(position)
        })
    }

    /// Removes all entries up to `ordinal`, whatever the pointer says and whoever reads them.
    pub fn truncate_to(&self, ordinal: u64) {
        self.change(|inside| inside.truncate(ordinal));
    }

    /// After truncation a repeated append is no longer recognised and lands again with its old `n`, as in etcd,
    /// where the key that would show it is gone.
    pub fn forget_truncated(&self) {
        self.inside.lock().forget_truncated = true;
    }

    /// The journal goes back in time: all entries after `ordinal` are gone.
    pub fn rewind_to(&self, ordinal: u64) {
        self.change(|inside| {
            inside.end = inside.end.min(ordinal);
            inside.records.retain(|record| record.position.ordinal <= ordinal);
            inside.committed.retain(|_, at| *at <= ordinal);
        });
    }

    /// The next `times` reads, and questions for the end, fail.
    pub fn fail_reads(&self, times: u64) {
        self.inside.lock().failing_reads = times;
    }

    /// The backend fails for good.
    pub fn die(&self) {
        self.change(|inside| inside.dead = true);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        let result = change(&mut self.inside.lock());
        self.changed.send_replace(());
        result
    }

    /// The way there and back, with its fault.
    fn request(&self, request: Request) -> Result<Result<Position, Refusal>, AppendError> {
        self.change(|inside| {
            if inside.dead {
                return Err(AppendError::Dead(dead()));
            }
            let (nonce, attempt) = (request.nonce, Attempt { nonce: request.nonce, n: request.n });
            let fault = inside.hook.as_mut().map_or(Fault::None, |hook| hook(attempt));
            match fault {
                Fault::None => return Ok(inside.apply(request)),
                Fault::Refuse => return Err(AppendError::Refused(io::ErrorKind::StorageFull.into())),
                Fault::LoseRequest => {}
                Fault::LoseReply => drop(inside.apply(request)),
                Fault::Delay => inside.late.push_back(request),
                Fault::Duplicate => {
                    inside.late.push_back(request.clone());
                    return Ok(inside.apply(request));
                }
                Fault::ExpireBefore => {
                    inside.expire(nonce);
                    return Ok(inside.apply(request));
                }
                Fault::ExpireAfter => {
                    drop(inside.apply(request));
                    inside.expire(nonce);
                }
            }
            Err(AppendError::Unknown(lost()))
        })
    }

    fn request_append(&self, request: Request) -> Result<Position, AppendError> {
        match self.request(request)? {
            Ok(position) => Ok(position),
            Err(Refusal::Fenced) => Err(AppendError::Fenced),
            Err(Refusal::Alive) => Err(AppendError::Refused(io::Error::other("the session to be ended is alive"))),
            Err(Refusal::InUse(_)) => unreachable!("only an opening can meet a broker id in use"),
        }
    }
}

impl Inside {
    /// What the journal makes of a request, whenever it arrives.
    fn apply(&mut self, request: Request) -> Result<Position, Refusal> {
        let Request { nonce, n, entry, what } = request;
        if let Some(ordinal) = self.committed.get(&(nonce, n)) {
            if let Some(record) = self.records.iter().find(|record| record.position.ordinal == *ordinal) {
                assert_eq!(record.entry, entry, "a repeated append has the bytes of the first one");
            }
            let position = place(*ordinal);
            self.raise(what);
            return Ok(position);
        }
        if let What::Open(identity) = what {
            return self.open(nonce, identity, entry);
        }
        let session = self.sessions.get_mut(&nonce).filter(|session| session.live).ok_or(Refusal::Fenced)?;
        assert!(n <= session.next_n, "a session's entries are numbered without gaps: {n} after {}", session.next_n);
        assert!(n == session.next_n || self.forget_truncated, "entry {n} of a session was never committed");
        match &what {
            What::Leave => session.live = false,
            What::EndOther(victim) if self.is_live(victim.nonce) => return Err(Refusal::Alive),
            What::Expel(victim) => self.expire(victim.nonce),
            What::Open(_) | What::Append | What::Publish(_) | What::EndOther(_) => {}
        }
        let position = self.put(nonce, n, entry);
        self.raise(what);
        Ok(position)
    }

    fn open(&mut self, nonce: u64, identity: Identity, entry: Bytes) -> Result<Position, Refusal> {
        // A late opening whose session is over already.
        if self.sessions.contains_key(&nonce) {
            return Err(Refusal::Fenced);
        }
        let rivals = self.sessions.values_mut().filter(|s| s.live && s.identity.broker_id == identity.broker_id);
        for rival in rivals {
            if rival.identity.token != identity.token {
                return Err(Refusal::InUse(identity.broker_id));
            }
            rival.live = false;
        }
        let opening = entry.clone();
        self.sessions.insert(nonce, Session { identity, live: true, next_n: 0, opening });
        Ok(self.put(nonce, 0, entry))
    }

    fn put(&mut self, nonce: u64, n: u64, entry: Bytes) -> Position {
        self.end += 1;
        let position = place(self.end);
        self.records.push_back(Record { position, nonce, n, entry });
        self.committed.insert((nonce, n), self.end);
        if let Some(session) = self.sessions.get_mut(&nonce) {
            session.next_n = session.next_n.max(n + 1);
        }
        position
    }

    fn raise(&mut self, what: What) {
        if let What::Publish(pointer) = what
            && self.pointer.as_ref().is_none_or(|stored| stored.ordinal < pointer.ordinal)
        {
            self.pointer = Some(pointer);
        }
    }

    fn is_live(&self, nonce: u64) -> bool {
        self.sessions.get(&nonce).is_some_and(|session| session.live)
    }

    fn live(&self) -> Vec<LiveSession> {
        let live = self.sessions.iter().filter(|(_, session)| session.live);
        let mut live: Vec<LiveSession> = live
            .map(|(nonce, s)| LiveSession { identity: s.identity, nonce: *nonce, opening: s.opening.clone() })
            .collect();
        live.sort_by_key(|session| session.identity.broker_id);
        live
    }

    fn expire(&mut self, nonce: u64) {
        if let Some(session) = self.sessions.get_mut(&nonce) {
            session.live = false;
        }
    }

    fn first(&self) -> u64 {
        self.end + 1 - self.records.len() as u64
    }

    fn truncate(&mut self, ordinal: u64) {
        while self.records.front().is_some_and(|record| record.position.ordinal <= ordinal) {
            let gone = self.records.pop_front();
            if let Some(record) = gone.filter(|_| self.forget_truncated) {
                self.committed.remove(&(record.nonce, record.n));
            }
        }
    }

    fn check(&mut self) -> Result<(), ReadError> {
        if self.dead {
            return Err(ReadError::Failed(dead()));
        }
        if self.failing_reads > 0 {
            self.failing_reads -= 1;
            return Err(ReadError::Failed(lost()));
        }
        Ok(())
    }

    /// What a read finds; `None` if it has to wait.
    fn read(&mut self, after: u64) -> Result<Option<Vec<Record>>, ReadError> {
        self.check()?;
        let first = self.first();
        if after > self.end {
            let detail = format!("entry {after} was seen, and the journal ends at {}", self.end);
            return Err(ReadError::Damaged { detail });
        }
        if after + 1 < first {
            return Err(ReadError::Truncated { first });
        }
        let skip = usize::try_from(after + 1 - first).expect("the journal is in memory");
        let (mut left, mut records) = (READ_BYTES, Vec::new());
        for record in self.records.iter().skip(skip) {
            if !records.is_empty() && record.entry.len() > left {
                break;
            }
            left = left.saturating_sub(record.entry.len());
            records.push(record.clone());
        }
        Ok(Some(records).filter(|records| !records.is_empty()))
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn open(&self, identity: Identity, nonce: u64, entry: Bytes) -> Result<Position, OpenError> {
        match self.request(Request { nonce, n: 0, entry, what: What::Open(identity) }) {
            Ok(Ok(position)) => Ok(position),
            Ok(Err(Refusal::InUse(broker_id))) => Err(OpenError::InUse { broker_id }),
            Ok(Err(Refusal::Fenced | Refusal::Alive)) | Err(AppendError::Fenced) => Err(OpenError::Failed(lost())),
            Err(AppendError::Refused(error) | AppendError::Unknown(error) | AppendError::Dead(error)) => {
                Err(OpenError::Failed(error))
            }
        }
    }

    async fn append(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.request_append(Request { nonce, n, entry, what: What::Append })
    }

    async fn leave(&self, nonce: u64, n: u64, entry: Bytes) -> Result<Position, AppendError> {
        self.request_append(Request { nonce, n, entry, what: What::Leave })
    }

    async fn read(&self, after: u64) -> Result<Vec<Record>, ReadError> {
        let mut changed = self.changed.subscribe();
        loop {
            let found = self.inside.lock().read(after)?;
            match found {
                Some(records) => return Ok(records),
                None => changed.changed().await.map_err(|gone| ReadError::Failed(io::Error::other(gone)))?,
            }
        }
    }

    async fn end(&self) -> Result<Position, ReadError> {
        let mut inside = self.inside.lock();
        inside.check()?;
        Ok(place(inside.end))
    }

    async fn pointer(&self) -> Result<Option<Pointer>, ReadError> {
        let mut inside = self.inside.lock();
        inside.check()?;
        Ok(inside.pointer.clone())
    }

    async fn publish(&self, nonce: u64, n: u64, entry: Bytes, pointer: Pointer) -> Result<Position, AppendError> {
        assert!(pointer.truncatable <= pointer.ordinal, "a snapshot cannot need what is newer than itself");
        self.request_append(Request { nonce, n, entry, what: What::Publish(pointer) })
    }

    async fn truncate(&self) -> Result<(), ReadError> {
        self.change(|inside| {
            inside.check()?;
            let truncatable = inside.pointer.as_ref().map_or(0, |pointer| pointer.truncatable);
            inside.truncate(truncatable);
            Ok(())
        })
    }
}

#[async_trait]
impl Sessions for MemoryJournal {
    async fn live(&self) -> Result<Vec<LiveSession>, ReadError> {
        let mut inside = self.inside.lock();
        inside.check()?;
        Ok(inside.live())
    }

    async fn changed(&self, known: &[LiveSession]) -> Result<Vec<LiveSession>, ReadError> {
        let mut changed = self.changed.subscribe();
        loop {
            let now = self.live().await?;
            if now != known {
                return Ok(now);
            }
            changed.changed().await.map_err(|gone| ReadError::Failed(io::Error::other(gone)))?;
        }
    }

    async fn end_other(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError> {
        self.request_append(Request { nonce, n, entry, what: What::EndOther(victim) })
    }

    async fn expel(&self, nonce: u64, n: u64, entry: Bytes, victim: Victim) -> Result<Position, AppendError> {
        self.request_append(Request { nonce, n, entry, what: What::Expel(victim) })
    }

    fn is_known_live(&self, nonce: u64, _at: Instant) -> bool {
        self.inside.lock().is_live(nonce)
    }
}
