//! Why a directory's journal does not start. Each message names the thing, what is wrong with it, and the way out.

use std::io;
use std::path::{Path, PathBuf};

use super::format::VERSION;

/// Why the journal in a directory could not be started. But for [`StartError::Io`], nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process holds the directory's lock.
    #[error(
        "{} is held by another broker: the directory is in use; stop that broker or give this one another directory",
        lock.display()
    )]
    InUse {
        /// The lock file.
        lock: PathBuf,
    },
    /// The disk failed, or the directory is missing or not writable.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// A newer release wrote this.
    #[error(
        "{} has format version {version}, and this release reads up to {VERSION}; start the release that wrote it, or a newer one",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file is not what was written. A torn last frame is not damage: it is cut without a word.
    #[error(
        "{} is damaged at byte {offset}: {detail}; nothing was changed. Put back a good copy of the journal's \
         directory, or rebuild the journal from the newest snapshot with `kafscale recover`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        detail: String,
    },
    /// Entries that a snapshot has seen are gone: an older copy of the directory was put back, or files were removed.
    #[error(
        "the journal in {} went back in time: it ends at ordinal {end}, and a snapshot was published for ordinal \
         {snapshot}. Put back the newest copy, or rebuild the journal from the snapshot with `kafscale recover`",
        dir.display()
    )]
    WentBack {
        /// The journal's directory.
        dir: PathBuf,
        /// Its newest entry.
        end: u64,
        /// What the pointer names.
        snapshot: u64,
    },
}

impl StartError {
    /// For `map_err` on a call of the disk.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, detail: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, detail: detail.into() }
    }
}
