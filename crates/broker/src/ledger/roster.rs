//! Ends the sessions of brokers that are gone. A broker that dies without a word keeps its session in the fold: nobody
//! but the others can append that it is over. Owns who of them does so, and when.
//!
//! 1. What the fold holds for live is looked at *before* the journal is asked who lives: so a session that the fold knows
//!    and the journal does not is one that has lost its right to append, and not one that is just being opened.
//! 2. The journal checks that again when the entry is appended; if the session lives, the entry is refused.
//! 3. Each broker would do it, and a second end does nothing. To save the entries the one with the lowest nonce is the
//!    first, and the others give it a moment each.

use std::sync::Arc;
use std::time::Duration;

use kafscale_journal::ReadError;
use kafscale_journal::sessions::{LiveSession, Sessions, Victim};
use kafscale_log::Ledger;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Progress, Proposal, Replica};

/// What each broker gives the ones before it.
const TURN: Duration = Duration::from_millis(300);

/// After a failure, and between two looks at an end that did not come about.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Returns when the session is over; at once if this journal has no other brokers.
pub(crate) async fn run(replica: Arc<Replica>) {
    let Some(sessions) = replica.order.sessions.clone() else { return };
    let mut over = replica.life.end.subscribe();
    tokio::select! {
        biased;
        _over = over.wait_for(Option::is_some) => {}
        () = keep_ending(&replica, &*sessions) => {}
    }
}

async fn keep_ending(replica: &Replica, sessions: &dyn Sessions) {
    loop {
        match round(replica, sessions).await {
            Ok(live) => wait(replica, sessions, &live).await,
            Err(why) => {
                warn!(error = %why, "it is not known which brokers live; asking again");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// One look, and what follows. Returns who lives.
async fn round(replica: &Replica, sessions: &dyn Sessions) -> Result<Vec<LiveSession>, ReadError> {
    let believed = believed(replica);
    let live = sessions.live().await?;
    if gone(&believed, &live).next().is_none() {
        return Ok(live);
    }
    let before_us = live.iter().filter(|session| session.nonce < replica.nonce).count();
    sleep(TURN * u32::try_from(before_us).unwrap_or(u32::MAX)).await;
    let still = self::believed(replica);
    for victim in gone(&believed, &live).filter(|victim| still.contains(victim)) {
        end(replica, victim).await;
    }
    Ok(live)
}

async fn end(replica: &Replica, victim: Victim) {
    let (broker, session) = (victim.broker_id, format!("{:016x}", victim.nonce));
    info!(broker, session, "a broker is gone; ending its session");
    let (reply, outcome) = oneshot::channel();
    let sent = replica.send(Proposal::End(victim, reply)).await;
    if sent.is_err() || !matches!(outcome.await, Ok(Ok(_))) {
        warn!(broker, session, "the session was not ended; looking again");
        sleep(RETRY_PAUSE).await;
    }
}

/// The other sessions that the fold holds for live.
fn believed(replica: &Replica) -> Vec<Victim> {
    let state = replica.state();
    let others = state.live_sessions().filter(|session| session.nonce() != replica.nonce);
    others.map(|session| Victim { broker_id: session.broker_id(), nonce: session.nonce() }).collect()
}

fn gone(believed: &[Victim], live: &[LiveSession]) -> impl Iterator<Item = Victim> {
    believed.iter().copied().filter(|victim| live.iter().all(|session| session.nonce != victim.nonce))
}

/// Until others live than these, or the fold holds one for live that is not among them: also one whose opening it has met
/// only now.
async fn wait(replica: &Replica, sessions: &dyn Sessions, live: &[LiveSession]) {
    let mut progress = replica.progress();
    let is_news = |_: &Progress| gone(&believed(replica), live).next().is_some();
    // An error says that the journal has stopped, or is being read anew.
    let has_failed = tokio::select! {
        biased;
        _news = progress.wait_for(is_news) => false,
        changed = sessions.changed(live) => changed.is_err(),
    };
    if has_failed {
        sleep(RETRY_PAUSE).await;
    }
}
