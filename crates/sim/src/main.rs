//! `kafscale-sim`: plays seeds, shows the first one that breaks a rule, and how to repeat it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kafscale_sim::checks::Violation;
use kafscale_sim::coverage::Coverage;
use kafscale_sim::scenario::{Limits, Scenario};
use kafscale_sim::shrink::shrink;
use kafscale_sim::world::run;
use parking_lot::Mutex;

/// Plays simulated worlds and checks what happened in them.
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Just this one, with its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// At most so many producers.
    #[arg(long)]
    producers: Option<usize>,
    /// At most so many consumers.
    #[arg(long)]
    consumers: Option<usize>,
    /// At most so many groups.
    #[arg(long)]
    groups: Option<usize>,
    /// At most so many members of each group.
    #[arg(long)]
    members: Option<usize>,
    /// At most so many things that befall each member, and each group.
    #[arg(long)]
    episodes: Option<usize>,
    /// At most so many faults.
    #[arg(long)]
    faults: Option<usize>,
    /// At most so many batches of each producer.
    #[arg(long)]
    batches: Option<u32>,
    /// Seeds at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Go on after a failing seed, and list all of them.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => one(seed, &options),
        None => many(&options),
    }
}

fn limits(options: &Options) -> Limits {
    Limits {
        producers: options.producers.unwrap_or(usize::MAX),
        consumers: options.consumers.unwrap_or(usize::MAX),
        groups: options.groups.unwrap_or(usize::MAX),
        members: options.members.unwrap_or(usize::MAX),
        episodes: options.episodes.unwrap_or(usize::MAX),
        faults: options.faults.unwrap_or(usize::MAX),
        batches: options.batches.unwrap_or(u32::MAX),
    }
}

fn one(seed: u64, options: &Options) -> ExitCode {
    let scenario = Scenario::draw(seed, limits(options));
    println!("{scenario:#?}");
    let report = run(&scenario, None, true);
    print!("{}{}", report.trace, report.coverage);
    show(&report.violations);
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the threads share.
struct Progress {
    next: AtomicU64,
    bar: ProgressBar,
    failed: Mutex<Vec<(u64, Vec<Violation>)>>,
    coverage: Mutex<Coverage>,
}

fn many(options: &Options) -> ExitCode {
    let end = options.from + options.seeds;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {elapsed}, {msg}");
    let bar = ProgressBar::new(options.seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let progress =
        Progress { next: AtomicU64::new(options.from), bar, failed: Mutex::default(), coverage: Mutex::default() };
    let limits = limits(options);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| play(&progress, end, limits, options.keep_going));
        }
    });
    progress.bar.finish_and_clear();
    println!("{}", progress.coverage.lock());
    let mut failed = std::mem::take(&mut *progress.failed.lock());
    failed.sort_by_key(|(seed, _)| *seed);
    if failed.is_empty() {
        println!("{} seeds from {} on: all rules hold", options.seeds, options.from);
        return ExitCode::SUCCESS;
    }
    for (seed, violations) in &failed {
        println!("seed {seed}:");
        show(violations);
    }
    if let Some((seed, check)) = failed.first().and_then(|(seed, v)| v.first().map(|v| (*seed, v.check))) {
        explain(seed, check);
    }
    ExitCode::FAILURE
}

fn play(progress: &Progress, end: u64, limits: Limits, keep_going: bool) {
    loop {
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || (!keep_going && !progress.failed.lock().is_empty()) {
            return;
        }
        let report = run(&Scenario::draw(seed, limits), None, false);
        progress.coverage.lock().merge(report.coverage);
        if !report.violations.is_empty() {
            progress.failed.lock().push((seed, report.violations));
        }
        progress.bar.inc(1);
        progress.bar.set_message(format!("{} failing", progress.failed.lock().len()));
    }
}

fn show(violations: &[Violation]) {
    for Violation { check, what } in violations.iter().take(20) {
        println!("  {check}: {what}");
    }
}

fn explain(seed: u64, check: &'static str) {
    eprintln!("making seed {seed} smaller …");
    let (small, report) = shrink(seed, None, check);
    println!("\nin the small, with the last lines of its trace:");
    let lines: Vec<&str> = report.trace.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| println!("  {line}"));
    show(&report.violations);
    let Limits { producers, consumers, groups, members, episodes, faults, batches } = small;
    println!(
        "\nto repeat it: cargo run -p kafscale-sim -- --seed {seed} --producers {producers} --consumers {consumers} \
         --groups {groups} --members {members} --episodes {episodes} --faults {faults} --batches {batches}\nas it was drawn: cargo run -p kafscale-sim -- --seed {seed}"
    );
}
