//! Compiles the part of etcd's API that the journal speaks, without `protoc`.

use std::io::Result;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/etcd.proto"], ["proto"])
        .map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    // Values are slices of the message they came in.
    prost_build::Config::new().bytes(["."]).compile_fds(files)
}
