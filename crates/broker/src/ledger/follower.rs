//! The follower: reads the journal in order and folds it into the state. The only writer of the state, and the only
//! one that tells an outcome. What it cannot read or may not apply ends the broker: going on would be guessing.

use std::sync::Arc;

use kafscale_journal::{ReadError, Record};
use kafscale_metadata::{Applied, Entry, Nonce, Session, State, apply};
use tokio::task::yield_now;
use tokio::time::{Duration, sleep};
use tracing::{error, warn};

use super::{End, Replica};

/// How long to wait before the journal is read again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Failures in a row after which the broker ends: what it serves is then older than half a minute, and a journal that
/// has failed for good says the same every time.
const MAX_FAILURES: u32 = 300;

pub(crate) async fn run(replica: Arc<Replica>) {
    let mut over = replica.life.end.subscribe();
    let follow = follow(&replica);
    let end = tokio::select! {
        biased;
        _over = over.wait_for(Option::is_some) => return,
        end = follow => end,
    };
    error!(reason = %end, "the fold has stopped");
    replica.finish(end);
}

async fn follow(replica: &Replica) -> End {
    let mut failures = 0;
    loop {
        let after = replica.progress.borrow().ordinal;
        match replica.order.journal.read(after).await {
            Ok(records) => {
                failures = 0;
                for record in records {
                    if let Err(end) = step(replica, &record) {
                        return end;
                    }
                    yield_now().await;
                }
            }
            Err(ReadError::Failed(why)) if failures == MAX_FAILURES => {
                return End::Failed(format!("the journal cannot be read ({why}); restart the broker"));
            }
            Err(ReadError::Failed(why)) => {
                if failures == 0 {
                    warn!(error = %why, "the journal could not be read; trying again");
                }
                failures += 1;
                sleep(RETRY_PAUSE).await;
            }
            Err(gone @ (ReadError::Truncated { .. } | ReadError::Damaged { .. })) => {
                return End::Failed(gone.to_string());
            }
        }
    }
}

/// What the state says after an entry.
struct After {
    session_changes: u64,
    /// The last entry in the newest published snapshot.
    snapshot: u64,
    /// The entry that ended this session.
    ended: Option<u64>,
}

impl After {
    fn of(state: &State, own: Nonce) -> Self {
        Self {
            session_changes: state.session_changes(),
            snapshot: state.snapshot().map_or(0, |snapshot| snapshot.ordinal),
            ended: state.session(own).and_then(Session::ended),
        }
    }
}

/// Applies one entry, then tells everybody: waiting fetches, barriers, and the proposers if the entry is ours.
fn step(replica: &Replica, record: &Record) -> Result<(), End> {
    let begun = replica.env.clock.now();
    let entry = decode(record).map_err(End::Failed)?; // before the lock: readers do not wait for it
    let (applied, after) = {
        let mut state = replica.state.write();
        let applied = fold(&mut state, record, &entry).map_err(End::Failed)?;
        (applied, After::of(&state, replica.nonce))
    };
    replica.metrics.fold.applied(replica.env.clock.now() - begun, record.entry.len(), entry.time_ms);
    replica.waiters.wake(&applied.advanced);
    applied.deleted.iter().for_each(|topic| replica.waiters.wake_topic(*topic));
    replica.progress.send_modify(|progress| {
        progress.ordinal = record.position.ordinal;
        progress.session_changes = after.session_changes;
        progress.bytes += record.entry.len() as u64;
        if progress.snapshot != after.snapshot {
            (progress.snapshot, progress.snapshot_bytes) = (after.snapshot, progress.bytes);
        }
    });
    if record.nonce == replica.nonce {
        replica.pending.lock().resolve(record.n, applied.outcomes);
    } else if after.ended == Some(record.position.ordinal) {
        // The others have ended it, or the next life of this broker has: nothing of ours follows any more.
        return Err(End::Fenced);
    }
    Ok(())
}

/// Decodes and applies a record. The error says why this broker must not go on.
pub(crate) fn replay(state: &mut State, record: &Record) -> Result<(), String> {
    fold(state, record, &decode(record)?).map(drop)
}

fn decode(record: &Record) -> Result<Entry, String> {
    let ordinal = record.position.ordinal;
    let entry = Entry::decode(&record.entry).map_err(|why| format!("journal entry {ordinal} cannot be read: {why}"))?;
    if (entry.nonce, entry.n) != (record.nonce, record.n) {
        return Err(format!("journal entry {ordinal} is not the one its key says: the journal is damaged"));
    }
    Ok(entry)
}

fn fold(state: &mut State, record: &Record, entry: &Entry) -> Result<Applied, String> {
    let ordinal = record.position.ordinal;
    apply(state, ordinal, entry).map_err(|why| format!("journal entry {ordinal} cannot be applied: {why}"))
}
