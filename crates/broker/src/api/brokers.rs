//! The brokers of the cluster, as one client sees them: each at the address that it advertises for the listener through
//! which that client came in. Metadata, FindCoordinator, DescribeCluster and Fetch take what they say of brokers from
//! here, so that they never differ: a client inside of a network and one outside of it are each sent to where they can
//! connect. A broker that has no listener of that name cannot be reached by such a client and is left out; so is one that
//! refuses connections ([`peers`](crate::peers)): it was killed, and its session has not ended yet.
//!
//! Any broker serves any partition, so the leader is advice, and depends on who asks: of the client's zone if a broker
//! is in it ([`Leaders`]). A client names its zone by a tag in its client id, `zone=NAME`, that begins the id or follows
//! a comma, and ends with it or before a comma (`zone=eu-1a,orders`: clients append to ids); or by coming in through a
//! listener that has the zone's name. The replicas of a partition are the brokers that lead it in each zone, the leader
//! first; all are in sync. Clients fetch only from replicas (KIP-392), and see one for each zone.
//!
//! The leader epoch is 0, always. It may not go back, and clients drop an answer in which it does; there is nothing
//! that a higher one would say, since no log ever diverges, and clients take a new leader of the same epoch.

use std::collections::BTreeMap;

use kafscale_log::Ledger;
use kafscale_metadata::{Leaders, Session, Standing, State, TopicPartition};
use kafscale_wire::Text;

use super::{Call, Context};

/// One broker, as a client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broker {
    pub(super) id: i32,
    pub(super) host: Text,
    pub(super) port: i32,
    pub(super) rack: Option<Text>,
}

/// All brokers that can be reached, as seen by the client of `call`.
pub(super) fn all(context: &Context, call: &Call) -> Vec<Broker> {
    let state = context.replica.state();
    reachable(context, &state, call).filter_map(|session| seen(session, &call.peer.listener)).collect()
}

/// The sessions of all brokers that can be reached by the client of `call`.
fn reachable<'a>(context: &Context, state: &'a State, call: &Call) -> impl Iterator<Item = &'a Session> {
    state
        .live_sessions()
        .filter(|session| address(session, &call.peer.listener).is_some() && !context.peers.refuses(session.nonce()))
}

/// Any broker takes admin requests: this one, or another one if this one's session has ended; −1 if there is none.
pub(super) fn controller(context: &Context, brokers: impl IntoIterator<Item = i32>) -> i32 {
    let mut ids = brokers.into_iter().peekable();
    let first = ids.peek().copied().unwrap_or(-1);
    if ids.any(|id| id == context.broker_id) { context.broker_id } else { first }
}

/// This broker, as seen by the client of `call`; none once its session has ended.
pub(super) fn this(context: &Context, call: &Call) -> Option<Broker> {
    let state = context.replica.state();
    state.session(context.replica.nonce()).and_then(|session| seen(session, &call.peer.listener))
}

/// The broker that coordinates a group, as seen by the client of `call`.
pub(super) fn coordinator(state: &State, group: &str, call: &Call) -> Option<Broker> {
    state.coordinator(group).and_then(|session| seen(session, &call.peer.listener))
}

fn seen(session: &Session, listener: &str) -> Option<Broker> {
    let address = address(session, listener)?;
    Some(Broker {
        id: session.broker_id(),
        host: Text::from(address.host.as_str()),
        port: i32::from(address.port),
        rack: session.rack().map(Text::from),
    })
}

fn address<'a>(session: &'a Session, listener: &str) -> Option<&'a kafscale_metadata::Listener> {
    session.listeners().iter().find(|l| l.name == listener)
}

/// Which brokers have a partition, for one client.
pub(super) struct Layout {
    leaders: Leaders,
    of_zones: Vec<Leaders>,
}

impl Layout {
    /// For the client of `call`.
    pub(super) fn of(context: &Context, state: &State, call: &Call) -> Self {
        let listener = &*call.peer.listener;
        let zone = tag(call.seen.client()).or_else(|| zone_of_listener(state, listener));
        let reachable = || reachable(context, state, call);
        let goes_on = |session: &&Session| session.standing() != Standing::Withdrawn;
        let all_stop = !reachable().any(|session| goes_on(&session));
        let mut zones = BTreeMap::<Option<&str>, Vec<&Session>>::new();
        for session in reachable().filter(|session| all_stop || goes_on(session)) {
            zones.entry(session.rack()).or_default().push(session);
        }
        Self {
            leaders: Leaders::over(reachable(), zone),
            of_zones: zones.into_values().map(|sessions| Leaders::over(sessions, None)).collect(),
        }
    }

    /// The replicas of a partition, the leader first; none if no broker can be reached.
    pub(super) fn replicas(&self, partition: TopicPartition) -> Vec<i32> {
        let leader = self.leaders.of(partition);
        let others = self.of_zones.iter().filter_map(|leaders| leaders.of(partition));
        leader.into_iter().chain(others.filter(|id| Some(*id) != leader)).collect()
    }
}

/// The zone that a client id names.
fn tag(client_id: &str) -> Option<&str> {
    client_id.split(',').find_map(|part| part.strip_prefix("zone=")).filter(|zone| !zone.is_empty())
}

fn zone_of_listener<'a>(state: &'a State, listener: &str) -> Option<&'a str> {
    state.live_sessions().filter_map(Session::rack).find(|rack| rack.eq_ignore_ascii_case(listener))
}

/// Which brokers of the zone `rack` a consumer should fetch from that came to this broker of another zone, or of none
/// (KIP-392); none if this one is right, or there is no other.
pub(super) fn nearer(context: &Context, state: &State, call: &Call, rack: &str) -> Option<Leaders> {
    let here = state.session(context.replica.nonce())?;
    if rack.is_empty() || here.rack() == Some(rack) {
        return None;
    }
    let goes_on = |s: &&Session| s.rack() == Some(rack) && s.standing() != Standing::Withdrawn;
    let mut there = reachable(context, state, call).filter(goes_on);
    let first = there.next()?;
    Some(Leaders::over(std::iter::once(first).chain(there), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_names_a_zone() {
        assert_eq!(tag("zone=eu-1a"), Some("eu-1a"));
        assert_eq!(tag("zone=eu-1a,orders-StreamThread-1-consumer"), Some("eu-1a"));
        assert_eq!(tag("orders,zone=eu-1a"), Some("eu-1a"));
        for without in ["", "zone=", "zone=,orders", "orders", "timezone=eu-1a", "orders-zone=eu-1a", "zone"] {
            assert_eq!(tag(without), None, "{without}");
        }
    }
}
