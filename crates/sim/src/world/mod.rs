//! A world: one simulated disk, one life of the broker after another, clients, faults; then a quiet phase in which
//! everybody must get on; then a last look at everything. One thread, virtual time, everything from the scenario's
//! seed. Reading order: [`run`], then [`faults`] and [`ending`].

mod ending;
mod faults;
mod life;
mod objects;
mod report;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Once};

use kafscale_log::Ledger;
use kafscale_ports::Spawn;
use kafscale_ports::spawn::TokioSpawn;
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use self::life::{Life, News, Stage};
use crate::checks::Violation;
use crate::chronicle::Chronicle;
use crate::clients::group::{keeper, life as member, outsider, referee};
use crate::clients::{Shared, admin, consumer, producer};
use crate::clock::SimClock;
use crate::coverage::Coverage;
use crate::disk::SimDisk;
use crate::history::History;
use crate::net::SimNet;
use crate::phase::{Phase, Phases};
use crate::plant::Bug;
use crate::rng::Rng;
use crate::scenario::{Fault, Scenario};
use crate::trace::Trace;

/// Where the broker's data is on the simulated disk.
const DATA_DIR: &str = "/data";

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Broken rules; empty if all is well.
    pub violations: Vec<Violation>,
    /// What happened.
    pub coverage: Coverage,
    /// Its lines, if they were kept.
    pub trace: String,
    /// A hash over all lines.
    pub trace_hash: u64,
}

/// Plays a scenario, with a planted bug or without.
pub fn run(scenario: &Scenario, bug: Option<Bug>, keep_trace: bool) -> Report {
    watch_panics();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    let mut report = runtime.block_on(async {
        let mut world = World::new(scenario, bug, keep_trace);
        world.play().await;
        world.report()
    });
    drop(runtime);
    for what in PANICS.take() {
        report.violations.push(Violation { check: "panic", what });
    }
    report
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Tokio keeps panics of tasks to itself; here each is a finding.
fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        }));
    });
}

/// A fault that has happened, to be judged by what became of the batches that were on their way.
struct Happened {
    fault: &'static str,
    stage: String,
    at_ms: u64,
}

/// The generators of a world: the scenario's, from which each part forks its own, and those of the world itself.
struct Draws {
    root: Rng,
    /// When and where things happen.
    world: Rng,
    /// What a power failure leaves on the disk.
    crashes: Rng,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let root = Rng::new(seed);
        Self { world: root.fork("world", 0), crashes: root.fork("disk crashes", 0), root }
    }
}

/// The disk, and what its trace told last.
struct WatchedDisk {
    mount: SimDisk,
    /// Its last operation.
    last_op: String,
    /// What all files had together after it.
    used_bytes: u64,
}

impl WatchedDisk {
    fn new(mount: SimDisk) -> Self {
        Self { mount, last_op: String::new(), used_bytes: 0 }
    }

    /// Takes the disk's own trace into the world's.
    fn drain_into(&mut self, trace: &Trace) {
        let lines = self.mount.take_trace();
        let lines = String::from_utf8_lossy(&lines);
        for line in lines.lines() {
            trace.line(format_args!("disk {line}"));
        }
        if let Some(last) = lines.lines().next_back() {
            self.last_op = class_of(last);
            self.used_bytes = last.rsplit(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0);
        }
    }
}

/// The broker's lives, one after another.
struct Lives {
    /// How many have begun.
    begun: u64,
    /// The one that goes on, if the broker is not down.
    present: Option<Life>,
    /// When the next one begins.
    restart_at: Instant,
}

/// Crashes that will come, at an operation of the disk.
#[derive(Default)]
struct Crashes {
    /// What the disk will freeze for in the present life.
    armed: Option<Fault>,
    /// How the next lives end.
    next_lives: VecDeque<Fault>,
}

/// What the report is made of.
#[derive(Default)]
struct Record {
    happened: Vec<Happened>,
    violations: Vec<Violation>,
    coverage: Coverage,
}

struct World<'a> {
    scenario: &'a Scenario,
    bug: Option<Bug>,
    draws: Draws,
    clock: SimClock,
    trace: Trace,
    net: Arc<SimNet>,
    shared: Arc<Shared>,
    disk: WatchedDisk,
    chronicle: Arc<Chronicle>,
    lives: Lives,
    crashes: Crashes,
    record: Record,
}

/// A history and a phase of their own, on this network.
fn clients_of(net: &Arc<SimNet>, clock: SimClock, trace: &Trace, phase: Phase) -> Arc<Shared> {
    Arc::new(Shared {
        net: Arc::clone(net),
        clock,
        trace: trace.clone(),
        history: Mutex::new(History::new(trace.clone())),
        board: Mutex::default(),
        phase: Phases::new(phase),
    })
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, bug: Option<Bug>, keep_trace: bool) -> Self {
        let draws = Draws::new(scenario.seed);
        let clock = SimClock::start();
        let trace = Trace::new(clock, keep_trace);
        let net = SimNet::new(clock, trace.clone(), scenario.weather, draws.root.fork("net", 0));
        let disk = SimDisk::new(draws.root.fork("disk contents", 0).u64());
        disk.set_latency_us(scenario.disk_us.0, scenario.disk_us.1);
        disk.set_write_back(50);
        disk.start_trace();
        bug.and_then(Bug::rule).into_iter().for_each(|rule| disk.add(rule));
        Self {
            scenario,
            bug,
            draws,
            clock,
            shared: clients_of(&net, clock, &trace, Phase::Faults),
            chronicle: Chronicle::new(clock, trace.clone()),
            trace,
            net,
            disk: WatchedDisk::new(disk),
            lives: Lives { begun: 0, present: None, restart_at: clock_now(clock) },
            crashes: Crashes::default(),
            record: Record::default(),
        }
    }

    async fn play(&mut self) {
        let mut done = self.start_clients();
        let scenario = self.scenario;
        for (gap_ms, fault) in &scenario.faults {
            self.live_for(Duration::from_millis(*gap_ms)).await;
            if self.draws.world.chance(70) && !matches!(fault, Fault::CrashNextLife { .. }) {
                self.await_service().await;
            }
            self.inject(*fault);
        }
        for later in &scenario.later {
            self.live_for(Duration::from_millis(later.gap_ms)).await;
            if let Some(kind) = later.moment {
                self.await_request(kind).await;
            }
            later.faults.iter().for_each(|fault| self.inject(*fault));
        }
        self.live_for(Duration::from_secs(1)).await;
        self.heal().await;
        self.shared.phase.begin(Phase::Quiet);
        self.await_clients(&mut done).await;
        self.end().await;
    }

    /// Waits a while for a moment at which such a request is under way to the coordinator of a group.
    async fn await_request(&mut self, kind: &str) {
        for _ in 0..3_000 {
            if self.shared.history.lock().groups.is_open(kind) {
                return;
            }
            self.live_for(Duration::from_millis(1)).await;
        }
    }

    /// Waits a while for a broker that serves: most faults say most where there is one.
    async fn await_service(&mut self) {
        for _ in 0..40 {
            if self.lives.present.as_ref().is_some_and(|life| life.stage == Stage::Serving) {
                let pause = Duration::from_millis(self.draws.world.within(1..100));
                return self.live_for(pause).await;
            }
            self.live_for(Duration::from_millis(50)).await;
        }
    }

    /// Starts all clients; each sends its name when it has finished.
    fn start_clients(&self) -> mpsc::UnboundedReceiver<String> {
        let (done, finished) = mpsc::unbounded_channel();
        let spawn = |name: String, client: futures::future::BoxFuture<'static, ()>| {
            let done = done.clone();
            let task = async move {
                client.await;
                // Nobody listens any more: the world has given up.
                let _gone = done.send(name);
            };
            TokioSpawn.spawn("client", Box::pin(task));
        };
        let root = self.draws.root.fork("clients", 0);
        let plan = self.scenario.admin.clone();
        spawn("admin".to_owned(), Box::pin(admin::run(Arc::clone(&self.shared), plan, root.fork("admin", 0))));
        for (n, plan) in (0..).zip(self.scenario.producers.clone()) {
            let rng = root.fork("producer", n);
            spawn(format!("p{}", plan.number), Box::pin(producer::run(Arc::clone(&self.shared), plan, rng)));
        }
        for (n, plan) in (0..).zip(self.scenario.consumers.clone()) {
            let rng = root.fork("consumer", n);
            spawn(format!("r{}", plan.number), Box::pin(consumer::run(Arc::clone(&self.shared), plan, rng)));
        }
        for group in self.scenario.groups.clone() {
            let root = root.fork(&group.name, 0);
            for (n, plan) in (0..).zip(group.members.clone()) {
                spawn(plan.name.clone(), member::run(Arc::clone(&self.shared), plan, root.fork("member", n)));
            }
            for (n, plan) in (0..).zip(group.outsiders.clone()) {
                let rng = root.fork("outsider", n);
                spawn(plan.name.clone(), Box::pin(outsider::run(Arc::clone(&self.shared), plan, rng)));
            }
            let name = group.name.clone();
            spawn(name.clone(), Box::pin(referee::run(Arc::clone(&self.shared), name.clone())));
            spawn(format!("{name} keeper"), Box::pin(keeper::run(Arc::clone(&self.shared), group)));
        }
        finished
    }

    /// Lets the world go on for a while.
    async fn live_for(&mut self, time: Duration) {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = self.step() => {}
                () = &mut over => return,
            }
        }
    }

    /// Waits for the next thing that happens to the broker, and does what follows from it. Cancel-safe.
    async fn step(&mut self) {
        let Some(life) = &mut self.lives.present else {
            sleep_until(self.lives.restart_at).await;
            self.lives.present = Some(self.begin_life());
            return;
        };
        let kill = async {
            match life.kill_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.disk.mount.frozen() => self.frozen(),
            news = life.news.recv() => self.hear(news),
            () = kill => {
                self.happen("stop took too long");
                self.crash(false);
            }
        }
    }

    fn frozen(&mut self) {
        let power = self.lives.present.as_ref().is_some_and(|life| life.power);
        if let Some(fault) = self.crashes.armed.take() {
            self.happen(fault.name());
        }
        self.crash(power);
    }

    fn hear(&mut self, news: Option<News>) {
        let Some(life) = &mut self.lives.present else { return };
        match news {
            Some(News::Started(broker)) => {
                let state = broker.replica().state().clone();
                self.chronicle.compare(&state, "a starting broker");
                if life.stage == Stage::Starting {
                    life.stage = Stage::Serving;
                }
                life.broker = Some(broker);
                self.record.coverage.add("lives that served", 1);
                self.shared.history.lock().groups.served_ms.push(self.clock.ms());
                self.trace.line(format_args!("life {} serves", self.lives.begun));
            }
            Some(News::NotStarted(why)) => {
                self.trace.line(format_args!("life {} did not start: {why}", self.lives.begun));
                self.record.coverage.add("lives that did not start", 1);
                if life.quiet {
                    self.break_rule("start", format!("a broker on a healthy disk did not start: {why}"));
                }
                self.crash(false);
            }
            Some(News::Ended(end)) => {
                self.trace.line(format_args!("life {} ended: {end}", self.lives.begun));
                let (quiet, stopping) = (life.quiet, life.stage == Stage::Stopping);
                self.record
                    .coverage
                    .add(if stopping { "lives that stopped when asked" } else { "lives that ended by themselves" }, 1);
                if quiet && !stopping {
                    self.break_rule("progress", format!("a broker on a healthy disk ended: {end}"));
                }
                self.crash(false);
            }
            // Only a panic of its main task ends it without a word; that is reported by itself.
            None => self.crash(false),
        }
    }

    /// Ends the present life at once: the process is gone, or the machine's power.
    fn crash(&mut self, power: bool) {
        let Some(life) = self.lives.present.take() else { return };
        self.disk.drain_into(&self.trace);
        self.trace.line(format_args!("life {} is gone (power: {power})", self.lives.begun));
        if power && self.draws.world.chance(50) {
            self.net.reset_all();
        }
        life.gate.crash();
        if power {
            self.disk.mount.crash(&mut self.draws.crashes);
        } else {
            self.disk.mount.kill();
        }
        self.crashes.armed = None;
        let pause = Duration::from_millis(self.draws.world.within(1..2_000));
        self.lives.restart_at = clock_now(self.clock) + pause;
    }

    /// Notes a fault that happens now, and at which stage.
    fn happen(&mut self, fault: &'static str) {
        self.disk.drain_into(&self.trace);
        let stage = self.lives.present.as_ref().map_or("down", |life| life.stage.name());
        let stage = if stage == "down" { stage.to_owned() } else { format!("{stage}, after {}", self.disk.last_op) };
        self.trace.line(format_args!("{fault}: {stage}"));
        self.record.happened.push(Happened { fault, stage, at_ms: self.clock.ms() });
    }

    fn break_rule(&mut self, check: &'static str, what: String) {
        self.record.violations.push(Violation { check, what });
    }
}

fn clock_now(clock: SimClock) -> Instant {
    kafscale_ports::Clock::now(&clock)
}

/// What an operation was done to: whether it changed it, or made the change durable.
fn class_of(line: &str) -> String {
    let op = line.split(' ').nth(1).unwrap_or("nothing");
    let op = match op {
        "Open" | "Read" | "ReadDir" | "Lock" => "reading",
        "SyncNew" | "SyncData" | "SyncCut" | "SyncDir" => "syncing",
        _ => "changing",
    };
    let of = ["/pointer", "/journal", "/snapshot", "/bundle"];
    let of = of.into_iter().find(|part| line.contains(part)).unwrap_or("/directory");
    format!("{op} {}", &of[1..])
}
