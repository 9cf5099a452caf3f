//! The simulator: a whole cluster in one process, from one seed. Owns the simulated outside (disk, tasks, clock,
//! network), clients that behave as Kafka's do, and the checks; the product's own drivers run in it unchanged.
//!
//! Reading order: [`scenario`] (what is drawn from a seed), [`world`] (how it is played), [`clients`], [`history`] and
//! [`chronicle`] (the evidence), [`checks`] (the judgement), [`plant`] (bugs that the checks must find).

pub mod checks;
pub mod chronicle;
pub mod clients;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod history;
pub mod net;
pub mod phase;
pub mod plant;
pub mod rng;
pub mod scenario;
pub mod shrink;
pub mod tasks;
pub mod trace;
pub mod world;
