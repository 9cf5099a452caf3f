//! The journal in etcd, shared by the brokers of a cluster.

pub mod client;
mod keys;
pub mod kv;
pub mod model;
#[cfg(test)]
mod rig;
mod stored;
mod tail;
mod txns;
