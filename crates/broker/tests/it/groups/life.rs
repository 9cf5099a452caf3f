//! Lives of the broker: a restart rebalances nobody, and nothing of an older generation passes it.

use std::time::Duration;

use kafscale_wire::ErrorCode;
use tokio::time::sleep;

use super::world::{Life, Member, committed, pair};

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_generation_members_and_assignment() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(1).await;
    let (mut a, mut b) = pair(&life).await;
    assert_eq!(a.commit(10).await, ErrorCode::None);
    life.stop().await;

    for killed in [true, false] {
        let life = Life::start(directory.path()).await;
        (a, b) = (Member::again(&life, &a), Member::again(&life, &b));
        assert_eq!(b.heartbeat().await, ErrorCode::None);
        assert_eq!(a.sync(&[]).await.assignment, "first");
        assert_eq!(b.sync(&[]).await.assignment, "second");
        assert_eq!(committed(&life).await, 10);
        assert_eq!(a.commit(10).await, ErrorCode::None, "it equals what is stored");
        if killed {
            life.kill().await;
        } else {
            life.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_an_older_generation_is_refused_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(1).await;
    let (a, b) = pair(&life).await;
    life.stop().await;

    // One of them died meanwhile: it is removed after its session timeout, and the other joins the next generation.
    let life = Life::start(directory.path()).await;
    let mut a = Member::again(&life, &a);
    for _ in 0..40 {
        if a.heartbeat().await == ErrorCode::RebalanceInProgress {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let joined = a.join().await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 2, 1));
    let plan = [(a.id.clone(), "all")];
    assert_eq!(a.sync(&[(plan[0].0.as_str(), "all")]).await.assignment, "all");
    assert_eq!(a.commit(5).await, ErrorCode::None);
    life.kill().await;

    let life = Life::start(directory.path()).await;
    let (mut old, mut dead) = (Member::again(&life, &a), Member::again(&life, &b));
    old.generation = 1;
    assert_eq!(old.commit(3).await, ErrorCode::IllegalGeneration);
    assert_eq!(dead.commit(3).await, ErrorCode::UnknownMemberId);
    assert_eq!(committed(&life).await, 5);
    assert_eq!(Member::again(&life, &a).commit(6).await, ErrorCode::None);
    assert_eq!(committed(&life).await, 6);
}
