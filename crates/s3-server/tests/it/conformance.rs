//! The suite that all stores pass, over S3: as it is, in each way of signing, and with a caller that tries again while the
//! server fails. And over the servers of others, where they are.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafscale_log::store::conformance::{Backend, Both, run};
use kafscale_log::store::s3::{S3Options, S3Store, Secret};
use kafscale_log::store::{Cursor, Folder, GetError, ListError, ObjectLister, ObjectName, ObjectStore, Page, PutError};
use kafscale_ports::Env;
use kafscale_s3_server::{Faults, Rule, Server, Settings};
use tokio::time::sleep;

use crate::world::{body, name, open, options, server};

/// Stores in one bucket, each with a prefix of its own.
pub(crate) struct Prefixes {
    pub(crate) options: S3Options,
    pub(crate) made: u32,
}

impl Prefixes {
    fn next(&mut self) -> S3Store {
        self.made += 1;
        let url = format!("{}/{}", self.options.url, self.made);
        open(S3Options { url, ..self.options.clone() })
    }
}

#[async_trait]
impl Backend for Prefixes {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        Arc::new(self.next())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let server = server().await;
    run(&mut Prefixes { options: options(server.address(), "plain"), made: 0 }).await;
    let stats = server.stats();
    let connections = stats.connections;
    assert!(connections <= 16, "{connections} connections for 16 racers: they are used again");
    assert!(server.log(0).iter().all(|entry| !entry.unsigned_payload), "what nothing protects on its way is signed");
    for (method, counted) in stats.methods {
        let strange: Vec<&u16> =
            counted.statuses.keys().filter(|s| ![200, 204, 206, 404, 412, 416].contains(*s)).collect();
        assert!(strange.is_empty(), "{method:?} was answered with {strange:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_without_signed_payloads_with_a_token_and_with_a_key() {
    let settings = Settings { session_token: Some("a token".replace(' ', "-")), ..Settings::default() };
    let server = Server::start(settings, Env::real()).await.unwrap();
    let options = S3Options {
        unsigned_payload: Some(true),
        session_token: Some(Secret::new("a-token")),
        kms_key: Some("arn:aws:kms:eu-north-1:1:key/2".to_owned()),
        ..options(server.address(), "unsigned")
    };
    run(&mut Prefixes { options: options.clone(), made: 0 }).await;
    assert!(server.log(0).iter().all(|entry| entry.unsigned_payload));
    open(options).put(&name(1), body()).await.unwrap();
    let stored = server.object("kafscale", &format!("unsigned/{}", name(1))).unwrap();
    assert_eq!(stored.kms_key.as_deref(), Some("arn:aws:kms:eu-north-1:1:key/2"));
}

/// A caller that does not give up: the store says what may be tried again.
struct Patient(S3Store);

const TRIES: u32 = 60;

async fn pause() {
    sleep(Duration::from_millis(1)).await;
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        for _ in 0..TRIES {
            match self.0.put(name, body.clone()).await {
                Err(PutError::Refused(_)) => {}
                Err(PutError::Unknown(why)) if why.kind() != io::ErrorKind::AlreadyExists => {}
                known => return known,
            }
            pause().await;
        }
        self.0.put(name, body).await
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        for _ in 0..TRIES {
            match self.0.get(name, range.clone()).await {
                Err(GetError::Failed { .. }) => pause().await,
                known => return known,
            }
        }
        self.0.get(name, range).await
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        for _ in 0..TRIES {
            match self.0.get_all(name).await {
                Err(GetError::Failed { .. }) => pause().await,
                known => return known,
            }
        }
        self.0.get_all(name).await
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        for _ in 0..TRIES {
            match self.0.delete(name).await {
                Err(_) => pause().await,
                Ok(()) => return Ok(()),
            }
        }
        self.0.delete(name).await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes().await
    }
}

#[async_trait]
impl ObjectLister for Patient {
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError> {
        for _ in 0..TRIES {
            match self.0.list(folder, after, most).await {
                Err(_) => pause().await,
                known => return known,
            }
        }
        self.0.list(folder, after, most).await
    }
}

struct Patiently(Prefixes);

#[async_trait]
impl Backend for Patiently {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        Arc::new(Patient(self.0.next()))
    }
}

async fn conforms_with(rule: Rule) {
    let server = server().await;
    let faults = Faults {
        put: rule.clone(),
        get: rule.clone(),
        delete: rule.clone(),
        // Only a PUT conflicts.
        list: Rule { conflict: 0.0, ..rule },
        ..Faults::default()
    };
    server.set_faults(faults).unwrap();
    run(&mut Patiently(Prefixes { options: options(server.address(), "faulty"), made: 0 })).await;
    let hit: u64 = server.stats().methods.values().flat_map(|method| method.faults.values()).sum();
    assert!(hit > 20, "only {hit} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_the_server_asks_for_fewer_requests() {
    conforms_with(Rule { unavailable: 0.3, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_the_server_fails() {
    conforms_with(Rule { error: 0.3, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_connections_break() {
    conforms_with(Rule { cut: 0.3, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_replies_are_lost() {
    conforms_with(Rule { lost_reply: 0.3, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_answers_break_off() {
    conforms_with(Rule { torn: 0.3, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_puts_conflict() {
    conforms_with(Rule { conflict: 0.2, ..Rule::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_while_everything_goes_wrong() {
    let all = Rule {
        unavailable: 0.1,
        error: 0.05,
        cut: 0.1,
        lost_reply: 0.1,
        torn: 0.05,
        conflict: 0.05,
        ..Rule::default()
    };
    conforms_with(all).await;
}
