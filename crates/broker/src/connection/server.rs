//! Listening: accepts connections, bounds their number, and stops gracefully.
//!
//! An accept that fails (no free descriptor, a peer that reset at once) costs a pause, never the listener. At the
//! bound a new connection is closed at once: the ones that are there keep their service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafscale_log::budget::MemoryBudget;
use kafscale_ports::net::Accepted;
use kafscale_ports::{Env, Listen};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Peer, Service, life};
use crate::limits::{ACCEPT_PAUSE, DRAIN, LINGER, MAX_CONNECTIONS};
use crate::lines::Lines;
use crate::metrics::{ListenerMetrics, Metrics};

/// What an operator may set about connections.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Open connections over all listeners; further ones are closed at once.
    pub max_connections: usize,
    /// The budget of answers, if they have one of their own: what its scarcity costs peers that do not read.
    pub answers: Option<MemoryBudget>,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self { max_connections: MAX_CONNECTIONS, answers: None }
    }
}

/// Serves Kafka connections.
pub struct Server {
    pub(super) service: Arc<dyn Service>,
    pub(super) env: Env,
    pub(super) budget: MemoryBudget,
    /// Half of the budget, see `limits::LARGE_FRAME_BYTES`.
    pub(super) large: MemoryBudget,
    pub(super) metrics: Arc<Metrics>,
    /// Lines about connections that are closed for what their peer did.
    pub(super) lines: Lines,
    settings: ConnectionSettings,
    next_id: AtomicU64,
    open: TaskTracker,
}

impl Server {
    /// A server of `service` whose frames take their memory from `budget`.
    pub fn new(
        service: Arc<dyn Service>,
        env: Env,
        budget: MemoryBudget,
        metrics: Arc<Metrics>,
        settings: ConnectionSettings,
    ) -> Arc<Self> {
        let large = MemoryBudget::new(budget.total_bytes() / 2);
        let (next_id, open) = (AtomicU64::new(1), TaskTracker::new());
        Arc::new(Self { service, env, budget, large, metrics, lines: Lines::default(), settings, next_id, open })
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether less than half of the memory that answers are held in is free.
    pub(super) fn answers_are_scarce(&self) -> bool {
        let budget = self.settings.answers.as_ref().unwrap_or(&self.budget);
        budget.free_bytes() < budget.total_bytes() / 2
    }

    /// Serves `listener` until `stop` is cancelled: then accepts no more, reads no more, lets requests that were
    /// read be answered within a bound of time, and returns when every connection is closed. `name` is the
    /// listener's name in [`Peer`].
    pub async fn serve(self: Arc<Self>, listener: Arc<dyn Listen>, name: Arc<str>, stop: CancellationToken) {
        self.accept_all(&*listener, &name, &stop).await;
        drop(listener);
        self.open.close();
        let bound = DRAIN + LINGER + Duration::from_secs(1);
        if timeout(bound, self.open.wait()).await.is_err() {
            tracing::warn!(open = self.open.len(), "connections did not end in time; the broker stops without them");
        }
    }

    async fn accept_all(self: &Arc<Self>, listener: &dyn Listen, name: &Arc<str>, stop: &CancellationToken) {
        let counts = self.metrics.connections.of(name);
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let error = match accepted {
                Ok(accepted) => {
                    pause = ACCEPT_PAUSE.0;
                    self.admit(accepted, (name, &counts), stop);
                    continue;
                }
                Err(error) => error,
            };
            counts.accept_errors.inc();
            tracing::warn!(listener = &**name, %error, ?pause, "cannot accept a connection; trying again");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = ACCEPT_PAUSE.1.min(pause * 2),
            }
        }
    }

    fn admit(
        self: &Arc<Self>,
        accepted: Accepted,
        (name, counts): (&Arc<str>, &ListenerMetrics),
        stop: &CancellationToken,
    ) {
        if self.open.len() >= self.settings.max_connections {
            counts.refused.inc();
            let limit = self.settings.max_connections;
            tracing::debug!(addr = %accepted.peer, limit, "connection refused: too many are open");
            return;
        }
        counts.accepted.inc();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer { id, addr: accepted.peer, listener: Arc::clone(name), led_away: Default::default() });
        let open = (self.open.token(), counts.count_open());
        let life = life::run(Arc::clone(self), peer, accepted, stop.clone());
        let task = async move {
            life.await;
            drop(open);
        };
        self.env.tasks.spawn("connection", Box::pin(task));
    }
}
