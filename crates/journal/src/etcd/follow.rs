//! The two tasks that keep the tail going: one follows a watch, one looks at the head. They do what the tail and its
//! patience decide, and decide nothing themselves.
//!
//! A watch that was just opened is believed only after a look at the head: the store behind it may be another one than
//! before (a member that came back from a backup), and then its events fit by their numbers and are not the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::kv::{Failure, Get, Keys, Kv, Op, OpResult, Range, Refusal, Revision, Txn, Watch, WatchReply, WatchStream};
use super::shared::{Shared, failed};
use super::tail::patience::{LOOK_INTERVAL, Verdict};
use super::tail::{Halt, Tail, View};
use super::txns::Life;
use crate::ReadError;

/// How long to wait after something failed.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Returns when the journal was closed.
async fn closed(mut open: watch::Receiver<()>) {
    while open.changed().await.is_ok() {}
}

/// Follows until the journal is closed or has stopped.
pub(super) async fn follow(shared: Arc<Shared>, from: Revision, open: watch::Receiver<()>) {
    tokio::select! {
        biased;
        () = closed(open) => {}
        () = watch_again_and_again(&shared, from) => {}
    }
}

/// Looks at the head once a second, if nobody else does.
pub(super) async fn look(shared: Arc<Shared>, open: watch::Receiver<()>) {
    tokio::select! {
        biased;
        () = closed(open) => {}
        () = look_again_and_again(&shared) => {}
    }
}

async fn look_again_and_again(shared: &Shared) {
    let mut due = shared.env.clock.now() + LOOK_INTERVAL;
    while !shared.is_stopped() {
        sleep_until(due).await;
        due = shared.env.clock.now() + LOOK_INTERVAL;
        if let Err(why) = attend(shared).await {
            tracing::debug!(error = %why, "the journal's head could not be looked at");
        }
    }
}

/// A look, unless somebody else has just looked, and what follows from it.
async fn attend(shared: &Shared) -> Result<(), ReadError> {
    let last = shared.inside.lock().looked;
    if shared.env.clock.now().saturating_duration_since(last) >= LOOK_INTERVAL {
        shared.look().await?;
    }
    let (pointer_moved, sessions_moved) = {
        let inside = shared.inside.lock();
        (inside.pointer_moved, inside.sessions_moved)
    };
    if pointer_moved {
        shared.read_pointer().await?;
    }
    if sessions_moved {
        shared.read_sessions().await?;
    }
    Ok(())
}

/// Why a watch is over.
enum Over {
    Reopen,
    ReadAll,
    Stopped,
}

async fn watch_again_and_again(shared: &Shared, mut from: Revision) {
    loop {
        let began = shared.env.clock.now();
        match watch_once(shared, from).await {
            Over::Stopped => return,
            Over::Reopen => sleep(RETRY_PAUSE).await,
            Over::ReadAll => {
                // A watch that does not last is no reason to read everything all the time.
                if shared.env.clock.now() - began < RETRY_PAUSE {
                    sleep(RETRY_PAUSE).await;
                }
                match read_everything(shared).await {
                    // Also if that is lower than before: a store that went back and lost no entry is the same journal.
                    Ok(revision) => from = revision + 1,
                    Err(ReadError::Damaged { .. }) => return,
                    Err(why) => {
                        tracing::warn!(error = %why, "the journal could not be read; trying again");
                        sleep(RETRY_PAUSE).await;
                        // Until it can be, nothing else is of use.
                        shared.read_all.notify_one();
                    }
                }
            }
        }
        from = from.max(shared.inside.lock().tail.applied().revision + 1);
    }
}

async fn watch_once(shared: &Shared, from: Revision) -> Over {
    let watch = Watch { keys: shared.life.names.watched(), from, deletes: false };
    let mut stream = match shared.kv.watch(watch).await {
        Ok(stream) => stream,
        Err(failure) => return over(&failure),
    };
    match shared.look().await {
        Ok(seen) if seen.anchor_lost => return Over::ReadAll,
        Ok(_) => {}
        Err(ReadError::Damaged { .. }) => return Over::Stopped,
        Err(ReadError::Failed(_) | ReadError::Truncated { .. }) => return Over::Reopen,
    }
    listen(shared, &mut *stream).await
}

fn over(failure: &Failure) -> Over {
    match failure {
        Failure::Refused(Refusal::Compacted) => Over::ReadAll,
        Failure::Refused(_) | Failure::Unknown(_) => {
            tracing::debug!(error = %failure, "the watch on the journal is over; opening another");
            Over::Reopen
        }
    }
}

async fn listen(shared: &Shared, stream: &mut dyn WatchStream) -> Over {
    let mut changed = shared.changed.subscribe();
    loop {
        let verdict = shared.inside.lock().patience.judge(shared.env.clock.now());
        let until = match verdict {
            Verdict::Wait(until) => until,
            Verdict::Reopen => return Over::Reopen,
            Verdict::ReadAll => return Over::ReadAll,
        };
        if shared.is_stopped() {
            return Over::Stopped;
        }
        let patience = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        // What has arrived is taken before it is judged that it did not.
        tokio::select! {
            biased;
            reply = stream.next() => match reply {
                Ok(reply) => if let Some(over) = take(shared, reply) { return over },
                Err(failure) => return over(&failure),
            },
            () = shared.read_all.notified() => return Over::ReadAll,
            _changed = changed.changed() => {}
            () = patience => {}
        }
    }
}

fn take(shared: &Shared, reply: WatchReply) -> Option<Over> {
    if reply.events.is_empty() {
        return None;
    }
    let mut records = Vec::new();
    let result = shared.change(|inside| {
        let result = inside.tail.watched(reply.events, &mut records);
        inside.push(records);
        result
    });
    match result {
        Ok(()) => None,
        Err(Halt::Gap | Halt::Truncated) => Some(Over::ReadAll),
        Err(Halt::Stop(detail)) => {
            shared.stop(&detail);
            Some(Over::Stopped)
        }
    }
}

/// Reads all keys at one revision and gives them to the tail. Returns that revision.
async fn read_everything(shared: &Shared) -> Result<Revision, ReadError> {
    let asked = shared.anchor()?.pointer;
    let view = load(&shared.kv, &shared.life, shared.settings.page_entries).await?;
    let result = shared.change(|inside| match inside.tail.read_all(&view, asked) {
        Ok(records) => {
            inside.push(records);
            Ok(())
        }
        // What is missing is in snapshots and archives; readers are told when they ask for it.
        Err(Halt::Truncated) => Tail::start(shared.life.clone(), &view).map(|(tail, records)| {
            inside.restart(tail, records);
        }),
        Err(halt) => Err(halt),
    });
    result.map_err(|halt| shared.halted(halt))?;
    Ok(view.revision)
}

/// All keys of a journal at one revision.
pub(super) async fn load(kv: &dyn Kv, life: &Life, page_entries: usize) -> Result<View, ReadError> {
    let one = |key| Op::Get(Get::one(key));
    let then = vec![one(life.names.pointer()), one(life.names.head())];
    let reply = kv.txn(Txn { then, ..Txn::default() }).await.map_err(failed)?;
    let mut found = reply.results.into_iter().map(|result| match result {
        OpResult::Got(found) => found.kvs.into_iter().next(),
        OpResult::Put | OpResult::Deleted(_) => None,
    });
    let (pointer, head) = (found.next().flatten(), found.next().flatten());
    let mut view = View { revision: reply.revision, pointer, head, entries: Vec::new() };
    let Keys::Between(mut first, end) = life.names.entries() else { unreachable!("entries are a range") };
    loop {
        let keys = Keys::Between(first, end.clone());
        let get = Get { keys, keys_only: false, limit: page_entries as u64 };
        let page = kv.range(Range { get, revision: view.revision, serializable: false }).await.map_err(failed)?.found;
        let Some(last) = page.kvs.last() else { return Ok(view) };
        // The key right after the last one.
        first = [&last.key[..], &[0]].concat().into();
        view.add(&life.names, page.kvs);
        if !page.more {
            return Ok(view);
        }
    }
}
