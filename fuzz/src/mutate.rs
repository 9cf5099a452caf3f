//! Changes that break formats: bits, numbers at their edges, lengths, parts that are missing, doubled or another's.
//!
//! Owns the random numbers too: the same seed makes the same inputs on every machine.

use crate::MAX_INPUT_BYTES;

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Numbers from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.number() % end as u64) as usize }
    }

    /// Any bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}

/// `input` with a few changes, some of which come from `other`.
pub fn mutate(input: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    // Mostly one or two: each more makes it likelier that none of them is reached.
    let changes = 1 + rng.below(2) + if rng.below(4) == 0 { rng.below(12) } else { 0 };
    for _ in 0..changes {
        change(&mut bytes, other, rng);
    }
    bytes.truncate(MAX_INPUT_BYTES);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.below(bytes.len() + 1);
    let length = short(rng, bytes.len() - at);
    match rng.below(12) {
        0 | 1 => flip(bytes, at, rng),
        2 | 3 => set_byte(bytes, at, rng),
        4..=6 => set_number(bytes, at, rng),
        7 => drop(bytes.drain(at..at + length)),
        8 => {
            let count = short(rng, 32);
            let inserted = rng.bytes(count);
            bytes.splice(at..at, inserted);
        }
        9 => {
            // Once more, there or elsewhere.
            let copied = bytes[at..at + length].to_vec();
            let to = if rng.below(2) == 0 { at } else { rng.below(bytes.len() + 1) };
            bytes.splice(to..to, copied);
        }
        10 => {
            let from = rng.below(other.len() + 1);
            let taken = short(rng, other.len() - from);
            let replaced = if rng.below(2) == 0 { 0 } else { length };
            bytes.splice(at..at + replaced, other[from..from + taken].iter().copied());
        }
        _ => bytes.truncate(bytes.len() - short(rng, bytes.len())),
    }
}

/// Mostly a few; sometimes any number up to `most`.
fn short(rng: &mut Rng, most: usize) -> usize {
    let bound = match rng.below(4) {
        0 => 4,
        1 => 16,
        2 => 128,
        _ => most,
    };
    rng.below(bound.min(most) + 1)
}

fn flip(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

fn set_byte(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    const EDGES: [u8; 10] = [0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0x81, 0xfe, 0xff];
    if let Some(byte) = bytes.get_mut(at) {
        *byte = match rng.below(4) {
            0 => rng.number() as u8,
            1 => byte.wrapping_add(1),
            2 => byte.wrapping_sub(1),
            _ => EDGES[rng.below(EDGES.len())],
        };
    }
}

/// Overwrites one, two, four or eight bytes with a number, in either order of bytes.
fn set_number(bytes: &mut [u8], at: usize, rng: &mut Rng) {
    let width = [1, 2, 4, 8][rng.below(4)];
    let left = bytes.len();
    let Some(there) = bytes.get_mut(at..at + width) else { return };
    let number = edge(rng, left);
    if rng.below(2) == 0 {
        there.copy_from_slice(&number.to_be_bytes()[8 - width..]);
    } else {
        there.copy_from_slice(&number.to_le_bytes()[..width]);
    }
}

fn edge(rng: &mut Rng, length: usize) -> u64 {
    let power = 1_u64 << rng.below(64);
    match rng.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => power,
        3 => power - 1,
        4 => power.wrapping_neg(),
        5 => (length + rng.below(5)).saturating_sub(2) as u64,
        6 => rng.below(300) as u64,
        _ => rng.number(),
    }
}
