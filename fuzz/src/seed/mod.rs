//! The kept inputs that are made from real values: what clients and brokers write, in every format that is decoded.
//!
//! Owns the corpus but for what hunts found (`found-…`, `regression-…`), which stays. The same values are made every
//! time: a difference after `kafscale-fuzz seed` is a change of a format, or of the values here.

mod records;
mod stored;
mod wire;

use std::fs;

use anyhow::Context;

use crate::hunt::corpus_dir;
use crate::{TARGETS, Target};

/// A name and an input.
pub type Input = (String, Vec<u8>);

/// Writes all inputs; returns how many.
///
/// # Errors
/// If they cannot be made or written.
pub fn write() -> anyhow::Result<usize> {
    let mut count = 0;
    for target in TARGETS {
        let dir = corpus_dir(target);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (name, input) in inputs(target)? {
            let path = dir.join(name);
            fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
            count += 1;
        }
    }
    Ok(count)
}

/// The inputs of one target.
///
/// # Errors
/// If the journal that entries come from cannot be read.
pub fn inputs(target: &Target) -> anyhow::Result<Vec<Input>> {
    Ok(match target.name {
        "frame" => wire::frames(),
        "requests" => wire::requests(),
        "responses" => wire::responses(),
        "batches" => records::batches(),
        "validate" => records::produced(),
        "bundle" => records::bundles(),
        "entry" => stored::entries()?,
        "snapshot" => stored::snapshots()?,
        "journal" => stored::journals(),
        other => anyhow::bail!("no inputs are made for {other}"),
    })
}
