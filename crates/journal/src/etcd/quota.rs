//! Room in etcd. Owns: when produce is refused so that the last of the room is left to upkeep, which member is
//! defragmented when, and the task that does so.
//!
//! etcd compares its *physical* size with its quota. Pages that compaction has freed are used again, and yet count, until
//! the member is defragmented; at the quota even a lease is refused, and then no broker can live. So:
//!
//! - [`judge`]: no produce when a member's file is beyond 80 % of the quota and less than 20 % of it is free pages;
//!   produce again when that has become better by a margin. Reads, commits of groups and upkeep go on.
//! - [`next_to_defragment`]: a member whose file is large and has much to give back; one at a time, in the whole cluster,
//!   the leader last, and only while every member answers, since a member answers nothing meanwhile.
//! - The alarm that etcd has raised at its quota is put out once there is room again; nothing else would. Under the alarm
//!   a large file is defragmented whatever it seems to give back: freed pages show only after another write, and there
//!   is none.
//!
//! An etcd that knows users lets only `root` defragment. Any other user sees the sizes, and is told in the log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Env;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::kv::{Compare, Failure, Is, Keys, Kv, Lease, Op, Target, Txn};
use super::limited::Limited;
use super::{Names, Settings};

/// etcd's own default.
pub const DEFAULT_QUOTA: u64 = 2 << 30;

/// Produce is refused above this part of the quota …
const FULL_PERCENT: u64 = 80;
/// … when less than this part of the file is free.
const FREE_PERCENT: u64 = 20;
/// And taken again when either is better by so much.
const MARGIN_PERCENT: u64 = 5;
/// A file below this part of the quota is left as it is.
const LARGE_PERCENT: u64 = 60;

const INTERVAL: Duration = Duration::from_secs(10);
/// A member is defragmented once in this time.
const REST: Duration = Duration::from_secs(10 * 60);
/// The lock of whoever defragments runs out after this; a member takes about ten seconds a gigabyte.
const LOCK_S: u64 = 120;

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its endpoint.
    pub name: String,
    /// `None`: it does not answer.
    pub sizes: Option<Sizes>,
}

/// How large a member's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// It leads.
    pub is_leader: bool,
    /// The file.
    pub physical: u64,
    /// What of it is in use.
    pub in_use: u64,
    /// Its quota; 0 if it does not say (before 3.6).
    pub quota: u64,
    /// The quota was met, by some member: etcd takes nothing more until the alarm is put out.
    pub alarm: bool,
}

/// The port to single members.
#[async_trait]
pub trait Members: Send + Sync + 'static {
    /// All that are known.
    async fn members(&self) -> Vec<Member>;
    /// Rewrites a member's file without its free pages. It answers nothing meanwhile.
    async fn defragment(&self, name: &str) -> Result<(), Failure>;
    /// Puts the alarm out.
    async fn disarm(&self) -> Result<(), Failure>;
}

/// Whether there is room for produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Ample,
    /// What is left is for upkeep.
    Short,
}

impl Sizes {
    fn quota(&self, configured: u64) -> u64 {
        if self.quota > 0 { self.quota } else { configured }
    }

    fn free(&self) -> u64 {
        self.physical.saturating_sub(self.in_use)
    }

    fn is_above(&self, percent: u64, configured: u64) -> bool {
        u128::from(self.physical) * 100 > u128::from(self.quota(configured)) * u128::from(percent)
    }

    fn is_free(&self, percent: u64) -> bool {
        u128::from(self.free()) * 100 >= u128::from(self.physical) * u128::from(percent)
    }
}

/// How it is now, by how it was and what the members say. The fullest member counts: the first that refuses, refuses
/// for all. Members that do not answer say nothing.
pub fn judge(before: Room, members: &[Member], quota: u64) -> Room {
    let margin = if before == Room::Short { MARGIN_PERCENT } else { 0 };
    let is_short = |sizes: Sizes| sizes.is_above(FULL_PERCENT - margin, quota) && !sizes.is_free(FREE_PERCENT + margin);
    let mut known = members.iter().filter_map(|member| member.sizes).peekable();
    if known.peek().is_none() {
        return before;
    }
    if known.any(is_short) { Room::Short } else { Room::Ample }
}

/// Which member is to be defragmented next, if any. `rested`: the others were not long ago.
pub fn next_to_defragment<'a>(members: &'a [Member], quota: u64, rested: impl Fn(&str) -> bool) -> Option<&'a str> {
    let sizes = |member: &'a Member| member.sizes.map(|sizes| (member.name.as_str(), sizes));
    let all: Vec<(&str, Sizes)> = members.iter().map(sizes).collect::<Option<_>>()?;
    let worth = all.into_iter().filter(|(name, sizes)| {
        sizes.is_above(LARGE_PERCENT, quota) && (sizes.is_free(FREE_PERCENT) || sizes.alarm) && rested(name)
    });
    worth.min_by_key(|(_, sizes)| (sizes.is_leader, u64::MAX - sizes.free())).map(|(name, _)| name)
}

/// Watches over the room of an etcd. Dropping it ends its task.
pub struct Watchman {
    room: watch::Receiver<Room>,
    _open: watch::Sender<()>,
}

impl Watchman {
    /// Starts. `quota`: what members are taken to have that do not say.
    pub fn start(members: Arc<dyn Members>, kv: Arc<dyn Kv>, env: &Env, settings: &Settings, quota: u64) -> Self {
        let (tell, room) = watch::channel(Room::Ample);
        let open = watch::Sender::new(());
        let mut closed = open.subscribe();
        let kv = Limited::new(kv, settings.call_timeout);
        let lock = Names::new(&settings.root).upkeep();
        let mut round = Round {
            members,
            kv,
            lock,
            quota,
            limit: settings.call_timeout,
            clock: env.clock.clone(),
            done: Vec::new(),
        };
        let watch = async move {
            loop {
                let members = round.look(&tell).await;
                round.make_room(&members).await;
                sleep(INTERVAL).await;
            }
        };
        let task = async move {
            tokio::select! {
                biased;
                _closed = closed.changed() => {}
                () = watch => {}
            }
        };
        env.tasks.spawn("etcd's room", Box::pin(task));
        Self { room, _open: open }
    }

    /// Whether there is room for produce, as it changes.
    pub fn room(&self) -> watch::Receiver<Room> {
        self.room.clone()
    }
}

struct Round {
    members: Arc<dyn Members>,
    kv: Limited,
    lock: Bytes,
    quota: u64,
    limit: Duration,
    clock: Arc<dyn kafscale_ports::Clock>,
    /// Which member was defragmented when.
    done: Vec<(String, Instant)>,
}

impl Round {
    async fn look(&self, tell: &watch::Sender<Room>) -> Vec<Member> {
        let members = timeout(self.limit, self.members.members()).await.unwrap_or_default();
        let before = *tell.borrow();
        let now = judge(before, &members, self.quota);
        if now != before {
            tracing::warn!(room = ?now, ?members, "etcd's room has changed; produce is refused while it is short");
            tell.send_replace(now);
        }
        members
    }

    async fn make_room(&mut self, members: &[Member]) {
        let now = self.clock.now();
        self.done.retain(|(_, at)| now.saturating_duration_since(*at) < REST);
        let rested = |name: &str| self.done.iter().all(|(done, _)| done != name);
        if next_to_defragment(members, self.quota, rested).is_some() {
            self.locked().await;
        }
        if let Err(why) = self.put_out(members).await {
            tracing::warn!(error = %why, "etcd's alarm of space was not put out");
        }
    }

    /// Only one broker defragments one member: the lock is a key on a lease. At the quota there is no lease to be had, and
    /// no lock is worth waiting for.
    async fn locked(&mut self) {
        let lease = self.kv.lease_grant(LOCK_S).await.ok();
        let is_ours = match lease {
            Some(lease) => self.lock(lease).await.unwrap_or(false),
            None => true,
        };
        if is_ours {
            self.defragment().await;
        }
        if let Some(lease) = lease
            && let Err(why) = self.kv.lease_revoke(lease.id).await
        {
            tracing::debug!(error = %why, "the lock for defragmentation was not released; it runs out by itself");
        }
    }

    /// Whoever had the lock before may have done what was planned: the sizes are looked at again.
    async fn defragment(&mut self) {
        let members = timeout(self.limit, self.members.members()).await.unwrap_or_default();
        let rested = |name: &str| self.done.iter().all(|(done, _)| done != name);
        let Some(name) = next_to_defragment(&members, self.quota, rested).map(str::to_owned) else { return };
        tracing::info!(member = %name, "defragmenting an etcd member");
        // Also if it fails: it is not tried every few seconds.
        self.done.push((name.clone(), self.clock.now()));
        match timeout(Duration::from_secs(LOCK_S), self.members.defragment(&name)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(member = %name, error = %why, "an etcd member was not defragmented"),
            Err(_elapsed) => tracing::warn!(member = %name, "an etcd member takes long to be defragmented"),
        }
    }

    async fn lock(&self, lease: Lease) -> Result<bool, Failure> {
        let when = vec![Compare { keys: Keys::One(self.lock.clone()), is: Is::Equal, target: Target::Create(0) }];
        let then = vec![Op::Put { key: self.lock.clone(), value: Bytes::new(), lease: lease.id }];
        Ok(self.kv.txn(Txn { when, then, ..Txn::default() }).await?.succeeded)
    }

    /// The alarm stays on after there is room again, until somebody puts it out.
    async fn put_out(&self, members: &[Member]) -> Result<(), Failure> {
        let has_room = |member: &Member| member.sizes.is_some_and(|s| !s.is_above(FULL_PERCENT, self.quota));
        let is_on = members.iter().any(|member| member.sizes.is_some_and(|sizes| sizes.alarm));
        if is_on && members.iter().all(has_room) {
            tracing::warn!("etcd has room again; putting out its alarm");
            self.members.disarm().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
