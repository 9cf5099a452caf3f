//! The oldest and the newest versions of each key, and what administrators ask.

use kafscale_wire::delete_groups::DeleteGroupsRequest;
use kafscale_wire::describe_groups::DescribeGroupsRequest;
use kafscale_wire::find_coordinator::FindCoordinatorRequest;
use kafscale_wire::heartbeat::HeartbeatRequest;
use kafscale_wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use kafscale_wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use kafscale_wire::list_groups::ListGroupsRequest;
use kafscale_wire::metadata::MetadataRequest;
use kafscale_wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafscale_wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafscale_wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafscale_wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use kafscale_wire::{ErrorCode, Text, Uuid};

use super::world::{Caller, GROUP, Life, Member, TOPIC, commit, committed, pair};

fn text(text: &str) -> Text {
    Text::from(text)
}

/// Everything in the versions that Kafka 0.9 had (or the first that Kafka 4 has).
#[tokio::test(start_paused = true)]
async fn an_old_client_joins_commits_and_leaves() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(2).await;
    let mut client = life.client();
    let request = JoinGroupRequest {
        group_id: text(GROUP),
        session_timeout_ms: 10_000,
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata: "me".into() }],
        ..Default::default()
    };
    let joined = client.call(0, request).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
    assert_eq!(joined.members[0].metadata, "me");
    let member_id = joined.member_id;

    let mine = SyncGroupRequestAssignment { member_id: member_id.clone(), assignment: "all of it".into() };
    let (group_id, generation_id) = (text(GROUP), 1);
    let request = SyncGroupRequest {
        group_id,
        generation_id,
        member_id: member_id.clone(),
        assignments: vec![mine],
        ..Default::default()
    };
    assert_eq!(client.call(0, request).await.assignment, "all of it");
    let (group_id, group_instance_id) = (text(GROUP), None);
    let request = HeartbeatRequest { group_id, generation_id, member_id: member_id.clone(), group_instance_id };
    assert_eq!(client.call(0, request).await.error_code, 0);

    let mut request = commit(1, 7);
    request.generation_id_or_member_epoch = 1;
    request.member_id = member_id.clone();
    request.topics[0].partitions[0].committed_metadata = Some(text("words"));
    assert_eq!(client.call(2, request).await.topics[0].partitions[0].error_code, 0);
    let topic = OffsetFetchRequestTopic { name: text(TOPIC), partition_indexes: vec![0, 1, 9] };
    let request = OffsetFetchRequest { group_id: text(GROUP), topics: Some(vec![topic]), ..Default::default() };
    let fetched = client.call(1, request).await;
    let found: Vec<_> = fetched.topics[0].partitions.iter().map(|p| (p.committed_offset, p.error_code)).collect();
    assert_eq!(found, [(-1, 0), (7, 0), (-1, 0)]);
    assert_eq!(fetched.topics[0].partitions[1].metadata.as_deref(), Some("words"));

    let request = LeaveGroupRequest { group_id: text(GROUP), member_id, ..Default::default() };
    assert_eq!(client.call(0, request.clone()).await.error_code, 0);
    assert_eq!(client.call(0, request).await.error_code, ErrorCode::UnknownMemberId.code());
    life.stop().await;
}

#[tokio::test(start_paused = true)]
async fn topics_by_id_and_groups_in_batches() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(1).await;
    let mut client = life.client();
    let metadata = client.call(12, MetadataRequest { topics: None, ..Default::default() }).await;
    let topic_id = metadata.topics[0].topic_id;
    let topics = [topic_id, Uuid(99)].map(|topic_id| OffsetCommitRequestTopic {
        topic_id,
        partitions: [0, 5]
            .map(|partition_index| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: 3,
                ..Default::default()
            })
            .into(),
        ..Default::default()
    });
    let request = OffsetCommitRequest { group_id: text(GROUP), topics: topics.into(), ..Default::default() };
    let answer = client.call(10, request).await;
    let codes = answer.topics.iter().flat_map(|t| t.partitions.iter().map(|p| ErrorCode::from(p.error_code)));
    assert_eq!(
        codes.collect::<Vec<_>>(),
        [ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, ErrorCode::UnknownTopicId]
    );
    let named = |topic_id| OffsetFetchRequestTopics { topic_id, partition_indexes: vec![0], ..Default::default() };
    let asked = |group: &str, topics| OffsetFetchRequestGroup { group_id: text(group), topics, ..Default::default() };
    let groups = vec![
        asked(GROUP, Some(vec![named(topic_id), named(Uuid(99))])),
        asked(GROUP, None),
        asked("nobody", None),
        asked("nobody", Some(vec![named(topic_id)])),
    ];
    let answer = client.call(10, OffsetFetchRequest { groups, ..Default::default() }).await;
    let found = |group: usize, topic: usize| {
        let found = &answer.groups[group].topics[topic];
        (found.topic_id, found.partitions[0].committed_offset, ErrorCode::from(found.partitions[0].error_code))
    };
    assert_eq!(found(0, 0), (topic_id, 3, ErrorCode::None));
    assert_eq!(found(0, 1), (Uuid(99), -1, ErrorCode::UnknownTopicId));
    assert_eq!(found(1, 0), (topic_id, 3, ErrorCode::None));
    assert_eq!((answer.groups[2].topics.len(), answer.groups[2].error_code), (0, 0));
    assert_eq!(found(3, 0), (topic_id, -1, ErrorCode::None));
}

#[tokio::test(start_paused = true)]
async fn commits_are_refused_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(2).await;
    let mut client = life.client();
    let mut request = commit(0, 1);
    let long = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_metadata: Some(text(&"x".repeat(4097))),
        ..Default::default()
    };
    let unknown = OffsetCommitRequestPartition { partition_index: -1, ..Default::default() };
    request.topics[0].partitions.extend([long, unknown]);
    let answer = client.call(9, request).await;
    let codes: Vec<ErrorCode> = answer.topics[0].partitions.iter().map(|p| p.error_code.into()).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::OffsetMetadataTooLarge, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(committed(&life).await, 1);

    // A group that does not exist has no generations, which older clients are told in other words.
    let mut request = commit(0, 1);
    (request.group_id, request.generation_id_or_member_epoch) = (text("nobody"), 4);
    for (version, error) in [(8, ErrorCode::IllegalGeneration), (9, ErrorCode::GroupIdNotFound)] {
        let answer = client.call(version, request.clone()).await;
        assert_eq!(ErrorCode::from(answer.topics[0].partitions[0].error_code), error);
    }
    // While the group has members, nobody else commits.
    let (_a, _b) = pair(&life).await;
    let answer = client.call(9, commit(0, 2)).await;
    assert_eq!(ErrorCode::from(answer.topics[0].partitions[0].error_code), ErrorCode::UnknownMemberId);
    assert_eq!(committed(&life).await, 1);
}

#[tokio::test(start_paused = true)]
async fn this_broker_coordinates_groups_and_transactional_ids() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    let mut client = life.client();
    for key_type in [0, 1] {
        let request = FindCoordinatorRequest { key: text("x"), key_type, ..Default::default() };
        let found = client.call(3, request).await;
        assert_eq!((found.error_code, found.node_id, &*found.host, found.port), (0, 0, "kafka.example", 7));
    }
    let request =
        FindCoordinatorRequest { coordinator_keys: vec![text("x"), text("y")], key_type: 1, ..Default::default() };
    let found = client.call(6, request).await.coordinators;
    assert_eq!(
        found.iter().map(|c| (&*c.key, &*c.host, c.port)).collect::<Vec<_>>(),
        [("x", "kafka.example", 7), ("y", "kafka.example", 7)]
    );
    let request = FindCoordinatorRequest { coordinator_keys: vec![text("x")], key_type: 2, ..Default::default() };
    let refused = client.call(6, request).await.coordinators.remove(0);
    assert_eq!((ErrorCode::from(refused.error_code), refused.node_id), (ErrorCode::InvalidRequest, -1));
}

async fn listed(client: &mut Caller, states: &[&str], types: &[&str]) -> Vec<(String, String, String)> {
    let request = ListGroupsRequest {
        states_filter: states.iter().copied().map(text).collect(),
        types_filter: types.iter().copied().map(text).collect(),
    };
    let groups = client.call(5, request).await.groups;
    groups.into_iter().map(|g| (g.group_id.into(), g.group_state.into(), g.group_type.into())).collect()
}

#[tokio::test(start_paused = true)]
async fn administrators_see_and_delete_groups() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(1).await;
    let mut client = life.client();
    let mut alone = commit(0, 5);
    alone.group_id = text("alone");
    client.call(9, alone).await;
    let (mut leader, _other) = pair(&life).await;

    let row = |group: &str, state: &str| (group.to_owned(), state.to_owned(), "classic".to_owned());
    assert_eq!(listed(&mut client, &[], &[]).await, [row("alone", "Empty"), row(GROUP, "Stable")]);
    assert_eq!(listed(&mut client, &["stable", "Dead"], &["CLASSIC"]).await, [row(GROUP, "Stable")]);
    assert_eq!(listed(&mut client, &[], &["consumer"]).await, []);

    let groups = [GROUP, "alone", "nobody"].map(text);
    let described = client.call(6, DescribeGroupsRequest { groups: groups.into(), ..Default::default() }).await.groups;
    assert_eq!((&*described[0].protocol_type, &*described[0].protocol_data), ("consumer", "range"));
    let members = &described[0].members;
    assert_eq!(members.iter().map(|m| &*m.client_id).collect::<Vec<_>>(), ["a", "b"]);
    assert!(members.iter().all(|m| &*m.client_host == "/127.0.0.1" && m.member_metadata == *m.client_id.as_bytes()));
    assert!(members.iter().any(|m| m.member_assignment == "first"));
    assert_eq!((&*described[1].group_state, described[1].members.len()), ("Empty", 0));
    assert_eq!(
        (&*described[2].group_state, ErrorCode::from(described[2].error_code)),
        ("Dead", ErrorCode::GroupIdNotFound)
    );
    let before = client.call(5, DescribeGroupsRequest { groups: vec![text("nobody")], ..Default::default() }).await;
    assert_eq!((&*before.groups[0].group_state, before.groups[0].error_code), ("Dead", 0));
    assert_eq!(before.groups[0].authorized_operations, i32::MIN, "nobody asked");
    let request = DescribeGroupsRequest { groups: vec![text(GROUP)], include_authorized_operations: true };
    assert_eq!(client.call(3, request).await.groups[0].authorized_operations, 0b1101_0100_1000);

    assert_eq!(leader.commit(1).await, ErrorCode::None);
    let at = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic {
        name: text(TOPIC),
        partitions: vec![at, OffsetDeleteRequestPartition { partition_index: 3 }],
    };
    for (group, code) in [("alone", ErrorCode::None), ("alone", ErrorCode::None)] {
        let request = OffsetDeleteRequest { group_id: text(group), topics: vec![topic.clone()] };
        let answer = client.call(0, request).await;
        assert_eq!(answer.error_code, 0);
        let codes: Vec<ErrorCode> = answer.topics[0].partitions.iter().map(|p| p.error_code.into()).collect();
        assert_eq!(codes, [code, ErrorCode::UnknownTopicOrPartition]);
    }
    let groups_names = ["alone", GROUP, "nobody", "alone"].map(text).into();
    let deleted = client.call(2, DeleteGroupsRequest { groups_names }).await.results;
    let codes: Vec<_> = deleted.iter().map(|r| (&*r.group_id, ErrorCode::from(r.error_code))).collect();
    assert_eq!(codes[1..], [(GROUP, ErrorCode::NonEmptyGroup), ("nobody", ErrorCode::GroupIdNotFound)]);
    assert_eq!(listed(&mut client, &[], &[]).await, [row(GROUP, "Stable")]);
}

#[tokio::test(start_paused = true)]
async fn several_leave_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let life = Life::start(directory.path()).await;
    life.create_topic(1).await;
    let (a, mut b) = pair(&life).await;
    let member = |id: &str| MemberIdentity { member_id: text(id), ..Default::default() };
    let members = vec![member(&a.id), member("stranger")];
    let request = LeaveGroupRequest { group_id: text(GROUP), members, ..Default::default() };
    let answer = life.client().call(5, request).await;
    let codes: Vec<ErrorCode> = answer.members.iter().map(|m| m.error_code.into()).collect();
    assert_eq!((answer.error_code, codes), (0, vec![ErrorCode::None, ErrorCode::UnknownMemberId]));
    assert_eq!(b.heartbeat().await, ErrorCode::RebalanceInProgress);
    let joined = b.join().await;
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    // From version 5 on a sync says which protocol it is about.
    let mut request = b.wants_to_sync(&[]);
    request.protocol_name = None;
    let refused = b.caller.call(5, request).await;
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::InconsistentGroupProtocol);
    let mut invalid = Member::new(&life, "c").wants_to_join();
    invalid.session_timeout_ms = 1;
    let refused = life.client().call(9, invalid).await;
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::InvalidSessionTimeout);
    assert_eq!((refused.protocol_name, refused.generation_id), (None, -1));
}
