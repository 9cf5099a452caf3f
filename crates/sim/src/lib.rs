//! The simulator: a whole cluster in one process, from one seed. Owns the simulated outside (disk, tasks); the
//! product's own drivers run on it unchanged.

pub mod disk;
pub mod tasks;
