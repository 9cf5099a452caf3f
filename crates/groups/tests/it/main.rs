//! Tests of the coordinators: rules as transcripts, and random schedules of many members.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod large;
mod schedules;
mod transcript;
mod world;
