//! An S3 server in memory, for tests and trials: one key pair, conditional PUT that is atomic, and every fault that a
//! store may have, set while it runs. Owns what S3's protocol says of objects, and nothing of what they hold.
//!
//! It is no store: what it holds is gone when it stops. It is a crate of its own, because nothing of it may come into the
//! product.
//!
//! # The control port
//!
//! JSON over HTTP, unauthenticated, on loopback:
//!
//! | request | what it does |
//! |---|---|
//! | `GET /stats` | counters, see [`Stats`] |
//! | `DELETE /stats` | sets the counters to zero and forgets the log |
//! | `GET /log?after=N` | the requests after number N that are still known, in the order of their ends, 1,000 at most |
//! | `GET /faults` | the faults that are set |
//! | `PUT /faults` | sets faults, see [`Faults`]; what is not named is off |
//!
//! Reading order: [`Faults`], `service` (what becomes of a request), `api` (the operations), `objects`.

mod api;
mod control;
mod faults;
mod objects;
mod random;
mod server;
mod service;
mod stats;

pub use faults::{Fault, Faults, Latency, Method, Outage, Rule};
pub use objects::Stored;
pub use server::{Server, Settings};
pub use stats::{Entry, MethodStats, Stats};
