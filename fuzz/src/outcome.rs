//! What became of an input, as facts that tell inputs apart.
//!
//! Owns the feedback of the mutation fuzzer: an input of which a fact holds that held of none before it reached code that
//! none before it reached, and is worth mutating further. A poor man's coverage, which needs no compiler flags. Facts are
//! of the parts of an input, not of the whole: else any two long inputs would differ.

use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Something could be read.
    pub is_accepted: bool,
    /// What was found, hashed; in order, some of them more than once.
    pub facts: Vec<u64>,
}

/// Collects the way that an input takes.
#[derive(Debug, Default)]
pub struct Way {
    place: DefaultHasher,
    facts: Vec<u64>,
    text: String,
}

impl Way {
    /// The input could be read.
    pub fn accepted(self, what: &dyn Debug) -> Outcome {
        Outcome { is_accepted: true, ..self.refused(what) }
    }

    /// The input could not be read.
    pub fn refused(mut self, why: &dyn Debug) -> Outcome {
        self.found(why);
        Outcome { is_accepted: false, facts: self.facts }
    }

    /// Takes note of a fact. All numbers in it are alike.
    pub fn found(&mut self, fact: &dyn Debug) {
        self.text.clear();
        write!(self.text, "{fact:?}").expect("a string takes everything");
        let mut hasher = self.place.clone();
        let mut before = b' ';
        for byte in self.text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }) {
            if (before, byte) != (b'0', b'0') {
                hasher.write_u8(byte);
            }
            before = byte;
        }
        self.facts.push(hasher.finish());
    }

    /// From here on facts are facts of this place.
    pub fn at(&mut self, place: i64) {
        self.place.write_i64(place);
    }
}
