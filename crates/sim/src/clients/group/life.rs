//! What befalls a member: it crashes, hangs, leaves, comes back, has a double, wants something else. One task for each
//! member of a plan, which outlives its processes.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use kafscale_ports::Spawn;
use kafscale_ports::spawn::TokioSpawn;
use tokio::time::{Duration, sleep};

use super::member::{End, Member};
use super::plan::{Episode, MemberPlan};
use crate::clients::Shared;
use crate::phase::Phase;
use crate::rng::Rng;

/// Runs a member until its group has settled in the quiet phase, or it is gone for good.
pub fn run(shared: Arc<Shared>, plan: MemberPlan, rng: Rng) -> BoxFuture<'static, ()> {
    Box::pin(live(shared, plan, rng))
}

async fn live(shared: Arc<Shared>, mut plan: MemberPlan, mut rng: Rng) {
    pause(&shared, plan.pace.first_ms).await;
    let mut episodes: VecDeque<(u64, Episode)> = std::mem::take(&mut plan.episodes).into();
    let mut member = Member::new(&shared, &plan, rng.fork("process", 0));
    let mut since_ms = shared.clock.ms();
    loop {
        let due_ms = episodes.front().map_or(u64::MAX, |(gap_ms, _)| since_ms + gap_ms);
        match member.live(due_ms).await {
            End::Due => {
                let Some((_, episode)) = episodes.pop_front() else { continue };
                shared.trace.line(format_args!("{}: {episode:?}", plan.name));
                let number = rng.u64();
                if !befall(&shared, &mut member, episode, rng.fork("process", number)).await {
                    break;
                }
                since_ms = shared.clock.ms();
            }
            End::Over => {
                if rng.chance(50) {
                    member.leave().await;
                }
                break;
            }
            end @ (End::Fenced | End::Refused(_)) => {
                shared.trace.line(format_args!("{} ends: {end:?}", plan.name));
                break;
            }
        }
    }
    member.vanish();
}

/// False if it is gone for good.
async fn befall(shared: &Arc<Shared>, member: &mut Member, episode: Episode, rng: Rng) -> bool {
    match episode {
        Episode::Crash { down_ms } => {
            member.vanish();
            return come_back(shared, member, down_ms, rng).await;
        }
        Episode::Leave { away_ms } => {
            member.leave().await;
            return come_back(shared, member, away_ms, rng).await;
        }
        Episode::Hang { ms } => {
            pause(shared, ms).await;
            // Whoever wakes up does not know that its time is over.
            member.commit().await;
        }
        Episode::Double => {
            let name = format!("{} double", member.plan.name);
            let plan = MemberPlan { name, episodes: Vec::new(), ..member.plan.clone() };
            TokioSpawn.spawn("client", run(Arc::clone(shared), plan, rng));
        }
        Episode::Subscribe(topics) => member.subscribe(topics),
        Episode::Dawdle { ms } => member.dawdle(ms),
        Episode::Reconnect => member.disconnect(),
    }
    true
}

async fn come_back(shared: &Arc<Shared>, member: &mut Member, after_ms: Option<u64>, rng: Rng) -> bool {
    let Some(after_ms) = after_ms else { return false };
    pause(shared, after_ms).await;
    *member = Member::new(shared, &member.plan, rng);
    true
}

/// Time passes, or the faults are over.
async fn pause(shared: &Shared, ms: u64) {
    tokio::select! {
        biased;
        () = shared.phase.reached(Phase::Healing) => {}
        () = sleep(Duration::from_millis(ms)) => {}
    }
}
