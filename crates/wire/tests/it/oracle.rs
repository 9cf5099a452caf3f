//! Every message in every version against `kafka-protocol` (Kafka 4.1): random values of ours, encoded, must be the
//! same value there, encode there to the same bytes, and decode here to what they were.
//!
//! The oracle does not know ListOffsets 11, which has the layout of 10, nor the requests OffsetCommit 10 and
//! OffsetFetch 10, which have ids in place of names; `codec.rs` has these. Its Produce begins at 3, as Kafka 4's does;
//! ours has 0 to 2 only to refuse them. Its RequestHeader begins at 1: no request of ours has a header 0.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message as TheirMessage};
use kafscale_wire as ours;
use kafscale_wire::random::{Random, Source};
use kafscale_wire::{Decoder, Encoder, ErrorCode, Message};
use proptest::collection::vec;
use proptest::prelude::*;

const ALLOWANCE: usize = 1 << 20;

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut e = Encoder::new();
    message.encode(&mut e, version);
    e.finish().concat().into()
}

fn agree<O, T>(version: i16, choices: &[u8])
where
    O: Message + Random + PartialEq + Debug,
    T: Encodable + Decodable + Debug,
{
    let value = O::random(&mut Source::new(choices.to_vec()), version);
    let bytes = encode(&value, version);

    let mut rest = bytes.clone();
    let there = T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{} v{version}: {e}: {value:?}", O::NAME));
    assert!(rest.is_empty(), "{} v{version}: they leave {} bytes of {value:?}", O::NAME, rest.len());
    let (here_facts, there_facts) = (facts(&value), facts(&there));
    let missing: Vec<_> = here_facts.iter().filter(|fact| !there_facts.contains(fact)).collect();
    assert!(missing.is_empty(), "{} v{version}: {missing:?} of {value:?} not in {there:?}", O::NAME);

    let mut again = BytesMut::new();
    there.encode(&mut again, version).unwrap_or_else(|e| panic!("{} v{version}: {e}: {there:?}", O::NAME));
    assert_eq!(again.freeze(), bytes, "{} v{version}: {value:?}", O::NAME);

    let mut d = Decoder::new(bytes, ALLOWANCE);
    assert_eq!(O::decode(&mut d, version).as_ref(), Ok(&value), "v{version}");
    d.finish().expect("all is read");
}

/// `name: value` of each number, truth value and string in the `Debug` form: tells two neighbours of one type apart,
/// which bytes alone do not.
fn facts(value: &impl Debug) -> Vec<String> {
    let text = format!("{value:?}");
    let mut facts = Vec::new();
    for (colon, _) in text.match_indices(": ") {
        let name = text[..colon].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        if !text[..colon - name.len()].ends_with(' ') {
            // Inside a byte string.
            continue;
        }
        let start = text[colon + 2..].trim_start_matches("Some(");
        // Their ids are newtypes: `TopicName("a")`, `BrokerId(1)`.
        let start = match start.find(['(', '"', ',', ' ']) {
            Some(at) if start[at..].starts_with('(') && start[..at].ends_with(['d', 'e']) => &start[at + 1..],
            _ => start,
        };
        let value = match start.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default(),
            None => start.split([',', ' ', ')', '}', ']']).next().unwrap_or_default(),
        };
        if start.starts_with('"') || value.parse::<f64>().is_ok() || ["true", "false"].contains(&value) {
            facts.push(format!("{name}: {value}"));
        }
    }
    facts.sort();
    facts
}

fn both<T: TheirMessage>(here: RangeInclusive<i16>) -> RangeInclusive<i16> {
    (*here.start()).max(T::VERSIONS.min)..=(*here.end()).min(T::VERSIONS.max)
}

/// One test a message: the versions that both know, and the version that we alone know, if any.
macro_rules! oracle {
    ($($test:ident: $module:ident :: $message:ident, ours alone $alone:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $test(choices in vec(any::<u8>(), 0..600)) {
                    type Ours = ours::$module::$message;
                    type Theirs = theirs::$message;
                    let known = both::<Theirs>(Ours::VERSIONS);
                    let alone: Vec<i16> = Ours::VERSIONS.filter(|version| !known.contains(version)).collect();
                    prop_assert_eq!(alone, $alone as [i16; _]);
                    same_defaults::<Ours, Theirs>();
                    for version in known {
                        agree::<Ours, Theirs>(version, &choices);
                    }
                }
            )*
        }
    };
}

oracle! {
    request_header: header::RequestHeader, ours alone [0];
    response_header: header::ResponseHeader, ours alone [];
    produce_request: produce::ProduceRequest, ours alone [0, 1, 2];
    produce_response: produce::ProduceResponse, ours alone [0, 1, 2];
    fetch_request: fetch::FetchRequest, ours alone [];
    fetch_response: fetch::FetchResponse, ours alone [];
    list_offsets_request: list_offsets::ListOffsetsRequest, ours alone [11];
    list_offsets_response: list_offsets::ListOffsetsResponse, ours alone [11];
    metadata_request: metadata::MetadataRequest, ours alone [];
    metadata_response: metadata::MetadataResponse, ours alone [];
    api_versions_request: api_versions::ApiVersionsRequest, ours alone [];
    api_versions_response: api_versions::ApiVersionsResponse, ours alone [];
    create_topics_request: create_topics::CreateTopicsRequest, ours alone [];
    create_topics_response: create_topics::CreateTopicsResponse, ours alone [];
    delete_topics_request: delete_topics::DeleteTopicsRequest, ours alone [];
    delete_topics_response: delete_topics::DeleteTopicsResponse, ours alone [];
    init_producer_id_request: init_producer_id::InitProducerIdRequest, ours alone [];
    init_producer_id_response: init_producer_id::InitProducerIdResponse, ours alone [];
    find_coordinator_request: find_coordinator::FindCoordinatorRequest, ours alone [];
    find_coordinator_response: find_coordinator::FindCoordinatorResponse, ours alone [];
    join_group_request: join_group::JoinGroupRequest, ours alone [];
    join_group_response: join_group::JoinGroupResponse, ours alone [];
    sync_group_request: sync_group::SyncGroupRequest, ours alone [];
    sync_group_response: sync_group::SyncGroupResponse, ours alone [];
    heartbeat_request: heartbeat::HeartbeatRequest, ours alone [];
    heartbeat_response: heartbeat::HeartbeatResponse, ours alone [];
    leave_group_request: leave_group::LeaveGroupRequest, ours alone [];
    leave_group_response: leave_group::LeaveGroupResponse, ours alone [];
    offset_commit_request: offset_commit::OffsetCommitRequest, ours alone [10];
    offset_commit_response: offset_commit::OffsetCommitResponse, ours alone [];
    offset_fetch_request: offset_fetch::OffsetFetchRequest, ours alone [10];
    offset_fetch_response: offset_fetch::OffsetFetchResponse, ours alone [];
    describe_groups_request: describe_groups::DescribeGroupsRequest, ours alone [];
    describe_groups_response: describe_groups::DescribeGroupsResponse, ours alone [];
    list_groups_request: list_groups::ListGroupsRequest, ours alone [];
    list_groups_response: list_groups::ListGroupsResponse, ours alone [];
    delete_groups_request: delete_groups::DeleteGroupsRequest, ours alone [];
    delete_groups_response: delete_groups::DeleteGroupsResponse, ours alone [];
    offset_delete_request: offset_delete::OffsetDeleteRequest, ours alone [];
    offset_delete_response: offset_delete::OffsetDeleteResponse, ours alone [];
    create_partitions_request: create_partitions::CreatePartitionsRequest, ours alone [];
    create_partitions_response: create_partitions::CreatePartitionsResponse, ours alone [];
    describe_cluster_request: describe_cluster::DescribeClusterRequest, ours alone [];
    describe_cluster_response: describe_cluster::DescribeClusterResponse, ours alone [];
    describe_configs_request: describe_configs::DescribeConfigsRequest, ours alone [];
    describe_configs_response: describe_configs::DescribeConfigsResponse, ours alone [];
    describe_topic_partitions_request: describe_topic_partitions::DescribeTopicPartitionsRequest, ours alone [];
    describe_topic_partitions_response: describe_topic_partitions::DescribeTopicPartitionsResponse, ours alone [];
}

/// A default is what an old version means, and what a tagged field is not written for.
fn same_defaults<O: Message + Debug, T: Default + Debug>() {
    let (here, there) = (facts(&O::default()), facts(&T::default()));
    assert!(here.iter().all(|fact| there.contains(fact)), "{}: {here:?}, {there:?}", O::NAME);
}

#[test]
fn header_versions_are_kafkas() {
    use kafscale_wire::frame::{request_header_version, response_header_version};
    for api in ours::APIS {
        let key = theirs::ApiKey::try_from(api.key).expect("Kafka has the key");
        for version in api.versions.clone() {
            assert_eq!(request_header_version(api.key, version), key.request_header_version(version), "{api:?}");
            assert_eq!(response_header_version(api.key, version), key.response_header_version(version), "{api:?}");
        }
    }
    assert_eq!(theirs::ApiVersionsResponse::header_version(3), response_header_version(18, 3));
}

#[test]
fn error_codes_are_kafkas() {
    for &code in ErrorCode::ALL {
        let Some(there) = kafka_protocol::ResponseError::try_from_code(code.code()) else { continue };
        if matches!(there, kafka_protocol::ResponseError::Unknown(_)) {
            assert!(code.code() > 128 || code == ErrorCode::PositionOutOfRange, "they do not know {code}");
            continue;
        }
        assert_eq!(format!("{there:?}"), format!("{code:?}"));
    }
}
