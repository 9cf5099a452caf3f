//! The messages, as `build.rs` makes them from `schema/*.kafka`.
//!
//! Owns nothing by hand but the names that the generated code uses.
#![expect(clippy::all, reason = "generated: uniform rather than terse, so that the generator stays simple")]

/// What each generated module imports.
mod prelude {
    pub(super) use std::ops::RangeInclusive;

    pub(super) use bytes::Bytes;

    pub(super) use crate::decode::{DecodeError, Decoder};
    pub(super) use crate::encode::{Encoder, Tags};
    pub(super) use crate::message::{Message, Request, Response};
    #[cfg(feature = "arbitrary")]
    pub(super) use crate::random::{Random, Source};
    pub(super) use crate::value::{Records, Text, Uuid};
}

use crate::message::Api;

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
