//! The codec from outside: against an independent implementation, against hostile bytes, and record batches.

mod batches;
mod codec;
mod notation;
mod oracle;
