//! Faults: how each is done to the world, and how all of them are undone.

use std::io;

use kafscale_ports::Spawn;
use kafscale_ports::spawn::TokioSpawn;
use tokio::time::{Duration, sleep};

use super::life::Stage;
use super::{DATA_DIR, World, clock_now};
use crate::disk::{Effect, Op, Rule};
use crate::phase::Phase;
use crate::plant::Bug;
use crate::scenario::Fault;

/// How long the world may take to be calm after the last fault.
const CALM: Duration = Duration::from_secs(3);

impl World<'_> {
    /// Lets a fault happen.
    pub(super) fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::CrashAtOperation { after, power } => {
                let Some(life) = &mut self.lives.present else { return };
                life.power = power;
                self.crashes.armed = Some(fault);
                self.disk.mount.crash_at(self.disk.mount.ops() + after);
                return;
            }
            Fault::CrashNextLife { .. } => {
                self.crashes.next_lives.push_back(fault);
                return;
            }
            Fault::CrashAtPoll { power } => {
                self.happen(fault.name());
                return self.crash(power);
            }
            Fault::Cut(how) => self.net.cut(how),
            Fault::Stop { patience_ms } => {
                let kill_at = clock_now(self.clock) + Duration::from_millis(patience_ms);
                if let Some(life) = self.lives.present.as_mut().filter(|life| life.stage == Stage::Serving) {
                    life.stop(kill_at);
                }
            }
            Fault::Pause { ms } => self.pause(ms),
            Fault::Full { ms, left_bytes } => self.fill(ms, left_bytes),
            Fault::Slow { ms } => self.slow(ms),
            Fault::FailWrites { times, journal } => {
                let path = if journal { "/journal/" } else { DATA_DIR };
                self.fail(Op::Write, path, times, io::ErrorKind::Other);
            }
            Fault::FailReads { times } => self.fail(Op::Read, "/bundle/", times, io::ErrorKind::Other),
            Fault::FailSync => self.fail(Op::Sync, DATA_DIR, 1, io::ErrorKind::Other),
            Fault::FailDirectorySync => self.fail(Op::SyncDir, DATA_DIR, 1, io::ErrorKind::Other),
        }
        self.happen(fault.name());
    }

    fn fail(&mut self, op: Op, path: &str, times: u64, kind: io::ErrorKind) {
        let skip = [0, 0, 3, 10][self.draws.world.index(4)];
        self.disk.mount.add(Rule { op, path: path.to_owned(), skip, times, effect: Effect::Fail(kind) });
    }

    fn pause(&mut self, ms: u64) {
        let Some(life) = &self.lives.present else { return };
        life.gate.pause();
        let gate = life.gate.clone();
        after(ms, move || gate.resume());
    }

    fn fill(&mut self, ms: u64, left_bytes: u64) {
        self.disk.drain_into(&self.trace);
        let disk = self.disk.mount.clone();
        disk.set_capacity(self.disk.used_bytes + left_bytes);
        after(ms, move || disk.set_capacity(u64::MAX));
    }

    fn slow(&mut self, ms: u64) {
        let (disk, (least, most)) = (self.disk.mount.clone(), self.scenario.disk_us);
        disk.set_latency_us(20_000, 500_000);
        after(ms, move || disk.set_latency_us(least, most));
    }

    /// Undoes all faults and waits until a broker serves.
    pub(super) async fn heal(&mut self) {
        self.disk.drain_into(&self.trace);
        self.trace.line(format_args!("all faults are healed"));
        self.shared.phase.begin(Phase::Healing);
        self.disk.mount.heal();
        self.disk.mount.crash_at(u64::MAX);
        self.crashes.armed = None;
        self.crashes.next_lives.clear();
        self.disk.mount.set_latency_us(self.scenario.disk_us.0, self.scenario.disk_us.1);
        self.bug.and_then(Bug::rule).into_iter().for_each(|rule| self.disk.mount.add(rule));
        self.net.heal();
        let kill_at = clock_now(self.clock) + CALM;
        if let Some(life) = &mut self.lives.present {
            life.gate.resume();
            if life.stage == Stage::Stopping {
                life.kill_at = Some(life.kill_at.map_or(kill_at, |at| at.min(kill_at)));
            }
        }
        self.live_for(CALM).await;
        for _ in 0..30 {
            if self.lives.present.as_ref().is_some_and(|life| life.stage == Stage::Serving) {
                return;
            }
            self.live_for(Duration::from_secs(1)).await;
        }
        self.break_rule("start", "no broker serves half a minute after all faults".to_owned());
    }
}

/// Does something later, whatever happens until then.
fn after(ms: u64, then: impl FnOnce() + Send + 'static) {
    let later = async move {
        sleep(Duration::from_millis(ms)).await;
        then();
    };
    TokioSpawn.spawn("end of a fault", Box::pin(later));
}
