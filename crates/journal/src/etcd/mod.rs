//! The journal in etcd, shared by the brokers of a cluster.

pub mod client;
pub mod kv;
pub mod model;
