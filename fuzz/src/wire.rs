//! Targets of Kafka's messages: a whole frame as a broker gets it, and every request and response by itself.
//!
//! Owns the list of all messages. Each is decoded with a small allowance; what can be decoded is encoded and decoded
//! again, to the same value.

use std::fmt::Debug;
use std::sync::LazyLock;

use bytes::Bytes;
use kafscale_wire::frame::{decode_request_header, encode_request};
use kafscale_wire::random::{Random, Source};
use kafscale_wire::{
    Api, DecodeError, Decoder, Encoder, Message, Request, api_versions, create_partitions, create_topics,
    delete_groups, delete_topics, describe_cluster, describe_configs, describe_groups, describe_topic_partitions,
    fetch, find_coordinator, heartbeat, init_producer_id, join_group, leave_group, list_groups, list_offsets, metadata,
    offset_commit, offset_delete, offset_fetch, produce, sync_group,
};

use crate::outcome::{Outcome, Way};

/// What a message may allocate.
pub const ALLOWANCE: usize = 64 << 10;

type Body = fn(Bytes, i16) -> Result<(), DecodeError>;

/// The functions of one API.
#[derive(Debug)]
pub struct Codec {
    /// Its row in the codec's table.
    pub api: &'static Api,
    frame: fn(Bytes) -> Result<(), DecodeError>,
    request: Body,
    response: Body,
    /// A random request's frame, of a version, from choices.
    pub random_frame: fn(&[u8], i16) -> Vec<u8>,
    /// A random request's body.
    pub random_request: fn(&[u8], i16) -> Vec<u8>,
    /// A random response's body.
    pub random_response: fn(&[u8], i16) -> Vec<u8>,
}

/// Every API of the codec.
pub static CODECS: LazyLock<Vec<Codec>> = LazyLock::new(|| {
    vec![
        codec::<produce::ProduceRequest>(),
        codec::<fetch::FetchRequest>(),
        codec::<list_offsets::ListOffsetsRequest>(),
        codec::<metadata::MetadataRequest>(),
        codec::<offset_commit::OffsetCommitRequest>(),
        codec::<offset_fetch::OffsetFetchRequest>(),
        codec::<find_coordinator::FindCoordinatorRequest>(),
        codec::<join_group::JoinGroupRequest>(),
        codec::<heartbeat::HeartbeatRequest>(),
        codec::<leave_group::LeaveGroupRequest>(),
        codec::<sync_group::SyncGroupRequest>(),
        codec::<describe_groups::DescribeGroupsRequest>(),
        codec::<list_groups::ListGroupsRequest>(),
        codec::<api_versions::ApiVersionsRequest>(),
        codec::<create_topics::CreateTopicsRequest>(),
        codec::<delete_topics::DeleteTopicsRequest>(),
        codec::<init_producer_id::InitProducerIdRequest>(),
        codec::<describe_configs::DescribeConfigsRequest>(),
        codec::<create_partitions::CreatePartitionsRequest>(),
        codec::<delete_groups::DeleteGroupsRequest>(),
        codec::<offset_delete::OffsetDeleteRequest>(),
        codec::<describe_cluster::DescribeClusterRequest>(),
        codec::<describe_topic_partitions::DescribeTopicPartitionsRequest>(),
    ]
});

fn codec<R>() -> Codec
where
    R: Request + Random + PartialEq + Debug,
    R::Response: Random + PartialEq + Debug,
{
    Codec {
        api: Api::of(R::KEY).expect("the codec's table has every message"),
        frame: framed::<R>,
        request: survives::<R>,
        response: survives::<R::Response>,
        random_frame: |choices, version| {
            let request = R::random(&mut Source::new(choices.to_vec()), version);
            encode_request(7, Some("fuzz"), version, &request).concat().split_off(4)
        },
        random_request: |choices, version| encode(&R::random(&mut Source::new(choices.to_vec()), version), version),
        random_response: |choices, version| {
            encode(&R::Response::random(&mut Source::new(choices.to_vec()), version), version)
        },
    }
}

fn encode<M: Message>(message: &M, version: i16) -> Vec<u8> {
    let mut e = Encoder::new();
    message.encode(&mut e, version);
    e.finish().concat()
}

/// The message in front of the bytes, and how many are left behind it.
fn decode<M: Message>(d: &mut Decoder, version: i16) -> Result<M, DecodeError> {
    let (offset, left) = (d.offset(), d.left());
    let decoded = M::decode(d, version);
    assert!(d.allocated() <= ALLOWANCE, "{} v{version} charged {}", M::NAME, d.allocated());
    // After an error the decoder may stand inside of a tagged field, and sees no further.
    if decoded.is_ok() {
        assert_eq!(d.offset() + d.left(), offset + left, "{} v{version}: bytes are read or left", M::NAME);
    }
    decoded
}

fn survives<M: Message + PartialEq + Debug>(bytes: Bytes, version: i16) -> Result<(), DecodeError> {
    let mut d = Decoder::new(bytes, ALLOWANCE);
    let message: M = decode(&mut d, version)?;
    let mut again = Decoder::new(encode(&message, version).into(), ALLOWANCE);
    assert_eq!(decode(&mut again, version).as_ref(), Ok(&message), "{} v{version}", M::NAME);
    assert_eq!(again.finish(), Ok(()), "{} v{version}: what is written is read to its end", M::NAME);
    d.finish()
}

fn framed<R: Request + PartialEq + Debug>(bytes: Bytes) -> Result<(), DecodeError> {
    let mut d = Decoder::new(bytes, ALLOWANCE);
    let header = decode_request_header(&mut d)?;
    let version = header.request_api_version;
    let request: R = decode(&mut d, version)?;
    let encoded = encode_request(header.correlation_id, header.client_id.as_deref(), version, &request).concat();
    let mut again = Decoder::new(Bytes::from(encoded).split_off(4), ALLOWANCE);
    assert_eq!(decode_request_header(&mut again).as_ref(), Ok(&header));
    assert_eq!(decode(&mut again, version).as_ref(), Ok(&request), "{} v{version}", R::NAME);
    assert_eq!(again.finish(), Ok(()), "{} v{version}: what is written is read to its end", R::NAME);
    d.finish()
}

/// A frame behind its size: the header, then the body of the key and version that it says.
pub fn frame(input: &[u8]) -> Outcome {
    let bytes = Bytes::copy_from_slice(input);
    let mut way = Way::default();
    let header = match decode_request_header(&mut Decoder::new(bytes.clone(), 0)) {
        Ok(header) => header,
        Err(error) => return way.refused(&error),
    };
    let Some(codec) = CODECS.iter().find(|codec| codec.api.key == header.request_api_key) else {
        return way.refused(&"unknown key");
    };
    way.at(codec.api.key.into());
    way.at(header.request_api_version.clamp(-1, *codec.api.versions.end() + 1).into());
    match (codec.frame)(bytes) {
        Ok(()) => way.accepted(&"frame"),
        Err(error) => way.refused(&error),
    }
}

/// Two bytes choose API and version; the others are a request's body.
pub fn requests(input: &[u8]) -> Outcome {
    body(input, |codec| codec.request)
}

/// Two bytes choose API and version; the others are a response's body.
pub fn responses(input: &[u8]) -> Outcome {
    body(input, |codec| codec.response)
}

fn body(input: &[u8], side: fn(&Codec) -> Body) -> Outcome {
    let mut way = Way::default();
    let Some(([api, version], body)) = input.split_first_chunk() else { return way.refused(&"short") };
    let codec = &CODECS[usize::from(*api) % CODECS.len()];
    let versions = codec.api.versions.clone();
    // One version that there is not.
    let version = versions.start() + i16::from(*version) % (versions.end() - versions.start() + 2);
    way.at(codec.api.key.into());
    way.at(version.into());
    match side(codec)(Bytes::copy_from_slice(body), version) {
        Ok(()) => way.accepted(&"body"),
        Err(error) => way.refused(&error),
    }
}
