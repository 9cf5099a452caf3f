//! Requests that wait for other members: their connections may end, the broker may stop, and they may wait for long.

use std::time::Duration;

use kafscale_wire::ErrorCode;
use kafscale_wire::join_group::JoinGroupRequest;
use kafscale_wire::sync_group::SyncGroupRequest;
use tokio::time::sleep;

use super::world::{Life, Member, pair};
use crate::pipes::now;

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_joins_and_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    let (mut a, mut b) = pair(&life).await;
    let mut late = Member::new(&life, "late");
    late.ask_to_join().await;
    sleep(Duration::from_secs(1)).await;
    let begun = now();
    let stop = async {
        life.stop().await;
        begun.elapsed()
    };
    let refused = async {
        let refused = late.joined().await;
        assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::NotCoordinator);
        drop(late);
        a.caller.pipe.closed().await;
    };
    let (took, ()) = tokio::join!(stop, refused);
    assert!(took < Duration::from_secs(3), "{took:?}");

    // Nobody was removed by it.
    let life = Life::start(directory.path()).await;
    (a, b) = (Member::again(&life, &a), Member::again(&life, &b));
    assert_eq!(a.heartbeat().await, ErrorCode::None);
    assert_eq!(b.heartbeat().await, ErrorCode::None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_while_its_join_is_parked_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    let (mut a, mut b) = (Member::new(&life, "a"), Member::new(&life, "b"));
    a.ask_to_join().await;
    b.ask_to_join().await;
    let gone = b.id.clone();
    drop(b);
    let joined = a.joined().await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 2), "the coordinator cannot know that it has gone");
    let request = a.wants_to_sync(&[(&gone, "lost")]);
    a.caller.send::<SyncGroupRequest>(5, &request).await;
    a.caller.receive::<SyncGroupRequest>(5).await;
    for _ in 0..100 {
        if a.heartbeat().await == ErrorCode::RebalanceInProgress {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let joined = a.join().await;
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1), "it is removed after its time");
    drop(a);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(life.broker.memory_used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_join_may_wait_longer_than_a_connection_may_idle_and_holds_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    let (mut b, mut a) = pair(&life).await; // the leader's join makes the others join too
    b.ask_to_join().await;
    for _ in 0..1200 {
        assert!(matches!(a.heartbeat().await, ErrorCode::RebalanceInProgress | ErrorCode::None));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(life.broker.memory_used(), 0);
    let again = a.wants_to_join();
    a.caller.send::<JoinGroupRequest>(9, &again).await;
    let (of_a, of_b) = (a.joined().await, b.joined().await);
    assert_eq!((of_a.error_code, of_b.error_code), (0, 0));
    assert_eq!((of_a.generation_id, of_b.generation_id), (2, 2));
    assert_eq!(of_a.members.len() + of_b.members.len(), 2, "the leader alone is told");
}
