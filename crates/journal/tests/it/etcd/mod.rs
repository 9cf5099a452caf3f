//! The journal in etcd: over real ones, and over the model.

mod against_etcd;
mod server;
mod suite;
