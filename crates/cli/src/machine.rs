//! What the machine gives this process: memory and file descriptors.

use std::fs;

use kafscale_broker::config::Machine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where Linux says how much memory the control group may use (version 2, version 1).
const GROUP_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The memory of the machine, or of the container if that is less.
pub(crate) fn measure() -> Machine {
    let system = rustix::system::sysinfo();
    let all = u64::from(system.mem_unit).saturating_mul(system.totalram);
    let limit = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let memory_bytes = GROUP_LIMITS.iter().filter_map(|file| limit(file)).fold(all, u64::min);
    Machine { memory_bytes }
}

/// Raises the number of descriptors (connections, files) as far as this user may, and returns it. Best effort: a
/// broker with few descriptors works, and says when it has none left.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}
