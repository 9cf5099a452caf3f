//! The path of a record from a Produce request to its place in the order.
//!
//! ```text
//! validate → admit → buffer → flush → bundle → pipeline → ticket
//!  checked    let in   queued   when    laid out  uploaded,   told
//!                                to seal           committed
//! ```
//!
//! The modules follow the record. All but `driver` are pure: they take `now` and say what is to be done; the driver
//! does it and tells them how it went. What holds everywhere:
//!
//! - An acknowledgement needs a verdict of the fold on that very batch. There is no other way to make one.
//! - Batches of a connection keep their order from the buffer to the journal; so do those of a producer.
//! - Every waiter is told exactly once, also when the broker ends or the driver dies. What is told "not written" never
//!   reached the journal; what may be there is "unknown".
//! - Bytes that wait are bounded, and nothing is done while nothing is written.

mod admit;
mod buffer;
mod bundle;
mod driver;
mod flush;
mod metrics;
mod pipeline;
mod space;
mod ticket;
mod validate;

pub use driver::{Settings, Writer};
pub use metrics::{Counter, Metrics};
pub use ticket::{Dropped, Receipt, Written};
pub use validate::{Invalid, Rule, TimestampRule, TopicRules, ValidBatch, validate};
