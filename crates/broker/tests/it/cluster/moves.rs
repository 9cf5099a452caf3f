//! Consumer groups that move between brokers: after a death, before a stop, and between two brokers that both believe
//! that they coordinate.

use std::time::Duration;

use kafscale_journal::Journal;
use kafscale_metadata::{Command, Entry, Standing};
use kafscale_wire::ErrorCode;
use kafscale_wire::delete_groups::DeleteGroupsRequest;
use kafscale_wire::describe_groups::DescribeGroupsRequest;
use kafscale_wire::join_group::JoinGroupRequest;
use kafscale_wire::list_groups::ListGroupsRequest;
use kafscale_wire::offset_commit::OffsetCommitRequest;
use kafscale_wire::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use kafscale_wire::{Text, sync_group};
use tokio::time::{sleep, timeout};

use super::world::{Cluster, coordinator, standing};
use crate::groups::world::{GROUP, Life, Member, TOPIC, commit, committed, pair};

/// Brokers 1 and 2, both ready, as (the one that coordinates the group, the other one).
async fn two(cluster: &mut Cluster) -> (Life, Life) {
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    one.create_topic(1).await;
    sleep(Duration::from_secs(61)).await;
    assert_eq!((standing(&one), standing(&two)), (Standing::Ready, Standing::Ready));
    let id = coordinator(&one).await.unwrap();
    assert_eq!(coordinator(&two).await, Ok(id), "all say the same");
    if id == 1 { (one, two) } else { (two, one) }
}

async fn go_on(life: &Life, a: &Member, b: &Member) {
    let (mut a, mut b) = (Member::again(life, a), Member::again(life, b));
    assert_eq!((a.heartbeat().await, b.heartbeat().await), (ErrorCode::None, ErrorCode::None));
    assert_eq!(a.sync(&[]).await.assignment, "first");
    assert_eq!(b.sync(&[]).await.assignment, "second");
    assert_eq!(committed(life).await, 10);
    assert_eq!((a.commit(11).await, b.commit(12).await), (ErrorCode::None, ErrorCode::None));
    assert_eq!(committed(life).await, 12);
}

#[tokio::test(start_paused = true)]
async fn a_killed_coordinators_group_goes_on_at_the_next_one() {
    let mut cluster = Cluster::new();
    let (here, next) = two(&mut cluster).await;
    let (mut a, b) = pair(&here).await;
    assert_eq!(a.commit(10).await, ErrorCode::None);
    cluster.kill(here).await;
    go_on(&next, &a, &b).await;
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_hands_the_groups_over_first() {
    let mut cluster = Cluster::new();
    let (here, next) = two(&mut cluster).await;
    let (mut a, b) = pair(&here).await;
    assert_eq!(a.commit(10).await, ErrorCode::None);
    // Connections stay open: here is everything but the end of the broker.
    let mut late = Member::new(&here, "c");
    late.ask_to_join().await;
    here.broker.replica().withdraw().await;
    let told = timeout(Duration::from_millis(100), late.joined()).await.expect("at once");
    assert_eq!(told.error_code, ErrorCode::NotCoordinator.code(), "who waits is told where to go");
    assert_eq!(a.heartbeat().await, ErrorCode::NotCoordinator);
    assert_eq!(a.commit(9).await, ErrorCode::NotCoordinator);
    let mut again = Member::again(&next, &a);
    assert_eq!(again.heartbeat().await, ErrorCode::None);
    here.stop().await;
    go_on(&next, &a, &b).await;
    // The last one withdraws too, and serves to the end: there is nobody else.
    next.broker.replica().withdraw().await;
    assert_eq!(standing(&next), Standing::Withdrawn);
    assert_eq!(Member::again(&next, &a).commit(13).await, ErrorCode::None);
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_know_yet_neither_completes_a_generation_nor_commits() {
    let mut cluster = Cluster::new();
    // The late one is ready first, so that all groups are there.
    let (late, gate) = cluster.start_late(1).await;
    late.create_topic(1).await;
    let (mut a, b) = pair(&late).await;
    assert_eq!(a.commit(10).await, ErrorCode::None);
    sleep(Duration::from_secs(1)).await;
    let next = cluster.start(2).await;
    gate.close();
    // What it has appended itself it has not folded either.
    late.broker.replica().want_ready(false);
    while coordinator(&next).await != Ok(2) {
        sleep(Duration::from_millis(100)).await;
    }
    let state = |life: &Life| life.broker.replica().state().coordinator(GROUP).unwrap().broker_id();
    use kafscale_log::Ledger as _;
    assert_eq!((state(&late), state(&next)), (1, 2), "both believe that it is theirs");

    let mut old = (late.named("a"), late.named("c"));
    let mut request = commit(0, 5);
    request.generation_id_or_member_epoch = a.generation;
    request.member_id = Text::from(&*a.id);
    old.0.send(9, &request).await;
    let joins = Member::new(&late, "c").wants_to_join();
    old.1.send(3, &joins).await;
    go_on(&next, &a, &b).await;
    sleep(Duration::from_secs(5)).await;
    gate.open();
    let answer = old.0.receive::<OffsetCommitRequest>(9).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NotCoordinator.code());
    assert_eq!(old.1.receive::<JoinGroupRequest>(3).await.error_code, ErrorCode::NotCoordinator.code());
    assert_eq!(committed(&next).await, 12);
    late.stop().await;
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_dies_again_and_again_takes_no_groups() {
    let mut cluster = Cluster::new();
    let steady = cluster.start(1).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(standing(&steady), Standing::Ready, "at once: there is no other");
    for seconds in [0, 10, 59] {
        let crashing = cluster.start(2).await;
        sleep(Duration::from_secs(seconds)).await;
        assert_eq!(standing(&crashing), Standing::New);
        assert_eq!((coordinator(&crashing).await, coordinator(&steady).await), (Ok(1), Ok(1)));
        cluster.kill(crashing).await;
    }
    let other = cluster.start(2).await;
    cluster.kill(steady).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!((standing(&other), coordinator(&other).await), (Standing::Ready, Ok(2)), "at once: no other is ready");
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_request_for_a_group_of_another_broker_is_sent_there() {
    let mut cluster = Cluster::new();
    let (here, other) = two(&mut cluster).await;
    let (a, _b) = pair(&here).await;
    let wrong = ErrorCode::NotCoordinator.code();
    let mut client = other.client();
    assert_eq!(client.call(9, a.wants_to_join()).await.error_code, wrong);
    let request: sync_group::SyncGroupRequest = a.wants_to_sync(&[]);
    assert_eq!(client.call(5, request).await.error_code, wrong);
    assert_eq!(client.call(9, commit(0, 1)).await.topics[0].partitions[0].error_code, wrong);
    assert_eq!(Member::again(&other, &a).heartbeat().await, ErrorCode::NotCoordinator);
    let topic = OffsetFetchRequestTopic { name: Text::from(TOPIC), partition_indexes: vec![0] };
    let request = OffsetFetchRequest { group_id: Text::from(GROUP), topics: Some(vec![topic]), ..Default::default() };
    assert_eq!(client.call(5, request).await.error_code, wrong);
    let request = DescribeGroupsRequest { groups: vec![Text::from(GROUP)], ..Default::default() };
    assert_eq!(client.call(5, request).await.groups[0].error_code, wrong);
    let request = DeleteGroupsRequest { groups_names: vec![Text::from(GROUP)] };
    assert_eq!(client.call(2, request).await.results[0].error_code, wrong);
    // Clients list the groups of all brokers: each is named once.
    assert_eq!(client.call(4, ListGroupsRequest::default()).await.groups.len(), 0);
    assert_eq!(here.client().call(4, ListGroupsRequest::default()).await.groups.len(), 1);
    here.stop().await;
    other.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_withdraws_before_it_ends_the_session() {
    let mut cluster = Cluster::new();
    let life = cluster.start(1).await;
    life.create_topic(1).await;
    assert_eq!(life.client().call(9, commit(0, 3)).await.topics[0].partitions[0].error_code, 0);
    life.stop().await;
    let entries = cluster.journal.read(0).await.unwrap();
    let commands = entries.iter().flat_map(|record| Entry::decode(&record.entry).unwrap().commands);
    let of_the_session = |command: &Command| matches!(command, Command::SetReady { .. } | Command::EndSession { .. });
    let commands: Vec<Command> = commands.filter(of_the_session).collect();
    let [Command::SetReady { ready: true }, Command::SetReady { ready: false }, Command::EndSession { .. }] =
        &commands[..]
    else {
        panic!("{commands:?}");
    };
}
