//! The lives of a world's broker: start, stop, crash, restart. Owns the gate of the present life and what is known of
//! it; when and why a life ends is the scenario's matter.

use std::sync::Arc;

use kafscale_broker::config::{Machine, Settings};
use kafscale_broker::{Broker, End, Outside};
use kafscale_ports::{Disk, Env, Spawn};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant};

use super::World;
use crate::plant::Planted;
use crate::rng::SeededRandom;
use crate::scenario::Fault;
use crate::tasks::Gate;

/// What a life tells of itself.
pub(super) enum News {
    Started(Arc<Broker>),
    NotStarted(String),
    Ended(End),
}

/// How far a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Serving,
    Stopping,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Stopping => "stopping",
        }
    }
}

/// One life.
pub(super) struct Life {
    pub(super) gate: Gate,
    pub(super) stage: Stage,
    pub(super) news: mpsc::UnboundedReceiver<News>,
    pub(super) broker: Option<Arc<Broker>>,
    stop: Option<oneshot::Sender<()>>,
    /// When a stop has taken too long.
    pub(super) kill_at: Option<Instant>,
    /// If the disk freezes, it is the power that fails.
    pub(super) power: bool,
    /// It began on a healthy disk, after all faults.
    pub(super) quiet: bool,
}

impl Life {
    /// Asks it to stop.
    pub(super) fn stop(&mut self, kill_at: Instant) {
        self.stage = Stage::Stopping;
        self.kill_at = Some(kill_at);
        // Gone: the life has ended by itself, and will say so.
        let _gone = self.stop.take().map(|stop| stop.send(()));
    }
}

impl World<'_> {
    /// Begins the next life.
    pub(super) fn begin_life(&mut self) -> Life {
        self.lives.begun += 1;
        self.disk.mount = self.disk.mount.remount();
        let mut power = true;
        self.crashes.armed = self.crashes.next_lives.pop_front();
        if let Some(Fault::CrashNextLife { after, power: lost }) = self.crashes.armed {
            power = lost;
            self.disk.mount.crash_at(self.disk.mount.ops() + after);
        }
        let gate = Gate::new();
        let (tell, news) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let tasks: Arc<dyn Spawn> = Arc::new(gate.clone());
        let env = Env {
            clock: Arc::new(self.clock),
            random: Arc::new(SeededRandom::new(self.draws.root.fork("life", self.lives.begun))),
            tasks: Arc::clone(&tasks),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.mount.clone());
        let outside = Outside { env, disk, kafka: vec![self.net.listen()], connect: None, http: None, logs: None };
        let planted = Planted {
            chronicle: Arc::clone(&self.chronicle),
            bug: self.bug,
            tasks,
            snapshots: self.scenario.broker.snapshots,
            offsets_retention: Duration::from_millis(self.scenario.broker.offsets_retention_ms.unsigned_abs()),
            journal_file_bytes: self.draws.world.within(200..self.scenario.broker.journal_file_bytes),
        };
        gate.spawn("broker", Box::pin(live(self.settings(), outside, planted, tell, stopped)));
        self.trace.line(format_args!("life {} begins", self.lives.begun));
        Life {
            gate,
            stage: Stage::Starting,
            news,
            broker: None,
            stop: Some(stop),
            kill_at: None,
            power,
            quiet: self.shared.phase() > crate::phase::Phase::Faults,
        }
    }

    fn settings(&self) -> Settings {
        let flag = |name: &str, value: String| (name.to_owned(), value);
        let flags = [
            flag("data-dir", super::DATA_DIR.to_owned()),
            flag("listen", "127.0.0.1:9092".to_owned()),
            flag("flush-per-second", self.scenario.broker.flushes.to_string()),
            flag("group-initial-rebalance-delay-ms", self.scenario.broker.group_delay_ms.to_string()),
            flag("cache", self.scenario.broker.cache_bytes.to_string()),
        ];
        let machine = Machine { memory_bytes: 1 << 30 };
        Settings::parse(&flags, &[], machine).expect("the simulator's settings are valid")
    }
}

/// The main task of a broker's process.
async fn live(
    settings: Settings,
    outside: Outside,
    planted: Planted,
    tell: mpsc::UnboundedSender<News>,
    stopped: oneshot::Receiver<()>,
) {
    let news = match Broker::start_between(settings, outside, &planted).await {
        Err(why) => News::NotStarted(format!("{:#}", anyhow::Error::from(why))),
        Ok(broker) => {
            let broker = Arc::new(broker);
            // The world holds the other end, and with it this task.
            let _held = tell.send(News::Started(Arc::clone(&broker)));
            let asked = async {
                // Never asked: never stops.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                end = broker.ended() => News::Ended(end),
                () = asked => News::Ended(broker.stop().await),
            }
        }
    };
    let _held = tell.send(news);
}
