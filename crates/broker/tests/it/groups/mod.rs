//! Consumer groups through the wire: a whole broker over pipes, on a directory, with paused time.

mod life;
mod parked;
mod verdicts;
mod versions;
pub(crate) mod world;
