//! Kafka connections: how many there are on each listener, and why they end.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{CauseLabel, Registration};

/// Kafka connections.
pub struct ConnectionMetrics {
    open: Family<ListenerLabel, Gauge>,
    accepted: Family<ListenerLabel, Counter>,
    refused: Family<ListenerLabel, Counter>,
    accept_errors: Family<ListenerLabel, Counter>,
    closed: Family<CauseLabel, Counter>,
}

impl ConnectionMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            open: r.add("kafscale_connections_open", Family::default()),
            accepted: r.add("kafscale_connections_accepted_total", Family::default()),
            refused: r.add("kafscale_connections_refused_total", Family::default()),
            accept_errors: r.add("kafscale_accept_errors_total", Family::default()),
            closed: r.add("kafscale_connections_closed_total", Family::default()),
        }
    }

    /// The connections of one listener; the names are the operator's, and few.
    pub fn of(&self, listener: &str) -> ListenerMetrics {
        let label = ListenerLabel { listener: listener.to_owned() };
        ListenerMetrics {
            open: self.open.get_or_create_owned(&label),
            accepted: self.accepted.get_or_create_owned(&label),
            refused: self.refused.get_or_create_owned(&label),
            accept_errors: self.accept_errors.get_or_create_owned(&label),
        }
    }

    /// Counts the end of a connection.
    pub fn closed(&self, cause: &'static str) {
        self.closed.get_or_create(&CauseLabel { cause }).inc();
    }
}

/// The connections of one listener.
pub struct ListenerMetrics {
    open: Gauge,
    /// Accepted.
    pub accepted: Counter,
    /// Closed at once because too many were open.
    pub refused: Counter,
    /// Failed attempts to accept.
    pub accept_errors: Counter,
}

impl ListenerMetrics {
    /// Counts one open connection until the returned value is dropped.
    pub fn count_open(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }
}

/// One open connection.
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: String,
}
