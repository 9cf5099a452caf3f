//! The end of a world: the quiet phase, a stop, one more start, a last reader, a last look at the disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafscale_broker::End;
use kafscale_ports::Spawn;
use kafscale_ports::spawn::TokioSpawn;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use super::life::{News, Stage};
use super::{World, clients_of, clock_now};
use crate::checks::{Violation, judge};
use crate::clients::Shared;
use crate::clients::consumer::{self, ConsumerPlan};
use crate::clients::group::Reason;
use crate::phase::Phase;

/// How long clients may take once all faults are healed: longer than any delivery timeout.
const PROGRESS: Duration = Duration::from_secs(120);
/// How long the last reader may take.
const LAST_READ: Duration = Duration::from_secs(300);
/// After this nothing is under way any more: longer than any time limit of the broker for a connection's half-sent frame.
const IDLE: Duration = Duration::from_secs(90);
/// How long a graceful stop may take when nothing is under way.
const STOP: Duration = Duration::from_secs(30);

impl World<'_> {
    /// Waits until all clients have finished.
    pub(super) async fn await_clients(&mut self, done: &mut mpsc::UnboundedReceiver<String>) {
        let mut open: BTreeSet<String> = BTreeSet::from(["admin".to_owned()]);
        open.extend(self.scenario.producers.iter().map(|plan| format!("p{}", plan.number)));
        open.extend(self.scenario.consumers.iter().map(|plan| format!("r{}", plan.number)));
        for group in &self.scenario.groups {
            open.extend(group.members.iter().map(|plan| plan.name.clone()));
            open.extend(group.outsiders.iter().map(|plan| plan.name.clone()));
            open.extend([group.name.clone(), format!("{} keeper", group.name)]);
        }
        let deadline = clock_now(self.clock) + PROGRESS;
        while !open.is_empty() {
            let late = tokio::time::sleep_until(deadline);
            tokio::select! {
                biased;
                name = done.recv() => {
                    self.trace.line(format_args!("{name:?} has finished"));
                    open.remove(&name.unwrap_or_default());
                }
                () = self.step() => {}
                () = late => {
                    self.break_rule("progress", format!("{open:?} did not finish within {PROGRESS:?} after all faults"));
                    let reasons = std::mem::take(&mut self.shared.board.lock().reasons);
                    for (group, Reason { check, what }) in reasons {
                        self.break_rule(check, format!("{group} did not settle within {PROGRESS:?}: {what}"));
                    }
                    return;
                }
            }
        }
    }

    /// Stops, starts, reads everything, and judges.
    pub(super) async fn end(&mut self) {
        self.live_for(IDLE).await;
        self.judge_memory();
        self.stop_gracefully().await;
        self.live_for(CALM).await;
        let last_read = self.read_everything().await;
        self.live_for(CALM).await;
        if let Some(broker) = self.lives.present.as_ref().and_then(|life| life.broker.clone()) {
            use kafscale_log::Ledger;
            let state = broker.replica().state().clone();
            self.chronicle.compare(&state, "the last broker");
        }
        self.crash(false);
        self.disk.mount = self.disk.mount.remount();
        let truth = self.truth().await;
        self.chronicle.conclude();
        let odd = self.chronicle.take_odd().into_iter().map(|(check, what)| Violation { check, what });
        self.record.violations.extend(odd);
        let judged = judge(&self.shared.history.lock(), &truth, &last_read.history.lock());
        self.record.violations.extend(judged);
    }

    fn judge_memory(&mut self) {
        let used =
            self.lives.present.as_ref().and_then(|life| life.broker.as_ref()).map_or(0, |broker| broker.memory_used());
        if used > 0 {
            self.break_rule("memory", format!("{used} bytes are reserved although nothing is under way"));
        }
    }

    async fn stop_gracefully(&mut self) {
        let kill_at = clock_now(self.clock) + STOP * 2;
        let Some(life) = self.lives.present.as_mut().filter(|life| life.stage == Stage::Serving) else {
            return self.break_rule("progress", "no broker serves at the end".to_owned());
        };
        life.stop(kill_at);
        let ended = tokio::time::timeout(STOP, life.news.recv()).await;
        match ended {
            Ok(Some(News::Ended(End::Stopped))) => {}
            Ok(Some(News::Ended(end))) => self.break_rule("progress", format!("a graceful stop ended with: {end}")),
            _ => self.break_rule("progress", format!("a graceful stop took longer than {STOP:?}")),
        }
        self.crash(false);
    }

    /// A reader that begins at the beginning of everything.
    async fn read_everything(&mut self) -> Arc<Shared> {
        let shared = clients_of(&self.net, self.clock, &self.trace, Phase::Quiet);
        let plan = ConsumerPlan {
            number: usize::MAX,
            topics: None,
            version: 16,
            max_wait_ms: 100,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partition_max_bytes: 1 << 20,
            from_latest: false,
            sessions: false,
        };
        let (done, mut finished) = mpsc::channel(1);
        let reader = consumer::run(Arc::clone(&shared), plan, self.draws.root.fork("last reader", 0));
        let task = async move {
            reader.await;
            let _gone = done.send(()).await;
        };
        TokioSpawn.spawn("last reader", Box::pin(task));
        let late = sleep(LAST_READ);
        tokio::pin!(late);
        loop {
            tokio::select! {
                biased;
                _done = finished.recv() => break,
                () = self.step() => {}
                () = &mut late => {
                    self.break_rule("progress", format!("a reader did not get through within {LAST_READ:?}"));
                    break;
                }
            }
        }
        shared
    }
}

/// How long things that follow a start may take.
const CALM: Duration = Duration::from_secs(3);
