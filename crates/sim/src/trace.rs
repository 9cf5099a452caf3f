//! What happened, line by line: the same seed must write the same bytes. Keeps a running hash always, and the lines
//! only where somebody will read them.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock::SimClock;

/// A shared trace. A clone writes into the same one.
#[derive(Clone)]
pub struct Trace {
    clock: SimClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    hash: u64,
    line: String,
    kept: Option<String>,
}

impl Trace {
    /// An empty trace; `keep` its lines, or only their hash.
    pub fn new(clock: SimClock, keep: bool) -> Self {
        let inner = Inner { kept: keep.then(String::new), ..Inner::default() };
        Self { clock, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Writes a line, the virtual time in front.
    pub fn line(&self, text: fmt::Arguments<'_>) {
        let at = self.clock.elapsed();
        let mut inner = self.inner.lock();
        let mut line = std::mem::take(&mut inner.line);
        line.clear();
        // Writing to a string cannot fail.
        let _written = fmt::write(&mut line, format_args!("{:>6}.{:03} {text}\n", at.as_secs(), at.subsec_millis()));
        inner.hash = fnv(inner.hash, line.as_bytes());
        if let Some(kept) = &mut inner.kept {
            kept.push_str(&line);
        }
        inner.line = line;
    }

    /// A hash over all lines.
    pub fn hash(&self) -> u64 {
        self.inner.lock().hash
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> String {
        self.inner.lock().kept.clone().unwrap_or_default()
    }
}

/// FNV-1a, begun anew from `hash`: stable over releases of Rust, unlike its hashers.
pub(crate) fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
