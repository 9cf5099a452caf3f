//! Snapshots: keep the journal short and the next start quick.
//!
//! After enough entries the state is written to the store, read back, compared with a second fold of the same entries
//! from the snapshot before it, and only then published (JOURNAL.md: "confirmed"); then the journal drops what the
//! older of the two kept snapshots holds, and the store drops the snapshot before that one. The fold never waits: it
//! goes on while a clone of its tables is written.
//!
//! Of several brokers the one whose session has the lowest nonce takes them; the others do when one is overdue. Two that
//! take one at a time do no harm: the pointer only goes up, and the loser's is swept away ([`sweep`](super::sweep)).
//!
//! A failure at any step leaves the pointer where it was; the next attempt starts anew, under a new number.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::{Journal, Pointer, ReadError};
use kafscale_log::Ledger;
use kafscale_log::store::{GetError, ObjectName, ObjectStore, PutError};
use kafscale_metadata::{Command, ObjectId, ObjectKind, Outcome, Session, SnapshotRef, State, snapshot};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::{info, warn};

use super::follower::replay;
use super::{Progress, Proposal, Replica};

/// How long to wait after a failed attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A snapshot waits for entries of at least this part of its predecessor's size.
const FAIR_PART: u64 = 4;

/// A snapshot is overdue when so many times as much has happened as it waits for.
const OVERDUE: u64 = 2;

/// When a snapshot is due.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotSettings {
    /// After this many entries …
    pub every_entries: u64,
    /// … or this many bytes of entries, whichever comes first.
    pub every_bytes: u64,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self { every_entries: 10_000, every_bytes: 8 << 20 }
    }
}

/// Where snapshots are kept, and what their names begin with.
#[derive(Clone)]
pub(crate) struct Shelf {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) cluster: u128,
    pub(crate) incarnation: u128,
}

impl Shelf {
    fn name(&self, snapshot: SnapshotRef) -> ObjectName {
        ObjectName::snapshot(self.cluster, self.incarnation, snapshot.ordinal, snapshot.object)
    }

    /// Reads a snapshot back. The error says which one and why.
    pub(crate) async fn load(&self, snapshot: SnapshotRef) -> Result<State, NotLoaded> {
        let name = self.name(snapshot);
        let bytes = self.store.get_all(&name).await.map_err(|why| match why {
            GetError::NotFound(_) => NotLoaded::Wrong(format!("snapshot {name}: {why}")),
            GetError::Failed { ref source, .. } => NotLoaded::Failed(format!("snapshot {name}: {why}: {source}")),
        })?;
        let state = snapshot::decode(&bytes).map_err(|why| NotLoaded::Wrong(format!("snapshot {name}: {why}")))?;
        if state.ordinal() == snapshot.ordinal {
            Ok(state)
        } else {
            Err(NotLoaded::Wrong(format!("snapshot {name} holds the state after entry {}", state.ordinal())))
        }
    }
}

/// Why a state could not be read from a snapshot, or followed from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLoaded {
    /// A store did not answer, or no longer has what another broker has superseded meanwhile: try again.
    #[error("{0}")]
    Failed(String),
    /// What was read cannot be used.
    #[error("{0}")]
    Wrong(String),
}

impl From<NotLoaded> for String {
    fn from(why: NotLoaded) -> Self {
        why.to_string()
    }
}

impl From<ReadError> for NotLoaded {
    fn from(why: ReadError) -> Self {
        match why {
            ReadError::Failed(ref source) => Self::Failed(format!("{why}: {source}")),
            ReadError::Truncated { .. } => Self::Failed(why.to_string()),
            ReadError::Damaged { .. } => Self::Wrong(why.to_string()),
        }
    }
}

/// What one attempt came to.
struct Taken {
    snapshot: SnapshotRef,
    /// What nothing refers to any more.
    superseded: Option<SnapshotRef>,
}

/// Takes snapshots until the session is over.
pub(crate) struct Snapshots {
    replica: Arc<Replica>,
    shelf: Shelf,
    settings: SnapshotSettings,
    /// The size of the newest one that this life wrote.
    newest_bytes: u64,
}

impl Snapshots {
    pub(crate) fn new(replica: Arc<Replica>, shelf: Shelf, settings: SnapshotSettings) -> Self {
        Self { replica, shelf, settings, newest_bytes: 0 }
    }

    pub(crate) async fn run(mut self) {
        let mut over = self.replica.life.end.subscribe();
        tokio::select! {
            biased;
            _over = over.wait_for(Option::is_some) => {}
            () = self.keep_taking() => {}
        }
    }

    async fn keep_taking(&mut self) {
        loop {
            self.due().await;
            match self.take().await {
                Ok(Taken { snapshot, superseded }) => {
                    info!(ordinal = snapshot.ordinal, "snapshot published");
                    self.truncate().await;
                    // Another broker may be starting from it: see the sweep.
                    if self.replica.order.sessions.is_none() {
                        self.delete(superseded.as_slice()).await;
                    }
                }
                Err(why) => {
                    self.replica.metrics.snapshots.failed();
                    warn!(error = %why, "no snapshot was published; trying again");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn truncate(&self) {
        info!("truncating the journal");
        match self.replica.order.journal.truncate().await {
            Ok(()) => info!("journal truncated"),
            Err(why) => warn!(error = %why, "the journal was not truncated; the next snapshot tries again"),
        }
    }

    /// Nothing refers to these: the durable pointer names two newer ones, or no entry ever named them. A crash before
    /// this leaves an orphan, which costs its bytes and nothing else.
    async fn delete(&self, unnamed: &[SnapshotRef]) {
        for snapshot in unnamed {
            let name = self.shelf.name(*snapshot);
            if let Err(why) = self.shelf.store.delete(&name).await {
                warn!(%name, error = %why, "a snapshot that nothing refers to was not deleted");
            }
        }
    }

    /// How many times as much must have happened before it is this broker's turn.
    fn turn(&self) -> u64 {
        let first = self.replica.state().live_sessions().map(Session::nonce).min();
        if first.is_none_or(|first| first == self.replica.nonce) { 1 } else { OVERDUE }
    }

    /// Waits until enough was applied since the newest snapshot: enough entries or bytes, and a fair part of what a
    /// snapshot takes, so that a large state is not written again for every few entries.
    async fn due(&self) {
        let mut progress = self.replica.progress.subscribe();
        let (settings, size) = (self.settings, self.newest_bytes);
        let is_due = |now: &Progress| {
            let (entries, bytes) = (now.ordinal.saturating_sub(now.snapshot), now.bytes - now.snapshot_bytes);
            if entries < settings.every_entries && bytes < settings.every_bytes {
                return false;
            }
            let turn = self.turn();
            let is_enough = entries / turn >= settings.every_entries || bytes / turn >= settings.every_bytes;
            is_enough && bytes >= size / FAIR_PART
        };
        // An error means that the replica is gone, and this task with it.
        let _gone = progress.wait_for(is_due).await;
    }

    async fn take(&mut self) -> Result<Taken, String> {
        let begun = self.replica.env.clock.now();
        let state = self.replica.state.read().clone();
        // As the state in it has them: what another broker publishes from here on is newer than this snapshot.
        let kept: Vec<SnapshotRef> = [state.snapshot(), state.previous_snapshot()].into_iter().flatten().collect();
        let object = self.replica.next_object(ObjectKind::Snapshot).await.map_err(|stopped| stopped.to_string())?;
        let snapshot = SnapshotRef { object, ordinal: state.ordinal() };
        info!(ordinal = snapshot.ordinal, "writing a snapshot");
        let encoded = Bytes::from(snapshot::encode(&state));
        drop(state);
        let size = encoded.len() as u64;
        self.put(snapshot, encoded).await?;
        let base = match self.confirm(snapshot, &kept).await {
            Ok(base) => base,
            Err(why) => {
                // No entry names it. Left there, each further attempt would add another one until the disk is full.
                self.delete(&[snapshot]).await;
                self.replica.settle(object);
                return Err(why);
            }
        };
        self.publish(snapshot, base).await?;
        self.replica.settle(object);
        let clock = &self.replica.env.clock;
        self.replica.metrics.snapshots.published(clock.now() - begun, size, clock.wall_ms());
        self.newest_bytes = size;
        let superseded = kept.get(1).copied().filter(|older| Some(*older) != base);
        Ok(Taken { snapshot, superseded })
    }

    async fn put(&self, snapshot: SnapshotRef, bytes: Bytes) -> Result<(), String> {
        let name = self.shelf.name(snapshot);
        match self.shelf.store.put(&name, vec![bytes]).await {
            Ok(()) => Ok(()),
            Err(PutError::Refused(why)) => {
                self.replica.settle(snapshot.object);
                Err(format!("snapshot {name}: {why}"))
            }
            // The number stays unsettled: a PUT without a final answer holds `low` back.
            Err(PutError::Unknown(why)) => Err(format!("snapshot {name}: {why}")),
        }
    }

    /// Reads the snapshot back and compares it with a fold of the journal's entries from the one before it. Returns that
    /// one: the newest of the kept ones that can be read.
    async fn confirm(&self, snapshot: SnapshotRef, kept: &[SnapshotRef]) -> Result<Option<SnapshotRef>, String> {
        let stored = self.shelf.load(snapshot).await?;
        let (base, mut folded) = self.base(kept).await?;
        catch_up(&*self.replica.order.journal, &mut folded, snapshot.ordinal).await?;
        if folded.hash() == stored.hash() && snapshot::content_hash(&folded) == snapshot::content_hash(&stored) {
            return Ok(base);
        }
        Err(format!("the snapshot at entry {} differs from the journal it was made from", snapshot.ordinal))
    }

    async fn base(&self, kept: &[SnapshotRef]) -> Result<(Option<SnapshotRef>, State), String> {
        let mut failure = None;
        for older in kept {
            match self.shelf.load(*older).await {
                Ok(state) => return Ok((Some(*older), state)),
                Err(why) => failure = failure.or(Some(why.into())),
            }
        }
        failure.map_or_else(|| Ok((None, State::new())), Err)
    }

    async fn publish(&self, snapshot: SnapshotRef, base: Option<SnapshotRef>) -> Result<(), String> {
        let kept: Vec<SnapshotRef> = [Some(snapshot), base].into_iter().flatten().collect();
        let pointer = Pointer {
            ordinal: snapshot.ordinal,
            truncatable: base.map_or(0, |older| older.ordinal),
            value: encode_kept(&kept),
        };
        let command = Command::PublishSnapshot { object: snapshot.object, ordinal: snapshot.ordinal };
        let (reply, outcome) = oneshot::channel();
        self.replica.send(Proposal::Publish(command, pointer, reply)).await.map_err(|why| why.to_string())?;
        match outcome.await {
            Ok(Ok(Outcome::Done)) => Ok(()),
            other => Err(format!("the snapshot at entry {} was not published: {other:?}", snapshot.ordinal)),
        }
    }
}

/// Folds the journal's entries up to and including ordinal `until`.
pub(crate) async fn catch_up(journal: &dyn Journal, state: &mut State, until: u64) -> Result<u64, NotLoaded> {
    let mut bytes = 0;
    while state.ordinal() < until {
        let records = journal.read(state.ordinal()).await?;
        for record in records.iter().take_while(|record| record.position.ordinal <= until) {
            bytes += record.entry.len() as u64;
            replay(state, record).map_err(NotLoaded::Wrong)?;
        }
        yield_now().await;
    }
    Ok(bytes)
}

/// The pointer's value: a line for each kept snapshot, newest first: `ordinal nonce number`, the nonce in hex.
fn encode_kept(kept: &[SnapshotRef]) -> Bytes {
    let line = |s: &SnapshotRef| format!("{} {:016x} {}\n", s.ordinal, s.object.nonce, s.object.number);
    kept.iter().map(line).collect::<String>().into()
}

/// See [`encode_kept`]. `None` if it is not one.
pub(crate) fn decode_kept(value: &[u8]) -> Option<Vec<SnapshotRef>> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let ordinal = fields.next()?.parse().ok()?;
        let nonce = u64::from_str_radix(fields.next()?, 16).ok()?;
        let number = fields.next()?.parse().ok()?;
        fields.next().is_none().then_some(SnapshotRef { object: ObjectId { nonce, number }, ordinal })
    };
    std::str::from_utf8(value).ok()?.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pointers_value_round_trips() {
        let snapshot = |ordinal, number| SnapshotRef { object: ObjectId { nonce: u64::MAX, number }, ordinal };
        for kept in [vec![], vec![snapshot(7, 64)], vec![snapshot(u64::MAX, 0), snapshot(1, u32::MAX)]] {
            assert_eq!(decode_kept(&encode_kept(&kept)), Some(kept));
        }
        assert_eq!(decode_kept(b"1 2"), None);
        assert_eq!(decode_kept(b"\xff"), None);
    }
}
