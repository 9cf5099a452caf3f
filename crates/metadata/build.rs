//! Compiles the stored formats' schemas, without `protoc`.

use std::io::Result;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/snapshot.proto", "proto/entry.proto"], ["proto"])
        .map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    prost_build::Config::new().compile_fds(files)
}
