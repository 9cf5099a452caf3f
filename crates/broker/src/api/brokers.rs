//! The brokers of the cluster, as one client sees them: each at the address that it advertises for the listener through
//! which that client came in. Metadata, FindCoordinator and DescribeCluster take their addresses from here, so that
//! they never differ: a client inside of a network and one outside of it are each sent to where they can connect.
//!
//! A broker that has no listener of that name cannot be reached by such a client and is left out.

use kafscale_log::Ledger;
use kafscale_metadata::{Session, State};
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

/// All brokers that live, as seen by a client of `listener`.
pub(super) fn all(state: &State, listener: &str) -> Vec<Broker> {
    state.live_sessions().filter_map(|session| seen(session, listener)).collect()
}

/// This broker, as seen by the client of `call`; none once its session has ended.
pub(super) fn this(context: &Context, call: &Call) -> Option<Broker> {
    let state = context.replica.state();
    state.session(context.replica.nonce()).and_then(|session| seen(session, &call.peer.listener))
}

fn seen(session: &Session, listener: &str) -> Option<Broker> {
    let address = session.listeners().iter().find(|l| l.name == listener)?;
    Some(Broker {
        id: session.broker_id(),
        host: Text::from(address.host.as_str()),
        port: i32::from(address.port),
        rack: session.rack().map(Text::from),
    })
}
