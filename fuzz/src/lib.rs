//! Every decoder that sees bytes from outside, as a function of bytes.
//!
//! A target takes any bytes. It must come back, must not panic, must not take more memory than it is allowed, and
//! asserts what holds of whatever could be read: mostly that it is written and read again as the same value. The table
//! is [`TARGETS`]; [`check`] runs one of them and says what broke.
//!
//! ```text
//! corpus/<target>/*  ─▶ tests/corpus.rs: each file, and a few thousand mutations of them, the same ones every time
//!                    ─▶ kafscale-fuzz run: mutations for as long as one likes; failures land in artifacts/
//!                    ─▶ libfuzzer/run.sh TARGET: the same, guided by coverage; needs a C++ compiler
//!                    ◀─ kafscale-fuzz seed: real values, from [`mod@seed`]
//! ```
//!
//! Checksums would keep a mutation from everything behind them, so the first byte of an input says whether they are made
//! right first ([`repair`]). It is part of the input: a file repeats a failure by itself.
//!
//! The heap is measured by this crate's allocator. It does not see what C libraries take (zstd).

pub mod bundle;
pub mod disk;
pub mod hunt;
pub mod journal;
pub mod metadata;
pub mod mutate;
pub mod outcome;
pub mod records;
pub mod repair;
pub mod seed;
pub mod wire;

use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use peak_alloc::PeakAlloc;

pub use outcome::Outcome;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The largest input that is made.
pub const MAX_INPUT_BYTES: usize = 128 << 10;

/// One decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its directory of inputs.
    pub name: &'static str,
    /// Reads the bytes; panics if something does not hold.
    pub run: fn(&[u8]) -> Outcome,
    /// What it may take of the heap at once, for an input of [`MAX_INPUT_BYTES`].
    pub heap_bytes: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: wire::frame, heap_bytes: 2 << 20 },
    Target { name: "requests", run: wire::requests, heap_bytes: 2 << 20 },
    Target { name: "responses", run: wire::responses, heap_bytes: 2 << 20 },
    // LZ4 takes three blocks as soon as it has read a frame's header, and a block may have 4 MiB.
    Target { name: "batches", run: records::batches, heap_bytes: 14 << 20 },
    Target { name: "validate", run: records::produced, heap_bytes: 2 << 20 },
    Target { name: "bundle", run: bundle::bundle, heap_bytes: 2 << 20 },
    Target { name: "entry", run: metadata::entry, heap_bytes: 64 << 20 },
    Target { name: "snapshot", run: metadata::snapshot, heap_bytes: 64 << 20 },
    Target { name: "journal", run: journal::journal, heap_bytes: 16 << 20 },
];

impl Target {
    /// The target of a name.
    pub fn of(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// What a target did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It panicked: where and why.
    Panic(String),
    /// It took too much memory.
    Heap {
        /// The most that it had at once, bytes.
        took: usize,
        /// What it may have.
        allowed: usize,
    },
}

impl Failure {
    /// Where it happened: equal for inputs that break the same thing.
    pub fn place(&self) -> String {
        match self {
            Self::Panic(message) => message.lines().next().unwrap_or_default().to_owned(),
            Self::Heap { .. } => "heap".to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(what) => f.write_str(what),
            Self::Heap { took, allowed } => write!(f, "took {took} bytes of the heap, where {allowed} are allowed"),
        }
    }
}

thread_local! {
    /// The message of a panic, while a target runs on this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a target. What other threads allocate meanwhile is counted too.
///
/// # Errors
/// What it did wrong.
pub fn check(target: &Target, input: &[u8]) -> Result<Outcome, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let running = PANIC.with_borrow_mut(|message| message.as_mut().map(|m| *m = info.to_string()).is_some());
            if !running {
                before(info);
            }
        }));
    });
    PANIC.set(Some(String::new()));
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = HEAP.peak_usage().saturating_sub(before);
    let message = PANIC.take().unwrap_or_default();
    match outcome {
        Err(_) => Err(Failure::Panic(message)),
        Ok(_) if took > target.heap_bytes => Err(Failure::Heap { took, allowed: target.heap_bytes }),
        Ok(outcome) => Ok(outcome),
    }
}
