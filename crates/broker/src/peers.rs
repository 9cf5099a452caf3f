//! Which of the other brokers refuse connections. A broker that was killed lives on in the fold until its lease has run
//! out; its clients should not be sent back to it for so long. Owns one connection to each other broker, over which
//! nothing is ever said: when it breaks, and the next one is refused, nobody listens there any more.
//!
//! Only a refusal counts, and only by an address that once took a connection: what brokers advertise is for clients, and
//! another broker may not be able to reach it. A host that is gone with its broker refuses nothing; its lease runs out.
//! It is advice alone: nothing that must be right depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_metadata::{Listener, Nonce};
use kafscale_ports::Connect;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use crate::ledger::Replica;

/// The pause after a connection that broke or did not come about.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A connection takes no longer, or its host is too far away to say anything.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    refusing: Mutex<BTreeSet<Nonce>>,
}

impl Peers {
    /// Whether this session's broker refuses connections, as far as is known.
    pub(crate) fn refuses(&self, session: Nonce) -> bool {
        self.refusing.lock().contains(&session)
    }

    /// Watches over the peers until the session is over.
    pub(crate) async fn watch(self: Arc<Self>, replica: Arc<Replica>, connect: Arc<dyn Connect>) {
        let mut over = std::pin::pin!(replica.ended());
        let mut progress = replica.progress();
        let mut watched: BTreeMap<Nonce, DropGuard> = BTreeMap::new();
        loop {
            let (peers, changes) = peers(&replica);
            watched.retain(|nonce, _| peers.contains_key(nonce));
            self.refusing.lock().retain(|nonce| peers.contains_key(nonce));
            for (nonce, address) in peers {
                let peer = || Peer { nonce, address, peers: Arc::clone(&self), connect: Arc::clone(&connect) };
                watched.entry(nonce).or_insert_with(|| peer().start(&replica));
            }
            tokio::select! {
                biased;
                _end = &mut over => return,
                _others = progress.wait_for(|now| now.session_changes != changes) => {}
            }
        }
    }
}

/// The other live sessions and where they listen, and how often sessions had changed by then.
fn peers(replica: &Replica) -> (BTreeMap<Nonce, Listener>, u64) {
    let state = replica.state();
    let others = state.live_sessions().filter(|session| session.nonce() != replica.nonce());
    let peers = others.filter_map(|session| Some((session.nonce(), session.listeners().first()?.clone()))).collect();
    (peers, state.session_changes())
}

struct Peer {
    nonce: Nonce,
    address: Listener,
    peers: Arc<Peers>,
    connect: Arc<dyn Connect>,
}

impl Peer {
    /// Watches in a task, until what is returned is dropped.
    fn start(self, replica: &Replica) -> DropGuard {
        let stop = CancellationToken::new();
        let watch = stop.clone().run_until_cancelled_owned(self.watch());
        replica.tasks().spawn("peer", Box::pin(async move { watch.await.unwrap_or_default() }));
        stop.drop_guard()
    }

    /// Connects again and again.
    async fn watch(self) {
        let mut was_there = false;
        loop {
            match self.visit().await {
                Ok(()) => was_there = true,
                Err(why) if was_there && why.kind() == io::ErrorKind::ConnectionRefused => self.is_refusing(),
                Err(_says_nothing) => {}
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// One connection; returns when it has broken.
    async fn visit(&self) -> io::Result<()> {
        let connecting = self.connect.connect(&self.address.host, self.address.port);
        let (mut reader, _writer) = timeout(CONNECT_TIMEOUT, connecting).await??;
        self.peers.refusing.lock().remove(&self.nonce);
        let mut nothing = [0; 1];
        // However it ends: the next attempt tells.
        let _ended = reader.read(&mut nothing).await;
        Ok(())
    }

    fn is_refusing(&self) {
        if self.peers.refusing.lock().insert(self.nonce) {
            let Listener { host, port, .. } = &self.address;
            info!(session = format_args!("{:016x}", self.nonce), %host, port, "a broker refuses connections; clients are sent to others");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use kafscale_ports::net::{ReadHalf, WriteHalf};
    use tokio::io::{duplex, split};

    use super::*;

    /// What each attempt comes to: an error, or a connection that lasts so many milliseconds.
    struct Script(Mutex<VecDeque<Result<u64, io::ErrorKind>>>);

    #[async_trait]
    impl Connect for Script {
        async fn connect(&self, _host: &str, _port: u16) -> io::Result<(ReadHalf, WriteHalf)> {
            let next = self.0.lock().pop_front();
            let Some(next) = next else { return std::future::pending().await };
            let (ours, theirs) = duplex(1);
            let (reader, writer) = split(ours);
            let lasts = Duration::from_millis(next?);
            let hold = async move {
                sleep(lasts).await;
                drop(theirs);
            };
            kafscale_ports::Env::real().tasks.spawn("peer", Box::pin(hold));
            Ok((Box::new(reader), Box::new(writer)))
        }
    }

    /// What is known of a peer at these times, in milliseconds from the beginning.
    async fn refuses_at(script: &[Result<u64, io::ErrorKind>], times: &[u64]) -> Vec<bool> {
        let peers = Arc::new(Peers::default());
        let connect = Arc::new(Script(Mutex::new(script.iter().copied().collect())));
        let address = Listener { name: "L".into(), host: "h".into(), port: 1 };
        let peer = Peer { nonce: 7, address, peers: Arc::clone(&peers), connect };
        let look = async {
            let (mut seen, mut now) = (Vec::new(), 0);
            for time in times {
                sleep(Duration::from_millis(time - now)).await;
                now = *time;
                seen.push(peers.refuses(7));
            }
            seen
        };
        tokio::select! {
            biased;
            seen = look => seen,
            () = peer.watch() => unreachable!("it goes on for ever"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_counts_after_a_connection_until_the_next_one() {
        let refused = Err(io::ErrorKind::ConnectionRefused);
        let seen = refuses_at(&[Ok(50), refused, refused, Ok(1000)], &[10, 149, 151, 251, 351]).await;
        assert_eq!(seen, [false, false, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_took_a_connection_says_nothing() {
        let refused = Err(io::ErrorKind::ConnectionRefused);
        assert_eq!(refuses_at(&[refused, refused, refused], &[1, 101, 201]).await, [false; 3]);
        let other = Err(io::ErrorKind::TimedOut);
        assert_eq!(refuses_at(&[Ok(50), other, other], &[10, 151, 251]).await, [false; 3]);
    }
}
