//! The data path: how a record gets into an object and an order, and how it gets out again.
//!
//! ```text
//!               write                                              read
//!  producer ─▶ validate ─▶ admit ─▶ buffer                consumer ─▶ fetch (waits for the fold to wake it)
//!                                     │ seal                              │ locate: offset → extents (pure)
//!                                     ▼                                   ▼
//!             segment::assemble: one object of slices             read::Cache: objects in memory
//!                 │ the same slices ───────────────────────────▶ tail │      │ fetched
//!                 ▼                                                   │      │
//!             store: PUT, durable when it returns                     │      ◀── store: GET of the whole object
//!                 ▼                                                   ▼
//!             ledger: commit ─▶ journal ─▶ fold ─▶ verdicts    batches: whole batches, new first 16 bytes
//!                 ▼                          │                        ▼
//!  producer ◀─ acknowledge                   └─ wake ─▶ fetch     slices ─▶ consumer
//! ```
//!
//! Records are bytes of a frame that came from a socket, and stay where they are: bundles, cache and answers are
//! lists of slices of them. What is new in an object is 40 bytes in front and an index behind ([`segment`]); what is
//! new in an answer is 16 bytes in front of each batch (`read`), since base offset and leader epoch are outside of
//! a batch's CRC.
//!
//! The order of things is not here. [`Ledger`] is the port to it: the state says which bytes of which objects are a
//! partition's records, and the fold decides offsets and duplicates. Nor are sockets, Kafka's messages or error codes
//! here; every error says whether a thing may have happened, and the broker says it in Kafka's words.
//!
//! Invariants:
//! 1. A commit leaves for the journal only after its object is durable; an acknowledgement only after the fold.
//! 2. Names of objects are used once; an object's bytes never change. So a cached object is never stale.
//! 3. Bytes from the store are not trusted until a checksum was right; one damaged byte hurts one partition.
//! 4. Memory is bounded: frames and answers by [`MemoryBudget`]s, objects by the cache, sleepers by a limit. Whoever
//!    holds objects never waits for memory, so nothing waits in a circle.
//! 5. Nothing polls: a fetch without data sleeps until its partition advances, and causes no I/O.
//!
//! Reading order: [`segment`] (the format), [`mod@write`], [`store`], [`Ledger`], [`read`]; [`limits`] beside them.

pub mod budget;
mod ledger;
pub mod limits;
pub mod read;
pub mod segment;
pub mod store;
pub mod write;

pub use budget::{ExceedsBudget, MemoryBudget, Reservation};
pub use ledger::{CommitError, Ledger, Stopped};
