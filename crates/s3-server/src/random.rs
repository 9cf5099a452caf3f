//! Random numbers from a seed: the same seed and the same order of requests give the same faults.

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0 and below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // The 53 bits that a float has.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From the normal distribution with mean 0 and deviation 1 (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_distributions_are_what_they_say() {
        let mut dice = Dice::new(7);
        let units: Vec<f64> = (0..20_000).map(|_| dice.unit()).collect();
        let normals: Vec<f64> = (0..20_000).map(|_| dice.normal()).collect();
        let mut again = Dice::new(7);
        assert!(units.iter().all(|unit| *unit == again.unit()));
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean(&units) - 0.5).abs() < 0.01 && units.iter().all(|unit| (0.0..1.0).contains(unit)));
        let deviation = mean(&normals.iter().map(|n| n * n).collect::<Vec<_>>());
        assert!(mean(&normals).abs() < 0.03 && (deviation - 1.0).abs() < 0.05);
    }
}
