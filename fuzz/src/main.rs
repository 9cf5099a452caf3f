//! `kafscale-fuzz`: mutates the kept inputs of every decoder, and shows an input that breaks one and how to repeat it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::fs;
use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use kafscale_fuzz::hunt::{Broken, Hunt, corpus, corpus_dir, home, keep, shrink};
use kafscale_fuzz::{TARGETS, Target, check, seed};
use kafscale_ports::Clock;
use kafscale_ports::clock::SystemClock;
use parking_lot::Mutex;

/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(20);
const SHRINK_TRIES: u32 = 20_000;

/// Feeds every decoder that sees bytes from outside with damaged ones.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mutates the kept inputs.
    Run(Run),
    /// Runs one input, and shows what it breaks.
    Repeat {
        /// Of which target.
        target: String,
        /// The input.
        file: PathBuf,
    },
    /// Writes the inputs that are made from real values into the corpus.
    Seed,
    /// Lists the targets.
    List,
}

#[derive(Debug, Args)]
struct Run {
    /// For each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the random numbers begin; else the time decides.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps inputs of which something new was found in the corpus.
    #[arg(long)]
    keep: bool,
    /// These alone; else all.
    targets: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Run(run) => run_all(&run),
        Command::Repeat { target, file } => repeat(&target, &file),
        Command::Seed => seed::write().map(|files| {
            println!("{files} files in fuzz/corpus");
            true
        }),
        Command::List => {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn target(name: &str) -> anyhow::Result<&'static Target> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    Target::of(name).with_context(|| format!("there is no target {name} (there are: {})", names()))
}

fn repeat(name: &str, file: &PathBuf) -> anyhow::Result<bool> {
    let input = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    match check(target(name)?, &input) {
        Ok(outcome) => println!("{name}: holds ({outcome:?})"),
        Err(failure) => {
            println!("{name}: {failure}");
            return Ok(false);
        }
    }
    Ok(true)
}

fn run_all(run: &Run) -> anyhow::Result<bool> {
    let targets = match run.targets.as_slice() {
        [] => TARGETS.iter().collect(),
        names => names.iter().map(|name| target(name)).collect::<anyhow::Result<Vec<_>>>()?,
    };
    let mut broken = 0;
    for target in &targets {
        broken += u32::from(!one(target, run)?);
    }
    println!("{} targets, {broken} broken", targets.len());
    Ok(broken == 0)
}

/// What the watch must know.
#[derive(Default)]
struct Running {
    input: Mutex<Vec<u8>>,
    started: AtomicU64,
}

/// Whether the target held for as long as was asked for.
fn one(target: &'static Target, run: &Run) -> anyhow::Result<bool> {
    let kept = corpus(target)?;
    if kept.is_empty() {
        bail!("fuzz/corpus/{} is empty: nothing to mutate (cargo run -p kafscale-fuzz -- seed)", target.name);
    }
    let running = Running::default();
    let (over, is_over) = channel::<()>();
    let result = std::thread::scope(|scope| {
        let running = &running;
        scope.spawn(move || watch(target, running, &is_over));
        let result = hunt(target, run, kept, running);
        drop(over);
        result
    });
    match result? {
        None => Ok(true),
        Some(broken) => {
            report(target, broken)?;
            Ok(false)
        }
    }
}

fn hunt(
    target: &'static Target,
    run: &Run,
    kept: Vec<(String, Vec<u8>)>,
    running: &Running,
) -> anyhow::Result<Option<Broken>> {
    let clock = SystemClock;
    let (began, seed) = (clock.now(), run.seed.unwrap_or_else(|| clock.wall_ms().unsigned_abs()));
    let mut hunt = match Hunt::new(target, kept, seed) {
        Ok(hunt) => hunt,
        Err(broken) => return Ok(Some(broken)),
    };
    let shown = stderr().is_terminal();
    let mut next_beat = 0;
    loop {
        let elapsed = clock.now().duration_since(began);
        if elapsed.as_millis() >= next_beat {
            next_beat = elapsed.as_millis() + 500;
            if shown {
                eprint!("\r{:10} {:3} s  {} inputs\x1b[K", target.name, elapsed.as_secs(), hunt.runs);
                stderr().flush().context("cannot write to the terminal")?;
            }
        }
        if elapsed.as_secs() >= run.seconds {
            break;
        }
        let input = hunt.make();
        running.input.lock().clone_from(&input);
        running.started.fetch_add(1, Ordering::Relaxed);
        match hunt.try_input(input) {
            Ok(true) if run.keep => drop(keep(&corpus_dir(target), "found", &running.input.lock())?),
            Ok(_) => {}
            Err(broken) => return Ok(Some(broken)),
        }
    }
    let (runs, accepted, facts) = (hunt.runs, hunt.accepted, hunt.facts());
    let line = format!("{:10} {runs:9} inputs, {accepted:9} of them readable, {facts:5} facts found", target.name);
    println!("{}{line}", if shown { "\r\x1b[K" } else { "" });
    Ok(None)
}

/// Ends the process when an input does not come back. Ends by itself when the hunt is over.
fn watch(target: &Target, running: &Running, is_over: &Receiver<()>) {
    let mut before = 0;
    while is_over.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
        let started = running.started.load(Ordering::Relaxed);
        if started > before || started == 0 {
            before = started;
            continue;
        }
        eprintln!("{}: an input took more than {} s", target.name, HANG.as_secs());
        match keep(&home().join("artifacts"), &format!("{}-hang", target.name), &running.input.lock()) {
            Ok(path) => eprintln!("{}", how_to_repeat(target, &path)),
            Err(error) => eprintln!("{error:#}"),
        }
        std::process::exit(1);
    }
}

fn report(target: &Target, broken: Broken) -> anyhow::Result<()> {
    let small = shrink(target, broken, SHRINK_TRIES);
    let path = keep(&home().join("artifacts"), target.name, &small.input)?;
    println!("{}: broken by {} bytes\n  {}", target.name, small.input.len(), small.failure);
    println!("{}", how_to_repeat(target, &path));
    Ok(())
}

fn how_to_repeat(target: &Target, path: &std::path::Path) -> String {
    format!("  to repeat it: cargo run -p kafscale-fuzz -- repeat {} {}", target.name, path.display())
}
