//! Reading Kafka's values from a frame.
//!
//! Owns the bounds. A length is believed only as far as bytes are there, and an array grows as its elements are read,
//! each charged to the allowance that the caller gave: what strangers claim allocates nothing. Does not own the fields
//! of any message; the generated code calls this.

use bytes::Bytes;

use crate::message::Message;
use crate::value::{Records, Text, Uuid};

/// Why bytes are not the message that they should be. `offset` counts from the start of the frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("at byte {offset}: {wanted} bytes should follow, {left} do")]
    Truncated {
        /// Where.
        offset: usize,
        /// What the value needs, or claims.
        wanted: usize,
        /// What is there.
        left: usize,
    },
    /// The arrays need more memory than the caller allows.
    #[error("at byte {offset}: the arrays take more than the {allowance} bytes allowed for a message")]
    TooLarge {
        /// Where.
        offset: usize,
        /// The caller's limit in bytes.
        allowance: usize,
    },
    /// The bytes cannot stand for this value.
    #[error("at byte {offset}: {what}")]
    Invalid {
        /// Where.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The codec does not know the version.
    #[error("{message} has no version {version} here")]
    UnknownVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// Bytes are left behind the message.
    #[error("{left} bytes are left behind the message")]
    Trailing {
        /// How many.
        left: usize,
    },
}

type Decoded<T> = Result<T, DecodeError>;

/// A position in a frame, and what may still be allocated.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    end: usize,
    allowance: usize,
    allocated: usize,
}

impl Decoder {
    /// Reads from the start of `frame`, and allocates at most `allowance` bytes for the elements of arrays.
    pub fn new(frame: Bytes, allowance: usize) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, allowance, allocated: 0 }
    }

    /// The bytes that were allocated so far: at most the allowance.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// The position, from the start of the frame.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The bytes that are not read yet.
    pub fn left(&self) -> usize {
        self.end - self.at
    }

    /// That the frame is read to its end.
    pub fn finish(self) -> Decoded<()> {
        if self.left() == 0 { Ok(()) } else { Err(DecodeError::Trailing { left: self.left() }) }
    }

    /// That the codec knows this version of `M`.
    pub(crate) fn known_version<M: Message>(&self, version: i16) -> Decoded<()> {
        if M::VERSIONS.contains(&version) {
            return Ok(());
        }
        Err(DecodeError::UnknownVersion { message: M::NAME, version })
    }

    /// The first four bytes of a request, left unread.
    pub(crate) fn peek_key_and_version(&mut self) -> Decoded<(i16, i16)> {
        let start = self.at;
        let both = (self.i16()?, self.i16()?);
        self.at = start;
        Ok(both)
    }

    fn invalid<T>(&self, what: &'static str) -> Decoded<T> {
        Err(DecodeError::Invalid { offset: self.at, what })
    }

    fn claim(&mut self, wanted: usize) -> Decoded<usize> {
        let left = self.left();
        if wanted > left {
            return Err(DecodeError::Truncated { offset: self.at, wanted, left });
        }
        let from = self.at;
        self.at += wanted;
        Ok(from)
    }

    fn fixed<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let from = self.claim(N)?;
        Ok(*self.frame[from..].first_chunk().expect("claimed"))
    }

    fn slice(&mut self, length: usize) -> Decoded<Bytes> {
        let from = self.claim(length)?;
        Ok(self.frame.slice(from..from + length))
    }
}

/// Values of a fixed width.
impl Decoder {
    /// A byte that is 0 or, as in Kafka, anything else.
    pub fn bool(&mut self) -> Decoded<bool> {
        Ok(self.i8()? != 0)
    }

    /// One byte.
    pub fn i8(&mut self) -> Decoded<i8> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Decoded<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Decoded<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Decoded<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Decoded<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Eight bytes.
    pub fn f64(&mut self) -> Decoded<f64> {
        self.fixed().map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Decoded<Uuid> {
        self.fixed().map(|bytes| Uuid(u128::from_be_bytes(bytes)))
    }

    /// Seven bits a byte, the least significant first; at most five bytes and 32 bits.
    pub fn unsigned_varint(&mut self) -> Decoded<u32> {
        let mut value = 0u64;
        for place in 0..5 {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).or_else(|_| self.invalid("a varint has more than 32 bits"));
            }
        }
        self.invalid("a varint has more than five bytes")
    }
}

/// Values with a length in front. `flex`: a varint that counts from one; else two or four bytes. Null is -1, or 0 if
/// flexible.
impl Decoder {
    fn short_length(&mut self, flex: bool) -> Decoded<Option<usize>> {
        if flex { self.compact_length() } else { self.i16().and_then(|length| self.length(length.into())) }
    }

    fn long_length(&mut self, flex: bool) -> Decoded<Option<usize>> {
        if flex { self.compact_length() } else { self.i32().and_then(|length| self.length(length)) }
    }

    fn compact_length(&mut self) -> Decoded<Option<usize>> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    fn length(&self, length: i32) -> Decoded<Option<usize>> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => self.invalid("a length is negative"),
        }
    }

    fn present<T>(&self, value: Option<T>) -> Decoded<T> {
        value.map_or_else(|| self.invalid("null, where a value must be"), Ok)
    }

    /// A string, or null.
    pub fn nullable_string(&mut self, flex: bool) -> Decoded<Option<Text>> {
        let Some(length) = self.short_length(flex)? else { return Ok(None) };
        let bytes = self.slice(length)?;
        Text::from_utf8(bytes).map(Some).or_else(|_| self.invalid("the string that ends here is not UTF-8"))
    }

    /// A string.
    pub fn string(&mut self, flex: bool) -> Decoded<Text> {
        let text = self.nullable_string(flex)?;
        self.present(text)
    }

    /// Bytes, or null.
    pub fn nullable_bytes(&mut self, flex: bool) -> Decoded<Option<Bytes>> {
        match self.long_length(flex)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, flex: bool) -> Decoded<Bytes> {
        let bytes = self.nullable_bytes(flex)?;
        self.present(bytes)
    }

    /// Record batches: one slice of the frame, not looked into.
    pub fn records(&mut self, flex: bool) -> Decoded<Records> {
        Ok(self.nullable_bytes(flex)?.map_or(Records::Null, Records::One))
    }

    /// A structure behind a byte that says whether it is there.
    pub fn nullable_struct<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        if self.i8()? < 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// Elements, or null.
    pub fn nullable_array<T>(
        &mut self,
        flex: bool,
        read: impl FnMut(&mut Self) -> Decoded<T>,
    ) -> Decoded<Option<Vec<T>>> {
        match self.long_length(flex)? {
            Some(count) => self.elements(count, read).map(Some),
            None => Ok(None),
        }
    }

    /// Elements.
    pub fn array<T>(&mut self, flex: bool, read: impl FnMut(&mut Self) -> Decoded<T>) -> Decoded<Vec<T>> {
        let elements = self.nullable_array(flex, read)?;
        self.present(elements)
    }

    fn elements<T>(&mut self, count: usize, mut read: impl FnMut(&mut Self) -> Decoded<T>) -> Decoded<Vec<T>> {
        // Each element takes a byte at least, so a count beyond the bytes that are there is a lie.
        if count > self.left() {
            return Err(DecodeError::Truncated { offset: self.at, wanted: count, left: self.left() });
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            if elements.len() == elements.capacity() {
                self.grow(&mut elements, count)?;
            }
            elements.push(read(self)?);
        }
        Ok(elements)
    }

    /// Room for twice the elements that were read, but for no more than `count`: a false count costs at most as much as
    /// what was sent.
    fn grow<T>(&mut self, elements: &mut Vec<T>, count: usize) -> Decoded<()> {
        let room = (elements.len() * 2).clamp(4, count.max(4)).min(count);
        let added = room - elements.len();
        let bytes = added * size_of::<T>();
        if bytes > self.allowance - self.allocated {
            return Err(DecodeError::TooLarge { offset: self.at, allowance: self.allowance });
        }
        self.allocated += bytes;
        elements.reserve_exact(added);
        Ok(())
    }
}

/// The end of a structure in a flexible version.
impl Decoder {
    /// Tagged fields none of which is known.
    pub(crate) fn skip_tags(&mut self) -> Decoded<()> {
        self.tags(|_, _| Ok(false))
    }

    /// The tagged fields at the end of a structure: `known` reads the field of a tag, or says that it does not know it;
    /// then it is skipped. A field sees its own bytes only, and must take them all.
    pub(crate) fn tags(&mut self, mut known: impl FnMut(&mut Self, u32) -> Decoded<bool>) -> Decoded<()> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let start = self.claim(size)?;
            let outer = std::mem::replace(&mut self.end, start + size);
            self.at = start;
            if !known(self, tag)? {
                self.at = self.end;
            }
            if self.at != self.end {
                return self.invalid("a tagged field is shorter than its size says");
            }
            self.end = outer;
        }
        Ok(())
    }
}
