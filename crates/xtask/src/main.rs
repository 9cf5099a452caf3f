//! Chores of the repository. `cargo xtask tidy` holds the habits of the code that clippy cannot; `cargo xtask docs`
//! writes the pages that are made from the code.

mod docs;
mod measure;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

#[expect(clippy::print_stderr, reason = "a command's errors")]
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask is two levels down");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(root),
        ["docs"] => docs::render(root).and_then(|page| Ok(std::fs::write(root.join(docs::PAGE), page)?)).map(|()| true),
        _ => {
            eprintln!("usage: cargo xtask tidy | docs");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was found.
#[expect(clippy::print_stdout, reason = "a command's result")]
fn tidy(root: &Path) -> Result<bool> {
    let tidied = tidy::run(root)?;
    for finding in &tidied.findings {
        println!("{finding}");
    }
    let is_page_current =
        std::fs::read_to_string(root.join(docs::PAGE)).is_ok_and(|page| Ok(page) == docs::render(root).map_err(drop));
    if !is_page_current {
        println!("{}: is not what the code says; run cargo xtask docs", docs::PAGE);
    }
    println!("tidy: {} findings in {} files", tidied.findings.len(), tidied.files);
    Ok(tidied.findings.is_empty() && is_page_current)
}
