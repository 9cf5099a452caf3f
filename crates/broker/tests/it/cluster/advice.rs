//! What clients are told of the brokers: all of them, and which to use.

use std::collections::BTreeSet;

use kafscale_log::Ledger;
use kafscale_wire::describe_cluster::DescribeClusterRequest;
use kafscale_wire::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use kafscale_wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use kafscale_wire::metadata::{MetadataRequest, MetadataResponse};
use kafscale_wire::{ErrorCode, Text};

use super::world::Cluster;
use crate::groups::world::{Caller, Life, TOPIC};

const PARTITIONS: i32 = 60;

async fn metadata(caller: &mut Caller) -> MetadataResponse {
    caller.call(12, MetadataRequest { topics: None, ..Default::default() }).await
}

/// For each partition its replicas, the leader first.
fn replicas(metadata: &MetadataResponse) -> Vec<Vec<i32>> {
    let topic = metadata.topics.iter().find(|t| t.name.as_deref() == Some(TOPIC)).unwrap();
    assert_eq!(topic.partitions.len(), PARTITIONS as usize);
    let one = |p: &kafscale_wire::metadata::MetadataResponsePartition| {
        assert_eq!((p.error_code, p.leader_epoch, p.leader_id), (0, 0, p.replica_nodes[0]));
        assert_eq!((&p.isr_nodes, p.offline_replicas.len()), (&p.replica_nodes, 0));
        p.replica_nodes.clone()
    };
    topic.partitions.iter().map(one).collect()
}

fn leaders(metadata: &MetadataResponse) -> BTreeSet<i32> {
    replicas(metadata).iter().map(|replicas| replicas[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn clients_that_know_one_broker_find_all() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.start(1).await, cluster.start(2).await);
    one.create_topic(PARTITIONS).await;
    let (mut at_one, mut at_two) = (one.client(), two.client());
    // A topic that this broker has not heard of yet is looked up behind a barrier.
    let named = MetadataRequest {
        topics: Some(vec![kafscale_wire::metadata::MetadataRequestTopic {
            name: Some(Text::from(TOPIC)),
            ..Default::default()
        }]),
        ..Default::default()
    };
    assert_eq!(at_two.call(12, named).await.topics[0].error_code, 0);
    let (told, told_too) = (metadata(&mut at_one).await, metadata(&mut at_two).await);
    let brokers: Vec<_> = told.brokers.iter().map(|b| (b.node_id, &*b.host, b.port)).collect();
    assert_eq!(brokers, [(1, "kafka.example", 8), (2, "kafka.example", 9)]);
    assert_eq!((&told.brokers, &told.topics), (&told_too.brokers, &told_too.topics), "the same from both");
    assert_eq!((told.controller_id, told_too.controller_id), (1, 2), "any broker takes admin requests");
    assert_eq!(leaders(&told), [1, 2].into());
    let described = at_one.call(0, DescribeClusterRequest { endpoint_type: 1, ..Default::default() }).await;
    assert_eq!(described.brokers.iter().map(|b| b.broker_id).collect::<Vec<_>>(), [1, 2]);
    let topics = vec![TopicRequest { name: Text::from(TOPIC) }];
    let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: 2000, ..Default::default() };
    let partitions = &at_one.call(0, request).await.topics[0].partitions;
    let described: Vec<_> = partitions.iter().map(|p| p.replica_nodes.clone()).collect();
    assert_eq!(described, replicas(&told));
    assert!(partitions.iter().all(|p| p.leader_id == p.replica_nodes[0] && p.isr_nodes == p.replica_nodes));

    // One that stops leads nothing any more, and one that is gone is not told.
    two.broker.replica().withdraw().await;
    let told = settled(&mut at_one, |told| leaders(told) == [1].into()).await;
    assert_eq!(told.brokers.len(), 2);
    cluster.kill(two).await;
    settled(&mut at_one, |told| told.brokers.len() == 1).await;
    one.stop().await;
}

/// Metadata once it is so.
async fn settled(caller: &mut Caller, is_so: impl Fn(&MetadataResponse) -> bool) -> MetadataResponse {
    for _ in 0..100 {
        let told = metadata(caller).await;
        if is_so(&told) {
            return told;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not become so");
}

fn listener(life: &Life) -> String {
    let replica = life.broker.replica();
    let state = replica.state();
    state.session(replica.nonce()).unwrap().listeners()[0].name.clone()
}

/// The broker of the test, without a rack, and one in each of the zones a and b; one cannot be reached by this listener.
async fn zones(cluster: &mut Cluster) -> Life {
    let life = cluster.start(1).await;
    life.create_topic(PARTITIONS).await;
    let listener = listener(&life);
    cluster.open_elsewhere(5, &listener, "a").await;
    cluster.open_elsewhere(6, &listener, "b").await;
    cluster.open_elsewhere(7, "other", "b").await;
    settled(&mut life.client(), |told| told.brokers.len() == 3).await;
    life
}

#[tokio::test(start_paused = true)]
async fn a_client_that_names_its_zone_is_led_to_brokers_in_it() {
    let mut cluster = Cluster::new();
    let life = zones(&mut cluster).await;
    let anywhere = metadata(&mut life.client()).await;
    assert_eq!(anywhere.brokers[1].rack.as_deref(), Some("a"));
    assert_eq!(leaders(&anywhere), [1, 5, 6].into());
    assert_eq!(leaders(&metadata(&mut life.named("zone=a,orders-1")).await), [5].into());
    let of_b = metadata(&mut life.named("zone=b")).await;
    assert_eq!(leaders(&of_b), [6].into());
    assert_eq!(leaders(&metadata(&mut life.named("zone=c")).await), [1, 5, 6].into(), "nobody is there");
    // One replica a zone, whoever asks; only the leader is another one.
    for (one, other) in replicas(&anywhere).into_iter().zip(replicas(&of_b)) {
        let set = |replicas: Vec<i32>| replicas.into_iter().collect::<BTreeSet<_>>();
        assert_eq!((set(one), set(other)), ([1, 5, 6].into(), [1, 5, 6].into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_can_be_named_as_a_zone() {
    let mut cluster = Cluster::new();
    let life = zones(&mut cluster).await;
    let listener = listener(&life);
    cluster.open_elsewhere(8, &listener, &listener.to_lowercase()).await;
    let mut caller = life.client();
    settled(&mut caller, |told| leaders(told) == [8].into()).await;
    assert_eq!(leaders(&metadata(&mut life.named("zone=a")).await), [5].into(), "the tag goes before");
}

fn fetch(rack: &str) -> FetchRequest {
    let partition = FetchPartition { partition: 0, partition_max_bytes: 1 << 20, ..Default::default() };
    let topics = vec![FetchTopic { topic: Text::from(TOPIC), partitions: vec![partition], ..Default::default() }];
    FetchRequest { topics, max_bytes: 1 << 20, session_epoch: -1, rack_id: Text::from(rack), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_of_another_zone_is_sent_there_once() {
    let mut cluster = Cluster::new();
    let life = zones(&mut cluster).await;
    let mut caller = life.client();
    let ask = async |caller: &mut Caller, rack| {
        let answer = caller.call(11, fetch(rack)).await;
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::None.code());
        partition.preferred_read_replica
    };
    assert_eq!(ask(&mut caller, "").await, -1);
    assert_eq!(ask(&mut caller, "c").await, -1, "nobody is there");
    assert_eq!(ask(&mut caller, "b").await, 6, "and not 7, which has no such listener");
    assert_eq!(ask(&mut caller, "b").await, -1, "it came back, and is served");
    tokio::time::sleep(std::time::Duration::from_secs(5 * 60)).await;
    assert_eq!(ask(&mut caller, "a").await, 5);
    assert_eq!(ask(&mut life.client(), "a").await, 5, "another connection");
    // With a fetch session: told with its opening, and served by it.
    let mut with_session = life.client();
    let opened = with_session.call(11, FetchRequest { session_epoch: 0, ..fetch("b") }).await;
    assert_eq!(opened.responses[0].partitions[0].preferred_read_replica, 6);
    let more = FetchRequest { session_id: opened.session_id, session_epoch: 1, topics: vec![], ..fetch("b") };
    let served = with_session.call(11, more).await;
    assert_eq!((served.error_code, served.responses.len()), (0, 0), "nothing new");
    assert_eq!(life.client().call(10, fetch("")).await.responses[0].partitions[0].preferred_read_replica, -1);
}
