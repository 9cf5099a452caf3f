//! The records field of Produce and Fetch: slices of batches that nobody copies.
//!
//! Owns the list of slices. What is in them is the matter of [`crate::records`].

use std::slice;

use bytes::Bytes;

/// Record batches, one after another, cut anywhere. Two values are equal if their bytes are.
#[derive(Debug, Clone, Default)]
pub enum Records {
    /// The field is null.
    #[default]
    Null,
    /// One slice: what decoding gives.
    One(Bytes),
    /// Any number of slices, written one after another.
    Many(Vec<Bytes>),
}

impl Records {
    /// Whether the field is null; an empty one is not.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The slices in order.
    pub fn slices(&self) -> &[Bytes] {
        match self {
            Self::Null => &[],
            Self::One(bytes) => slice::from_ref(bytes),
            Self::Many(slices) => slices,
        }
    }

    /// All bytes of the slices.
    pub fn len(&self) -> usize {
        self.slices().iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.slices().iter().all(Bytes::is_empty)
    }

    /// The bytes in one piece: copied only if there are several slices.
    pub fn to_bytes(&self) -> Bytes {
        match self.slices() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::One(bytes)
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(slices: Vec<Bytes>) -> Self {
        Self::Many(slices)
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |records: &Self| records.slices().iter().flatten().copied().collect::<Vec<u8>>();
        self.is_null() == other.is_null() && self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Records {}
