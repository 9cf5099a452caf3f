//! Tasks through a port. The simulator crashes a broker by dropping all its tasks between two polls, and pauses
//! it by not polling them; both need to know every task, so nobody calls `tokio::spawn` but this file.

use futures::future::BoxFuture;

/// Starts tasks.
pub trait Spawn: Send + Sync + 'static {
    /// Starts `task`. It runs until it returns or until the process (or the simulated broker) ends. `name` is for
    /// traces only.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);
}

/// Tasks of the current tokio runtime.
#[derive(Debug, Clone, Copy)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    #[expect(clippy::disallowed_methods, reason = "this is the spawn port")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}
