//! Tests of the data path. One binary: linking is most of a test build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod directory;
mod news;
mod reading;
mod segment;
mod waiting;
mod world;
mod write_faults;
mod write_path;
mod write_validate;
mod write_world;
