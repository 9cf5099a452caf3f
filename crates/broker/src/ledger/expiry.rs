//! Proposes what is to be forgotten: producer ids that were idle on all partitions for a day, and offsets of groups that
//! nobody committed for the retention time (which ones, is `kafscale_metadata`'s to say). The fold decides: what was
//! used after what the proposal saw lives on, so a late proposal of a paused broker does no harm.
//! Any broker expires producer ids; offsets only the coordinator of their group, whose command alone the fold takes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kafscale_log::{CommitError, Ledger};
use kafscale_metadata::{Command, Expired};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Replica;

/// Kafka's `producer.id.expiration.ms`.
const IDLE_MS: i64 = 24 * 60 * 60 * 1000;

/// How often it is looked for what has expired.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// When committed offsets are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetExpiry {
    /// Kafka's `offsets.retention.minutes`.
    pub retention: Duration,
    /// How often it is looked for such offsets.
    pub every: Duration,
}

impl Default for OffsetExpiry {
    fn default() -> Self {
        Self { retention: Duration::from_secs(7 * 24 * 60 * 60), every: INTERVAL }
    }
}

pub(crate) async fn producers(replica: Arc<Replica>) {
    while pause(&replica, INTERVAL).await {
        expire_producers(&replica).await;
    }
}

pub(crate) async fn offsets(replica: Arc<Replica>, settings: OffsetExpiry) {
    while pause(&replica, settings.every).await {
        if let Err(why) = expire_offsets(&replica, settings.retention).await {
            warn!(error = %why, "old offsets of groups were not expired; trying again later");
        }
    }
}

/// False if the session is over.
async fn pause(replica: &Replica, time: Duration) -> bool {
    let mut over = replica.life.end.subscribe();
    tokio::select! {
        biased;
        _over = over.wait_for(Option::is_some) => false,
        () = sleep(time) => true,
    }
}

/// One look, in as many commands as it takes.
async fn expire_producers(replica: &Replica) {
    let before_ms = replica.env.clock.wall_ms().saturating_sub(IDLE_MS);
    loop {
        let idle = replica.state().idle_producers(before_ms);
        if idle.is_empty() {
            return;
        }
        info!(count = idle.len(), "expiring idle producer ids");
        if let Err(why) = replica.propose(Command::ExpireProducers { idle }).await {
            warn!(error = %why, "idle producer ids were not expired; trying again later");
            return;
        }
    }
}

/// One look at all groups, in as many steps as it takes: the state is locked for each, and what one finds shares an
/// entry.
async fn expire_offsets(replica: &Replica, retention: Duration) -> Result<(), CommitError> {
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let before_ms = replica.env.clock.wall_ms().saturating_sub(retention_ms);
    let mut from: Arc<str> = "".into();
    loop {
        let look = {
            let state = replica.state();
            let mut look = state.expired_offsets(before_ms, &from);
            look.found.retain(|found| state.coordinates(replica.nonce(), &found.group));
            look
        };
        if !look.found.is_empty() {
            let offsets: usize = look.found.iter().map(|found| found.offsets.len()).sum();
            info!(groups = look.found.len(), offsets, "expiring offsets of groups");
        }
        for outcome in join_all(look.found.into_iter().map(|found| replica.propose(command(found)))).await {
            // Refused: the group has moved, and its next coordinator looks; or this session has ended, and the loop
            // ends with it.
            let _done = outcome?;
        }
        let Some(next) = look.next else { return Ok(()) };
        from = next;
    }
}

fn command(found: Expired) -> Command {
    let Expired { group, generation, offsets } = found;
    Command::ExpireOffsets { group: group.as_ref().to_owned(), generation, offsets }
}
