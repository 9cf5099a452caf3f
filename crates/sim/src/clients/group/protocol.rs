//! What group members tell each other through the coordinator, to whom it is opaque: Kafka's `ConsumerProtocol`,
//! subscriptions and assignments in versions 0 to 3. Written by hand, as old clients write it. Pure.
//!
//! | version | subscription gains |
//! |---|---|
//! | 1 | the partitions that the member owns (KIP-429) |
//! | 2 | the generation in which it got them |
//! | 3 | its rack (KIP-881) |
//!
//! The sticky assignor of before KIP-429 keeps what it had in the user data: partitions, then the generation.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A topic's name and a partition.
pub type Partition = (String, u32);

/// What a member wants and has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The version in which it is written.
    pub version: i16,
    /// The topics that it wants.
    pub topics: Vec<String>,
    /// What it owns, and did not give up before it joined.
    pub owned: BTreeSet<Partition>,
    /// The generation in which it got what it owns; -1: not known.
    pub generation: i32,
}

impl Subscription {
    /// Its bytes; what the member owns also goes into the user data if `in_user_data`.
    pub fn encode(&self, in_user_data: bool) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(self.version);
        put_len(&mut out, self.topics.len());
        self.topics.iter().for_each(|topic| put_text(&mut out, topic));
        if in_user_data {
            let mut data = BytesMut::new();
            put_partitions(&mut data, &self.owned);
            data.put_i32(self.generation);
            put_len(&mut out, data.len());
            out.put_slice(&data);
        } else {
            out.put_i32(-1);
        }
        if self.version >= 1 {
            put_partitions(&mut out, &self.owned);
        }
        if self.version >= 2 {
            out.put_i32(self.generation);
        }
        if self.version >= 3 {
            out.put_i16(-1);
        }
        out.freeze()
    }

    /// Reads them. Like Kafka's clients, takes what it knows of a newer version.
    pub fn decode(mut bytes: Bytes) -> Result<Self> {
        let version = take_i16(&mut bytes)?;
        ensure!(version >= 0, "version {version} of a subscription");
        let count = take_len(&mut bytes)?;
        let topics = (0..count).map(|_| take_text(&mut bytes)).collect::<Result<_>>()?;
        let mut subscription = Self { version, topics, owned: BTreeSet::new(), generation: -1 };
        if let Some(mut data) = take_data(&mut bytes)? {
            subscription.owned = take_partitions(&mut data)?;
            subscription.generation = take_i32(&mut data)?;
        }
        if version >= 1 {
            let owned = take_partitions(&mut bytes)?;
            if subscription.owned.is_empty() {
                subscription.owned = owned;
            }
        }
        if version >= 2 {
            subscription.generation = take_i32(&mut bytes)?;
        }
        Ok(subscription)
    }
}

/// The bytes of an assignment.
pub fn encode_assignment(version: i16, partitions: &BTreeSet<Partition>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    put_partitions(&mut out, partitions);
    out.put_i32(-1);
    out.freeze()
}

/// Reads them; no bytes at all are an empty assignment.
pub fn decode_assignment(mut bytes: Bytes) -> Result<BTreeSet<Partition>> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let version = take_i16(&mut bytes)?;
    ensure!(version >= 0, "version {version} of an assignment");
    let partitions = take_partitions(&mut bytes)?;
    let _user_data = take_data(&mut bytes)?;
    ensure!(bytes.is_empty(), "{} bytes behind an assignment", bytes.len());
    Ok(partitions)
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.put_i32(i32::try_from(len).expect("a short list"));
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("a short name"));
    out.put_slice(text.as_bytes());
}

fn put_partitions(out: &mut BytesMut, partitions: &BTreeSet<Partition>) {
    let mut topics: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    put_len(out, topics.len());
    for (topic, partitions) in topics {
        put_text(out, topic);
        put_len(out, partitions.len());
        partitions.into_iter().for_each(|partition| out.put_u32(partition));
    }
}

fn take_i16(bytes: &mut Bytes) -> Result<i16> {
    ensure!(bytes.len() >= 2, "cut off");
    Ok(bytes.get_i16())
}

fn take_i32(bytes: &mut Bytes) -> Result<i32> {
    ensure!(bytes.len() >= 4, "cut off");
    Ok(bytes.get_i32())
}

fn take_len(bytes: &mut Bytes) -> Result<usize> {
    Ok(usize::try_from(take_i32(bytes)?)?)
}

fn take_text(bytes: &mut Bytes) -> Result<String> {
    let len = usize::try_from(take_i16(bytes)?)?;
    ensure!(bytes.len() >= len, "cut off");
    Ok(String::from_utf8(bytes.split_to(len).into())?)
}

fn take_data(bytes: &mut Bytes) -> Result<Option<Bytes>> {
    let len = take_i32(bytes)?;
    if len < 0 {
        return Ok(None);
    }
    let len = usize::try_from(len)?;
    ensure!(bytes.len() >= len, "cut off");
    Ok(Some(bytes.split_to(len)))
}

fn take_partitions(bytes: &mut Bytes) -> Result<BTreeSet<Partition>> {
    let mut partitions = BTreeSet::new();
    for _ in 0..take_len(bytes)? {
        let topic = take_text(bytes)?;
        for _ in 0..take_len(bytes)? {
            partitions.insert((topic.clone(), u32::try_from(take_i32(bytes)?)?));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> BTreeSet<Partition> {
        [("a", 0), ("a", 2), ("b", 1)].map(|(topic, partition)| (topic.to_owned(), partition)).into()
    }

    #[test]
    fn every_version_of_a_subscription_is_read_as_far_as_it_goes() {
        for version in 0..=3 {
            let sent =
                Subscription { version, topics: vec!["a".to_owned(), "b".to_owned()], owned: owned(), generation: 7 };
            let read = Subscription::decode(sent.encode(false)).unwrap();
            let kept = Subscription {
                owned: if version >= 1 { owned() } else { BTreeSet::new() },
                generation: if version >= 2 { 7 } else { -1 },
                ..sent.clone()
            };
            assert_eq!(read, kept, "version {version}");
            assert_eq!(Subscription::decode(sent.encode(true)).unwrap(), sent, "version {version} with user data");
        }
    }

    /// The bytes as Kafka's message definition has them.
    #[test]
    fn a_subscription_has_the_bytes_of_kafkas_protocol() {
        let sent = Subscription {
            version: 2,
            topics: vec!["t".to_owned()],
            owned: [("t".to_owned(), 3)].into(),
            generation: 4,
        };
        let bytes: &[u8] = &[
            0, 2, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0,
            4,
        ];
        assert_eq!(sent.encode(false), bytes);
    }

    #[test]
    fn assignments_round_trip_and_what_is_cut_off_is_refused() {
        let bytes = encode_assignment(1, &owned());
        assert_eq!(decode_assignment(bytes.clone()).unwrap(), owned());
        assert_eq!(decode_assignment(Bytes::new()).unwrap(), BTreeSet::new());
        for len in 1..bytes.len() {
            assert!(decode_assignment(bytes.slice(..len)).is_err(), "{len}");
        }
    }
}
