//! The checks that every object store passes. Owns the meaning of the port in code; a store's own promises (what a
//! crash leaves, what a fault does) are tested beside it.
//!
//! A check panics with what it found. [`run`] names the one that is running on the trace, and runs all of them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use kafscale_metadata::ObjectId;

use super::list::{Folder, ListError, MAX_LIST_PAGE, ObjectLister, Page, list_all};
use super::{GetError, ObjectName, ObjectStore, PutError};

/// How the suite gets stores of a backend.
#[async_trait]
pub trait Backend: Send {
    /// A store without objects.
    async fn fresh(&mut self) -> Arc<dyn Both>;
}

/// Both ports of one store.
pub trait Both: ObjectStore + ObjectLister {}

impl<T: ObjectStore + ObjectLister> Both for T {}

type Run = for<'a> fn(&'a dyn Both) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The checks, by name.
const CHECKS: [(&str, Run); 8] = [
    ("what was put is got, byte for byte", |s| Box::pin(round_trip(s))),
    ("a range is cut at the object's end", |s| Box::pin(ranges(s))),
    ("what was not put is not found", |s| Box::pin(missing(s))),
    ("names are apart", |s| Box::pin(apart(s))),
    ("deleting twice is deleting once", |s| Box::pin(delete(s))),
    ("a name is written once", |s| Box::pin(written_once(s))),
    ("of many that race for a name one wins", |s| Box::pin(race(s))),
    ("a listing has every name once, in order", |s| Box::pin(list(s))),
];

/// How many put one name at the same time.
const RACERS: u8 = 16;
/// How often they do.
const RACES: u32 = 4;

/// Runs all checks, each on a fresh store.
pub async fn run(backend: &mut dyn Backend) {
    for (name, check) in CHECKS {
        tracing::info!(name, "conformance");
        let store = backend.fresh().await;
        check(&*store).await;
        assert!(store.free_bytes().await.expect("says how much room there is") > 0);
    }
}

fn name(number: u32) -> ObjectName {
    ObjectName::bundle(1, ObjectId { nonce: 2, number })
}

/// `count` slices of many lengths, none of them like the one before.
fn slices(count: usize, longest: usize, seed: u8) -> Vec<Bytes> {
    let slice = |at: usize| -> Bytes {
        let byte = |i: usize| seed.wrapping_add(u8::try_from((at * 31 + i * 7) % 251).expect("it is below 251"));
        (0..at % (longest + 1)).map(byte).collect()
    };
    (0..count).map(slice).collect()
}

fn whole(body: &[Bytes]) -> Bytes {
    body.concat().into()
}

fn is_missing<T: std::fmt::Debug>(result: Result<T, GetError>, name: &ObjectName) -> bool {
    matches!(result, Err(GetError::NotFound(named)) if named.contains(&name.to_string()))
}

/// The answer to a PUT of a name that another object has.
fn is_taken(result: &Result<(), PutError>) -> bool {
    matches!(result, Err(PutError::Unknown(why)) if why.kind() == io::ErrorKind::AlreadyExists)
}

async fn round_trip(store: &dyn Both) {
    let bodies = [
        vec![],
        vec![Bytes::new(), Bytes::new()],
        vec![Bytes::from_static(b"k")],
        vec![Bytes::new(), Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"two"), Bytes::new()],
        slices(10_000, 90, 1),
        slices(500, 80_000, 2),
        vec![Bytes::from(vec![0xa5; 9 << 20])],
    ];
    for (number, body) in (0..).zip(&bodies) {
        store.put(&name(number), body.clone()).await.expect("puts");
    }
    for (number, body) in (0..).zip(&bodies) {
        let (expected, got) = (whole(body), store.get_all(&name(number)).await.expect("gets"));
        assert_eq!(got.len(), expected.len(), "body {number}");
        assert!(got == expected, "body {number} came back with other bytes");
        let len = expected.len() as u64;
        assert!(store.get(&name(number), 0..len).await.expect("gets") == expected, "body {number}, as a range");
    }
}

async fn ranges(store: &dyn Both) {
    let body = slices(700, 300, 3);
    let all = whole(&body);
    let len = all.len() as u64;
    store.put(&name(1), body).await.expect("puts");
    store.put(&name(2), vec![]).await.expect("puts");
    let inside = [0..1, 0..len, 1..len, 17..18, len / 2..len / 2 + 1000, len - 1..len];
    let over_the_end = [0..len + 1, len - 1..len + 100, 5..u64::MAX];
    let of_nothing = [0..0, 9..9, len..len, len..len + 1, len + 10..len + 20, len + 1..u64::MAX];
    for range in inside.into_iter().chain(over_the_end).chain(of_nothing) {
        let cut = |at: u64| usize::try_from(at.min(len)).expect("it is below the length");
        let expected = all.slice(cut(range.start)..cut(range.end));
        let got = store.get(&name(1), range.clone()).await.expect("gets");
        assert!(got == expected, "{range:?} of {len} bytes gave {} bytes, not {}", got.len(), expected.len());
        assert!(store.get(&name(2), range.clone()).await.expect("gets").is_empty(), "{range:?} of an empty object");
    }
}

async fn missing(store: &dyn Both) {
    store.put(&name(1), slices(3, 10, 4)).await.expect("puts");
    let never = name(2);
    assert!(is_missing(store.get_all(&never).await, &never));
    for range in [0..1, 0..0, 5..9, 0..u64::MAX] {
        assert!(is_missing(store.get(&never, range).await, &never));
    }
    store.delete(&never).await.expect("there is nothing to delete, which is no failure");
    store.put(&never, vec![Bytes::from_static(b"now")]).await.expect("a name that was asked for is free all the same");
    assert_eq!(store.get_all(&never).await.expect("gets"), "now");
}

async fn apart(store: &dyn Both) {
    let object = |nonce, number| ObjectId { nonce, number };
    let names = [
        ObjectName::bundle(1, object(1, 1)),
        ObjectName::bundle(1, object(1, 11)),
        ObjectName::bundle(1, object(0x11, 1)),
        ObjectName::bundle(2, object(1, 1)),
        ObjectName::bundle(u128::MAX, object(u64::MAX, u32::MAX)),
        ObjectName::snapshot(1, 7, 1, object(1, 1)),
        ObjectName::snapshot(1, 7, 2, object(1, 1)),
        ObjectName::snapshot(1, 8, 1, object(1, 1)),
        ObjectName::snapshot(2, 7, u64::MAX, object(1, 1)),
    ];
    for name in &names {
        store.put(name, vec![name.to_string().into()]).await.expect("puts");
    }
    for name in &names {
        assert_eq!(store.get_all(name).await.expect("gets"), name.to_string());
    }
}

async fn delete(store: &dyn Both) {
    for number in 0..3 {
        store.put(&name(number), slices(10, 10, 5)).await.expect("puts");
    }
    for _ in 0..2 {
        store.delete(&name(1)).await.expect("deletes");
        assert!(is_missing(store.get_all(&name(1)).await, &name(1)));
        assert!(is_missing(store.get(&name(1), 0..5).await, &name(1)));
    }
    for number in [0, 2] {
        assert_eq!(store.get_all(&name(number)).await.expect("its neighbours stay"), whole(&slices(10, 10, 5)));
    }
}

async fn written_once(store: &dyn Both) {
    let first = slices(200, 100, 6);
    store.put(&name(1), first.clone()).await.expect("puts");
    // Shorter, longer, as long, empty.
    let as_long = vec![Bytes::from(vec![0xee; whole(&first).len()])];
    for other in [slices(10, 10, 7), slices(400, 100, 7), as_long, vec![]] {
        let answer = store.put(&name(1), other).await;
        assert!(is_taken(&answer), "a name with other bytes is taken, but the store said {answer:?}");
        assert!(store.get_all(&name(1)).await.expect("gets") == whole(&first), "it was overwritten");
    }
    // The same bytes may be a first attempt of the same call: a store that can prove it says that they are stored.
    let again = store.put(&name(1), first.clone()).await;
    assert!(again.is_ok() || is_taken(&again), "the same bytes again: {again:?}");
    assert!(store.get_all(&name(1)).await.expect("gets") == whole(&first), "it was overwritten");
}

async fn race(store: &dyn Both) {
    for round in 0..RACES {
        let body =
            |racer: u8| vec![Bytes::from(vec![racer; 100_000]), Bytes::from(vec![racer; 1 + usize::from(racer)])];
        let name = name(round);
        let answers = join_all((0..RACERS).map(|racer| store.put(&name, body(racer)))).await;
        let winners: Vec<u8> =
            (0..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(racer, _)| racer).collect();
        assert_eq!(winners.len(), 1, "exactly one wins: {winners:?}");
        for answer in answers.iter().filter(|answer| answer.is_err()) {
            assert!(is_taken(answer), "who lost learns that the name is taken, but the store said {answer:?}");
        }
        let got = store.get_all(&name).await.expect("gets");
        assert!(got == whole(&body(winners[0])), "the object is the winner's");
    }
}

async fn list(store: &dyn Both) {
    let object = |nonce, number| ObjectId { nonce, number };
    // Numbers whose order as text is not their order, in one session and in several; two lives of a journal.
    let bundles: Vec<ObjectName> =
        [1, 2, 9, 10, 11, 100, 4_000_000_000].into_iter().map(|n| ObjectName::bundle(1, object(n.into(), n))).collect();
    let snapshots = |life: u128| (8..13).map(move |at| ObjectName::snapshot(1, life, at, object(1, 1)));
    let snapshots: Vec<ObjectName> = snapshots(3).chain(snapshots(u128::MAX)).collect();
    let elsewhere = [ObjectName::bundle(2, object(1, 1)), ObjectName::snapshot(2, 3, 9, object(1, 1))];
    let all: Vec<ObjectName> = [&bundles[..], &snapshots, &elsewhere].concat();
    let folders = [
        (Folder::all(), all.clone()),
        (Folder::bundles(1), bundles),
        (Folder::snapshots(1), snapshots.clone()),
        (Folder::snapshots_of(1, 3), snapshots[..5].to_vec()),
        (Folder::snapshots_of(1, 4), vec![]),
        (Folder::bundles(2), elsewhere[..1].to_vec()),
        (Folder::bundles(3), vec![]),
    ];
    for (folder, _) in &folders {
        assert_eq!(list_all(store, folder).await.expect("lists"), (vec![], 0), "{folder:?} before the first object");
    }
    for name in &all {
        store.put(name, vec![Bytes::from_static(b"k")]).await.expect("puts");
    }
    for (folder, mut expected) in folders {
        expected.sort_by_key(ObjectName::to_string);
        assert_eq!(list_all(store, &folder).await.expect("lists"), (expected.clone(), 0), "{folder:?}");
        for most in [1, 2, 3, 5, 100] {
            let listed = list_by(store, &folder, most).await.expect("lists");
            assert_eq!(listed, expected, "{folder:?}, {most} a page");
        }
    }
    store.delete(&all[0]).await.expect("deletes");
    let listed = list_by(store, &Folder::all(), 4).await.expect("lists");
    assert!(listed.len() == all.len() - 1 && !listed.contains(&all[0]), "what was deleted is not listed");
    let page = store.list(&Folder::all(), None, usize::MAX).await.expect("a page is cut at its limit, not refused");
    assert!(page.names.len() <= MAX_LIST_PAGE);
}

/// All names, page by page.
async fn list_by(store: &dyn Both, folder: &Folder, most: usize) -> Result<Vec<ObjectName>, ListError> {
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let Page { names: more, next, .. } = store.list(folder, after.as_ref(), most).await?;
        assert!(more.len() <= most, "a page of {most} has {} names", more.len());
        names.extend(more);
        match next {
            Some(cursor) => after = Some(cursor),
            None => return Ok(names),
        }
    }
}
