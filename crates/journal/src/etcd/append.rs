//! The way of an entry into etcd: plan (in [`txns`](super::txns)), one call, and what its answer means to the caller.
//! Owns the translation into the port's errors; repetition is the caller's.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::keys::MAX_SESSION_ENTRIES;
use super::kv::{Failure, Get, Keys, Kv, Op, Range, Refusal, Revision, Txn};
use super::lease;
use super::shared::{Own, Shared, failed};
use super::stored::StoredPointer;
use super::txns::{Append, Appended, Fenced, Guess, Open, Opened, With};
use crate::sessions::Victim;
use crate::{AppendError, Identity, OpenError, Pointer, Position, ReadError};

/// An entry may have this many bytes, so that what etcd takes in one request holds it several times over.
pub const MAX_ENTRY_BYTES: usize = 256 << 10;

/// A pointer's words may have this many bytes: a few object names.
const MAX_POINTER_BYTES: usize = 64 << 10;

/// Wrong guesses of an opening before it gives up. Each means that another process did something in between.
const MAX_GUESSES: u32 = 20;

/// What an append does beside putting its entry.
#[derive(Debug, Clone)]
pub(super) enum What {
    Nothing,
    Leave,
    Publish(Pointer),
    End(Victim),
    Expel(Victim),
}

/// What is known before a call.
enum Before {
    /// The entry has been read in the journal.
    Committed(Position),
    /// The session was opened by this process. The place: what was applied before the call.
    Own(Fenced, Position),
    /// It was not.
    Stranger,
}

fn refused(words: String) -> AppendError {
    AppendError::Refused(io::Error::new(io::ErrorKind::InvalidInput, words))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "etcd gave an answer that fits no state of it")
}

fn append_failed(failure: Failure) -> AppendError {
    match failure {
        Failure::Unknown(why) => AppendError::Unknown(why),
        Failure::Refused(Refusal::NoSpace) => {
            AppendError::Refused(io::Error::new(io::ErrorKind::StorageFull, Refusal::NoSpace))
        }
        Failure::Refused(refusal) => AppendError::Refused(io::Error::other(refusal)),
    }
}

fn read_failed(error: ReadError) -> AppendError {
    match error {
        ReadError::Damaged { detail } => AppendError::Dead(io::Error::other(detail)),
        ReadError::Failed(why) => AppendError::Refused(why),
        truncated @ ReadError::Truncated { .. } => AppendError::Refused(io::Error::other(truncated)),
    }
}

impl Shared {
    pub(super) async fn append(
        self: &Arc<Self>,
        nonce: u64,
        n: u64,
        entry: Bytes,
        mut what: What,
    ) -> Result<Position, AppendError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(refused(format!("an entry has {} bytes; the journal takes {MAX_ENTRY_BYTES}", entry.len())));
        }
        if n >= MAX_SESSION_ENTRIES {
            let words = "this broker's session has used up its ten-digit numbers; restart the broker";
            return Err(AppendError::Dead(io::Error::other(words)));
        }
        loop {
            let (by, applied) = match self.before(nonce, n)? {
                Before::Committed(position) => {
                    if matches!(what, What::Leave) {
                        self.forget(nonce).await;
                    }
                    return Ok(position);
                }
                Before::Stranger => return self.look_up(nonce, n, &entry).await,
                Before::Own(by, applied) => (by, applied),
            };
            let append = Append { by, n, entry: entry.clone(), with: self.with(&what).await? };
            let reply = self.kv.txn(append.txn(&self.life)).await.map_err(append_failed)?;
            if reply.revision < applied.revision {
                return Err(self.went_back(reply.revision, applied));
            }
            let answer = append.read(&self.life, &reply);
            if matches!(answer, Appended::PointerMoved(_)) {
                // By somebody else: how it is to be moved now, is another plan.
                continue;
            }
            if answer == Appended::VictimDiffers
                && let What::Expel(victim) = what
            {
                // It has gone by itself; the fold is told all the same.
                what = What::End(victim);
                continue;
            }
            let position = self.answer(&append, answer, applied).await?;
            if matches!(append.with, With::Leave) {
                self.forget(nonce).await;
            }
            return Ok(position);
        }
    }

    fn before(&self, nonce: u64, n: u64) -> Result<Before, AppendError> {
        let inside = self.inside.lock();
        inside.check().map_err(read_failed)?;
        if inside.tail.track(nonce).is_some_and(|track| n < track.count.next)
            && let Some(position) = inside.tail.place_of(nonce, n)
        {
            return Ok(Before::Committed(position));
        }
        let applied = inside.tail.applied();
        Ok(inside.own.get(&nonce).map_or(Before::Stranger, |own| Before::Own(own.fenced, applied)))
    }

    async fn answer(&self, append: &Append, answer: Appended, applied: Position) -> Result<Position, AppendError> {
        match answer {
            Appended::Now { revision, count } => {
                let ordinal = self.inside.lock().tail.base() + count;
                if ordinal <= applied.ordinal {
                    return Err(self.went_back(revision, applied));
                }
                Ok(Position { ordinal, revision })
            }
            Appended::Before { revision } => self.place(append.by.nonce, revision).await,
            Appended::Fenced => {
                self.change(|inside| inside.over(append.by.nonce));
                Err(AppendError::Fenced)
            }
            Appended::VictimDiffers => Err(refused("the session that was to be ended is alive".to_owned())),
            Appended::OtherLife => Err(self.dead(
                "the journal's head is gone or of another incarnation: etcd went back in time, or the journal was \
                 rebuilt; stop all brokers and run `kafscale recover`",
            )),
            Appended::OtherEntry => {
                let (n, nonce) = (append.n, append.by.nonce);
                let words = format!("entry {n} of session {nonce:016x} is in the journal with other bytes");
                Err(self.dead(&format!("{words}; stop all brokers and run `kafscale recover`")))
            }
            Appended::PointerMoved(_) | Appended::Nonsense => Err(AppendError::Unknown(nonsense())),
        }
    }

    fn went_back(&self, revision: Revision, applied: Position) -> AppendError {
        let words = format!("etcd answered at revision {revision}, and {applied:?} was applied: it went back in time");
        self.dead(&format!("{words}; stop all brokers and run `kafscale recover`"))
    }

    /// What became of an entry whose session is not ours (any more): it is there, or it never will be.
    async fn look_up(&self, nonce: u64, n: u64, entry: &Bytes) -> Result<Position, AppendError> {
        let get = Get::one(self.life.names.entry(nonce, n));
        let range = Range { get, revision: 0, serializable: false };
        let found = self.kv.range(range).await.map_err(append_failed)?.found;
        match found.kvs.first() {
            Some(kv) if kv.value == entry => self.place(nonce, kv.mod_revision).await,
            Some(_) | None => Err(AppendError::Fenced),
        }
    }

    /// The place of an entry that is known to be there.
    async fn place(&self, nonce: u64, revision: Revision) -> Result<Position, AppendError> {
        let (known, base) = {
            let inside = self.inside.lock();
            (inside.tail.ordinal_at(nonce, revision), inside.tail.base())
        };
        if let Some(ordinal) = known {
            return Ok(Position { ordinal, revision });
        }
        let range = Range { get: Get::one(self.life.names.head()), revision, serializable: false };
        // It is committed, so this is never a refusal.
        let head = self.kv.range(range).await.map_err(|failure| match failed(failure) {
            ReadError::Failed(why) => AppendError::Unknown(why),
            other @ (ReadError::Truncated { .. } | ReadError::Damaged { .. }) => {
                AppendError::Unknown(io::Error::other(other))
            }
        })?;
        match head.found.kvs.first() {
            Some(head) => Ok(Position { ordinal: base + head.version, revision }),
            None => Err(AppendError::Unknown(nonsense())),
        }
    }

    async fn with(&self, what: &What) -> Result<With, AppendError> {
        match what {
            What::Nothing => Ok(With::Nothing),
            What::Leave => Ok(With::Leave),
            What::Publish(pointer) => self.publication(pointer).await,
            What::End(victim) => Ok(With::End(self.victim(*victim).await?)),
            What::Expel(victim) => Ok(With::Expel(self.victim(*victim).await?)),
        }
    }

    /// The fence of a session to be ended.
    ///
    /// One that the tail does not know when it is at the journal's end is none that could append (see
    /// [`Shared::finished`]): whatever S is there is not its own.
    async fn victim(&self, victim: Victim) -> Result<Fenced, AppendError> {
        let known = || self.inside.lock().tail.track(victim.nonce).map(|track| track.count.fence);
        let mut fence = known();
        if fence.is_none() {
            let end = self.look().await.map_err(read_failed)?.end;
            self.applied_to(end.ordinal).await?;
            fence = known();
        }
        let fence = fence.unwrap_or(Revision::MAX);
        Ok(Fenced { broker_id: victim.broker_id, nonce: victim.nonce, fence })
    }

    /// How the pointer is to be moved, by what stands there now.
    async fn publication(&self, pointer: &Pointer) -> Result<With, AppendError> {
        if pointer.value.len() > MAX_POINTER_BYTES {
            return Err(refused(format!("a pointer's value has {} bytes", pointer.value.len())));
        }
        self.applied_to(pointer.ordinal).await?;
        let (seen, stored) = self.stored_pointer().await.map_err(read_failed)?;
        if stored.ordinal >= pointer.ordinal {
            return Ok(With::Nothing);
        }
        let mut next = StoredPointer { ordinal: pointer.ordinal, value: pointer.value.clone(), ..stored.clone() };
        if pointer.truncatable > stored.floor.ordinal {
            let inside = self.inside.lock();
            let Some(floor) = inside.tail.marks().place(pointer.truncatable) else {
                return Err(refused(format!("entry {} is not known any more", pointer.truncatable)));
            };
            next.floor = floor;
            next.counts = inside.tail.counts_at(pointer.truncatable, &stored);
        }
        for nonce in self.finished(&stored).await.map_err(append_failed)? {
            next.counts.remove(&nonce);
        }
        Ok(With::Publish { seen, pointer: next.encode() })
    }

    /// Waits for the tail, which may be a moment behind the caller's own append.
    async fn applied_to(&self, ordinal: u64) -> Result<(), AppendError> {
        let mut changed = self.changed.subscribe();
        let reached = async {
            loop {
                let known = {
                    let inside = self.inside.lock();
                    inside.check().map_err(read_failed).map(|()| inside.tail.applied().ordinal >= ordinal)
                }?;
                if known {
                    return Ok(());
                }
                changed.changed().await.map_err(|gone| AppendError::Refused(io::Error::other(gone)))?;
            }
        };
        match tokio::time::timeout(self.settings.call_timeout, reached).await {
            Ok(result) => result,
            Err(_elapsed) => Err(AppendError::Refused(io::ErrorKind::TimedOut.into())),
        }
    }

    /// The pointer with its mod-revision, linearizably.
    pub(super) async fn stored_pointer(&self) -> Result<(Revision, StoredPointer), ReadError> {
        self.inside.lock().check()?;
        let range = Range { get: Get::one(self.life.names.pointer()), revision: 0, serializable: false };
        let found = self.kv.range(range).await.map_err(failed)?.found;
        let damaged = |detail: String| {
            self.stop(&detail);
            ReadError::Damaged { detail }
        };
        let Some(kv) = found.kvs.first() else {
            return Err(damaged("the journal's pointer is gone; run `kafscale recover`".to_owned()));
        };
        let stored = StoredPointer::decode(&kv.value).map_err(|why| damaged(why.to_string()))?;
        if stored.incarnation != self.life.incarnation {
            return Err(damaged("the journal's pointer is of another incarnation; run `kafscale recover`".to_owned()));
        }
        Ok((kv.mod_revision, stored))
    }

    /// Sessions of an older pointer of which nothing is left: without S they append nothing any more, and without a key
    /// they have nothing to truncate. So no later entry is theirs, and the pointer may forget them.
    async fn finished(&self, stored: &StoredPointer) -> Result<Vec<u64>, Failure> {
        let names = &self.life.names;
        let quiet: Vec<u64> = {
            let inside = self.inside.lock();
            stored.counts.keys().copied().filter(|nonce| !inside.tail.marks().has(*nonce)).take(100).collect()
        };
        if quiet.is_empty() {
            return Ok(Vec::new());
        }
        let keys_only = |keys: Keys, limit| Op::Get(Get { keys, keys_only: true, limit });
        let mut then = vec![keys_only(names.sessions(), 0)];
        then.extend(quiet.iter().map(|nonce| keys_only(names.entries_of(*nonce, 0, MAX_SESSION_ENTRIES), 1)));
        let reply = self.kv.txn(Txn { then, ..Txn::default() }).await?;
        let mut found = reply.results.iter().map(|result| super::txns::all(Some(result)));
        let live: Vec<Revision> = found.next().into_iter().flatten().map(|kv| kv.mod_revision).collect();
        let is_finished =
            |nonce: &u64, left: &[super::kv::KeyValue]| left.is_empty() && !live.contains(&stored.counts[nonce].fence);
        Ok(quiet.into_iter().zip(found).filter(|(nonce, left)| is_finished(nonce, left)).map(|(n, _)| n).collect())
    }

    /// The session has left: its lease is of no more use.
    async fn forget(&self, nonce: u64) {
        let lease = self.change(|inside| inside.over(nonce));
        if let Some(lease) = lease
            && let Err(why) = self.kv.lease_revoke(lease).await
        {
            tracing::debug!(error = %why, "the lease of a session that has left was not revoked; it runs out by itself");
        }
    }

    pub(super) async fn open(
        self: &Arc<Self>,
        identity: Identity,
        nonce: u64,
        entry: Bytes,
    ) -> Result<Position, OpenError> {
        if entry.len() > MAX_ENTRY_BYTES {
            return Err(OpenError::Failed(io::ErrorKind::InvalidInput.into()));
        }
        let guess = {
            let inside = self.inside.lock();
            inside.check().map_err(|why| OpenError::Failed(io::Error::other(why)))?;
            let anchor = inside.tail.anchor();
            Guess { older: None, empty: (anchor.applied.ordinal == inside.tail.base()).then_some(anchor.pointer) }
        };
        let open_failed = |failure| match failed(failure) {
            ReadError::Failed(why) => OpenError::Failed(why),
            other @ (ReadError::Truncated { .. } | ReadError::Damaged { .. }) => {
                OpenError::Failed(io::Error::other(other))
            }
        };
        let granted_at = self.env.clock.now();
        let lease = self.kv.lease_grant(self.settings.lease.as_secs()).await.map_err(open_failed)?;
        let mut open = Open { identity, nonce, entry, lease: lease.id, guess };
        let opened = self.try_open(&mut open).await;
        let (revision, position) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                // Whatever of it may still land has no lease to live on.
                let _best_effort = self.kv.lease_revoke(lease.id).await;
                return Err(why);
            }
        };
        let fenced = Fenced { broker_id: identity.broker_id, nonce, fence: revision };
        let live_until = Some(granted_at + std::time::Duration::from_secs(lease.ttl_s));
        self.change(|inside| inside.own.insert(nonce, Own { fenced, lease: lease.id, live_until }));
        self.env.tasks.spawn("journal lease", Box::pin(lease::keep(Arc::downgrade(self), nonce, lease)));
        Ok(position)
    }

    async fn try_open(&self, open: &mut Open) -> Result<(Revision, Position), OpenError> {
        let failed = |words: &str| OpenError::Failed(io::Error::other(words.to_owned()));
        for _ in 0..MAX_GUESSES {
            let reply = match self.kv.txn(open.txn(&self.life)).await {
                Ok(reply) => reply,
                Err(failure) => return Err(OpenError::Failed(io::Error::other(failure))),
            };
            match open.read(&self.life, &reply) {
                Opened::Now { revision, count } => {
                    let ordinal = self.inside.lock().tail.base() + count;
                    return Ok((revision, Position { ordinal, revision }));
                }
                Opened::Again(guess) => open.guess = guess,
                Opened::InUse => return Err(OpenError::InUse { broker_id: open.identity.broker_id }),
                Opened::Before { .. } | Opened::Over => {
                    return Err(failed("this session had been opened before; take another nonce"));
                }
                Opened::OtherLife => {
                    let words = "the journal's head is of another incarnation; run `kafscale recover`";
                    self.stop(words);
                    return Err(failed(words));
                }
                Opened::Unreadable(why) => return Err(OpenError::Failed(io::Error::other(why))),
            }
        }
        Err(failed("other processes of this broker id come and go; try again"))
    }
}
