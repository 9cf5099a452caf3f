//! What only a real etcd can show: members that die and hang, a member restored from a copy of its data, users whose
//! tokens are forgotten, TLS, large answers, and the quota.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::etcd::client::{Config, ConfigError, Etcd, Tls, User};
use kafscale_journal::etcd::kv::{Failure, Keys, Kv, Op, Refusal, Txn, Watch};
use kafscale_journal::etcd::quota::{Members, Watchman};
use kafscale_journal::etcd::{EtcdJournal, MAX_ENTRY_BYTES, Settings};
use kafscale_journal::sessions::Sessions;
use kafscale_journal::{AppendError, Journal, Pointer, Position, ReadError};
use kafscale_ports::Env;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::lab::{entry, identity};
use super::server::{Binary, Server, binaries, on_each, skipped};

const MINUTE: Duration = Duration::from_secs(60);

async fn journal(config: &Config) -> EtcdJournal {
    let kv = Arc::new(Etcd::new(config).unwrap());
    EtcdJournal::start(kv, Env::real(), Settings::new("kafscale/real"), 42).await.unwrap()
}

/// Appends as a broker does.
async fn append(journal: &EtcdJournal, nonce: u64, n: u64) -> Position {
    let appending = async {
        loop {
            match journal.append(nonce, n, entry(n)).await {
                Ok(position) => return position,
                Err(AppendError::Unknown(_) | AppendError::Refused(_)) => sleep(Duration::from_millis(100)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(MINUTE, appending).await.expect("it becomes known")
}

/// Reads as a broker does.
async fn read_to(journal: &EtcdJournal, until: u64) {
    let mut after = 0;
    while after < until {
        match timeout(MINUTE, journal.read(after)).await.expect("entries arrive") {
            Ok(records) => {
                for record in records {
                    after += 1;
                    assert_eq!((record.position.ordinal, record.n, record.entry), (after, after - 1, entry(after - 1)));
                }
            }
            Err(ReadError::Failed(_)) => sleep(Duration::from_millis(100)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn appends_and_reads_survive_the_death_and_the_pause_of_any_member() {
    let Some(binary) = binaries().pop() else { return skipped("a cluster of etcd") };
    let mut servers = Server::start_cluster(&binary, 3, &[]).await;
    let endpoints: Vec<String> = servers.iter().map(Server::endpoint).collect();
    let config = Config { endpoints, ..Config::default() };
    // A lease that outlives what this test does to the members.
    let settings = Settings { lease: Duration::from_secs(60), ..Settings::new("kafscale/real") };
    let kv = Arc::new(Etcd::new(&config).unwrap());
    let journal = EtcdJournal::start(kv, Env::real(), settings, 42).await.unwrap();
    journal.open(identity(1), 5, entry(0)).await.unwrap();
    let mut n = 1;
    for server in &mut servers {
        for paused in [false, true] {
            if paused {
                server.pause();
            } else {
                server.stop();
            }
            for _ in 0..5 {
                assert_eq!(append(&journal, 5, n).await.ordinal, n + 1);
                n += 1;
            }
            read_to(&journal, n).await;
            if paused {
                server.resume();
            } else {
                let config = server.config();
                server.start_again(&config).await;
            }
        }
    }
    // Two of three are away: nobody leads, and nothing is known until one is back.
    servers[0].pause();
    servers[1].pause();
    let unknown = journal.append(5, n, entry(n)).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    servers[1].resume();
    assert_eq!(append(&journal, 5, n).await.ordinal, n + 1);
    read_to(&journal, n + 1).await;
}

#[tokio::test]
async fn a_watch_ends_when_its_member_has_no_leader() {
    let Some(binary) = binaries().pop() else { return skipped("a member without a leader") };
    let servers = Server::start_cluster(&binary, 3, &[]).await;
    let client = servers[0].client();
    let watch = Watch { keys: Keys::One("x".into()), from: 1, deletes: false };
    let mut stream = client.watch(watch).await.unwrap();
    servers[1].pause();
    servers[2].pause();
    let ended = timeout(MINUTE, stream.next()).await.expect("it does not stay silent");
    assert!(matches!(ended, Err(Failure::Unknown(_))), "{ended:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path()) {
        let target = to.join(file.file_name().unwrap());
        if file.is_dir() {
            copy(&file, &target);
        } else {
            std::fs::copy(&file, &target).unwrap();
        }
    }
}

#[tokio::test]
async fn an_etcd_that_was_restored_from_a_copy_is_noticed_by_running_and_starting_brokers() {
    let binaries = binaries();
    if binaries.is_empty() {
        return skipped("a restored etcd");
    }
    for binary in binaries {
        println!("etcd {}", binary.version);
        let mut server = Server::start(&binary, &[]).await;
        let config = server.config();
        let broker = journal(&config).await;
        broker.open(identity(1), 5, entry(0)).await.unwrap();
        for n in 1..10 {
            append(&broker, 5, n).await;
        }
        server.stop();
        let backup = TempDir::new().unwrap();
        copy(&server.data(), backup.path());
        server.start_again(&config).await;
        for n in 10..15 {
            append(&broker, 5, n).await;
        }
        read_to(&broker, 15).await;
        server.stop();
        std::fs::remove_dir_all(server.data()).unwrap();
        copy(backup.path(), &server.data());
        server.start_again(&config).await;

        // Whoever starts now and knows of a snapshot of entry 13 sees that the journal ends at 10.
        let other = journal(&config).await;
        assert_eq!(other.end().await.unwrap().ordinal, 10);
        assert!(matches!(other.read(13).await, Err(ReadError::Damaged { .. })));
        other.open(identity(2), 6, entry(0)).await.unwrap();
        for n in 1..8 {
            other.append(6, n, entry(n)).await.unwrap();
        }
        let noticed = async {
            loop {
                match broker.end().await {
                    Err(ReadError::Damaged { detail }) => return detail,
                    Ok(_) | Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let detail = timeout(MINUTE, noticed).await.expect("it is noticed");
        assert!(detail.contains("kafscale recover"), "{detail}");
        assert!(matches!(broker.append(5, 15, entry(15)).await, Err(AppendError::Dead(_))));
    }
}

/// The part of etcd's API that makes users.
mod users {
    use tonic::client::Grpc;
    use tonic::codegen::http::uri::PathAndQuery;
    use tonic::transport::Endpoint;
    use tonic_prost::ProstCodec;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Add {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        password: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Nothing {}

    /// Makes the user `root` of that role, and asks for users from now on.
    pub(super) async fn enable(endpoint: &str, password: &str) {
        let channel = Endpoint::from_shared(format!("http://{endpoint}")).unwrap().connect().await.unwrap();
        let mut grpc = Grpc::new(channel);
        let root = "root".to_owned();
        // A role is named first; a grant names the user and then the role.
        for (path, name, second) in [
            ("/etcdserverpb.Auth/RoleAdd", root.clone(), String::new()),
            ("/etcdserverpb.Auth/UserAdd", root.clone(), password.to_owned()),
            ("/etcdserverpb.Auth/UserGrantRole", root.clone(), root.clone()),
            ("/etcdserverpb.Auth/AuthEnable", String::new(), String::new()),
        ] {
            grpc.ready().await.unwrap();
            let request = tonic::Request::new(Add { name, password: second });
            let codec = ProstCodec::<Add, Nothing>::default();
            grpc.unary(request, PathAndQuery::from_static(path), codec).await.unwrap();
        }
    }
}

async fn expiring_tokens(binary: &Binary) {
    // A restart forgets no token, and etcd's own live for five minutes: these live for two seconds.
    let tokens = format!("--auth-token=jwt,priv-key={},sign-method=ES256,ttl=2s", pem("server.key").1);
    let mut server = Server::start(binary, &[&tokens]).await;
    users::enable(&server.endpoint(), "secret").await;
    let user = |password: &str| Some(User { name: "root".to_owned(), password: password.to_owned() });
    let config = Config { user: user("secret"), ..server.config() };
    let broker = journal(&config).await;
    broker.open(identity(1), 5, entry(0)).await.unwrap();
    broker.append(5, 1, entry(1)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    broker.append(5, 2, entry(2)).await.expect("nobody hears of it");
    assert!(broker.is_known_live(5, Env::real().clock.now()), "its lease is renewed");
    read_to(&broker, 3).await;
    // A watch that is opened with a token that has expired.
    let client = Etcd::new(&config).unwrap();
    client.txn(Txn::default()).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    let watch = Watch { keys: Keys::prefix("kafscale/".into()), from: 1, deletes: false };
    let mut stream = client.watch(watch).await.unwrap();
    assert!(!timeout(MINUTE, stream.next()).await.expect("it is told").unwrap().events.is_empty());
    server.stop();
    server.start_again(&config).await;
    append(&broker, 5, 3).await;
    read_to(&broker, 4).await;

    let put = Txn { then: vec![Op::Put { key: "x".into(), value: "y".into(), lease: 0 }], ..Txn::default() };
    for config in [server.config(), Config { user: user("wrong"), ..server.config() }] {
        let denied = Etcd::new(&config).unwrap().txn(put.clone()).await;
        assert!(matches!(denied, Err(Failure::Refused(Refusal::Denied(_) | Refusal::Invalid(_)))), "{denied:?}");
    }
}

#[tokio::test]
async fn a_user_gets_a_new_token_when_the_old_one_has_expired() {
    on_each("users of etcd", expiring_tokens).await;
}

/// A file of `tls/make.sh`, and where it is.
fn pem(name: &str) -> (Vec<u8>, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/etcd/tls").join(name);
    (std::fs::read(&path).unwrap(), path.to_str().unwrap().to_owned())
}

fn encrypted(endpoint: &str) -> Config {
    let client = Some((pem("client.pem").0, pem("client.key").0));
    let tls = Tls { ca: pem("ca.pem").0, client, server_name: Some("etcd.example".to_owned()) };
    Config { endpoints: vec![endpoint.to_owned()], tls: Some(tls), user: None }
}

#[tokio::test]
async fn connections_are_encrypted_and_both_sides_prove_themselves() {
    let binaries = binaries();
    if binaries.is_empty() {
        return skipped("TLS to etcd");
    }
    let (ca, certificate, key) = (pem("ca.pem").1, pem("server.pem").1, pem("server.key").1);
    let flags = ["--cert-file", &certificate, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
    for binary in binaries {
        println!("etcd {}", binary.version);
        let server = Server::start_tls(&binary, &flags, encrypted).await;
        let good = encrypted(&server.endpoint());
        let broker = journal(&good).await;
        broker.open(identity(1), 5, entry(0)).await.unwrap();
        append(&broker, 5, 1).await;
        read_to(&broker, 2).await;

        let tls = good.tls.clone().unwrap();
        let no_certificate = Tls { client: None, ..tls.clone() };
        let other_name = Tls { server_name: Some("elsewhere.example".to_owned()), ..tls.clone() };
        let other_ca = Tls { ca: pem("stranger.pem").0, ..tls };
        for tls in [no_certificate, other_name, other_ca] {
            let config = Config { tls: Some(tls), ..good.clone() };
            let client = Etcd::new(&config).unwrap();
            let refused = timeout(Duration::from_secs(10), client.txn(Txn::default())).await.expect("it does not hang");
            assert!(matches!(refused, Err(Failure::Unknown(_))), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_named() {
    assert!(matches!(Etcd::new(&Config::default()).map(drop), Err(ConfigError::NoEndpoint)));
    for endpoint in ["etcd", "http://etcd:2379", "etcd:port", ":2379", "etcd:2379/path", "etcd:99999"] {
        let config = Config { endpoints: vec![endpoint.to_owned()], ..Config::default() };
        let error = Etcd::new(&config).map(drop).unwrap_err();
        assert!(matches!(&error, ConfigError::Endpoint { .. }) && error.to_string().contains(endpoint), "{error}");
    }
    let tls = Some(Tls { ca: b"not PEM".to_vec(), client: None, server_name: None });
    let _either = Etcd::new(&Config { endpoints: vec!["etcd:2379".to_owned()], tls, user: None }).map(drop);
    let password = User { name: "name".to_owned(), password: "secret".to_owned() };
    assert!(!format!("{password:?}").contains("secret"), "a password is not for logs");
}

#[tokio::test]
async fn the_largest_entries_and_pages_come_through() {
    let Some(binary) = binaries().pop() else { return skipped("large entries in etcd") };
    let server = Server::start(&binary, &[]).await;
    let broker = journal(&server.config()).await;
    broker.open(identity(1), 5, entry(0)).await.unwrap();
    // More than one answer may hold.
    for n in 1..280 {
        let large = Bytes::from(vec![u8::try_from(n % 256).unwrap(); MAX_ENTRY_BYTES]);
        broker.append(5, n, large).await.unwrap();
    }
    let watch = Watch { keys: Keys::prefix("kafscale/real/journal/e/".into()), from: 1, deletes: false };
    let (mut stream, mut events) = (server.client().watch(watch).await.unwrap(), 0);
    while events < 280 {
        events += timeout(MINUTE, stream.next()).await.expect("it comes").expect("in pieces").events.len();
    }
    let other = journal(&server.config()).await;
    let mut after = 0;
    while after < 280 {
        let records = timeout(MINUTE, other.read(after)).await.expect("entries arrive").unwrap();
        for record in records {
            assert!(record.n == 0 || record.entry.len() == MAX_ENTRY_BYTES);
            after += 1;
        }
    }
}

/// By etcd's own count.
async fn cost(binary: &Binary) {
    let server = Server::start(binary, &[]).await;
    let (broker, reader) = (journal(&server.config()).await, journal(&server.config()).await);
    broker.open(identity(1), 5, entry(0)).await.unwrap();
    read_to(&reader, 1).await;
    sleep(Duration::from_secs(2)).await;
    let methods = ["Txn", "LeaseKeepAlive", "Range", "Watch", "Put", "DeleteRange", "LeaseGrant", "Compact"];
    let clock = Env::real().clock;
    for entries in [0, 300] {
        let (before, began) = (methods.map(|method| server.calls(method)), clock.now());
        for n in 1..=entries {
            assert_eq!(broker.append(5, n, entry(n)).await.unwrap().ordinal, n + 1);
        }
        read_to(&reader, entries + 1).await;
        sleep(Duration::from_secs(5)).await;
        let seconds = (clock.now() - began).as_secs() + 1;
        let after = methods.map(|method| server.calls(method));
        let [transactions, renewals, others @ ..]: [u64; 8] = std::array::from_fn(|at| after[at] - before[at]);
        println!(
            "etcd {}: {entries} entries in {seconds} s: {transactions} transactions, {renewals} renewals",
            binary.version
        );
        // Each of the two looks at the head once a second; one has a session.
        assert!((entries + 4..=entries + 2 * seconds).contains(&transactions), "{transactions} in {seconds} s");
        assert!(renewals <= seconds / 2 + 1 && others == [0; 6], "{renewals} {others:?}");
    }
}

#[tokio::test]
async fn etcd_counts_one_transaction_for_an_entry_and_a_look_a_second() {
    on_each("what the journal costs etcd", cost).await;
}

async fn full(binary: &Binary) {
    let quota = 24 << 20;
    let server = Server::start(binary, &["--quota-backend-bytes", &quota.to_string()]).await;
    let broker = journal(&server.config()).await;
    broker.open(identity(1), 5, entry(0)).await.unwrap();
    append(&broker, 5, 1).await;
    // Something else fills it up: versions of one key.
    let client = server.client();
    let put = Op::Put { key: "filling".into(), value: vec![7; 400 << 10].into(), lease: 0 };
    let filling = Txn { then: vec![put], ..Txn::default() };
    let mut filled = 0;
    while client.txn(filling.clone()).await.is_ok() {
        filled += 1;
        assert!(filled < 1000);
    }
    let full = broker.append(5, 2, entry(2)).await.unwrap_err();
    assert!(matches!(&full, AppendError::Refused(why) if why.kind() == ErrorKind::StorageFull), "{full:?}");
    assert_eq!(broker.end().await.unwrap().ordinal, 2, "reads go on");
    let sizes = client.members().await[0].sizes.unwrap();
    assert!(sizes.alarm && sizes.is_leader && sizes.physical > quota / 2, "{sizes:?}");

    // Upkeep needs no room: etcd forgets old versions, and the watchman does the rest.
    let now = client.txn(Txn::default()).await.unwrap();
    client.compact(now.revision).await.unwrap();
    let (members, kv) = (Arc::new(server.client()), Arc::new(server.client()));
    let watchman = Watchman::start(members, kv, &Env::real(), &Settings::new("kafscale/real"), quota);
    let room_again = async {
        while client.members().await[0].sizes.is_none_or(|sizes| sizes.alarm) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(MINUTE, room_again).await.expect("the alarm is put out");
    drop(watchman);
    let sizes = client.members().await[0].sizes.unwrap();
    assert!(sizes.physical < quota / 2, "{sizes:?}");
    append(&broker, 5, 2).await;
}

#[tokio::test]
async fn a_full_etcd_refuses_and_is_emptied_by_upkeep() {
    on_each("the quota of etcd", full).await;
}

#[tokio::test]
async fn a_pointer_and_a_truncation_do_on_etcd_what_they_do_on_the_model() {
    let binaries = binaries();
    if binaries.is_empty() {
        return skipped("truncation on etcd");
    }
    for binary in binaries {
        let server = Server::start(&binary, &[]).await;
        let broker = journal(&server.config()).await;
        broker.open(identity(1), 5, entry(0)).await.unwrap();
        for n in 1..2000 {
            append(&broker, 5, n).await;
        }
        let pointer = Pointer { ordinal: 1990, truncatable: 1900, value: Bytes::new() };
        broker.publish(5, 2000, entry(2000), pointer).await.unwrap();
        broker.truncate().await.unwrap();
        broker.truncate().await.unwrap();
        let other = journal(&server.config()).await;
        assert!(matches!(other.read(1899).await, Err(ReadError::Truncated { first: 1901 })));
        assert_eq!(other.read(1900).await.unwrap().len(), 101);
    }
}
