//! Writing Kafka's values as a list of slices.
//!
//! Owns the output: small fields gather in one growing buffer, records pass through as the slices that they are. Does
//! not own the fields of any message; the generated code calls this.

use bytes::{BufMut, Bytes, BytesMut};

use crate::value::{Records, Uuid};

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Encoder {
    done: Vec<Piece>,
    done_bytes: usize,
    tail: BytesMut,
}

#[derive(Debug)]
enum Piece {
    Own(BytesMut),
    Passed(Bytes),
}

impl Encoder {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that were written.
    pub fn len(&self) -> usize {
        self.done_bytes + self.tail.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a slice without copying it.
    pub fn pass(&mut self, slice: Bytes) {
        if slice.is_empty() {
            return;
        }
        self.cut();
        self.done_bytes += slice.len();
        self.done.push(Piece::Passed(slice));
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.done_bytes += self.tail.len();
            self.done.push(Piece::Own(self.tail.split()));
        }
    }

    /// What was written, in order.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.cut();
        let slice = |piece| match piece {
            Piece::Own(buffer) => BytesMut::freeze(buffer),
            Piece::Passed(slice) => slice,
        };
        self.done.into_iter().map(slice).collect()
    }

    /// Starts a frame: room for its size, which [`Encoder::finish_frame`] fills in.
    pub(crate) fn frame() -> Self {
        let mut e = Self::new();
        e.tail.reserve(256);
        e.i32(0);
        e
    }

    /// What was written since [`Encoder::frame`], with its size in front.
    pub(crate) fn finish_frame(mut self) -> Vec<Bytes> {
        self.cut();
        let size = length_i32(self.done_bytes - size_of::<i32>());
        if let Some(Piece::Own(first)) = self.done.first_mut() {
            first[..size_of::<i32>()].copy_from_slice(&size.to_be_bytes());
        }
        self.finish()
    }
}

/// Values of a fixed width.
impl Encoder {
    /// One byte.
    pub fn bool(&mut self, value: bool) {
        self.tail.put_u8(value.into());
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    /// Eight bytes.
    pub fn f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.tail.put_u128(value.0);
    }

    /// Seven bits a byte, the least significant first.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }
}

/// Values with a length in front. `flex`: a varint that counts from one; else two or four bytes. Null is -1, or 0 if
/// flexible.
impl Encoder {
    fn length(&mut self, length: usize, flex: bool) {
        let length = length_i32(length);
        if flex { self.unsigned_varint(length.unsigned_abs() + 1) } else { self.i32(length) }
    }

    fn null_length(&mut self, flex: bool) {
        if flex { self.unsigned_varint(0) } else { self.i32(-1) }
    }

    /// A string. The old form has room for 32,767 bytes: a longer text, which can only be a message for people, is cut.
    pub fn string(&mut self, text: &str, flex: bool) {
        if flex {
            self.length(text.len(), true);
            return self.tail.put_slice(text.as_bytes());
        }
        let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
        self.i16(text.len() as i16);
        self.tail.put_slice(text.as_bytes());
    }

    /// A string, or null.
    pub fn nullable_string(&mut self, text: Option<&str>, flex: bool) {
        match text {
            Some(text) => self.string(text, flex),
            None if flex => self.unsigned_varint(0),
            None => self.i16(-1),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8], flex: bool) {
        self.length(bytes.len(), flex);
        self.tail.put_slice(bytes);
    }

    /// Bytes, or null.
    pub fn nullable_bytes(&mut self, bytes: Option<&[u8]>, flex: bool) {
        match bytes {
            Some(bytes) => self.bytes(bytes, flex),
            None => self.null_length(flex),
        }
    }

    /// Record batches: their slices pass through.
    pub fn records(&mut self, records: &Records, flex: bool) {
        if records.is_null() {
            return self.null_length(flex);
        }
        self.length(records.len(), flex);
        for slice in records.slices() {
            self.pass(slice.clone());
        }
    }

    /// A structure behind a byte that says whether it is there.
    pub fn nullable_struct<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Elements.
    pub fn array<T>(&mut self, elements: &[T], flex: bool, mut write: impl FnMut(&mut Self, &T)) {
        self.length(elements.len(), flex);
        for element in elements {
            write(self, element);
        }
    }

    /// Elements, or null.
    pub fn nullable_array<T>(&mut self, elements: Option<&[T]>, flex: bool, write: impl FnMut(&mut Self, &T)) {
        match elements {
            Some(elements) => self.array(elements, flex, write),
            None => self.null_length(flex),
        }
    }
}

/// The tagged fields of one structure, gathered before they are written because their count and sizes come first.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    count: u32,
    fields: BytesMut,
}

impl Tags {
    /// Adds a field. Tags come in ascending order.
    pub(crate) fn field(&mut self, tag: u32, write: impl FnOnce(&mut Encoder)) {
        let mut value = Encoder::new();
        write(&mut value);
        let size = value.len();
        let mut field = Encoder { tail: std::mem::take(&mut self.fields), ..Encoder::default() };
        field.unsigned_varint(tag);
        field.unsigned_varint(length_i32(size).unsigned_abs());
        for slice in value.finish() {
            field.tail.put_slice(&slice);
        }
        self.fields = field.tail;
        self.count += 1;
    }
}

impl Encoder {
    /// The end of a structure that has no tagged field.
    pub(crate) fn no_tags(&mut self) {
        self.tail.put_u8(0);
    }

    /// The end of a structure.
    #[expect(clippy::needless_pass_by_value, reason = "the tags are used up")]
    pub(crate) fn tags(&mut self, tags: Tags) {
        self.unsigned_varint(tags.count);
        self.tail.put_slice(&tags.fields);
    }
}

fn length_i32(length: usize) -> i32 {
    i32::try_from(length)
        .expect("Kafka has no place for more than 2 GiB in one value or frame: the broker's limits are far below")
}
