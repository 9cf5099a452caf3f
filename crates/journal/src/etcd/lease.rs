//! A session's lease is kept alive by a task of its own, and what is known of it is what upload guards ask.
//!
//! A lease is known to live for its time from when the request that renewed it *began*: etcd counts from later. When it
//! runs out, etcd removes S, and the session appends nothing more; that ends nothing here, for only an entry ends a
//! session in the fold. A takeover leaves the old lease alive without S on it, so a living lease is not enough: looks
//! at the head and refused appends say that the session is over, and then it is.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::sleep;

use super::kv::{Failure, Kv, Lease, Refusal};
use super::shared::Shared;

/// How long to wait after a renewal that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Renews a lease three times in its life, until its session is over or the journal is closed.
pub(super) async fn keep(shared: Weak<Shared>, nonce: u64, lease: Lease) {
    let mut pause = Duration::from_secs(lease.ttl_s) / 3;
    loop {
        sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.inside.lock().live_until(nonce).is_none() {
            return;
        }
        pause = match renew(&shared, nonce, lease).await {
            Ok(renewed) => Duration::from_secs(renewed.ttl_s) / 3,
            Err(Failure::Refused(Refusal::NoLease)) => {
                tracing::warn!("this broker's lease in etcd has run out; its session can append nothing more");
                shared.change(|inside| inside.over(nonce));
                return;
            }
            Err(why) => {
                tracing::warn!(error = %why, "this broker's lease in etcd was not renewed; trying again");
                RETRY_PAUSE
            }
        };
    }
}

async fn renew(shared: &Shared, nonce: u64, lease: Lease) -> Result<Lease, Failure> {
    let began = shared.env.clock.now();
    let renewed = shared.kv.lease_keep_alive(lease.id).await?;
    shared.change(|inside| {
        let until = inside.own.get_mut(&nonce).and_then(|own| own.live_until.as_mut());
        if let Some(until) = until {
            *until = (*until).max(began + Duration::from_secs(renewed.ttl_s));
        }
    });
    Ok(renewed)
}
