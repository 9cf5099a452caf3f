//! The hunt: kept inputs, mutations of them, and what is done with an input that breaks something.
//!
//! Owns the files: `corpus/<target>/` holds the kept inputs, `artifacts/` what broke a target.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::mutate::{Rng, mutate};
use crate::outcome::Way;
use crate::{Failure, Outcome, Target, check};

/// More inputs than this are not mutated further.
const MOST_INPUTS: usize = 8_192;

/// This crate's directory.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// An input whose name begins so is known to break its target: the fix is in other hands. A hunt goes on past what breaks
/// in the same place, and the tests insist on the name being changed to `regression-…` when it is fixed.
pub const PENDING: &str = "pending-";

/// Where the kept inputs of a target are.
pub fn corpus_dir(target: &Target) -> PathBuf {
    home().join("corpus").join(target.name)
}

/// The kept inputs of a target, by name.
///
/// # Errors
/// If they cannot be read.
pub fn corpus(target: &Target) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let dir = corpus_dir(target);
    let mut inputs = Vec::new();
    for file in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push((name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Keeps an input in `dir`, named after its bytes.
///
/// # Errors
/// If it cannot be written.
pub fn keep(dir: &Path, prefix: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hasher.write(input);
    let path = dir.join(format!("{prefix}-{:016x}", hasher.finish()));
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// An input that broke its target.
#[derive(Debug)]
pub struct Broken {
    /// The input.
    pub input: Vec<u8>,
    /// What happened.
    pub failure: Failure,
}

/// Mutates inputs of one target.
#[derive(Debug)]
pub struct Hunt {
    target: &'static Target,
    inputs: Vec<Vec<u8>>,
    facts: BTreeSet<u64>,
    /// Where inputs break the target that are known to.
    known: BTreeSet<String>,
    rng: Rng,
    /// Inputs that were run.
    pub runs: u64,
    /// How many of them could be read.
    pub accepted: u64,
}

impl Hunt {
    /// Begins with the kept inputs, each of which is run.
    ///
    /// # Errors
    /// The first of them that breaks the target.
    pub fn new(target: &'static Target, kept: Vec<(String, Vec<u8>)>, seed: u64) -> Result<Self, Broken> {
        let mut hunt = Self {
            target,
            inputs: Vec::new(),
            facts: BTreeSet::new(),
            known: BTreeSet::new(),
            rng: Rng::new(seed),
            runs: 0,
            accepted: 0,
        };
        let (pending, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(name, _)| name.starts_with(PENDING));
        hunt.known = pending.iter().filter_map(|(_, input)| check(target, input).err()).map(|f| f.place()).collect();
        for (_, input) in kept {
            let outcome = hunt.run(&input)?;
            hunt.facts.extend(outcome.facts);
            hunt.inputs.push(input);
        }
        Ok(hunt)
    }

    /// How many different facts were found.
    pub fn facts(&self) -> usize {
        self.facts.len()
    }

    /// Makes the next input.
    pub fn make(&mut self) -> Vec<u8> {
        let mut some = || self.inputs.get(self.rng.below(self.inputs.len())).map_or(&[][..], Vec::as_slice);
        let (input, other) = (some(), some());
        mutate(input, other, &mut self.rng)
    }

    /// Runs an input; says whether something new was found, and if so mutates it further.
    ///
    /// # Errors
    /// If it breaks the target.
    pub fn try_input(&mut self, input: Vec<u8>) -> Result<bool, Broken> {
        let outcome = self.run(&input)?;
        let before = self.facts.len();
        self.facts.extend(outcome.facts);
        let is_new = self.facts.len() > before && self.inputs.len() < MOST_INPUTS;
        if is_new {
            self.inputs.push(input);
        }
        Ok(is_new)
    }

    fn run(&mut self, input: &[u8]) -> Result<Outcome, Broken> {
        self.runs += 1;
        match check(self.target, input) {
            Ok(outcome) => {
                self.accepted += u64::from(outcome.is_accepted);
                Ok(outcome)
            }
            Err(failure) if self.known.contains(&failure.place()) => Ok(Way::default().refused(&"known")),
            Err(failure) => Err(Broken { input: input.to_vec(), failure }),
        }
    }
}

/// A smaller input that fails in the same place, found by leaving parts out, at most `tries` times.
pub fn shrink(target: &Target, broken: Broken, mut tries: u32) -> Broken {
    let wanted = broken.failure.place();
    let mut best = broken;
    let mut part = best.input.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < best.input.len() && tries > 0 {
            tries -= 1;
            let mut input = best.input.clone();
            input.drain(at..(at + part).min(input.len()));
            match check(target, &input) {
                Err(failure) if failure.place() == wanted => best = Broken { input, failure },
                Ok(_) | Err(_) => at += part,
            }
        }
        part /= 2;
    }
    best
}
