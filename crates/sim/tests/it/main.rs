//! The simulated outside, and what of the product runs on it alone.

#[cfg(test)]
mod disk;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod journal_world;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod tasks;
