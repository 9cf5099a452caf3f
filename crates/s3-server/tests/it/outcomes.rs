//! One fault, one request: what the store says of it, and what the server then has.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kafscale_log::store::s3::{S3Options, Secret};
use kafscale_log::store::{Folder, GetError, ObjectLister, ObjectStore, list_all};
use kafscale_ports::Env;
use kafscale_s3_server::{Fault, Faults, Method, Outage, Server, Settings};
use tokio::time::sleep;

use crate::world::{
    body, failed, is_taken, name, next_gets, next_puts, open, options, refused, requests, server, store, stored,
    unknown, words,
};

#[tokio::test]
async fn a_put_that_failed_may_be_there_and_each_try_is_one_request() {
    let server = server().await;
    let store = store(&server);
    for (number, fault, lands) in
        [(1, Fault::Unavailable, false), (2, Fault::Error, false), (3, Fault::Cut, false), (4, Fault::LostReply, true)]
    {
        next_puts(&server, &[fault]);
        let why = unknown(store.put(&name(number), body()).await);
        let text = words(&why);
        assert!(text.contains(&format!("PUT s3://kafscale/test/{}", name(number))), "{text}");
        assert_eq!(stored(&server, &name(number)).is_some(), lands, "{fault:?}");
        assert_eq!(requests(&server, Method::Put), u64::from(number), "nothing is tried again in secret");
    }
}

#[tokio::test]
async fn a_put_whose_reply_was_lost_is_recognised_by_its_bytes() {
    let server = server().await;
    let store = store(&server);
    next_puts(&server, &[Fault::LostReply]);
    unknown(store.put(&name(1), body()).await);
    store.put(&name(1), vec![Bytes::from_static(b"hello world")]).await.unwrap();
    for other in ["hello worlD", "hello worl", "hello world!", ""] {
        let answer = store.put(&name(1), vec![Bytes::from_static(other.as_bytes())]).await;
        assert!(is_taken(answer), "{other:?}");
    }
    assert_eq!(stored(&server, &name(1)).unwrap(), "hello world");
    store.put(&name(2), vec![]).await.unwrap();
    store.put(&name(2), vec![Bytes::new()]).await.unwrap();
    assert!(is_taken(store.put(&name(2), body()).await), "an empty object is one too");
}

#[tokio::test]
async fn a_name_that_is_said_to_be_taken_is_looked_at() {
    let server = server().await;
    let store = store(&server);
    next_puts(&server, &[Fault::Conflict]);
    let why = unknown(store.put(&name(1), body()).await);
    assert!(words(&why).contains("409 ConditionalRequestConflict"), "{why}");
    store.put(&name(1), body()).await.unwrap();
    next_puts(&server, &[Fault::Conflict, Fault::Conflict]);
    store.put(&name(1), body()).await.unwrap();
    assert!(is_taken(store.put(&name(1), vec![]).await));
    // Whose it is cannot be found out.
    next_gets(&server, &[Fault::Error]);
    unknown(store.put(&name(1), body()).await);
    let denied = Faults { deny: vec!["s3:GetObject".to_owned()], ..Faults::default() };
    server.set_faults(denied).unwrap();
    let why = unknown(store.put(&name(1), body()).await);
    assert!(words(&why).contains("s3:GetObject"), "{why}");
}

#[tokio::test]
async fn nobody_there_is_a_put_that_never_was() {
    // A port that is reserved for what nobody runs any more.
    let store = open(options("127.0.0.1:1".parse().unwrap(), "test"));
    let why = refused(store.put(&name(1), body()).await);
    assert!(why.kind() == io::ErrorKind::NotConnected && words(&why).contains("no connection"), "{why}");
    let why = failed(store.get_all(&name(1)).await);
    assert_eq!(why.kind(), io::ErrorKind::NotConnected);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_named() {
    let server = server().await;
    let store = store(&server);
    store.put(&name(1), body()).await.unwrap();
    let all = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:ListBucket"].map(str::to_owned).to_vec();
    server.set_faults(Faults { deny: all, ..Faults::default() }).unwrap();
    let said = [
        ("s3:PutObject", words(&refused(store.put(&name(2), body()).await))),
        ("s3:GetObject", words(&failed(store.get_all(&name(1)).await))),
        ("s3:GetObject", words(&failed(store.get(&name(1), 0..1).await))),
        ("s3:DeleteObject", words(&store.delete(&name(1)).await.unwrap_err())),
        ("s3:ListBucket", words(&store.list(&Folder::all(), None, 10).await.unwrap_err())),
    ];
    for (permission, text) in said {
        assert!(text.contains("403 AccessDenied") && text.contains(permission), "{text}");
        assert!(text.contains("s3://kafscale/test/"), "{text}");
    }
    // S3 says "denied" of a missing object to who may not list: that is no "not found".
    server.set_faults(Faults { deny: vec!["s3:ListBucket".to_owned()], ..Faults::default() }).unwrap();
    failed(store.get_all(&name(2)).await);
}

#[tokio::test]
async fn wrong_keys_and_a_missing_bucket_are_refused_with_their_fix() {
    let settings = Settings { session_token: Some("token".to_owned()), ..Settings::default() };
    let server = Server::start(settings, Env::real()).await.unwrap();
    let right = S3Options { session_token: Some(Secret::new("token")), ..options(server.address(), "test") };
    let wrong_secret = S3Options { secret_key: Some(Secret::new("quite-wrong")), ..right.clone() };
    let wrong_key = S3Options { access_key: Some("somebody".to_owned()), ..right.clone() };
    let wrong_token = S3Options { session_token: Some(Secret::new("old-token")), ..right.clone() };
    let no_bucket = S3Options { url: "s3://elsewhere/test".to_owned(), ..right.clone() };
    for (given, expected) in [
        (wrong_secret, "the secret key is not the access key's"),
        (wrong_key, "the server does not know the access key"),
        (wrong_token, "the session token is not the access key's"),
        (no_bucket, "create the bucket"),
    ] {
        let store = open(given.clone());
        let why = refused(store.put(&name(1), body()).await);
        let text = format!("{} {store:?} {given:?}", words(&why));
        assert!(text.contains(expected), "{text}");
        assert!(!["quite-wrong", "old-token", "kafscale-secret"].iter().any(|secret| text.contains(secret)), "{text}");
        failed(store.get_all(&name(1)).await);
        failed(store.get(&name(1), 0..0).await);
        store.delete(&name(1)).await.unwrap_err();
    }
    open(right).put(&name(1), body()).await.unwrap();
}

#[tokio::test]
async fn a_full_store_says_so() {
    let server = Server::start(Settings { max_bytes: 1 << 20, ..Settings::default() }, Env::real()).await.unwrap();
    let store = store(&server);
    let half = || vec![Bytes::from(vec![1; 600 << 10])];
    store.put(&name(1), half()).await.unwrap();
    let why = refused(store.put(&name(2), half()).await);
    assert_eq!(why.kind(), io::ErrorKind::StorageFull, "{why}");
    store.delete(&name(1)).await.unwrap();
    store.put(&name(2), half()).await.unwrap();
}

#[tokio::test]
async fn reads_fail_or_are_whole() {
    let server = server().await;
    let store = store(&server);
    let body: Vec<Bytes> = (0..100u8).map(|i| Bytes::from(vec![i; 20_000])).collect();
    store.put(&name(1), body.clone()).await.unwrap();
    for fault in [Fault::Unavailable, Fault::Error, Fault::Cut, Fault::LostReply, Fault::Torn] {
        next_gets(&server, &[fault, fault, Fault::None]);
        failed(store.get_all(&name(1)).await);
        failed(store.get(&name(1), 5..1_000_000).await);
        assert!(store.get_all(&name(1)).await.unwrap() == body.concat(), "{fault:?}");
    }
    assert_eq!(requests(&server, Method::Get), 15, "nothing is tried again in secret");
    assert!(matches!(store.get_all(&name(2)).await, Err(GetError::NotFound(_))));
}

#[tokio::test]
async fn every_character_that_a_prefix_may_have_comes_through() {
    let server = server().await;
    let prefix = "Az09/a!-_.*'()=+,b/c";
    let store = open(options(server.address(), prefix));
    store.check().await.unwrap();
    store.put(&name(1), body()).await.unwrap();
    assert_eq!(store.get(&name(1), 0..5).await.unwrap(), "hello");
    assert!(server.object("kafscale", &format!("{prefix}/{}", name(1))).is_some());
    assert_eq!(list_all(&store, &Folder::all()).await.unwrap(), (vec![name(1)], 0));
    store.delete(&name(1)).await.unwrap();
    assert_eq!(server.stats().objects, 0);
}

#[tokio::test]
async fn an_outage_loses_nothing_that_was_said_to_be_stored() {
    let server = server().await;
    let store = store(&server);
    for (number, outage) in [(1, Outage::Cut), (2, Outage::Unavailable)] {
        server.set_faults(Faults { outage, ..Faults::default() }).unwrap();
        assert!(store.put(&name(number), body()).await.is_err());
        failed(store.get_all(&name(number)).await);
        store.delete(&name(number)).await.unwrap_err();
        server.set_faults(Faults::default()).unwrap();
        store.put(&name(number), body()).await.unwrap();
        assert_eq!(store.get_all(&name(number)).await.unwrap(), "hello world");
    }
    server.set_faults(Faults { outage: Outage::Hang, ..Faults::default() }).unwrap();
    let heal = async {
        sleep(Duration::from_millis(50)).await;
        server.set_faults(Faults::default()).unwrap();
    };
    let name = name(3);
    let (put, ()) = tokio::join!(store.put(&name, body()), heal);
    put.unwrap();
}
