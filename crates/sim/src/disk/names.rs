//! The tree of simulated directories: names as they are, beside names as they were made durable. Pure.
//!
//! Every change of a name is pending until its directory is fsynced. A crash keeps any subset of the pending
//! changes, in their order. A rename is one change: it happened or it did not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::{SimFile, Survival};
use crate::rng::Rng;

/// A file or directory, whatever its name.
pub(super) type Ino = u64;
const ROOT: Ino = 0;

#[derive(Debug, Default)]
struct Dir {
    now: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

/// One change of names.
#[derive(Debug, Clone)]
struct Change {
    /// In this directory this name now means this, or nothing.
    sets: Vec<(Ino, String, Option<Ino>)>,
}

/// A file system.
#[derive(Debug)]
pub(super) struct Tree {
    dirs: BTreeMap<Ino, Dir>,
    files: BTreeMap<Ino, SimFile>,
    pending: Vec<Change>,
    next: Ino,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file or directory", path.display()))
}

impl Tree {
    pub(super) fn new() -> Self {
        let dirs = BTreeMap::from([(ROOT, Dir::default())]);
        Self { dirs, files: BTreeMap::new(), pending: Vec::new(), next: ROOT + 1 }
    }

    /// The file with this number. Open files outlive their names until the next crash.
    pub(super) fn file(&mut self, ino: Ino) -> &mut SimFile {
        self.files.entry(ino).or_default()
    }

    /// Bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let named = self.dirs.values().flat_map(|dir| dir.now.values());
        named.filter_map(|ino| self.files.get(ino)).map(SimFile::len).sum()
    }

    fn dir(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let found = self.dirs[&at].now.get(&*name.to_string_lossy()).copied();
                at = found.filter(|ino| self.dirs.contains_key(ino)).ok_or_else(|| not_found(path))?;
            }
        }
        Ok(at)
    }

    /// The directory that holds `path`, and its name in it.
    fn parent(&self, path: &Path) -> io::Result<(Ino, String)> {
        let name = path.file_name().ok_or_else(|| not_found(path))?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name.to_string_lossy().into_owned()))
    }

    fn lookup(&self, path: &Path) -> io::Result<Option<Ino>> {
        let (dir, name) = self.parent(path)?;
        Ok(self.dirs[&dir].now.get(&name).copied())
    }

    fn change(&mut self, sets: Vec<(Ino, String, Option<Ino>)>) {
        for (dir, name, ino) in &sets {
            let names = &mut self.dirs.get_mut(dir).expect("looked up before").now;
            match ino {
                Some(ino) => names.insert(name.clone(), *ino),
                None => names.remove(name),
            };
        }
        self.pending.push(Change { sets });
    }

    fn settle(&mut self, change: Change) {
        for (dir, name, ino) in change.sets {
            let Some(dir) = self.dirs.get_mut(&dir) else { continue };
            match ino {
                Some(ino) => dir.durable.insert(name, ino),
                None => dir.durable.remove(&name),
            };
        }
    }

    fn free_name(&mut self, path: &Path) -> io::Result<(Ino, String, Ino)> {
        if self.lookup(path)?.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{}: exists", path.display())));
        }
        let (dir, name) = self.parent(path)?;
        self.next += 1;
        Ok((dir, name, self.next))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<Ino> {
        self.lookup(path)?.filter(|ino| self.files.contains_key(ino)).ok_or_else(|| not_found(path))
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name, ino) = self.free_name(path)?;
        self.files.insert(ino, SimFile::default());
        self.change(vec![(dir, name, Some(ino))]);
        Ok(ino)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name, ino) = self.free_name(path)?;
        self.dirs.insert(ino, Dir::default());
        self.change(vec![(dir, name, Some(ino))]);
        Ok(())
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.dirs[&self.dir(path)?].now.keys().map(|name| path.join(name)).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.lookup(from)?.ok_or_else(|| not_found(from))?;
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        self.change(vec![(from_dir, from_name, None), (to_dir, to_name, Some(ino))]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.open(path)?;
        let (dir, name) = self.parent(path)?;
        self.change(vec![(dir, name, None)]);
        Ok(())
    }

    /// Makes the names in a directory durable, but for those that a lying fsync leaves out.
    pub(super) fn sync_dir(&mut self, path: &Path, leave_out: impl Fn(&str) -> bool) -> io::Result<()> {
        let dir = self.dir(path)?;
        let touched = |change: &Change| {
            change.sets.iter().any(|(at, name, _)| *at == dir && !leave_out(&path.join(name).to_string_lossy()))
        };
        let (now, later) = std::mem::take(&mut self.pending).into_iter().partition(touched);
        self.pending = later;
        let now: Vec<Change> = now;
        for change in now {
            self.settle(change);
        }
        Ok(())
    }

    /// Whether an fsync of this directory concerns a name that contains `pattern`.
    pub(super) fn has_pending(&self, path: &Path, pattern: &str) -> bool {
        let Ok(dir) = self.dir(path) else { return false };
        let sets = self.pending.iter().flat_map(|change| &change.sets);
        sets.filter(|(at, _, _)| *at == dir).any(|(_, name, _)| path.join(name).to_string_lossy().contains(pattern))
    }

    /// The kernel writes something back by itself.
    pub(super) fn write_back(&mut self, rng: &mut Rng) {
        for file in self.files.values_mut() {
            file.write_back(rng);
        }
        let some = rng.index(self.pending.len() + 1);
        let settled: Vec<Change> = self.pending.drain(..some).collect();
        settled.into_iter().for_each(|change| self.settle(change));
    }

    /// The power fails.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let survival = Survival::draw(rng);
        for change in std::mem::take(&mut self.pending) {
            let kept = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Some => rng.one_in(2),
            };
            if kept {
                self.settle(change);
            }
        }
        for file in self.files.values_mut() {
            file.crash(survival, rng);
        }
        for dir in self.dirs.values_mut() {
            dir.now = dir.durable.clone();
        }
        self.forget_nameless();
    }

    fn forget_nameless(&mut self) {
        let (mut reached, mut todo) = (BTreeSet::new(), vec![ROOT]);
        while let Some(ino) = todo.pop() {
            reached.insert(ino);
            todo.extend(self.dirs.get(&ino).into_iter().flat_map(|dir| dir.now.values().copied()));
        }
        self.dirs.retain(|ino, _| reached.contains(ino));
        self.files.retain(|ino, _| reached.contains(ino));
    }
}
