//! Kafka's bytes and their values.
//!
//! Owns the encoding of requests and responses in every version that it knows, the framing, Kafka's error codes, and
//! views of record batches. Pure: no input or output, no clock, no threads. It does not own what a broker offers or
//! answers, nor limits: whoever decodes says how much may be allocated.
//!
//! Reading order: [`message`] (what a message is), [`decode`] and [`encode`], [`frame`] (a message on a connection),
//! the generated modules, one for each API ([`produce`], [`fetch`], …; their source is `schema/*.kafka`), [`error`],
//! [`records`].
//!
//! Invariants:
//! 1. Bytes from strangers never panic, and never allocate beyond the caller's allowance.
//! 2. Strings, byte fields and records of a decoded message are slices of the frame; records of an encoded one are
//!    passed through.

pub mod decode;
pub mod encode;
pub mod error;
pub mod frame;
mod generated;
pub mod message;
pub mod records;
mod value;

#[cfg(feature = "arbitrary")]
pub mod random;

pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use error::ErrorCode;
pub use generated::*;
pub use message::{Api, Message, Request, Response};
pub use value::{Records, Text, Uuid};
