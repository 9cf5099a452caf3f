//! Chores of the repository. `cargo xtask tidy` holds the habits of the code that clippy cannot.

mod measure;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, reason = "a command's result")]
#[expect(clippy::print_stderr, reason = "a command's errors")]
fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask is two levels down");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::FAILURE;
    }
    match tidy::run(root) {
        Ok(tidied) => {
            for finding in &tidied.findings {
                println!("{finding}");
            }
            println!("tidy: {} findings in {} files", tidied.findings.len(), tidied.files);
            if tidied.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
