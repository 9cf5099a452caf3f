//! Randomness as an argument: nonces, topic ids, jitter. Not for secrets that outlive a session.

/// A source of random numbers.
pub trait Random: Send + Sync + 'static {
    /// 64 random bits.
    fn u64(&self) -> u64;

    /// 128 random bits.
    fn u128(&self) -> u128 {
        (u128::from(self.u64()) << 64) | u128::from(self.u64())
    }
}

/// The kernel's entropy.
#[derive(Debug, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert_eq!(read, Ok(8), "getrandom(2) of 8 bytes cannot be short once the kernel is seeded");
        u64::from_le_bytes(bytes)
    }
}
