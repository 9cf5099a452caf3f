//! The broker: Kafka connections, the API keys, this broker's replica of the state, HTTP, configuration; and how they
//! are joined to the record path (`kafscale-log`), the journal and the fold.
//!
//! Reading order: [`broker`] (what is joined to what), [`connection`] (frames in, answers out), [`api`] (one file for
//! each API key), [`fetch_sessions`], [`ledger`] (journal + fold), [`http`], [`config`].

pub mod api;
pub mod broker;
pub mod config;
pub mod connection;
pub mod coordinator;
pub mod fetch_sessions;
mod health;
pub mod http;
pub mod ledger;
pub mod limits;
mod lines;
pub mod metrics;
mod peers;
pub mod storage;
mod timed;

pub use broker::{Between, Broker, Outside, StartError};
pub use ledger::End;
