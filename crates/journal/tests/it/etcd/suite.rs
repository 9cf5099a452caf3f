//! The conformance suite over the journal in etcd: on the model always, on every real etcd that is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use kafscale_journal::Journal;
use kafscale_journal::conformance::{Backend, run, run_sessions};
use kafscale_journal::etcd::kv::{Keys, Kv, Op, Txn};
use kafscale_journal::etcd::model::World;
use kafscale_journal::etcd::{EtcdJournal, Settings};
use kafscale_journal::sessions::Victim;
use kafscale_ports::Env;

use super::server::{Server, binaries, skipped};

struct Etcd<F> {
    connect: F,
    made: u32,
    settings: Settings,
}

impl<F: Fn() -> Arc<dyn Kv>> Etcd<F> {
    fn settings(&self) -> Settings {
        Settings { root: format!("kafscale/{}", self.made), ..self.settings.clone() }
    }

    async fn start(&self) -> Arc<dyn Journal> {
        Arc::new(EtcdJournal::start((self.connect)(), Env::real(), self.settings(), 42).await.unwrap())
    }
}

/// Removes the session's key, as etcd does when its lease has run out.
async fn lose(kv: &dyn Kv, root: &str, victim: Victim) {
    let key = format!("{root}/session/{}", victim.broker_id);
    let then = vec![Op::Delete(Keys::One(key.into()))];
    kv.txn(Txn { then, ..Txn::default() }).await.unwrap();
}

/// Both suites, on a store that holds nothing.
pub(crate) async fn conforms(connect: impl Fn() -> Arc<dyn Kv> + Send + Sync) {
    run(&mut Etcd { connect: &connect, made: 0, settings: Settings::new("") }).await;
    sessions(&connect).await;
}

async fn sessions(connect: impl Fn() -> Arc<dyn Kv>) {
    let made = AtomicU32::new(0);
    let fresh = async || {
        let root = format!("sessions/{}", made.fetch_add(1, Ordering::Relaxed));
        EtcdJournal::start(connect(), Env::real(), Settings::new(&root), 42).await.unwrap()
    };
    let lose = async |_: &EtcdJournal, victim| {
        let root = format!("sessions/{}", made.load(Ordering::Relaxed) - 1);
        lose(&*connect(), &root, victim).await;
    };
    run_sessions(fresh, lose).await;
}

#[async_trait]
impl<F: Fn() -> Arc<dyn Kv> + Send + Sync> Backend for Etcd<F> {
    async fn fresh(&mut self) -> Arc<dyn Journal> {
        self.made += 1;
        self.start().await
    }

    async fn restart(&mut self, journal: Arc<dyn Journal>) -> Arc<dyn Journal> {
        drop(journal);
        self.start().await
    }

    fn is_for_one_broker(&self) -> bool {
        false
    }
}

/// What ships, and sizes at which every read is of keys, one at a time.
fn all_settings() -> [Settings; 2] {
    let small = Settings { recent_bytes: 0, read_bytes: 1, page_entries: 3, ..Settings::new("") };
    [Settings::new(""), small]
}

#[tokio::test(start_paused = true)]
async fn etcd_conforms_on_the_model() {
    for settings in all_settings() {
        let world = World::new(Env::real().clock);
        let connect = || -> Arc<dyn Kv> { Arc::new(world.client(())) };
        run(&mut Etcd { connect, made: 0, settings }).await;
        sessions(connect).await;
    }
}

#[tokio::test]
async fn real_ones_conform() {
    let binaries = binaries();
    if binaries.is_empty() {
        return skipped("the journal's conformance on etcd");
    }
    for binary in binaries {
        println!("etcd {}", binary.version);
        let server = Server::start(&binary, &[]).await;
        for settings in all_settings() {
            let connect = || -> Arc<dyn Kv> { Arc::new(server.client()) };
            run(&mut Etcd { connect, made: u32::from(settings.page_entries == 3) * 100, settings }).await;
        }
        sessions(|| Arc::new(server.client())).await;
    }
}
