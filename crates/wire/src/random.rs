//! Random values of every message, for tests and fuzzing (feature `arbitrary`).
//!
//! Owns the choices; the generated code makes the structures. Choices come from bytes, and once these are used up all
//! are the smallest: shorter bytes are simpler values, which is how proptest and fuzzers shrink.

use bytes::Bytes;

use crate::value::{Records, Text, Uuid};

/// A message of which random values can be made.
pub trait Random {
    /// A value with default fields where the version lacks them.
    fn random(g: &mut Source, version: i16) -> Self;
}

/// Bytes that are turned into choices.
#[derive(Debug)]
pub struct Source {
    bytes: Bytes,
    at: usize,
}

impl Source {
    /// Choices from these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), at: 0 }
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Small numbers, edges and any number: each often.
    fn number(&mut self) -> i64 {
        match self.byte() % 8 {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 | 5 => i64::from_be_bytes(self.fixed()),
            _ => self.byte().into(),
        }
    }
}

/// One choice for each type of the notation.
#[expect(missing_docs, reason = "each is named as the type that it makes")]
impl Source {
    pub fn bool(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub fn i8(&mut self) -> i8 {
        self.number() as i8
    }

    pub fn i16(&mut self) -> i16 {
        self.number() as i16
    }

    pub fn u16(&mut self) -> u16 {
        self.number() as u16
    }

    pub fn i32(&mut self) -> i32 {
        self.number() as i32
    }

    pub fn i64(&mut self) -> i64 {
        self.number()
    }

    /// Never NaN, which would not equal itself.
    pub fn f64(&mut self) -> f64 {
        self.number() as f64
    }

    pub fn uuid(&mut self) -> Uuid {
        if self.bool() { Uuid(u128::from_be_bytes(self.fixed())) } else { Uuid::ZERO }
    }

    pub fn string(&mut self) -> Text {
        let length = match self.byte() {
            // Long enough for a compact length of two bytes.
            255 => 300u16,
            other => u16::from(other % 12),
        };
        let text: String =
            (0..length).map(|_| ['a', 'Z', '0', '.', 'ß', '語', '🦀', '"'][self.byte() as usize % 8]).collect();
        text.into()
    }

    pub fn bytes(&mut self) -> Bytes {
        let length = self.byte() as usize % 40;
        (0..length).map(|_| self.byte()).collect()
    }

    pub fn records(&mut self) -> Records {
        match self.byte() % 4 {
            0 => Records::Null,
            1 | 2 => self.bytes().into(),
            _ => vec![self.bytes(), self.bytes(), self.bytes()].into(),
        }
    }

    pub fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.bool().then(|| value(self))
    }

    pub fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.byte() % 4;
        (0..count).map(|_| element(self)).collect()
    }
}
