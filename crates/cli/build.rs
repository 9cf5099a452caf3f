//! Tells the program which commit it was built from, where the sources are a checkout. Reads git's files and does not
//! need git; in an archive of the sources the version stands alone.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=GIT_COMMIT");
    // A build outside of a checkout (a package, a container) may say which commit it is of.
    let given = option_env!("GIT_COMMIT").map(str::to_owned);
    let version = env!("CARGO_PKG_VERSION");
    let version = match given.or_else(|| commit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git"))) {
        Some(commit) => format!("{version} ({})", commit.get(..12).unwrap_or(&commit)),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=BUILD_VERSION={version}");
    println!("cargo::rustc-env=BUILD_TARGET={}", target().unwrap_or_default());
}

#[expect(clippy::disallowed_methods, reason = "cargo names the target in the environment, and only there")]
fn target() -> Option<String> {
    std::env::var("TARGET").ok()
}

fn commit(git: &Path) -> Option<String> {
    let git = directory(git)?;
    let head = watched(&git.join("HEAD"))?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    // The branches of a worktree are in the repository that it belongs to.
    let common = fs::read_to_string(git.join("commondir")).map_or(git.clone(), |dir| git.join(dir.trim()));
    if let Some(commit) = watched(&common.join(reference)) {
        return Some(commit.trim().to_owned());
    }
    let packed = watched(&common.join("packed-refs"))?;
    let line = packed.lines().find(|line| line.ends_with(&format!(" {reference}")))?;
    line.split(' ').next().map(str::to_owned)
}

/// Git's directory; in a worktree `.git` is a file that names it.
fn directory(git: &Path) -> Option<PathBuf> {
    if git.is_dir() {
        return Some(git.to_owned());
    }
    let link = fs::read_to_string(git).ok()?;
    let to = link.trim().strip_prefix("gitdir: ")?;
    Some(git.parent()?.join(to))
}

/// Reads a file, and builds again when it changes. A file that is not there is not watched: cargo would build always.
fn watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}
