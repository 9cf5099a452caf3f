//! Makes the Rust of the Kafka messages from `schema/*.kafka`.
//!
//! Reads the files, and writes one `messages.rs` for `src/generated.rs` to include. The notation is described in
//! `schema/README.md`; `build/notation.rs` reads it, `build/emit.rs` and `build/expr.rs` write Rust.

#[path = "build/notation.rs"]
mod notation;

#[path = "build/emit.rs"]
mod emit;

#[path = "build/expr.rs"]
mod expr;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

fn main() -> ExitCode {
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    let mut modules = Vec::new();
    for path in schema_files(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let module = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        modules.push(notation::parse(module, &text)?);
    }
    let out = out_dir()?.join("messages.rs");
    fs::write(&out, emit::source(&modules)).map_err(|e| format!("{}: {e}", out.display()))
}

#[expect(clippy::disallowed_methods, reason = "cargo names the directory in the environment, and only there")]
fn out_dir() -> Result<PathBuf, String> {
    std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| "OUT_DIR is not set: run this through cargo".into())
}

/// The schema files in the order of their names, so that the output is the same on every machine.
fn schema_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "kafka") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
