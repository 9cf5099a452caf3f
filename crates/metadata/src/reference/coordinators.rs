//! Who coordinates a group, naively: all live sessions are sorted, each time.

use xxhash_rust::xxh3::Xxh3;

use super::{RefSession, Reference};
use crate::command::Entry;
use crate::limits;

impl Reference {
    /// The nonce of the session that coordinates a group.
    #[must_use]
    pub fn coordinator(&self, group: &str) -> Option<u64> {
        let live: Vec<&RefSession> = self.sessions.iter().filter(|s| s.live).collect();
        let of = |wanted: fn(Option<bool>) -> bool| live.iter().copied().filter(move |s| wanted(s.ready));
        let mut best: Vec<&RefSession> = of(|ready| ready == Some(true)).collect();
        if best.is_empty() {
            best = of(|ready| ready.is_none()).collect();
        }
        if best.is_empty() {
            best = live;
        }
        best.sort_by_key(|s| (u64::MAX - points(group, s.broker_id), s.broker_id));
        best.first().map(|s| s.nonce)
    }

    /// Counts it. What was begun by one that coordinates no longer is dropped.
    pub(super) fn sessions_changed(&mut self, entry: &Entry) {
        let living = self.sessions.iter().filter(|s| s.live).map(|s| (s.nonce, s.ready)).collect();
        let same = std::mem::replace(&mut self.living, living) == self.living;
        if entry.feature_level < limits::COORDINATORS_SINCE || same {
            return;
        }
        self.changes += 1;
        let parts = std::mem::take(&mut self.parts);
        self.parts = parts.into_iter().filter(|p| self.coordinator(p.group()) == Some(p.nonce)).collect();
    }
}

fn points(group: &str, broker_id: i32) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(group.as_bytes());
    split_mix(hasher.digest() ^ split_mix(broker_id as u32 as u64))
}

/// The first number of the SplitMix64 generator with this seed.
fn split_mix(seed: u64) -> u64 {
    const WORD: u128 = 1 << 64;
    let mut z = (u128::from(seed) + 0x9E37_79B9_7F4A_7C15) % WORD;
    z = ((z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9) % WORD;
    z = ((z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB) % WORD;
    (z ^ (z >> 31)) as u64
}
