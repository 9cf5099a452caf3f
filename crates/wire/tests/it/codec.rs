//! The codec alone: hostile bytes, framing, and what the oracle cannot tell.

use bytes::{Bytes, BytesMut};
use kafscale_wire::create_topics::CreateTopicsRequest;
use kafscale_wire::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use kafscale_wire::frame::{decode_request_header, decode_response, encode_request, encode_response};
use kafscale_wire::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use kafscale_wire::metadata::{MetadataRequest, MetadataResponse};
use kafscale_wire::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafscale_wire::random::{Random, Source};
use kafscale_wire::{
    Api, DecodeError, Decoder, Encoder, Message, Records, Request, Response, Text, Uuid, api_versions,
    create_partitions, create_topics, delete_groups, delete_topics, describe_cluster, describe_configs,
    describe_groups, describe_topic_partitions, fetch, find_coordinator, heartbeat, init_producer_id, join_group,
    leave_group, list_groups, list_offsets, metadata, offset_commit, offset_delete, offset_fetch, produce, sync_group,
};
use proptest::collection::vec;
use proptest::prelude::*;

const ALLOWANCE: usize = 1 << 16;

fn encode<M: Message>(message: &M, version: i16) -> Bytes {
    let mut e = Encoder::new();
    message.encode(&mut e, version);
    e.finish().concat().into()
}

fn decode<M: Message>(bytes: impl Into<Bytes>, version: i16) -> Result<M, DecodeError> {
    let mut d = Decoder::new(bytes.into(), ALLOWANCE);
    let message = M::decode(&mut d, version);
    assert!(d.allocated() <= ALLOWANCE);
    message
}

fn produce_request(records: Records) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: 3, records }];
    ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData { name: "orders".into(), partition_data, ..TopicProduceData::default() }],
        ..ProduceRequest::default()
    }
}

#[test]
fn records_are_not_copied() {
    let records = Bytes::from(vec![7; 100_000]);
    let request = produce_request(vec![records.slice(..60_000), records.slice(60_000..)].into());
    let slices = encode_request(1, Some("me"), 12, &request);
    assert_eq!(slices[1].as_ptr(), records.as_ptr(), "encoding passes slices through");
    assert_eq!(slices[2].as_ptr(), records[60_000..].as_ptr());

    let frame: Bytes = slices.concat().into();
    let mut d = Decoder::new(frame.slice(4..), ALLOWANCE);
    decode_request_header(&mut d).expect("a header");
    let decoded = ProduceRequest::decode(&mut d, 12).expect("a body");
    d.finish().expect("all is read");
    assert_eq!(decoded, request);
    let Records::One(slice) = &decoded.topic_data[0].partition_data[0].records else { panic!("one slice") };
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()), "decoding gives a slice of the frame");
}

#[test]
fn frames_round_trip() {
    for version in ProduceRequest::VERSIONS {
        let request = ProduceRequest::random(&mut Source::new(vec![9; 400]), version);
        let frame: Bytes = encode_request(-7, Some("me"), version, &request).concat().into();
        assert_eq!(u32::from_be_bytes(*frame.first_chunk().expect("a size")) as usize, frame.len() - 4);
        let mut d = Decoder::new(frame.slice(4..), ALLOWANCE);
        let header = decode_request_header(&mut d).expect("a header");
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (0, version, -7));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!(ProduceRequest::decode(&mut d, version).as_ref(), Ok(&request));
    }
    for version in FetchResponse::VERSIONS {
        let response = FetchResponse::random(&mut Source::new(vec![7; 400]), version);
        let frame: Bytes = encode_response(5, version, &response).concat().into();
        assert_eq!(u32::from_be_bytes(*frame.first_chunk().expect("a size")) as usize, frame.len() - 4);
        assert_eq!(decode_response(frame.slice(4..), version, ALLOWANCE), Ok((5, response.clone())));
        let longer = [frame.slice(4..), Bytes::from_static(b"x")].concat();
        let trailing = decode_response::<FetchResponse>(longer.into(), version, ALLOWANCE);
        assert_eq!(trailing, Err(DecodeError::Trailing { left: 1 }));
    }
}

/// So that an unknown key or version can be answered, or at least logged.
#[test]
fn any_header_can_be_read() {
    for (key, version, flexible) in [(18, 5, true), (18, i16::MAX, true), (999, 0, false), (-1, -1, false)] {
        let mut e = Encoder::new();
        e.i16(key);
        e.i16(version);
        e.i32(42);
        e.string("me", false);
        if flexible {
            e.unsigned_varint(0);
        }
        e.bytes(b"a body that nobody knows", true);
        let mut d = Decoder::new(e.finish().concat().into(), 0);
        let header = decode_request_header(&mut d).expect("a header");
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (key, version, 42));
        assert_eq!(d.left(), 25);
    }
}

#[test]
fn the_table_is_what_the_types_say() {
    let keys: Vec<i16> = kafscale_wire::APIS.iter().map(|api| api.key).collect();
    assert!(keys.is_sorted() && keys.starts_with(&[0, 1, 2, 3]));
    let api = Api::of(FetchRequest::KEY).expect("there");
    assert_eq!((api.name, &api.versions), ("Fetch", &FetchRequest::VERSIONS));
    assert_eq!(FetchRequest::KEY, <FetchResponse as Response>::KEY);
    assert_eq!(Api::of(999), None);
}

/// The oracle ends at 10.
#[test]
fn list_offsets_11_has_the_layout_of_10() {
    for seed in 0..50 {
        let request = ListOffsetsRequest::random(&mut Source::new(vec![seed; 200]), 11);
        assert_eq!(encode(&request, 11), encode(&request, 10));
        assert_eq!(decode(encode(&request, 11), 11), Ok(request));
        let response = ListOffsetsResponse::random(&mut Source::new(vec![seed; 200]), 11);
        assert_eq!(encode(&response, 11), encode(&response, 10));
    }
}

/// The oracle's requests end at 9. Bytes by hand after Kafka 4.3.1's schema: 10 differs from 9 in a topic's id where
/// its name was.
#[test]
fn offsets_10_have_ids_in_place_of_names() {
    let with = |name: Text, topic_id| offset_commit::OffsetCommitRequest {
        group_id: "g".into(),
        topics: vec![offset_commit::OffsetCommitRequestTopic { name, topic_id, partitions: Vec::new() }],
        ..Default::default()
    };
    let (old, new) = (encode(&with("t".into(), Uuid::ZERO), 9), encode(&with(Text::default(), Uuid(7)), 10));
    let start = [2, b'g', 0xff, 0xff, 0xff, 0xff, 1, 0, 2];
    let id = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(old, [&start[..], &[2, b't'], &[1, 0, 0]].concat());
    assert_eq!(new, [&start[..], &id, &[1, 0, 0]].concat());

    let with = |name: Text, topic_id| offset_fetch::OffsetFetchRequest {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![offset_fetch::OffsetFetchRequestTopics { name, topic_id, partition_indexes: vec![1] }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let (old, new) = (encode(&with("t".into(), Uuid::ZERO), 9), encode(&with(Text::default(), Uuid(7)), 10));
    let start = [2, 2, b'g', 0, 0xff, 0xff, 0xff, 0xff, 2];
    let end = [2, 0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(old, [&start[..], &[2, b't'], &end].concat());
    assert_eq!(new, [&start[..], &id, &end].concat());
}

#[test]
fn two_billion_elements_are_refused_at_once() {
    // Metadata v4: an array of topics with a four-byte count.
    for count in [i32::MAX, 1_000_000, 5] {
        let bytes = [&count.to_be_bytes()[..], &[0; 4]].concat();
        let error = decode::<MetadataRequest>(bytes, 4);
        assert_eq!(error, Err(DecodeError::Truncated { offset: 4, wanted: count as usize, left: 4 }));
    }
    // Flexible: all 32 bits.
    let error = decode::<MetadataRequest>(vec![0xff, 0xff, 0xff, 0xff, 0x0f], 9);
    assert_eq!(error, Err(DecodeError::Truncated { offset: 5, wanted: u32::MAX as usize - 1, left: 0 }));
    let error = decode::<MetadataRequest>(vec![0xff, 0xff, 0xff, 0xff, 0x1f], 9);
    assert!(matches!(error, Err(DecodeError::Invalid { .. })), "{error:?}");
    let error = decode::<MetadataRequest>(vec![0xff; 9], 9);
    assert!(matches!(error, Err(DecodeError::Invalid { .. })), "{error:?}");
}

/// Two bytes on the wire are a hundred in memory: the allowance, not the frame, bounds what is allocated.
#[test]
fn an_honest_count_beyond_the_allowance_is_too_large() {
    let count = 1_000_000i32;
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(4 + 2 * count as usize, 0);
    let error = decode::<MetadataRequest>(bytes, 4);
    assert!(matches!(error, Err(DecodeError::TooLarge { allowance: ALLOWANCE, .. })), "{error:?}");
}

/// A million claimed, a million bytes there, one element readable: what is charged follows what is read.
#[test]
fn a_false_count_costs_what_was_read() {
    let mut bytes = 1_000_000i32.to_be_bytes().to_vec();
    bytes.extend([0, 1, b'a', 0xff, 0xfe]);
    bytes.resize(1_000_004, 0);
    let mut d = Decoder::new(bytes.into(), usize::MAX);
    assert!(matches!(MetadataRequest::decode(&mut d, 4), Err(DecodeError::Invalid { .. })));
    assert!(d.allocated() < 1000, "{}", d.allocated());
}

#[test]
fn what_is_charged_is_what_is_allocated() {
    let topics =
        vec![FetchableTopicResponse { partitions: vec![PartitionData::default(); 7], ..Default::default() }; 100];
    let response = FetchResponse { responses: topics, ..FetchResponse::default() };
    let mut d = Decoder::new(encode(&response, 12), 1 << 20);
    let read = FetchResponse::decode(&mut d, 12).expect("readable");
    let topics = read.responses.capacity() * size_of::<FetchableTopicResponse>();
    let partitions: usize = read.responses.iter().map(|topic| topic.partitions.capacity()).sum();
    assert_eq!(d.allocated(), topics + partitions * size_of::<PartitionData>());
    assert_eq!((read.responses.capacity(), read.responses[0].partitions.capacity()), (100, 7), "no room is wasted");
}

#[test]
fn null_where_none_may_be_is_an_error() {
    let error = decode::<CreateTopicsRequest>((-1i32).to_be_bytes().to_vec(), 2);
    assert!(matches!(error, Err(DecodeError::Invalid { offset: 4, .. })), "{error:?}");
    // Metadata: null topics from v1 on only; the name of a topic from v10 on only.
    assert!(decode::<MetadataRequest>((-1i32).to_be_bytes().to_vec(), 0).is_err());
    assert_eq!(decode::<MetadataRequest>((-1i32).to_be_bytes().to_vec(), 1).map(|read| read.topics), Ok(None));
    let negative = decode::<MetadataRequest>((-2i32).to_be_bytes().to_vec(), 1);
    assert!(matches!(negative, Err(DecodeError::Invalid { .. })), "{negative:?}");
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut e = Encoder::new();
    MetadataRequest { topics: None, ..Default::default() }.encode(&mut e, 12);
    let mut bytes = e.finish().concat();
    assert_eq!(bytes.pop(), Some(0), "no tags");
    let known = bytes.clone();
    bytes.extend([2, 7, 3, 1, 2, 3, 200, 1, 0]);
    assert_eq!(decode::<MetadataRequest>(bytes.clone(), 12).map(|read| read.topics), Ok(None));
    bytes.pop();
    assert!(matches!(decode::<MetadataRequest>(bytes, 12), Err(DecodeError::Truncated { .. })));
    let liar = [known, vec![1, 7, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert!(matches!(decode::<MetadataRequest>(liar, 12), Err(DecodeError::Truncated { .. })));
}

#[test]
fn a_tagged_field_takes_exactly_its_bytes() {
    let good = encode(&FetchRequest { cluster_id: Some("abc".into()), ..Default::default() }, 12);
    assert_eq!(good[good.len() - 7..], [1, 0, 4, 4, b'a', b'b', b'c']);
    for size in [3, 5] {
        let mut bytes = good.to_vec();
        bytes.push(0);
        let at = bytes.len() - 6;
        bytes[at] = size;
        assert!(decode::<FetchRequest>(bytes, 12).is_err(), "{size}");
    }
}

#[test]
fn an_unknown_version_is_an_error() {
    for version in [-1, 14, i16::MAX, i16::MIN] {
        let error = decode::<MetadataResponse>(Bytes::new(), version);
        assert_eq!(error, Err(DecodeError::UnknownVersion { message: "MetadataResponse", version }));
    }
}

#[test]
fn values_of_later_versions_are_left_out() {
    let mut request = produce_request(Records::Null);
    request.topic_data[0].topic_id = Uuid(5);
    let read = decode::<ProduceRequest>(encode(&request, 12), 12).expect("readable");
    assert_eq!((read.topic_data[0].name.as_str(), read.topic_data[0].topic_id), ("orders", Uuid::ZERO));
    let read = decode::<ProduceRequest>(encode(&request, 13), 13).expect("readable");
    assert_eq!((read.topic_data[0].name.as_str(), read.topic_data[0].topic_id), ("", Uuid(5)));
    // No null for old versions.
    let read = decode::<MetadataRequest>(encode(&MetadataRequest { topics: None, ..Default::default() }, 0), 0);
    assert_eq!(read.map(|read| read.topics), Ok(Some(Vec::new())));
}

/// A text too long for two bytes of length is cut between characters, not wrapped around.
#[test]
fn a_text_too_long_for_an_old_version_is_cut() {
    let mut e = Encoder::new();
    e.string(&"é".repeat(20_000), false);
    let mut d = Decoder::new(e.finish().concat().into(), 0);
    assert_eq!(d.string(false).map(|text| text.len()), Ok(32_766));
    d.finish().expect("all is read");
}

#[test]
fn ids_have_kafkas_text_form() {
    // The id of the metadata topic, as Kafka's tools print it.
    assert_eq!(Uuid(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(Uuid(u128::MAX).to_string(), "_____________________w");
    for id in [Uuid(0), Uuid(1), Uuid(u128::MAX), Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677)] {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    for text in [
        "",
        "A",
        "AAAAAAAAAAAAAAAAAAAAAR",
        "AAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAA+A",
        "éAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert!(text.parse::<Uuid>().is_err(), "{text}");
    }
}

#[test]
fn text_is_a_string_to_maps() {
    let map = std::collections::BTreeMap::from([(Text::from("b"), 2), (Text::from_static("a"), 1)]);
    assert_eq!((map.get("a"), map.get("c")), (Some(&1), None));
    assert_eq!(map.keys().map(Text::to_string).collect::<Vec<_>>(), ["a", "b"]);
    assert!(Text::from_utf8(Bytes::from_static(&[0xff])).is_err());
}

/// Reads damaged bytes of a message: any outcome but a panic or more memory than allowed. What can be read is written
/// and read again.
fn survives<M: Message + Random + PartialEq + std::fmt::Debug>(choices: &[u8], cut: usize, flips: &[(usize, u8)]) {
    for version in M::VERSIONS {
        let good = encode(&M::random(&mut Source::new(choices.to_vec()), version), version);
        for length in [cut % (good.len() + 1), good.len()] {
            let mut bytes = BytesMut::from(&good[..length]);
            for (at, value) in flips.iter().filter(|_| length > 0) {
                bytes[at % length] = *value;
            }
            let Ok(read) = decode::<M>(bytes.freeze(), version) else { continue };
            assert_eq!(decode::<M>(encode(&read, version), version).as_ref(), Ok(&read));
        }
        let whole = decode::<M>(good.clone(), version).expect("undamaged");
        assert_eq!(encode(&whole, version), good);
        for length in 0..good.len() {
            assert!(decode::<M>(good.slice(..length), version).is_err(), "v{version} cut at {length} of {good:?}");
        }
    }
}

macro_rules! hostile {
    ($($test:ident: $module:ident :: $message:ident;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
            $(
                #[test]
                fn $test(
                    choices in vec(any::<u8>(), 0..300),
                    cut in any::<usize>(),
                    flips in vec((any::<usize>(), any::<u8>()), 0..4),
                ) {
                    survives::<$module::$message>(&choices, cut, &flips);
                }
            )*
        }
    };
}

hostile! {
    hostile_produce_request: produce::ProduceRequest;
    hostile_produce_response: produce::ProduceResponse;
    hostile_fetch_request: fetch::FetchRequest;
    hostile_fetch_response: fetch::FetchResponse;
    hostile_list_offsets_request: list_offsets::ListOffsetsRequest;
    hostile_list_offsets_response: list_offsets::ListOffsetsResponse;
    hostile_metadata_request: metadata::MetadataRequest;
    hostile_metadata_response: metadata::MetadataResponse;
    hostile_api_versions_request: api_versions::ApiVersionsRequest;
    hostile_api_versions_response: api_versions::ApiVersionsResponse;
    hostile_create_topics_request: create_topics::CreateTopicsRequest;
    hostile_create_topics_response: create_topics::CreateTopicsResponse;
    hostile_delete_topics_request: delete_topics::DeleteTopicsRequest;
    hostile_delete_topics_response: delete_topics::DeleteTopicsResponse;
    hostile_init_producer_id_request: init_producer_id::InitProducerIdRequest;
    hostile_init_producer_id_response: init_producer_id::InitProducerIdResponse;
    hostile_find_coordinator_request: find_coordinator::FindCoordinatorRequest;
    hostile_find_coordinator_response: find_coordinator::FindCoordinatorResponse;
    hostile_join_group_request: join_group::JoinGroupRequest;
    hostile_join_group_response: join_group::JoinGroupResponse;
    hostile_sync_group_request: sync_group::SyncGroupRequest;
    hostile_sync_group_response: sync_group::SyncGroupResponse;
    hostile_heartbeat_request: heartbeat::HeartbeatRequest;
    hostile_heartbeat_response: heartbeat::HeartbeatResponse;
    hostile_leave_group_request: leave_group::LeaveGroupRequest;
    hostile_leave_group_response: leave_group::LeaveGroupResponse;
    hostile_offset_commit_request: offset_commit::OffsetCommitRequest;
    hostile_offset_commit_response: offset_commit::OffsetCommitResponse;
    hostile_offset_fetch_request: offset_fetch::OffsetFetchRequest;
    hostile_offset_fetch_response: offset_fetch::OffsetFetchResponse;
    hostile_describe_groups_request: describe_groups::DescribeGroupsRequest;
    hostile_describe_groups_response: describe_groups::DescribeGroupsResponse;
    hostile_list_groups_request: list_groups::ListGroupsRequest;
    hostile_list_groups_response: list_groups::ListGroupsResponse;
    hostile_delete_groups_request: delete_groups::DeleteGroupsRequest;
    hostile_delete_groups_response: delete_groups::DeleteGroupsResponse;
    hostile_offset_delete_request: offset_delete::OffsetDeleteRequest;
    hostile_offset_delete_response: offset_delete::OffsetDeleteResponse;
    hostile_create_partitions_request: create_partitions::CreatePartitionsRequest;
    hostile_create_partitions_response: create_partitions::CreatePartitionsResponse;
    hostile_describe_cluster_request: describe_cluster::DescribeClusterRequest;
    hostile_describe_cluster_response: describe_cluster::DescribeClusterResponse;
    hostile_describe_configs_request: describe_configs::DescribeConfigsRequest;
    hostile_describe_configs_response: describe_configs::DescribeConfigsResponse;
    hostile_describe_topic_partitions_request: describe_topic_partitions::DescribeTopicPartitionsRequest;
    hostile_describe_topic_partitions_response: describe_topic_partitions::DescribeTopicPartitionsResponse;
}

#[test]
fn the_error_codes_of_an_answer_are_those_of_its_version() {
    let codes = |version| {
        let partition = |error_code| PartitionData { error_code, ..PartitionData::default() };
        let topic = FetchableTopicResponse { partitions: vec![partition(1), partition(0)], ..Default::default() };
        let response = FetchResponse { error_code: 70, responses: vec![topic], ..FetchResponse::default() };
        let mut codes = Vec::new();
        response.each_error(version, &mut |code| codes.push(code));
        codes
    };
    assert_eq!(codes(4), [1, 0], "version 4 has no code for the whole");
    assert_eq!(codes(7), [70, 1, 0]);
    let mut codes = Vec::new();
    heartbeat::HeartbeatResponse { error_code: 25, ..Default::default() }.each_error(0, &mut |code| codes.push(code));
    MetadataResponse::default().each_error(12, &mut |code| codes.push(code));
    assert_eq!(codes, [25]);
}

#[test]
fn what_observers_ask_of_a_request() {
    assert_eq!(produce_request(Records::from(Vec::new())).topic_count(), 1);
    let fetch = FetchRequest { max_wait_ms: 500, ..FetchRequest::default() };
    assert_eq!((fetch.topic_count(), fetch.max_wait_ms()), (0, 500));
    let everything = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!((everything.topic_count(), everything.max_wait_ms()), (0, 0));
}
