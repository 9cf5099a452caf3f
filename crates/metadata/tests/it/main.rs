//! The fold and its bytes, from outside: transcripts that a reviewer can read, the fold against the naive reference,
//! round trips, hostile bytes, and a golden journal.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bounds;
mod differential;
mod encoding;
mod generate;
mod golden;
mod groups;
mod reads;
mod snapshots;
mod transcript;
