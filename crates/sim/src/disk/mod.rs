//! A disk that forgets what was not made durable. Owns the faults: crash at any operation, full disk, errors, fsyncs
//! that fail and fsyncs that lie. What files and names hold is in `files` and `names`, who
//! locks them in `locks`, what was asked of the disk in `op_log`.
//!
//! A [`SimDisk`] is one mount: after [`SimDisk::crash`] or [`SimDisk::kill`] its operations never complete, and
//! [`SimDisk::remount`] gives the next life a handle. Everything follows from the seed and the order of calls.

mod files;
mod locks;
mod names;
mod op_log;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_ports::Disk;
use kafscale_ports::disk::{DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::locks::Locks;
use self::names::{Ino, Tree};
use self::op_log::{Done, OpLog};
use crate::rng::Rng;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Opening a file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Creating a directory.
    CreateDir,
    /// Listing one.
    ReadDir,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Taking a lock.
    Lock,
    /// Writing to a file.
    Write,
    /// Reading from one.
    Read,
    /// Cutting or extending one.
    SetLen,
    /// Any fsync of a file; only in a [`Rule`].
    Sync,
    /// The first fsync of a file.
    SyncNew,
    /// An fsync of a file that was cut since the last one.
    SyncCut,
    /// Any other fsync of a file.
    SyncData,
    /// An fsync of a directory.
    SyncDir,
}

impl Op {
    fn covers(self, op: Self) -> bool {
        self == op || (self == Self::Sync && matches!(op, Self::SyncNew | Self::SyncCut | Self::SyncData))
    }

    fn changes_something(self) -> bool {
        matches!(self, Self::Create | Self::CreateDir | Self::Rename | Self::Remove | Self::Write | Self::SetLen)
    }
}

/// What a rule does to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It fails. A write may have written a part, a change of names may have happened; a failed fsync loses what was
    /// not durable, and the next one says "ok".
    Fail(io::ErrorKind),
    /// Fsyncs only: it says "ok" and does nothing (of the names, nothing to those that the rule means).
    Lie,
}

/// A fault: which operations, and what happens to them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The kind of operation.
    pub op: Op,
    /// The path contains this; for an fsync of a directory, the path of one of the names that it would make durable.
    pub path: String,
    /// So many that fit are let through first.
    pub skip: u64,
    /// So many are hit after that.
    pub times: u64,
    /// How.
    pub effect: Effect,
}

impl Rule {
    /// Fails the next such operation.
    pub fn fail_once(op: Op, path: &str) -> Self {
        Self { op, path: path.to_owned(), skip: 0, times: 1, effect: Effect::Fail(io::ErrorKind::Other) }
    }

    /// Takes all such fsyncs out of the product: a planted bug.
    pub fn without(op: Op, path: &str) -> Self {
        Self { op, path: path.to_owned(), skip: 0, times: u64::MAX, effect: Effect::Lie }
    }
}

/// What happens to one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Do,
    Fail(io::ErrorKind),
    Lie,
    /// The disk froze meanwhile: it may be half done, and nobody will know.
    Frozen,
}

struct State {
    tree: Tree,
    rng: Rng,
    rules: Vec<Rule>,
    capacity: u64,
    latency_us: (u64, u64),
    write_back_one_in: u64,
    log: OpLog,
    crash_at: Option<u64>,
    life: u64,
    locks: Locks,
}

struct Shared {
    state: Mutex<State>,
    frozen: watch::Sender<bool>,
}

/// A simulated disk, as one life of a machine sees it.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    life: u64,
}

impl SimDisk {
    /// An empty disk without faults, limits or latency.
    pub fn new(seed: u64) -> Self {
        let state = State {
            tree: Tree::new(),
            rng: Rng::new(seed),
            rules: Vec::new(),
            capacity: u64::MAX,
            latency_us: (0, 0),
            write_back_one_in: 0,
            log: OpLog::default(),
            crash_at: None,
            life: 0,
            locks: Locks::default(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), frozen: watch::Sender::new(false) }), life: 0 }
    }

    /// The power fails: any part of what was not made durable is lost, and this life's operations never complete.
    pub fn crash(&self, rng: &mut Rng) {
        let mut state = self.shared.state.lock();
        state.tree.crash(rng);
        self.end_life(&mut state);
    }

    /// The process is killed: nothing is lost, but locks are free and this life's operations never complete.
    pub fn kill(&self) {
        self.end_life(&mut self.shared.state.lock());
    }

    fn end_life(&self, state: &mut State) {
        state.life += 1;
        state.locks.release_all();
        state.crash_at = None;
        self.shared.frozen.send_replace(false);
    }

    /// A handle for the present life.
    pub fn remount(&self) -> Self {
        let life = self.shared.state.lock().life;
        Self { shared: Arc::clone(&self.shared), life }
    }

    /// Freezes the disk at its operation number `op` (as [`SimDisk::ops`] counts): it and all later ones never
    /// complete. A change that was asked for by it may be half done.
    pub fn crash_at(&self, op: u64) {
        self.shared.state.lock().crash_at = Some(op);
    }

    /// Waits until the disk is frozen.
    pub async fn frozen(&self) {
        let mut frozen = self.shared.frozen.subscribe();
        // The sender lives as long as `self`.
        let _ = frozen.wait_for(|frozen| *frozen).await;
    }

    /// Operations that were asked for so far.
    pub fn ops(&self) -> u64 {
        self.shared.state.lock().log.asked()
    }

    /// Operations by kind.
    pub fn counts(&self) -> BTreeMap<Op, u64> {
        self.shared.state.lock().log.counts().clone()
    }

    /// Adds a fault.
    pub fn add(&self, rule: Rule) {
        self.shared.state.lock().rules.push(rule);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        let mut state = self.shared.state.lock();
        state.rules.clear();
        state.capacity = u64::MAX;
    }

    /// The bytes that all files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.state.lock().capacity = bytes;
    }

    /// Every operation takes a time between these, in microseconds.
    pub fn set_latency_us(&self, least: u64, most: u64) {
        self.shared.state.lock().latency_us = (least, most);
    }

    /// Once in `times` operations the kernel writes something back by itself; 0 is never.
    pub fn set_write_back(&self, times: u64) {
        self.shared.state.lock().write_back_one_in = times;
    }

    /// Begins to note every operation.
    pub fn start_trace(&self) {
        self.shared.state.lock().log.start_trace();
    }

    /// What was noted: a line for each operation.
    pub fn take_trace(&self) -> Vec<u8> {
        self.shared.state.lock().log.take_trace()
    }

    /// The order of things in every operation: it is counted, takes its time, and then happens at once.
    async fn act<T>(
        &self,
        op: Op,
        path: &Path,
        effect: impl FnOnce(&mut State, Verdict) -> io::Result<T>,
    ) -> io::Result<T> {
        let wait = self.shared.state.lock().arrive(op);
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
        let done = {
            let mut state = self.shared.state.lock();
            if state.life != self.life {
                None
            } else if state.crash_at.is_some_and(|at| state.log.asked() >= at) {
                if op.changes_something() && state.rng.one_in(2) {
                    // What it says reaches nobody.
                    let _ = effect(&mut state, Verdict::Frozen);
                }
                self.shared.frozen.send_replace(true);
                None
            } else {
                let verdict = state.judge(op, path);
                let result = effect(&mut state, verdict);
                let lied = verdict == Verdict::Lie;
                let done = Done { lied, ok: result.is_ok(), used: state.tree.used() };
                state.log.note(op, path, done);
                Some(result)
            }
        };
        match done {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    fn handle(&self, ino: Ino, path: &Path) -> Arc<dyn DiskFile> {
        Arc::new(Handle { disk: self.clone(), ino, path: path.to_owned() })
    }
}

impl State {
    fn arrive(&mut self, op: Op) -> u64 {
        self.log.count(op);
        let (least, most) = self.latency_us;
        if most == 0 { 0 } else { self.rng.within(least..most + 1) }
    }

    fn judge(&mut self, op: Op, path: &Path) -> Verdict {
        if self.write_back_one_in > 0 && self.rng.one_in(self.write_back_one_in) {
            self.tree.write_back(&mut self.rng);
        }
        let text = path.to_string_lossy();
        let tree = &self.tree;
        let fits = |rule: &&mut Rule| {
            let here =
                || if op == Op::SyncDir { tree.has_pending(path, &rule.path) } else { text.contains(&rule.path) };
            rule.times > 0 && rule.op.covers(op) && here()
        };
        let Some(rule) = self.rules.iter_mut().find(fits) else { return Verdict::Do };
        if rule.skip > 0 {
            rule.skip -= 1;
            return Verdict::Do;
        }
        rule.times -= 1;
        match rule.effect {
            Effect::Fail(kind) => Verdict::Fail(kind),
            Effect::Lie => Verdict::Lie,
        }
    }

    /// A change of names under a verdict: a failed one may have happened.
    fn names<T>(&mut self, verdict: Verdict, change: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        match verdict {
            Verdict::Fail(kind) => {
                if self.rng.one_in(2) {
                    let _ = change(&mut self.tree);
                }
                Err(kind.into())
            }
            Verdict::Do | Verdict::Lie | Verdict::Frozen => change(&mut self.tree),
        }
    }

    fn write(&mut self, verdict: Verdict, ino: Ino, offset: u64, data: &[u8]) -> io::Result<()> {
        let grows = (offset + data.len() as u64).saturating_sub(self.tree.file(ino).len());
        let room = self.capacity.saturating_sub(self.tree.used());
        let (part, result) = match verdict {
            Verdict::Fail(kind) => (self.part(data), Err(kind.into())),
            Verdict::Frozen => (self.part(data), Ok(())),
            Verdict::Do | Verdict::Lie if grows > room => {
                let fits = data.len() as u64 - (grows - room).min(data.len() as u64);
                (usize::try_from(fits).expect("part of a slice"), Err(io::ErrorKind::StorageFull.into()))
            }
            Verdict::Do | Verdict::Lie => (data.len(), Ok(())),
        };
        self.tree.file(ino).write(offset, &data[..part]);
        result
    }

    /// How much of a write is done: often all.
    fn part(&mut self, data: &[u8]) -> usize {
        let part = if self.rng.one_in(2) { data.len() as u64 } else { self.rng.within(0..data.len() as u64 + 1) };
        usize::try_from(part).expect("part of a slice")
    }

    fn sync_dir(&mut self, verdict: Verdict, path: &Path) -> io::Result<()> {
        match verdict {
            Verdict::Do | Verdict::Frozen => self.tree.sync_dir(path, |_| false),
            Verdict::Fail(kind) => Err(kind.into()),
            Verdict::Lie => {
                let lies = |rule: &&Rule| rule.op == Op::SyncDir && rule.effect == Effect::Lie;
                let patterns: Vec<&str> = self.rules.iter().filter(lies).map(|rule| rule.path.as_str()).collect();
                self.tree.sync_dir(path, |name| patterns.iter().any(|pattern| name.contains(pattern)))
            }
        }
    }

    fn read<T>(&mut self, verdict: Verdict, read: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        match verdict {
            Verdict::Fail(kind) => Err(kind.into()),
            Verdict::Do | Verdict::Lie | Verdict::Frozen => read(self),
        }
    }
}

#[async_trait]
impl Disk for SimDisk {
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let ino = match mode {
            OpenMode::Existing => self.act(Op::Open, path, |s, v| s.read(v, |s| s.tree.open(path))).await?,
            OpenMode::CreateNew => self.act(Op::Create, path, |s, v| s.names(v, |tree| tree.create(path))).await?,
        };
        Ok(self.handle(ino, path))
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Op::CreateDir, path, |s, v| s.names(v, |tree| tree.create_dir(path))).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.act(Op::ReadDir, path, |s, v| s.read(v, |s| s.tree.read_dir(path))).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Op::Rename, to, |s, v| s.names(v, |tree| tree.rename(from, to))).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.act(Op::Remove, path, |s, v| s.names(v, |tree| tree.remove(path))).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Op::SyncDir, path, |s, v| s.sync_dir(v, path)).await
    }

    async fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.shared.state.lock();
        Ok(state.capacity.saturating_sub(state.tree.used()))
    }

    async fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let (ino, id) = self
            .act(Op::Lock, path, |s, v| {
                let ino = match s.tree.open(path) {
                    Ok(ino) => ino,
                    Err(_) => s.names(v, |tree| tree.create(path))?,
                };
                let id = s.locks.take(ino).ok_or(io::ErrorKind::WouldBlock)?;
                Ok((ino, id))
            })
            .await?;
        Ok(Box::new(Held { shared: Arc::clone(&self.shared), ino, id }))
    }
}

struct Held {
    shared: Arc<Shared>,
    ino: Ino,
    id: u64,
}

impl DiskLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.state.lock().locks.release(self.ino, self.id);
    }
}

struct Handle {
    disk: SimDisk,
    ino: Ino,
    path: PathBuf,
}

#[async_trait]
impl DiskFile for Handle {
    async fn write_at(&self, offset: u64, slices: Vec<Bytes>) -> io::Result<()> {
        let data = slices.concat();
        self.disk.act(Op::Write, &self.path, |s, v| s.write(v, self.ino, offset, &data)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = |s: &mut State| Ok(s.tree.file(self.ino).read(offset, len).into());
        self.disk.act(Op::Read, &self.path, |s, v| s.read(v, read)).await
    }

    async fn size(&self) -> io::Result<u64> {
        self.disk.act(Op::Read, &self.path, |s, v| s.read(v, |s| Ok(s.tree.file(self.ino).len()))).await
    }

    async fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk
            .act(Op::SetLen, &self.path, |s, v| match v {
                Verdict::Fail(kind) => Err(kind.into()),
                Verdict::Do | Verdict::Lie | Verdict::Frozen => {
                    s.tree.file(self.ino).set_len(len);
                    Ok(())
                }
            })
            .await
    }

    async fn sync(&self) -> io::Result<()> {
        let kind = self.disk.shared.state.lock().tree.file(self.ino).sync_kind();
        self.disk
            .act(kind, &self.path, |s, v| {
                match v {
                    Verdict::Do => s.tree.file(self.ino).sync(),
                    Verdict::Fail(kind) => {
                        let mut rng = Rng::new(s.rng.u64());
                        s.tree.file(self.ino).lose(&mut rng);
                        return Err(kind.into());
                    }
                    Verdict::Lie | Verdict::Frozen => {}
                }
                s.tree.file(self.ino).answered();
                Ok(())
            })
            .await
    }
}
