//! Randomness from one seed. Owns the generator (SplitMix64) and its forks: each part of a world draws from a fork of
//! its own, named by a label, so that one part's draws do not shift another's when a scenario is shrunk.

use std::ops::Range;

use kafscale_ports::Random;
use parking_lot::Mutex;

/// A small generator with reproducible output.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x6b61_6673_6361_6c65)
    }

    /// An independent generator: of this one's seed, the label and the number, and of no draw.
    pub fn fork(&self, label: &str, number: u64) -> Self {
        let mut mixed = Self(self.0 ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        for byte in label.bytes() {
            mixed.0 = mixed.u64() ^ u64::from(byte);
        }
        Self(mixed.u64())
    }

    /// 64 random bits.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in the range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "an empty range has no number");
        range.start + self.u64() % (range.end - range.start)
    }

    /// An index below `len`, which must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.within(0..len as u64)).expect("an index below a usize is one")
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.within(0..times) == 0
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }
}

/// The broker's random port.
pub struct SeededRandom(Mutex<Rng>);

impl SeededRandom {
    /// From a generator.
    pub fn new(rng: Rng) -> Self {
        Self(Mutex::new(rng))
    }
}

impl Random for SeededRandom {
    fn u64(&self) -> u64 {
        self.0.lock().u64()
    }
}
