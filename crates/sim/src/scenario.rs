//! What a world does: drawn from its seed, and smaller where somebody asks for less (shrinking). Pure: the same seed
//! gives the same scenario.
//!
//! A part that is left out does not shift the draws of the others, since each draws from a fork of its own.

mod groups;

use kafscale_broker::ledger::SnapshotSettings;

use crate::clients::admin::AdminPlan;
use crate::clients::consumer::ConsumerPlan;
use crate::clients::group::plan::GroupPlan;
use crate::clients::producer::ProducerPlan;
use crate::net::{Cut, Weather};
use crate::rng::Rng;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The machine loses its power, or the process is killed, at a disk operation from now.
    CrashAtOperation {
        /// How many operations from now.
        after: u64,
        /// Power: what was not made durable is lost.
        power: bool,
    },
    /// The next life is crashed, at this operation of its own: most often while it starts.
    CrashNextLife {
        /// Which of its operations.
        after: u64,
        /// See above.
        power: bool,
    },
    /// The same, between two polls, at once.
    CrashAtPoll {
        /// See above.
        power: bool,
    },
    /// SIGTERM; crashed on the way if that takes longer.
    Stop {
        /// How long it may take.
        patience_ms: u64,
    },
    /// The process is not scheduled.
    Pause {
        /// How long.
        ms: u64,
    },
    /// The disk is full but for a little.
    Full {
        /// How long.
        ms: u64,
        /// How much still fits.
        left_bytes: u64,
    },
    /// Writes fail.
    FailWrites {
        /// How many.
        times: u64,
        /// Only those of the journal.
        journal: bool,
    },
    /// An fsync of a file fails.
    FailSync,
    /// An fsync of a directory fails.
    FailDirectorySync,
    /// Reads of objects fail.
    FailReads {
        /// How many.
        times: u64,
    },
    /// The disk is slow.
    Slow {
        /// How long.
        ms: u64,
    },
    /// A connection is cut.
    Cut(Cut),
}

impl Fault {
    /// For the table of coverage.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashAtOperation { power: true, .. } => "power lost at an operation",
            Self::CrashAtOperation { power: false, .. } => "killed at an operation",
            Self::CrashNextLife { power: true, .. } => "power lost in the next life",
            Self::CrashNextLife { power: false, .. } => "killed in the next life",
            Self::CrashAtPoll { power: true } => "power lost at a poll",
            Self::CrashAtPoll { power: false } => "killed at a poll",
            Self::Stop { .. } => "stopped",
            Self::Pause { .. } => "paused",
            Self::Full { .. } => "disk full",
            Self::FailWrites { .. } => "writes fail",
            Self::FailSync => "fsync fails",
            Self::FailDirectorySync => "directory fsync fails",
            Self::FailReads { .. } => "reads fail",
            Self::Slow { .. } => "disk slow",
            Self::Cut(Cut::Reset) => "connection cut",
            Self::Cut(Cut::SwallowRequests) => "requests vanish",
            Self::Cut(Cut::SwallowAnswers) => "answers vanish",
        }
    }
}

/// Faults that wait for a moment.
#[derive(Debug, Clone)]
pub struct Later {
    /// So many milliseconds after those before.
    pub gap_ms: u64,
    /// Then as soon as a request of this kind is under way to a group's coordinator, if one comes.
    pub moment: Option<&'static str>,
    /// What happens, at once.
    pub faults: Vec<Fault>,
}

/// What faults wait for: the rarer, the oftener.
const MOMENTS: [&str; 9] =
    ["sync", "sync", "leave", "leave", "deletion", "deletion", "heartbeat", "offset commit", "offset fetch"];

/// At most so much of everything: what shrinking lowers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Producers.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
    /// Groups.
    pub groups: usize,
    /// Members of each group.
    pub members: usize,
    /// What befalls each member, and each group.
    pub episodes: usize,
    /// Faults.
    pub faults: usize,
    /// Batches of each producer.
    pub batches: u32,
}

impl Limits {
    /// What a seed says.
    pub const NONE: Self = Self {
        producers: usize::MAX,
        consumers: usize::MAX,
        groups: usize::MAX,
        members: usize::MAX,
        episodes: usize::MAX,
        faults: usize::MAX,
        batches: u32::MAX,
    };
}

/// How a world's broker is set.
#[derive(Debug, Clone, Copy)]
pub struct BrokerPlan {
    /// When snapshots are due: often.
    pub snapshots: SnapshotSettings,
    /// When the journal begins another file, at most: often. Each life draws anew, as another release might.
    pub journal_file_bytes: u64,
    /// Bundles a second.
    pub flushes: u32,
    /// Bytes of the broker's cache.
    pub cache_bytes: u64,
    /// How long the first generation of a group waits for more members.
    pub group_delay_ms: u64,
    /// How long an offset is kept that nobody commits anew.
    pub offsets_retention_ms: i64,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed of everything that is drawn while it runs.
    pub seed: u64,
    /// The producers.
    pub producers: Vec<ProducerPlan>,
    /// The consumers.
    pub consumers: Vec<ConsumerPlan>,
    /// The groups, with everybody around them.
    pub groups: Vec<GroupPlan>,
    /// Topics' creations and deletions.
    pub admin: AdminPlan,
    /// Each so many milliseconds after the one before.
    pub faults: Vec<(u64, Fault)>,
    /// After these: what befalls groups.
    pub later: Vec<Later>,
    /// The network.
    pub weather: Weather,
    /// How long a disk operation takes, at least and at most, microseconds.
    pub disk_us: (u64, u64),
    /// The broker's settings.
    pub broker: BrokerPlan,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(seed: u64, limits: Limits) -> Self {
        let root = Rng::new(seed);
        let mut rng = root.fork("scenario", 0);
        let topics: Vec<String> = (0..rng.within(1..4)).map(|n| format!("t{n}")).collect();
        let producers = rng.within(1..6);
        let consumers = rng.within(1..4);
        let faults = if rng.chance(5) { 0 } else { rng.within(1..9) };
        let take = |drawn: u64, limit: usize| drawn.min(limit as u64);
        let groups = groups::draw(&root, &topics, limits);
        let later = if groups.is_empty() { Vec::new() } else { later_faults(&root, faults, limits) };
        Self {
            seed,
            producers: (0..take(producers, limits.producers))
                .map(|n| producer(&mut root.fork("producer", n), n, &topics, limits.batches))
                .collect(),
            consumers: (0..take(consumers, limits.consumers))
                .map(|n| ConsumerPlan {
                    sessions: root.fork("sessions", n).chance(60),
                    ..consumer(&mut root.fork("consumer", n), n, &topics)
                })
                .collect(),
            groups,
            admin: admin(&mut root.fork("admin", 0), &topics),
            faults: (0..take(faults, limits.faults)).flat_map(|n| fault(&mut root.fork("fault", n))).collect(),
            later,
            weather: weather(&mut root.fork("weather", 0)),
            disk_us: disk(&mut root.fork("disk", 0)),
            broker: BrokerPlan {
                snapshots: SnapshotSettings {
                    every_entries: rng.within(3..60),
                    every_bytes: rng.within(1_000..200_000),
                },
                journal_file_bytes: rng.within(500..20_000),
                flushes: [5, 100, 1000][rng.index(3)],
                cache_bytes: [0, 100_000, 64 << 20][rng.index(3)],
                group_delay_ms: groups::delay_ms(&root),
                offsets_retention_ms: groups::retention_ms(&root),
            },
        }
    }
}

fn producer(rng: &mut Rng, number: u64, topics: &[String], limit: u32) -> ProducerPlan {
    let idempotent = rng.chance(60);
    let acks = if idempotent { -1 } else { [-1, 1, 1, 0][rng.index(4)] };
    let pace = [5, 50, 300][rng.index(3)];
    let records = [2, 10, 40][rng.index(3)];
    let bytes = [20, 100, 1_000][rng.index(3)];
    let first = rng.index(topics.len());
    let count = 1 + rng.index(topics.len());
    ProducerPlan {
        number: usize::try_from(number).expect("a small number"),
        idempotent,
        acks,
        topics: topics.iter().cycle().skip(first).take(count).cloned().collect(),
        batches: u32::try_from(rng.within(5..100)).expect("a small number").min(limit),
        records: 1..records,
        value_bytes: 8..bytes,
        pause_ms: 0..pace,
        version: [3, 7, 8, 9, 12, 13][rng.index(6)],
        in_flight: if rng.chance(80) { 5 } else { 1 },
        request_timeout_ms: rng.within(1_000..10_000),
        delivery_timeout_ms: rng.within(8_000..60_000),
    }
}

fn consumer(rng: &mut Rng, number: u64, topics: &[String]) -> ConsumerPlan {
    let small = rng.chance(30);
    let patient = rng.chance(25);
    let partition_max_bytes = if small { 1 } else { [1_000, 1 << 20][rng.index(2)] };
    ConsumerPlan {
        number: usize::try_from(number).expect("a small number"),
        topics: if rng.chance(50) { None } else { Some(vec![topics[rng.index(topics.len())].clone()]) },
        version: [4, 7, 11, 12, 13, 16, 18][rng.index(7)],
        max_wait_ms: if patient { [50, 100, 500][rng.index(3)] } else { [50, 100, 500, 5_000][rng.index(4)] },
        // More than an answer may have would wait each time.
        min_bytes: if patient { partition_max_bytes.min(10_000) } else { [0, 1, 1][rng.index(3)] },
        max_bytes: if small { 1 } else { 1 << 20 },
        partition_max_bytes,
        from_latest: rng.chance(20),
        sessions: false,
    }
}

/// Some topics are created, the others come into being by use; some are deleted and created again.
fn admin(rng: &mut Rng, topics: &[String]) -> AdminPlan {
    let mut steps = Vec::new();
    for topic in topics {
        if rng.chance(70) {
            steps.push((rng.within(0..50), topic.clone(), Some(partitions(rng))));
        }
    }
    if rng.chance(30) {
        let topic = &topics[rng.index(topics.len())];
        for _ in 0..rng.within(1..3) {
            steps.push((rng.within(100..8_000), topic.clone(), None));
            if rng.chance(70) {
                steps.push((rng.within(0..1_000), topic.clone(), Some(partitions(rng))));
            }
        }
    }
    AdminPlan { steps }
}

fn partitions(rng: &mut Rng) -> u32 {
    u32::try_from(rng.within(1..5)).expect("a small number")
}

/// Groups take their time to form: most of what befalls them comes later.
fn later_faults(root: &Rng, before: u64, limits: Limits) -> Vec<Later> {
    let mut rng = root.fork("later faults", 0);
    let left = limits.faults.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX)) as u64;
    let count = rng.within(0..16).min(left);
    let mut later = |n| {
        let pause_ms = [500, 3_000, 8_000][rng.index(3)];
        let gap_ms = rng.within(0..pause_ms);
        let moment = rng.chance(70).then(|| MOMENTS[rng.index(MOMENTS.len())]);
        let faults = fault(&mut root.fork("later fault", n)).into_iter().map(|(_, fault)| fault).collect();
        Later { gap_ms, moment, faults }
    };
    (0..count).map(&mut later).collect()
}

/// A fault; a crash may follow soon where something was left half done.
fn fault(rng: &mut Rng) -> Vec<(u64, Fault)> {
    let power = rng.chance(70);
    let gap_ms = [50, 500, 3_000][rng.index(3)];
    let far = [3, 30, 300][rng.index(3)];
    let ms = rng.within(50..8_000);
    let times = rng.within(1..4);
    let fault = match rng.within(0..100) {
        0..35 => Fault::CrashAtOperation { after: rng.within(1..far + 1), power },
        35..45 => Fault::CrashAtPoll { power },
        45..53 => Fault::Stop { patience_ms: [20, 5_000, 60_000][rng.index(3)] },
        53..58 => Fault::Pause { ms: rng.within(100..60_000) },
        58..65 => Fault::Full { ms, left_bytes: rng.within(0..20_000) },
        65..71 => Fault::FailWrites { times, journal: rng.chance(60) },
        71..76 => Fault::FailSync,
        76..80 => Fault::FailDirectorySync,
        80..84 => Fault::FailReads { times },
        84..88 => Fault::Slow { ms },
        88..94 => Fault::Cut(Cut::Reset),
        94..97 => Fault::Cut(Cut::SwallowRequests),
        _ => Fault::Cut(Cut::SwallowAnswers),
    };
    let mut faults = vec![(rng.within(0..gap_ms), fault)];
    if matches!(fault, Fault::FailWrites { .. } | Fault::Full { .. }) && rng.chance(50) {
        faults.push((rng.within(0..100), Fault::CrashAtOperation { after: rng.within(1..20), power: true }));
    }
    if matches!(fault, Fault::CrashAtOperation { .. } | Fault::CrashAtPoll { .. } | Fault::Stop { .. }) {
        // A start has about forty operations.
        for _ in 0..rng.within(0..3) {
            faults.push((0, Fault::CrashNextLife { after: rng.within(1..60), power }));
        }
    }
    faults
}

fn weather(rng: &mut Rng) -> Weather {
    Weather {
        delay_ms: [1, 3, 20][rng.index(3)],
        hiccup_percent: [0, 1, 5][rng.index(3)],
        hiccup_ms: [10, 1_000][rng.index(2)],
        partial_percent: [0, 5, 50][rng.index(3)],
    }
}

fn disk(rng: &mut Rng) -> (u64, u64) {
    [(0, 0), (50, 2_000), (1_000, 20_000)][rng.index(3)]
}
