//! Which of the two stores is asked, and when.

use kafscale_metadata::ObjectId;
use kafscale_ports::Env;
use tokio::time::sleep;

use super::super::{GetFault, MemoryStore};
use super::*;

struct Pair {
    primary: Arc<MemoryStore>,
    replica: Arc<MemoryStore>,
    both: ReadReplica,
}

impl Pair {
    fn new() -> Self {
        let (primary, replica) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        let stores: [Arc<dyn ObjectStore>; 2] =
            [Arc::<MemoryStore>::clone(&primary), Arc::<MemoryStore>::clone(&replica)];
        let [first, second] = stores;
        Self { both: ReadReplica::new(first, second, Env::real().clock), primary, replica }
    }

    /// One that is in the primary, and perhaps in the replica.
    async fn object(&self, number: u32, is_copied: bool) -> ObjectName {
        let name = ObjectName::bundle(1, ObjectId { nonce: 1, number });
        self.both.put(&name, vec![Bytes::from_static(b"0123456789")]).await.unwrap();
        if is_copied {
            self.replica.put(&name, vec![Bytes::from_static(b"0123456789")]).await.unwrap();
        }
        name
    }

    /// Reads a part, and says how often primary and replica were asked for it.
    async fn read(&self, name: &ObjectName) -> (u64, u64) {
        let before = (self.primary.gets(), self.replica.gets());
        assert_eq!(self.both.get(name, 2..5).await.unwrap(), &b"234"[..]);
        (self.primary.gets() - before.0, self.replica.gets() - before.1)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_copied_is_read_from_the_replica_alone() {
    let pair = Pair::new();
    let name = pair.object(1, true).await;
    assert_eq!(pair.read(&name).await, (0, 1));
    assert_eq!(pair.both.get_all(&name).await.unwrap(), &b"0123456789"[..]);
    assert_eq!(pair.primary.gets(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_copied_yet_is_read_from_the_primary() {
    let pair = Pair::new();
    let name = pair.object(1, false).await;
    assert_eq!(pair.read(&name).await, (1, 1));
    assert_eq!(pair.read(&name).await, (1, 1), "that is no failure of the replica");
    assert_eq!(pair.replica.puts(), 0, "nothing is written to the replica");
    let never = ObjectName::bundle(1, ObjectId { nonce: 1, number: 9 });
    assert!(matches!(pair.both.get(&never, 0..1).await, Err(GetError::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_rests_and_is_asked_again() {
    let pair = Pair::new();
    let name = pair.object(1, true).await;
    pair.replica.plan_gets([GetFault::Failed]);
    assert_eq!(pair.read(&name).await, (1, 1));
    assert_eq!(pair.read(&name).await, (1, 0), "it rests");
    sleep(REST).await;
    assert_eq!(pair.read(&name).await, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_costs_one_reader_its_patience() {
    let pair = Pair::new();
    let name = pair.object(1, true).await;
    pair.replica.set_latency(Duration::from_secs(3600));
    let began = Env::real().clock.now();
    assert_eq!(pair.read(&name).await.0, 1);
    assert_eq!(Env::real().clock.now() - began, PATIENCE);
    assert_eq!(pair.read(&name).await.0, 1);
    assert_eq!(Env::real().clock.now() - began, PATIENCE);
}
