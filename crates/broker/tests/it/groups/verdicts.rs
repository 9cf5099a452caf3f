//! What clients are told follows the fold's verdict: it may be late, it may be that nothing was written, and it may
//! never be known.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use kafscale_broker::Between;
use kafscale_broker::coordinator::{Deciding, GroupLedger};
use kafscale_log::{CommitError, Stopped};
use kafscale_metadata::{Command, State};
use kafscale_wire::ErrorCode;
use kafscale_wire::join_group::JoinGroupRequest;
use kafscale_wire::offset_commit::OffsetCommitRequest;
use parking_lot::{Mutex, RwLockReadGuard};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::world::{Caller, Life, Member, commit, committed};

/// What happens to a proposal.
#[derive(Clone, Copy)]
enum Fate {
    /// Its verdict comes after so many seconds.
    Late(u64),
    /// It is not written.
    Refused,
    /// It is written, and nobody learns the verdict.
    Unknown,
}

/// A ledger whose next proposals have these fates; all others are as they are.
#[derive(Clone, Default)]
struct Fates(Arc<Mutex<VecDeque<Fate>>>);

struct Fated {
    inner: Arc<dyn GroupLedger>,
    fates: Fates,
}

impl Between for Fates {
    fn group_ledger(&self, inner: Arc<dyn GroupLedger>) -> Arc<dyn GroupLedger> {
        Arc::new(Fated { inner, fates: self.clone() })
    }
}

#[async_trait]
impl GroupLedger for Fated {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state()
    }

    async fn submit(&self, command: Command) -> Deciding {
        let fate = self.fates.0.lock().pop_front();
        if matches!(fate, Some(Fate::Refused)) {
            return async { Err(CommitError::Refused) }.boxed();
        }
        let deciding = self.inner.submit(command).await;
        async move {
            let verdict = deciding.await;
            match fate {
                Some(Fate::Late(seconds)) => sleep(Duration::from_secs(seconds)).await,
                Some(Fate::Unknown) => return Err(CommitError::Unknown),
                Some(Fate::Refused) | None => {}
            }
            verdict
        }
        .boxed()
    }

    async fn barrier(&self) -> Result<(), Stopped> {
        self.inner.barrier().await
    }

    async fn fresh(&self, max_age: Duration) -> Result<(), Stopped> {
        self.inner.fresh(max_age).await
    }
}

/// A broker with a topic, and the fates of what is proposed next.
async fn start(directory: &std::path::Path) -> (Life, Fates) {
    let fates = Fates::default();
    let life = Life::start_between(directory, &fates).await;
    life.create_topic(1).await;
    (life, fates)
}

async fn commit_of(client: &mut Caller, group: &str, offset: i64) -> ErrorCode {
    let request = OffsetCommitRequest { group_id: group.into(), ..commit(0, offset) };
    client.call(9, request).await.topics[0].partitions[0].error_code.into()
}

/// Whether an answer has arrived.
async fn answered(permits: &Semaphore) -> bool {
    sleep(Duration::from_secs(1)).await;
    permits.available_permits() > 0
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_answered_when_its_verdict_is_there_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let (life, fates) = start(directory.path()).await;
    fates.0.lock().push_back(Fate::Late(30));
    let mut member = Member::new(&life, "a");
    member.ask_to_join().await;
    let done = Semaphore::new(0);
    let join = async {
        let joined = member.joined().await;
        done.add_permits(1);
        joined
    };
    let others = async {
        sleep(Duration::from_secs(5)).await;
        assert!(life.broker.replica().progress().borrow().ordinal > 2, "the journal has it");
        let mut other = life.client();
        assert!(!answered(&done).await);
        // Another group is not held up by it, but its verdict comes in order.
        assert_eq!(commit_of(&mut other, "other", 3).await, ErrorCode::None);
        assert!(answered(&done).await, "verdicts come back in order");
    };
    let (joined, ()) = tokio::join!(join, others);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_written_is_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let (life, fates) = start(directory.path()).await;
    fates.0.lock().extend([Fate::Refused, Fate::Refused]);
    let mut member = Member::new(&life, "a");
    let refused = member.join().await;
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::CoordinatorNotAvailable);
    let mut client = life.client();
    assert_eq!(commit_of(&mut client, "other", 3).await, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(commit_of(&mut client, "other", 3).await, ErrorCode::None);
    member.id.clear();
    let joined = member.join().await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_not_told_as_done_or_undone() {
    let directory = tempfile::tempdir().unwrap();
    let (life, fates) = start(directory.path()).await;
    fates.0.lock().push_back(Fate::Unknown);
    let mut client = life.client();
    let request = commit(0, 7);
    let answer = client.call(9, request).await;
    assert_eq!(ErrorCode::from(answer.topics[0].partitions[0].error_code), ErrorCode::NotCoordinator);
    assert_eq!(committed(&life).await, 7, "it was written, here");

    fates.0.lock().push_back(Fate::Unknown);
    let mut member = Member::new(&life, "a");
    let refused = member.join().await;
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::NotCoordinator);
    // The machine takes the state's word: the member is in generation 1, and asks again for what it was not told.
    let request = member.wants_to_join();
    member.caller.send::<JoinGroupRequest>(9, &request).await;
    let joined = member.joined().await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1));
}
