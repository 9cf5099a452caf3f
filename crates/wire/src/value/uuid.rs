//! Kafka's 128-bit ids, of topics above all.
//!
//! Owns the type and its text form (base64url without padding, 22 characters), as Kafka's tools show it.

use std::fmt;
use std::str::FromStr;

/// An id; zero stands for none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 22 digits of 6 bits are 132: the last digit carries 4 unused bits.
const LENGTH: usize = 22;
const UNUSED_BITS: u32 = 4;

impl Uuid {
    /// No id.
    pub const ZERO: Self = Self(0);

    /// Whether it stands for none.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; LENGTH];
        text[LENGTH - 1] = DIGITS[(self.0 << UNUSED_BITS) as usize & 63];
        let mut rest = self.0 >> (6 - UNUSED_BITS);
        for place in text[..LENGTH - 1].iter_mut().rev() {
            *place = DIGITS[rest as usize & 63];
            rest >>= 6;
        }
        f.pad(std::str::from_utf8(&text).expect("the digits are ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// The text is not 22 digits of base64url, or its unused bits are set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 characters of base64url, such as AAAAAAAAAAAAAAAAAAAAAA")]
pub struct NotAnId;

impl FromStr for Uuid {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (last, head) = text.as_bytes().split_last().ok_or(NotAnId)?;
        if text.len() != LENGTH {
            return Err(NotAnId);
        }
        let digit = |byte: &u8| DIGITS.iter().position(|digit| digit == byte).ok_or(NotAnId);
        let mut value = 0u128;
        for byte in head {
            value = value << 6 | digit(byte)? as u128;
        }
        let last = digit(last)?;
        if last & ((1 << UNUSED_BITS) - 1) != 0 {
            return Err(NotAnId);
        }
        Ok(Self(value << (6 - UNUSED_BITS) | (last >> UNUSED_BITS) as u128))
    }
}
