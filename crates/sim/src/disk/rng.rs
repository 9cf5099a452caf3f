//! The simulator's random numbers: one seed, the same numbers on every machine for ever (splitmix64).

/// A seeded source of random numbers. Not a port: [`kafscale_ports::Random`] is implemented over it elsewhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).expect("below the bound")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A source of its own, for a part that must not disturb the others' numbers.
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}
