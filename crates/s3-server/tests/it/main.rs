//! The S3 store of `kafscale-log` against this server, with every fault and without, and the server by itself. One binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod conformance;
mod connections;
mod control;
mod outcomes;
mod process;
mod secured;
mod world;
