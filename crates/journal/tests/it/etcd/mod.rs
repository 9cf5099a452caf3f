//! The journal in etcd: over real ones, and over the model.

mod against_etcd;
mod appends;
mod lab;
mod planted;
mod reads;
mod real;
mod schedules;
mod server;
mod suite;
mod truth;
