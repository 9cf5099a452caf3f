//! `docs/storage.md` from the modules that own the formats: what is written there is what the code says of itself.
//! `cargo xtask docs` writes it; `cargo xtask tidy` finds a page that was not written anew.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// The page, below the repository's root.
pub(crate) const PAGE: &str = "docs/storage.md";

const INTRODUCTION: &str = "\
# Storage formats

Byte-exact, and made from the documentation of the modules that own them (`cargo xtask docs`): change it there. Every
object, entry, snapshot and file names its version; a release reads all older ones, and refuses newer ones with a
message before it writes anything. Nothing is ever changed in place but the end of the journal's last file.
";

/// Title and source of each section.
const SECTIONS: &[(&str, &str)] = &[
    ("The data directory", "crates/broker/src/config/data_dir.rs"),
    ("Names of objects", "crates/log/src/store/name.rs"),
    ("Objects in S3", "crates/log/src/store/s3/mod.rs"),
    ("Record objects", "crates/log/src/segment/mod.rs"),
    ("The journal's directory", "crates/journal/src/file/mod.rs"),
    ("Journal files", "crates/journal/src/file/format.rs"),
    ("The pointer", "crates/journal/src/file/pointer.rs"),
    ("The journal's keys in etcd", "crates/journal/src/etcd/keys.rs"),
    ("What stands in them", "crates/journal/src/etcd/stored.rs"),
    ("Journal entries", "crates/metadata/src/encode/mod.rs"),
    ("Snapshots", "crates/metadata/src/snapshot/mod.rs"),
];

/// The page as it should be.
pub(crate) fn render(root: &Path) -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    for (title, source) in SECTIONS {
        let text = std::fs::read_to_string(root.join(source)).with_context(|| format!("reading {source}"))?;
        write!(page, "\n## {title}\n\n*`{source}`*\n\n")?;
        for line in text.lines().map_while(|line| line.strip_prefix("//!")) {
            let line = plain(line.strip_prefix(' ').unwrap_or(line));
            // Headings of a module are one level below its section.
            let heading = if line.starts_with('#') { "##" } else { "" };
            writeln!(page, "{heading}{line}")?;
        }
    }
    Ok(page)
}

/// Rustdoc's links as plain code.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("[`") {
        let (before, link) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = link.find("`]") else { break };
        out.push_str(&link[1..=end]);
        rest = &link[end + 2..];
        if rest.starts_with('(') {
            rest = rest.find(')').map_or("", |close| &rest[close + 1..]);
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_code() {
        assert_eq!(plain("see [`a`] and [`B::c`](crate::b)."), "see `a` and `B::c`.");
        assert_eq!(plain("no link [x]"), "no link [x]");
    }
}
