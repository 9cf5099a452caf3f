//! What the coordinator stands on: the port through which it proposes and learns. Narrow, so that the simulator can
//! stand in between and lie.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use kafscale_groups::{Answer, Request, Token};
use kafscale_log::{CommitError, Ledger, Stopped};
use kafscale_metadata::{Command, Outcome, State};
use parking_lot::RwLockReadGuard;

use crate::ledger::Replica;

/// What the fold will decide about a command, or why it will not.
pub type Deciding = BoxFuture<'static, Result<Outcome, CommitError>>;

/// See the module's documentation.
#[async_trait]
pub trait GroupLedger: Send + Sync + 'static {
    /// The state as far as it is folded.
    fn state(&self) -> RwLockReadGuard<'_, State>;
    /// Gives a command its place in the journal's order, behind all that were given before by the same task; it is
    /// decided later.
    async fn submit(&self, command: Command) -> Deciding;
    /// Returns when the fold has reached the journal's end as it was after the call.
    async fn barrier(&self) -> Result<(), Stopped>;
    /// As [`GroupLedger::barrier`], but one that began at most `max_age` ago is good enough.
    async fn fresh(&self, max_age: Duration) -> Result<(), Stopped>;
    /// What a machine is asked. The product changes nothing.
    fn asked(&self, _token: Token, _group: &str, request: Request) -> Request {
        request
    }
    /// What it answers. The product changes nothing.
    fn answered(&self, _token: Token, answer: Answer) -> Answer {
        answer
    }
}

#[async_trait]
impl GroupLedger for Arc<Replica> {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        Ledger::state(&**self)
    }

    async fn submit(&self, command: Command) -> Deciding {
        Replica::submit(self, command).await.boxed()
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        Ledger::barrier(&**self).await
    }

    async fn fresh(&self, max_age: Duration) -> Result<(), Stopped> {
        Replica::fresh(self, max_age).await
    }
}
