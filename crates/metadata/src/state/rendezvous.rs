//! Who does what: every broker works it out from the same sessions, by rendezvous hashing (Thaler and Ravishankar,
//! 1998), so that nobody has to be asked, and a session that comes or goes moves only what is its own.
//!
//! What is hashed is the broker's id and not the session's nonce. A broker that restarts comes back to the same groups
//! and the same partitions, so clients' caches of addresses stay right, and a rolling restart moves each group away and
//! back again and never around. It is no way around fencing: the coordinator is a *session*, the live one of that id,
//! and a younger session of the same id is not ready, so groups come back only when it is.
//!
//! Groups are a rule of the fold ([`State::coordinator`]); leaders of partitions are advice ([`Leaders`]), for any
//! broker serves any partition. The scores are part of the fold's meaning: another hash needs a new feature level.

use xxhash_rust::xxh3::xxh3_64;

use super::{Session, Standing, State};
use crate::command::{Nonce, TopicPartition};

impl State {
    /// The session that coordinates a group: of the best standing that any live session has, the one that scores
    /// highest. So it is over the ready sessions; if there is none, over those that are not stopping: groups go on
    /// when all that were ready have died; and over those that are, if there is no other. None while no session lives.
    #[must_use]
    pub fn coordinator(&self, group: &str) -> Option<&Session> {
        let key = xxh3_64(group.as_bytes());
        // Of equal scores the lowest id's: `max_by_key` gives the last one.
        self.live_sessions().max_by_key(|s| (s.standing(), score(key, s.broker_id()), std::cmp::Reverse(s.broker_id())))
    }

    /// Whether the session coordinates the group.
    #[must_use]
    pub fn coordinates(&self, nonce: Nonce, group: &str) -> bool {
        self.coordinator(group).is_some_and(|session| session.nonce() == nonce)
    }
}

/// Which broker clients are advised to use for each partition, so that its producers and consumers meet at one warm
/// cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaders {
    brokers: Vec<i32>,
}

impl Leaders {
    /// Over some live sessions: those of the client's zone if there are any, and without those that are stopping if
    /// there are others.
    pub fn over<'a>(sessions: impl IntoIterator<Item = &'a Session>, zone: Option<&str>) -> Leaders {
        let sessions: Vec<&Session> = sessions.into_iter().collect();
        let rank = |s: &Session| (s.standing() != Standing::Withdrawn, zone.is_some() && s.rack() == zone);
        let best = sessions.iter().map(|s| rank(s)).max();
        let brokers = sessions.iter().filter(|s| Some(rank(s)) == best).map(|s| s.broker_id());
        Leaders { brokers: brokers.collect() }
    }

    /// The broker's id. None if there are no sessions.
    #[must_use]
    pub fn of(&self, partition: TopicPartition) -> Option<i32> {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&partition.topic.0.to_be_bytes());
        bytes[16..].copy_from_slice(&partition.partition.to_be_bytes());
        let key = xxh3_64(&bytes);
        self.brokers.iter().copied().max_by_key(|id| (score(key, *id), std::cmp::Reverse(*id)))
    }
}

/// How high a broker scores for what hashes to `key`.
fn score(key: u64, broker_id: i32) -> u64 {
    mix(key ^ mix(u64::from(broker_id.cast_unsigned())))
}

/// One step of SplitMix64 (Steele, Lea and Flood, 2014): changes of few bits change all.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "rendezvous_tests.rs"]
mod tests;
