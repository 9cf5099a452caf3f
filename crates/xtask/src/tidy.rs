//! The habits of the code, as rules over the files of the repository. Each finding says where, what, and what is
//! allowed. Exceptions stand in one list, each with its reason; one that is not needed any more is a finding.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::measure::measure;

const MAX_CODE_LINES: usize = 500;
const MAX_INLINE_TEST_LINES: usize = 200;
const MAX_FIELDS: usize = 12;
const MAX_METHODS: usize = 8;

/// A rule's name, as it stands in findings and exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Header,
    FileLength,
    InlineTests,
    MachinePath,
    Biased,
    Fields,
    Methods,
    Syntax,
    Exception,
}

/// What a rule does not hold for, and why. This list only shrinks.
const EXCEPTIONS: &[(&str, Rule, &str)] = &[];

/// Directories that hold nothing of ours: builds, dependencies, what tests fetch.
const FOREIGN: [&str; 3] = ["target", "node_modules", "kafscale-data"];
/// Text files in which a path of a machine would be a mistake.
const TEXT: [&str; 12] = ["rs", "md", "toml", "sh", "py", "js", "json", "yml", "yaml", "java", "xml", "proto"];

/// One breach of a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: Rule,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, what } = self;
        write!(f, "{path}:{line}: {rule:?}: {what}")
    }
}

/// The result of a run.
pub(crate) struct Tidied {
    /// Files looked at.
    pub(crate) files: usize,
    /// What was found, in order of paths.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at every file under `root`.
pub(crate) fn run(root: &Path) -> anyhow::Result<Tidied> {
    let mut paths = Vec::new();
    collect(root, &mut paths)?;
    paths.sort();
    let mut findings = Vec::new();
    for path in &paths {
        let name = path.strip_prefix(root).expect("it was found there").to_string_lossy().into_owned();
        let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        check(&name, &text, &mut findings);
    }
    let mut used = Vec::new();
    findings.retain(|finding| {
        let exception = EXCEPTIONS.iter().position(|(path, rule, _)| *path == finding.path && *rule == finding.rule);
        used.extend(exception);
        exception.is_none()
    });
    for (at, (path, rule, reason)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&at) {
            let what = format!("the exception from {rule:?} ({reason}) is not needed any more: remove it");
            findings.push(Finding { path: (*path).to_owned(), line: 0, rule: Rule::Exception, what });
        }
    }
    Ok(Tidied { files: paths.len(), findings })
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_text = path.extension().is_some_and(|e| TEXT.iter().any(|text| e == *text)) || name == "Makefile";
        if path.is_symlink() || name.starts_with('.') || FOREIGN.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, into)?;
        } else if is_text {
            into.push(path);
        }
    }
    Ok(())
}

fn check(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut find = |line, rule, what| findings.push(Finding { path: path.to_owned(), line, rule, what });
    for (at, line) in text.lines().enumerate() {
        if let Some(found) = machine_path(line) {
            find(at + 1, Rule::MachinePath, format!("a path of one machine: {found}"));
        }
    }
    if !path.ends_with(".rs") {
        return;
    }
    if !text.trim_start().starts_with("//!") {
        find(1, Rule::Header, "no //! header that says what the file owns".to_owned());
    }
    let measured = match measure(text) {
        Ok(measured) => measured,
        Err(error) => return find(error.span().start().line, Rule::Syntax, error.to_string()),
    };
    // A file of tests is as long as its tests.
    let is_test = path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("tests.rs");
    if !is_test && measured.code_lines > MAX_CODE_LINES {
        let lines = measured.code_lines;
        find(1, Rule::FileLength, format!("{lines} lines of code without tests; at most {MAX_CODE_LINES}"));
    }
    if !is_test && measured.test_lines > MAX_INLINE_TEST_LINES {
        let lines = measured.test_lines;
        find(
            1,
            Rule::InlineTests,
            format!("{lines} lines of inline tests; above {MAX_INLINE_TEST_LINES} in a sibling file"),
        );
    }
    for line in measured.unbiased {
        find(line, Rule::Biased, "select! without `biased;`: the simulator needs one order".to_owned());
    }
    for ((line, name), fields) in measured.structs {
        if fields > MAX_FIELDS {
            find(line, Rule::Fields, format!("struct {name} has {fields} fields; at most {MAX_FIELDS}"));
        }
    }
    for ((line, name), methods) in measured.traits {
        if methods > MAX_METHODS {
            find(line, Rule::Methods, format!("trait {name} has {methods} methods; at most {MAX_METHODS}"));
        }
    }
}

/// A path below someone's home or workspace: right on the machine it was written on and on no other.
fn machine_path(line: &str) -> Option<&str> {
    // In two halves, so that this file does not find itself.
    let roots = [("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("/wo", "rk/")].map(|(a, b)| format!("{a}{b}"));
    let begins_path = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}/".contains(c));
    let at = roots
        .iter()
        .flat_map(|root| line.match_indices(root.as_str()))
        .map(|(at, _)| at)
        .find(|at| begins_path(*at))?;
    let end = line[at..].find(|c: char| c.is_whitespace() || "\"'`)".contains(c)).map_or(line.len(), |len| at + len);
    Some(&line[at..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<Rule> {
        let mut findings = Vec::new();
        check(path, text, &mut findings);
        findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let ok = "//! Header.\n";
        assert_eq!(rules("a.rs", ok), []);
        assert_eq!(rules("a.rs", "fn f() {}\n"), [Rule::Header]);
        assert_eq!(rules("a.rs", "//! Header.\nfn f( {}\n"), [Rule::Syntax]);
        let long = format!("{ok}{}", "fn f() {}\n".repeat(501));
        assert_eq!(rules("a.rs", &long), [Rule::FileLength]);
        assert_eq!(rules("tests/it/a.rs", &long), []);
        let tests = format!("{ok}#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(200));
        assert_eq!(rules("a.rs", &tests), [Rule::InlineTests]);
        let fields: String = (0..13).map(|i| format!("f{i}: u8,")).collect();
        assert_eq!(rules("a.rs", &format!("{ok}struct S {{ {fields} }}")), [Rule::Fields]);
        let methods: String = (0..9).map(|i| format!("fn f{i}();")).collect();
        assert_eq!(rules("a.rs", &format!("{ok}trait T {{ {methods} }}")), [Rule::Methods]);
        assert_eq!(rules("a.rs", &format!("{ok}fn f() {{ select! {{ _ = a => {{}} }} }}")), [Rule::Biased]);
    }

    #[test]
    fn paths_of_machines_are_told_from_others() {
        let home = ["/ho", "me/someone/x"].concat();
        assert_eq!(machine_path(&format!("see `{home}`.")), Some(&*home));
        assert_eq!(rules("a.md", &format!("a\nb {home}")), [Rule::MachinePath]);
        assert_eq!(machine_path(&format!("https://example.org{home}")), None);
        assert_eq!(machine_path("/usr/bin/env and /tmp/x"), None);
    }
}
