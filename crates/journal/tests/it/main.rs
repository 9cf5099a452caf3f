//! The journal's tests on real files, on real etcd and in memory; those on the simulated disk are in `kafscale-sim`.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod file;
#[cfg(test)]
mod memory;
