//! Tests of the data path. One binary: linking is most of a test build.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod segment;
