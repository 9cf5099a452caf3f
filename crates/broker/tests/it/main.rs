//! The broker's outside, tested as one binary: connections over pipes and TCP, HTTP, the data directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod connection;
mod data_dir;
mod groups;
mod http;
mod ledger;
mod metrics_page;
mod offsets;
mod pipes;
mod protocol_page;
