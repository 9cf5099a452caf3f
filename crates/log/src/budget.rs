//! A budget of bytes, granted first come, first served. Connections reserve frames from one before they read
//! them, fetches their answers; so memory runs out as waiting, and not as a killed process.
//!
//! Owns the accounting alone: what was reserved is given back when the [`Reservation`] is dropped, wherever it has
//! gone meanwhile. First come, first served means that a large request is never overtaken for ever by small ones.
//!
//! The semaphore counts units of 64 bytes, so that a budget may exceed what 32 bits count.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes in one unit of the semaphore.
const UNIT_BYTES: u64 = 64;

/// A budget of bytes. A clone shares it.
#[derive(Clone)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    total: u32,
}

/// The request exceeds the whole budget: waiting would never end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{requested} bytes are more than the whole budget of {total} bytes")]
pub struct ExceedsBudget {
    /// What was asked for, bytes.
    pub requested: u64,
    /// The budget, bytes.
    pub total: u64,
}

impl MemoryBudget {
    /// A budget of `total_bytes`, rounded down to 64 bytes; at least 64, at most 256 GiB.
    pub fn new(total_bytes: u64) -> Self {
        let total = u32::try_from(total_bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// The whole budget, bytes.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.total) * UNIT_BYTES
    }

    /// What nobody has reserved, bytes.
    pub fn free_bytes(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT_BYTES
    }

    /// Reserves `bytes` as soon as they are free and all earlier requests were granted.
    ///
    /// # Errors
    /// If that can never be.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, ExceedsBudget> {
        let units = self.units_for(bytes)?;
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Ok(Reservation { permit: permit.expect("the semaphore is never closed") })
    }

    /// Reserves `bytes` if they are free now and nobody waits.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let units = self.units_for(bytes).ok()?;
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units).ok()?;
        Some(Reservation { permit })
    }

    fn units_for(&self, bytes: u64) -> Result<u32, ExceedsBudget> {
        match u32::try_from(bytes.div_ceil(UNIT_BYTES)) {
            Ok(units) if units <= self.total => Ok(units),
            Ok(_) | Err(_) => Err(ExceedsBudget { requested: bytes, total: self.total_bytes() }),
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBudget({} of {} bytes free)", self.free_bytes(), self.total_bytes())
    }
}

/// Bytes that were reserved; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

impl Reservation {
    /// What is reserved, bytes (rounded up to 64).
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64 * UNIT_BYTES
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let keep = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        let excess = self.permit.num_permits().saturating_sub(keep);
        drop(self.permit.split(excess));
    }

    /// Takes `bytes` (rounded up to 64) out into a reservation of their own; `None` if there are not as many.
    pub fn split(&mut self, bytes: u64) -> Option<Reservation> {
        let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        self.permit.split(units).map(|permit| Reservation { permit })
    }

    /// Joins two reservations of one budget.
    ///
    /// # Panics
    /// If they are of different budgets.
    pub fn merge(&mut self, other: Reservation) {
        self.permit.merge(other.permit);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_reserved_comes_back() {
        let budget = MemoryBudget::new(1024);
        let mut a = budget.reserve(1000).await.unwrap();
        assert_eq!((a.bytes(), budget.free_bytes()), (1024, 0));
        assert!(budget.try_reserve(1).is_none());
        let b = a.split(100).unwrap();
        assert_eq!((a.bytes(), b.bytes()), (896, 128));
        a.shrink_to(64);
        assert_eq!(budget.free_bytes(), 832);
        a.shrink_to(640);
        assert_eq!(a.bytes(), 64);
        assert!(a.split(65).is_none());
        a.merge(b);
        assert_eq!(a.bytes(), 192);
        drop(a);
        assert_eq!(budget.free_bytes(), 1024);
    }

    #[tokio::test]
    async fn more_than_everything_is_an_error_and_not_a_wait() {
        let budget = MemoryBudget::new(1024);
        assert_eq!(budget.reserve(1025).await.unwrap_err(), ExceedsBudget { requested: 1025, total: 1024 });
        assert!(budget.reserve(u64::MAX).await.is_err());
        assert_eq!(MemoryBudget::new(8 << 30).total_bytes(), 8 << 30);
    }

    #[tokio::test]
    async fn first_come_first_served() {
        let budget = MemoryBudget::new(1024);
        let held = budget.reserve(512).await.unwrap();
        let mut large = Box::pin(budget.reserve(1024));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(budget.reserve(64));
        assert!(small.as_mut().now_or_never().is_none(), "a small one does not overtake");
        assert!(budget.try_reserve(64).is_none());
        drop(held);
        let large = large.now_or_never().unwrap().unwrap();
        assert!(small.as_mut().now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
    }
}
