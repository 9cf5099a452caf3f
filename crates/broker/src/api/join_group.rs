//! JoinGroup (key 11), versions 0–9.
//!
//! Parked until the other members have joined or their time is up; the answer comes when the journal has the new
//! generation. The leader's answer names all members with what they said, the others' none. While it is parked its
//! memory is the group's, not the request's.
//!
//! v1 has a rebalance timeout of its own (before, it is the session timeout); from v4 on a member without an id is
//! given one with MEMBER_ID_REQUIRED and comes back with it (KIP-394); v5 has static members (KIP-345); from v7 on the
//! answer has the protocol type, and a null protocol name where there is none (KIP-559); v8's reason (KIP-800) is
//! logged at level debug; v9 tells a leader that the assignment stands (KIP-814).

use std::net::IpAddr;

use bytes::Bytes;
use kafscale_groups::{Error, Join, Joined, JoinedMember};
use kafscale_wire::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use kafscale_wire::{Text, Uuid};
use tracing::debug;

use super::{Call, Context, Supported, errors};
use crate::connection::Frame;
use crate::limits::MEMBER_ID_PREFIX_BYTES;

pub(super) const API: Supported = Supported { key: 11, name: "JoinGroup", advertised: 0..=9, served: 0..=9 };

pub(super) async fn handle(
    context: &Context,
    call: &Call,
    request: JoinGroupRequest,
    frame: Frame,
) -> JoinGroupResponse {
    let group = String::from(request.group_id.as_str());
    let member_id = request.member_id.detached();
    debug!(group, member = &*member_id, reason = request.reason.as_deref().unwrap_or_default(), "a member joins");
    let join = plan(context, call, request);
    // Nothing that was decoded is left, and what waits was copied: a slice would keep the whole frame.
    let Frame { bytes, reservation } = frame;
    drop(bytes);
    match context.groups.join(&group, join, reservation).await {
        Ok(joined) => respond(joined),
        Err(error) => refuse(call.version, member_id, error),
    }
}

fn plan(context: &Context, call: &Call, request: JoinGroupRequest) -> Join {
    let instance = request.group_instance_id.as_ref().map(|instance| String::from(instance.as_str()));
    let client_id = call.seen.client().to_owned();
    let uuid = Uuid(context.env.random.u128());
    let new_id = format!("{}-{}", shortened(instance.as_ref().unwrap_or(&client_id)), hyphenated(uuid));
    let copied = |protocol: &kafscale_wire::join_group::JoinGroupRequestProtocol| {
        (String::from(protocol.name.as_str()), Bytes::copy_from_slice(&protocol.metadata))
    };
    Join {
        member_id: request.member_id.as_str().to_owned(),
        instance,
        client_id,
        client_host: host(call.peer.addr.ip()),
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: request.protocols.iter().map(copied).collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if call.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        requires_known_id: call.version >= 4,
        can_skip_assignment: call.version >= 9,
        new_id,
    }
}

/// Clients choose their ids; the beginning is enough for people.
fn shortened(id: &str) -> &str {
    &id[..id.floor_char_boundary(MEMBER_ID_PREFIX_BYTES)]
}

/// As Java writes a UUID, which is what Kafka's member ids end with.
fn hyphenated(Uuid(value): Uuid) -> String {
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// As Java writes an address without a name: `/10.0.0.7`, `/0:0:0:0:0:0:0:1`.
fn host(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("/{v4}"),
        IpAddr::V6(v6) => format!("/{}", v6.segments().map(|segment| format!("{segment:x}")).join(":")),
    }
}

fn respond(joined: Joined) -> JoinGroupResponse {
    let member = |member: JoinedMember| JoinGroupResponseMember {
        member_id: Text::from(&*member.id),
        group_instance_id: member.instance.map(Text::from),
        metadata: member.subscription,
    };
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: Some(Text::from(joined.protocol_type)),
        protocol_name: Some(Text::from(joined.protocol)),
        leader: Text::from(&*joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: Text::from(&*joined.member_id),
        members: joined.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn refuse(version: i16, member_id: Text, error: Error) -> JoinGroupResponse {
    let error_code = errors::group(&error).code();
    let member_id = if let Error::MemberIdRequired(new) = error { Text::from(&*new) } else { member_id };
    let protocol_name = (version < 7).then(Text::default);
    JoinGroupResponse { error_code, member_id, protocol_name, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        for (address, written) in [
            ("10.0.0.7", "/10.0.0.7"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("fe80::a:0", "/fe80:0:0:0:0:0:a:0"),
            ("::ffff:10.0.0.7", "/10.0.0.7"),
        ] {
            assert_eq!(host(address.parse().unwrap()), written);
        }
    }

    #[test]
    fn a_member_id_ends_with_a_uuid() {
        assert_eq!(hyphenated(Uuid(1 << 124 | 0xabc)), "10000000-0000-0000-0000-000000000abc");
        assert_eq!(shortened(&"ü".repeat(200)).len(), 256);
        assert_eq!(shortened("app"), "app");
    }
}
