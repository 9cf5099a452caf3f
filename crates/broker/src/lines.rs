//! Log lines that somebody outside can cause are bounded: a few in each window of time, and the next one says how many
//! were left out. Owns the counting; what is written is the caller's.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// From the first line on, this long …
const WINDOW: Duration = Duration::from_secs(10);
/// … at most this many are written.
const LINES: u32 = 10;

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    /// When the first line of the window was written.
    begun: Option<Instant>,
    written: u32,
    /// Since the last line that was written.
    left_out: u64,
}

impl Lines {
    /// Whether a line may be written now: if so, how many were left out before it.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if window.begun.is_none_or(|begun| now >= begun + WINDOW) {
            (window.begun, window.written) = (Some(now), 0);
        }
        if window.written == LINES {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_few_lines_and_its_size() {
        let lines = Lines::default();
        let now = || kafscale_ports::Clock::now(&kafscale_ports::clock::SystemClock);
        let admitted: Vec<_> = (0..1000).filter_map(|_| lines.admit(now())).collect();
        assert_eq!(admitted, vec![0; LINES as usize]);
        tokio::time::advance(WINDOW).await;
        assert_eq!(lines.admit(now()), Some(990), "the next window says what the one before left out");
        assert_eq!(lines.admit(now()), Some(0));
    }
}
