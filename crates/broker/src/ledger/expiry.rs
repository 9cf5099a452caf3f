//! Proposes the expiry of producer ids that were idle on all partitions for a day. The fold decides: an id that was
//! active after what the proposal saw lives on, so a late proposal of a paused broker does no harm.

use std::sync::Arc;
use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_metadata::Command;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Replica;

/// Kafka's `producer.id.expiration.ms`.
const IDLE_MS: i64 = 24 * 60 * 60 * 1000;

/// How often it is looked for idle ids.
const INTERVAL: Duration = Duration::from_secs(10 * 60);

pub(crate) async fn run(replica: Arc<Replica>) {
    let mut over = replica.end.subscribe();
    loop {
        tokio::select! {
            biased;
            _over = over.wait_for(Option::is_some) => return,
            () = sleep(INTERVAL) => {}
        }
        expire(&replica).await;
    }
}

/// One look, in as many commands as it takes.
async fn expire(replica: &Replica) {
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
