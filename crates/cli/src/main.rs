//! `kafscale`, the one binary. Owns what belongs to the process: the allocator, the command line, the runtime, signals,
//! logs, the exit code. What a broker is, is `kafscale-broker`'s.

mod arguments;
mod broker;
mod health;
mod hints;
mod logs;
mod machine;

use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let matches = arguments::command().get_matches();
    let result = match matches.subcommand() {
        Some(("broker", given)) => broker::run(&arguments::flags(given)),
        Some(("health", given)) => health::run(&arguments::flags(given)),
        Some((name, _)) => Err(anyhow::anyhow!("there is no command {name:?}")),
        None => Err(anyhow::anyhow!("no command: try kafscale --help")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what was attempted, and each cause behind it. Nobody is left to tell if even this fails.
            let _ = writeln!(std::io::stderr(), "kafscale: {error:#}");
            ExitCode::FAILURE
        }
    }
}
