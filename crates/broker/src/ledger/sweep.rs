//! Superseded snapshots of a cluster are deleted an hour after they were found to be: another broker may be starting from
//! one. Owns which those are: all of this life of the journal that are older than the two kept ones, whoever wrote them
//! and whether they were ever published. One broker of the cluster sweeps, the one that takes the snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_log::store::{Folder, ObjectLister, ObjectName, list_all};
use kafscale_metadata::Session;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Replica;
use super::snapshots::Shelf;

/// From one sweep to the next, and so the least time between "superseded" and "deleted".
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Sweeps until the session is over.
pub(crate) async fn run(replica: Arc<Replica>, shelf: Shelf, lister: Arc<dyn ObjectLister>) {
    let mut over = replica.life.end.subscribe();
    let sweeps = async {
        let mut seen = BTreeSet::new();
        loop {
            seen = sweep(&replica, &shelf, &*lister, seen).await;
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        _over = over.wait_for(Option::is_some) => {}
        () = sweeps => {}
    }
}

/// Deletes those that were superseded at the last sweep already. Returns those that are now.
async fn sweep(
    replica: &Replica,
    shelf: &Shelf,
    lister: &dyn ObjectLister,
    seen: BTreeSet<ObjectName>,
) -> BTreeSet<ObjectName> {
    let (is_ours, kept) = {
        let state = replica.state();
        (state.live_sessions().map(Session::nonce).min() == Some(replica.nonce), state.previous_snapshot())
    };
    let Some(kept) = kept.filter(|_| is_ours) else { return BTreeSet::new() };
    let names = match list_all(lister, &Folder::snapshots_of(shelf.cluster, shelf.incarnation)).await {
        Ok((names, _strangers)) => names,
        Err(why) => {
            warn!(error = %why, "superseded snapshots could not be listed; trying again later");
            return seen;
        }
    };
    let is_older = |name: &ObjectName| name.snapshot_of(shelf.incarnation).is_some_and(|last| last < kept.ordinal);
    let superseded: BTreeSet<ObjectName> = names.into_iter().filter(is_older).collect();
    for name in superseded.intersection(&seen) {
        match shelf.store.delete(name).await {
            Ok(()) => info!(%name, "a superseded snapshot was deleted"),
            Err(why) => warn!(%name, error = %why, "a superseded snapshot was not deleted; trying again later"),
        }
    }
    superseded
}
