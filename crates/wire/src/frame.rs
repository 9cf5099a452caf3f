//! A message on a connection: the size, the header and the body.
//!
//! Owns which header belongs to which request and response. Does not read from sockets, and does not limit sizes: who
//! reads the four bytes of a frame's size decides whether to read on.

use bytes::Bytes;

use crate::api_versions::ApiVersionsResponse;
use crate::decode::{DecodeError, Decoder};
use crate::encode::Encoder;
use crate::header::{RequestHeader, ResponseHeader};
use crate::message::{Api, Message, Request, Response};

/// The version of the header in front of a request; of unknown keys none is flexible.
pub fn request_header_version(key: i16, version: i16) -> i16 {
    if is_flexible(key, version) { 2 } else { 1 }
}

/// The version of the header in front of a response. That of ApiVersions is 0 always, so that a client can read the
/// answer to a version which the broker does not know (KIP-511).
pub fn response_header_version(key: i16, version: i16) -> i16 {
    (is_flexible(key, version) && key != ApiVersionsResponse::KEY).into()
}

/// Versions above those that are known count as flexible too: flexibility stays.
fn is_flexible(key: i16, version: i16) -> bool {
    Api::of(key).is_some_and(|api| version >= api.flexible_from)
}

/// Reads the header of a request, of any key and version: the body can then be answered even if it cannot be read.
pub fn decode_request_header(d: &mut Decoder) -> Result<RequestHeader, DecodeError> {
    let (key, version) = d.peek_key_and_version()?;
    RequestHeader::decode(d, request_header_version(key, version))
}

/// A response as slices, its size in front.
pub fn encode_response<R: Response>(correlation_id: i32, version: i16, response: &R) -> Vec<Bytes> {
    let mut e = Encoder::frame();
    ResponseHeader { correlation_id }.encode(&mut e, response_header_version(R::KEY, version));
    response.encode(&mut e, version);
    e.finish_frame()
}

/// A request as slices, its size in front: what a client sends.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Vec<Bytes> {
    let mut e = Encoder::frame();
    let header = RequestHeader {
        request_api_key: R::KEY,
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(Into::into),
    };
    header.encode(&mut e, request_header_version(R::KEY, version));
    request.encode(&mut e, version);
    e.finish_frame()
}

/// Reads a response that a client got, without its size: the correlation id and the body.
pub fn decode_response<R: Response>(frame: Bytes, version: i16, allowance: usize) -> Result<(i32, R), DecodeError> {
    let mut d = Decoder::new(frame, allowance);
    let header = ResponseHeader::decode(&mut d, response_header_version(R::KEY, version))?;
    let response = R::decode(&mut d, version)?;
    d.finish()?;
    Ok((header.correlation_id, response))
}
