//! (being written)

pub mod budget;
mod ledger;
pub mod limits;
pub mod read;
pub mod segment;
pub mod store;
pub mod write;

pub use budget::{MemoryBudget, Reservation};
pub use ledger::{CommitError, Ledger, Stopped};
