//! Whether this session is ready to coordinate groups. A broker says so after it has lived for a minute, or at once if
//! nobody else is ready: one that dies in its first minute again and again gets no groups, and a cluster that has just
//! started has not to wait. It withdraws before it stops, so that its groups are at the next broker before it closes a
//! connection.
//!
//! One task says both, so that the last word in the journal is always the last wish.

use std::sync::Arc;
use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_metadata::{Command, Standing};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{Progress, Replica};

/// How long a session lives before it says that it is ready, if another one is.
const PROBATION: Duration = Duration::from_secs(60);

/// How long a stop waits for the journal to have the withdrawal. Without it the groups move when the session has ended.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// How long to wait before a word that was not written is said again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

impl Replica {
    /// Whether this broker wants to coordinate groups, from now on. It does from its start.
    pub fn want_ready(&self, wanted: bool) {
        self.life.ready_wanted.send_replace(wanted);
    }

    /// Gives this broker's groups to the others; returns once the fold has seen it. (If there are no others they stay.)
    pub async fn withdraw(&self) {
        self.want_ready(false);
        let mut progress = self.progress();
        // The state is looked at inside: it is written before the progress is.
        let withdrawn = |_: &Progress| matches!(self.standing(), None | Some(Standing::Withdrawn));
        let seen = progress.wait_for(withdrawn);
        tokio::select! {
            biased;
            _over = self.ended() => {}
            seen = timeout(WITHDRAWAL, seen) => if seen.is_err() {
                warn!("the journal does not take this broker's withdrawal; its groups move when its session has ended");
            },
        }
    }

    /// What the fold has of this session; none if it has ended.
    fn standing(&self) -> Option<Standing> {
        let state = self.state();
        state.session(self.nonce).filter(|session| session.is_live()).map(|session| session.standing())
    }

    /// Whether any session is ready.
    fn any_ready(&self) -> bool {
        self.state().live_sessions().any(|session| session.standing() == Standing::Ready)
    }
}

pub(crate) async fn run(replica: Arc<Replica>) {
    let since = replica.env.clock.now() + PROBATION;
    let mut wanted = replica.life.ready_wanted.subscribe();
    let mut progress = replica.progress();
    loop {
        let ready = *wanted.borrow_and_update();
        let seen = progress.borrow().session_changes;
        let Some(standing) = replica.standing() else { return };
        let due = match (ready, standing) {
            (true, Standing::Ready) | (false, Standing::Withdrawn) => None,
            (true, Standing::New) if replica.any_ready() => Some(since),
            (true, Standing::New | Standing::Withdrawn) | (false, Standing::New | Standing::Ready) => {
                Some(replica.env.clock.now())
            }
        };
        tokio::select! {
            biased;
            _over = replica.ended() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            there = later(&mut progress, seen) => if !there { return },
            () = until(due) => say(&replica, ready).await,
        }
    }
}

/// Returns when sessions have changed more often; false if the replica is gone.
async fn later(progress: &mut watch::Receiver<Progress>, seen: u64) -> bool {
    progress.wait_for(|now| now.session_changes > seen).await.is_ok()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn say(replica: &Replica, ready: bool) {
    match replica.propose(Command::SetReady { ready }).await {
        Ok(_outcome) if ready => info!("ready to coordinate groups"),
        Ok(_outcome) => info!("withdrawn: other brokers coordinate groups"),
        Err(why) => {
            warn!(error = %why, ready, "the journal did not take this broker's word on groups; trying again");
            sleep(RETRY_PAUSE).await;
        }
    }
}
