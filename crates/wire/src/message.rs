//! What a Kafka message is to the codec.
//!
//! Owns the traits that the generated types implement, and the row of the table of APIs. Does not own any message.

use std::ops::RangeInclusive;

use crate::decode::{DecodeError, Decoder};
use crate::encode::Encoder;

/// A request, a response or a header, in all versions that the codec knows.
///
/// A value holds the fields of all versions. A field that a version lacks is not written in it, and reads as Kafka's
/// default.
pub trait Message: Sized + Default {
    /// Kafka's name, such as `ProduceRequest`.
    const NAME: &'static str;
    /// The versions that can be read and written.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Reads a value of this version. Strings and bytes are slices of the decoder's frame. Bytes behind the message are
    /// left; whoever expects none calls [`Decoder::finish`].
    fn decode(d: &mut Decoder, version: i16) -> Result<Self, DecodeError>;

    /// Writes the value as this version, which must be one of `VERSIONS`: any other gives bytes that nobody can read.
    fn encode(&self, e: &mut Encoder, version: i16);
}

/// What a client sends.
pub trait Request: Message {
    /// The API key.
    const KEY: i16;
    /// What answers it.
    type Response: Response;

    /// How many topics it names at its top level; 0 if it names none, or asks for all of them.
    fn topic_count(&self) -> usize {
        0
    }

    /// How long its sender wants it to wait for something to come, in milliseconds.
    fn max_wait_ms(&self) -> i32 {
        0
    }
}

/// What a broker answers.
pub trait Response: Message {
    /// The API key.
    const KEY: i16;

    /// Calls `visit` with each error code that is in it in this version, 0 (none) among them.
    fn each_error(&self, version: i16, visit: &mut dyn FnMut(i16));
}

/// One API of the codec, for whoever has a key and no type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The API key.
    pub key: i16,
    /// Kafka's name, such as `Produce`.
    pub name: &'static str,
    /// The versions of the request that can be read and written.
    pub versions: RangeInclusive<i16>,
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    pub flexible_from: i16,
}

impl Api {
    /// The API of a key, if the codec knows it.
    pub fn of(key: i16) -> Option<&'static Self> {
        crate::APIS.iter().find(|api| api.key == key)
    }
}
