//! The ports through which KafScale touches the outside: clock, randomness, tasks, disk and network.
//!
//! Everything else in the product takes these as arguments, so that the simulator can run the real drivers on a
//! clock, a disk and a network of its own, from one seed. This crate owns the traits and their real
//! implementations; it knows nothing of Kafka, of the journal or of records. It is a crate, and not a module,
//! because only a crate boundary can hold the rule "nobody else calls the operating system".

pub mod clock;
pub mod disk;
pub mod net;
pub mod random;
pub mod spawn;

use std::sync::Arc;

pub use clock::Clock;
pub use disk::Disk;
pub use net::{Connect, Listen};
pub use random::Random;
pub use spawn::Spawn;

/// What every driver is given: time, randomness and a way to start tasks.
#[derive(Clone)]
pub struct Env {
    /// Monotonic and wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Nonces and ids.
    pub random: Arc<dyn Random>,
    /// Starts tasks.
    pub tasks: Arc<dyn Spawn>,
}

impl Env {
    /// The real outside: the system's clock and entropy, tasks on the current tokio runtime.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(clock::SystemClock),
            random: Arc::new(random::SystemRandom),
            tasks: Arc::new(spawn::TokioSpawn),
        }
    }
}
