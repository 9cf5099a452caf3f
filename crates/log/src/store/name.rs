//! The names of stored objects. Every key that this product ever stores is in this table, below the store's prefix
//! (or directory):
//!
//! | key | what |
//! |---|---|
//! | `{cluster}/bundle/{hh}/{nonce}-{n}` | records of many partitions, straight from the write path |
//! | `{cluster}/snapshot/{incarnation}/{last ordinal}-{nonce}-{n}` | the whole state after that ordinal |
//! | `probe-{random}` | what a start finds out with whether a bucket is fit; written and deleted at once |
//! | `cluster` | in a bucket: the id of the cluster that the prefix belongs to, one line of text |
//!
//! `{cluster}` and `{incarnation}` are 32 hexadecimal digits, `{nonce}` 16, `{last ordinal}` 20 decimal digits (so that
//! the newest is last in a listing), `{n}` decimal. `{hh}` spreads the names of one session over prefixes, since
//! stores limit requests by prefix: two hexadecimal digits, the low byte of the CRC-32C of nonce and n (12 bytes,
//! big-endian). Names are never reused.
//!
//! The name of an object that holds records can be built from what the journal says of it; nobody lists them.

use std::fmt;
use std::str::FromStr;

use kafscale_metadata::ObjectId;

use crate::segment::crc32c;

/// The name of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    cluster: u128,
    kind: Kind,
    object: ObjectId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Bundle,
    Snapshot { incarnation: u128, last_ordinal: u64 },
}

impl ObjectName {
    /// A bundle of `cluster`.
    pub fn bundle(cluster: u128, object: ObjectId) -> Self {
        Self { cluster, kind: Kind::Bundle, object }
    }

    /// The snapshot of the state after `last_ordinal` of the journal's life `incarnation`.
    pub fn snapshot(cluster: u128, incarnation: u128, last_ordinal: u64, object: ObjectId) -> Self {
        Self { cluster, kind: Kind::Snapshot { incarnation, last_ordinal }, object }
    }

    /// The last ordinal in it, if it is a snapshot of the journal's life `incarnation`.
    pub fn snapshot_of(&self, incarnation: u128) -> Option<u64> {
        match self.kind {
            Kind::Snapshot { incarnation: life, last_ordinal } if life == incarnation => Some(last_ordinal),
            Kind::Snapshot { .. } | Kind::Bundle => None,
        }
    }

    /// Which session wrote it, and its number there.
    pub fn object(&self) -> ObjectId {
        self.object
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectId { nonce, number } = self.object;
        write!(f, "{:032x}/", self.cluster)?;
        match self.kind {
            Kind::Bundle => write!(f, "bundle/{:02x}/", spread(self.object))?,
            Kind::Snapshot { incarnation, last_ordinal } => {
                write!(f, "snapshot/{incarnation:032x}/{last_ordinal:020}-")?;
            }
        }
        write!(f, "{nonce:016x}-{number}")
    }
}

/// The text is not a name of this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object's name")]
pub struct NotAName(pub String);

impl FromStr for ObjectName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        // What would not be written like this was not written by us: upper case, a sign, leading zeros.
        parse(text).filter(|name| name.to_string() == text).ok_or_else(|| NotAName(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<ObjectName> {
    let mut parts = text.split('/');
    let cluster = u128::from_str_radix(parts.next()?, 16).ok()?;
    let kind = parts.next()?;
    let prefix = parts.next()?;
    let mut file = parts.next()?;
    let kind = match kind {
        "bundle" => Kind::Bundle,
        "snapshot" => {
            let (ordinal, rest) = file.split_once('-')?;
            file = rest;
            Kind::Snapshot { incarnation: u128::from_str_radix(prefix, 16).ok()?, last_ordinal: ordinal.parse().ok()? }
        }
        _ => return None,
    };
    let (nonce, number) = file.split_once('-')?;
    let object = ObjectId { nonce: u64::from_str_radix(nonce, 16).ok()?, number: number.parse().ok()? };
    Some(ObjectName { cluster, kind, object })
}

fn spread(object: ObjectId) -> u8 {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&object.nonce.to_be_bytes());
    key[8..].copy_from_slice(&object.number.to_be_bytes());
    crc32c(&key).to_be_bytes()[3]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_what_the_table_says() {
        let object = ObjectId { nonce: 0xabc, number: 42 };
        assert_eq!(
            ObjectName::bundle(7, object).to_string(),
            "00000000000000000000000000000007/bundle/9e/0000000000000abc-42"
        );
        assert_eq!(
            ObjectName::snapshot(7, 9, 1234, object).to_string(),
            "00000000000000000000000000000007/snapshot/00000000000000000000000000000009/00000000000000001234-0000000000000abc-42"
        );
    }

    proptest! {
        #[test]
        fn names_round_trip(cluster: u128, nonce: u64, number: u32, incarnation: u128, ordinal: u64) {
            let object = ObjectId { nonce, number };
            let names =
                [ObjectName::bundle(cluster, object), ObjectName::snapshot(cluster, incarnation, ordinal, object)];
            for name in names {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }

        #[test]
        fn what_is_no_name_is_refused(text in "[0-9a-fA-Z+/-]{0,80}|0{32}/bundle/[0-9a-f]{2}/0{16}-[0-9+]{1,12}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
