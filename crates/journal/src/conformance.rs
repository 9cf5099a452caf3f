//! The checks that every journal backend passes. Owns the contract's meaning in code; a backend's own promises (what
//! a crash leaves, what a fault does) are tested beside it.
//!
//! A check panics with what it found. [`run`] names the one that is running on the trace, and runs all of them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;

use crate::sessions::{LiveSession, Sessions, Victim};
use crate::{AppendError, Identity, Journal, OpenError, Pointer, ReadError, Record};

/// How the suite gets journals of a backend.
#[async_trait]
pub trait Backend: Send {
    /// A new, empty journal.
    async fn fresh(&mut self) -> Arc<dyn Journal>;
    /// The same journal, as a broker finds it that starts after this one was dropped.
    async fn restart(&mut self, journal: Arc<dyn Journal>) -> Arc<dyn Journal>;
    /// Whether only one broker can live on a journal, so that an opening ends whatever session was before.
    fn is_for_one_broker(&self) -> bool;
}

const ME: Identity = Identity { broker_id: 1, token: 11 };

type Run = for<'a> fn(&'a dyn Journal) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The checks that need one journal, by name.
const CHECKS: [(&str, Run); 8] = [
    ("entries are read in order without gaps", |j| Box::pin(order(j))),
    ("a read waits for an entry", |j| Box::pin(waits(j))),
    ("a repeated append lands once", |j| Box::pin(repeats(j))),
    ("an ended session appends nothing", |j| Box::pin(fence(j))),
    ("a taken-over session appends nothing", |j| Box::pin(takeover(j))),
    ("the pointer only goes up", |j| Box::pin(pointer(j))),
    ("truncation keeps what is needed and says what is gone", |j| Box::pin(truncation(j))),
    ("a read is bounded", |j| Box::pin(bounded(j))),
];

/// Runs all checks, each on a fresh journal.
pub async fn run(backend: &mut dyn Backend) {
    for (name, check) in CHECKS {
        tracing::info!(name, "conformance");
        let journal = backend.fresh().await;
        check(&*journal).await;
    }
    identities(backend).await;
    restart(backend).await;
}

/// A journal of several brokers.
pub trait SharedJournal: Journal + Sessions {}

impl<T: Journal + Sessions> SharedJournal for T {}

/// The checks of [`Sessions`], each on a fresh journal: `fresh` makes them, `lose` takes a session's life in the store
/// (its broker id and nonce are given), as when its lease has run out.
pub async fn run_sessions<J: SharedJournal>(fresh: impl AsyncFn() -> J, lose: impl AsyncFn(&J, Victim)) {
    ends(&fresh().await, &lose).await;
    expels(&fresh().await).await;
    takes_over(&fresh().await).await;
}

const OTHER: Victim = Victim { broker_id: 2, nonce: 6 };

fn nonces(live: &[LiveSession]) -> Vec<u64> {
    live.iter().map(|session| session.nonce).collect()
}

/// Two sessions: 5 of broker 1, and [`OTHER`].
async fn two(journal: &impl SharedJournal) -> Vec<LiveSession> {
    fill(journal, 5, 2).await;
    let identity = Identity { broker_id: OTHER.broker_id, token: 77 };
    journal.open(identity, OTHER.nonce, Bytes::from_static(b"opening of 6")).await.expect("opens");
    let live = journal.live().await.expect("answers");
    let other = LiveSession { identity, nonce: 6, opening: Bytes::from_static(b"opening of 6") };
    assert_eq!(live, [LiveSession { identity: ME, nonce: 5, opening: entry(0) }, other]);
    live
}

async fn ends<J: SharedJournal>(journal: &J, lose: impl AsyncFn(&J, Victim)) {
    let live = two(journal).await;
    let alive = journal.end_other(5, 2, entry(2), OTHER).await;
    assert!(matches!(alive, Err(AppendError::Refused(_))), "a session that lives is not ended: {alive:?}");
    lose(journal, OTHER).await;
    assert!(is_fenced(journal.append(6, 1, entry(1)).await), "without its life in the store it appends nothing");
    assert_eq!(nonces(&journal.changed(&live).await.expect("answers")), [5]);
    for _ in 0..2 {
        let position = journal.end_other(5, 2, entry(2), OTHER).await.expect("it is gone");
        assert_eq!(position.ordinal, 4);
    }
    assert!(is_fenced(journal.append(6, 1, entry(1)).await), "the end is no entry of the ended session");
    assert_eq!(journal.end_other(5, 3, entry(3), OTHER).await.expect("a second end is an entry too").ordinal, 5);
    journal.append(5, 4, entry(4)).await.expect("appends");
    assert_eq!(all(journal, 0).await.len(), 6);
}

async fn expels(journal: &impl SharedJournal) {
    let live = two(journal).await;
    journal.append(6, 1, entry(1)).await.expect("it lives");
    assert_eq!(journal.expel(5, 2, entry(2), OTHER).await.expect("expels").ordinal, 5);
    assert!(is_fenced(journal.append(6, 2, entry(2)).await));
    assert_eq!(journal.append(6, 1, entry(1)).await.expect("known, though fenced since").ordinal, 4);
    assert_eq!(nonces(&journal.changed(&live).await.expect("answers")), [5]);
    assert_eq!(journal.expel(5, 2, entry(2), OTHER).await.expect("known").ordinal, 5);
    assert_eq!(journal.expel(5, 3, entry(3), OTHER).await.expect("gone is as good").ordinal, 6);
    assert!(is_fenced(journal.expel(6, 2, entry(2), Victim { broker_id: 1, nonce: 5 }).await));
    journal.append(5, 4, entry(4)).await.expect("whoever was ended ends nobody");
}

async fn takes_over(journal: &impl SharedJournal) {
    let live = two(journal).await;
    let identity = live[1].identity;
    journal.open(identity, 7, entry(0)).await.expect("takes over");
    assert_eq!(nonces(&journal.changed(&live).await.expect("answers")), [5, 7]);
    assert_eq!(journal.expel(5, 2, entry(2), OTHER).await.expect("its older session is gone").ordinal, 5);
    journal.append(7, 1, entry(1)).await.expect("and the younger one is not touched");
    journal.leave(7, 2, entry(2)).await.expect("leaves");
    assert_eq!(nonces(&journal.live().await.expect("answers")), [5]);
}

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n}"))
}

async fn fill(journal: &dyn Journal, nonce: u64, count: u64) {
    let opening = journal.open(ME, nonce, entry(0)).await.expect("opens");
    for n in 1..count {
        let position = journal.append(nonce, n, entry(n)).await.expect("appends");
        assert_eq!(position.ordinal, opening.ordinal + n, "ordinals have no gaps");
    }
}

/// Everything after `after`, checked for gaps.
async fn all(journal: &dyn Journal, after: u64) -> Vec<Record> {
    let end = journal.end().await.expect("has an end").ordinal;
    let (mut at, mut records) = (after, Vec::new());
    while at < end {
        let more = journal.read(at).await.expect("reads");
        assert!(!more.is_empty(), "a read returns an entry at least");
        for record in more {
            at += 1;
            assert_eq!(record.position.ordinal, at, "a read goes on with the next ordinal");
            records.push(record);
        }
    }
    records
}

fn is_fenced<T: std::fmt::Debug>(result: Result<T, AppendError>) -> bool {
    matches!(result, Err(AppendError::Fenced))
}

async fn order(journal: &dyn Journal) {
    assert_eq!(journal.end().await.expect("has an end").ordinal, 0);
    assert_eq!(journal.pointer().await.expect("answers"), None);
    fill(journal, 5, 20).await;
    journal.append(5, 20, Bytes::new()).await.expect("an empty entry is an entry");
    for after in 0..=20 {
        for (n, record) in (after..).zip(all(journal, after).await) {
            let expected = if n == 20 { Bytes::new() } else { entry(n) };
            assert_eq!((record.nonce, record.n, record.entry), (5, n, expected));
        }
    }
    let ahead = journal.read(22).await;
    assert!(matches!(ahead, Err(ReadError::Damaged { .. })), "a reader that is ahead met another journal");
}

async fn waits(journal: &dyn Journal) {
    fill(journal, 5, 3).await;
    let mut first = pin!(journal.read(3));
    let mut second = pin!(journal.read(3));
    assert!(is_pending(first.as_mut()) && is_pending(second.as_mut()), "there is nothing to read yet");
    let (read, appended) = both(first, journal.append(5, 3, entry(3))).await;
    assert_eq!(appended.expect("appends").ordinal, 4);
    assert_eq!(read.expect("reads")[0].entry, entry(3));
    assert_eq!(second.await.expect("reads")[0].position.ordinal, 4);
}

fn is_pending<F: Future>(future: Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// Drives two futures at once, without a runtime.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(move |cx| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            of_b = Some(output);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

async fn repeats(journal: &dyn Journal) {
    fill(journal, 5, 3).await;
    for _ in 0..3 {
        assert_eq!(journal.append(5, 2, entry(2)).await.expect("known").ordinal, 3);
    }
    assert_eq!(journal.append(5, 3, entry(3)).await.expect("appends").ordinal, 4);
    assert_eq!(journal.append(5, 3, entry(3)).await.expect("known").ordinal, 4);
    assert_eq!(all(journal, 0).await.len(), 4);
}

async fn fence(journal: &dyn Journal) {
    assert!(is_fenced(journal.append(4, 1, entry(1)).await), "a session that never was appends nothing");
    fill(journal, 5, 3).await;
    assert!(is_fenced(journal.append(4, 1, entry(1)).await));
    assert_eq!(journal.leave(5, 3, entry(3)).await.expect("leaves").ordinal, 4);
    assert!(is_fenced(journal.append(5, 4, entry(4)).await));
    assert!(is_fenced(journal.leave(5, 4, entry(4)).await));
    assert_eq!(journal.leave(5, 3, entry(3)).await.expect("known, though fenced since").ordinal, 4);
    let pointer = Pointer { ordinal: 1, truncatable: 1, value: Bytes::new() };
    assert!(is_fenced(journal.publish(5, 4, entry(4), pointer).await));
    assert_eq!(journal.pointer().await.expect("answers"), None, "a fenced publication moves nothing");
    assert_eq!(all(journal, 0).await.len(), 4);
}

async fn takeover(journal: &dyn Journal) {
    fill(journal, 5, 3).await;
    fill(journal, 6, 2).await;
    assert!(is_fenced(journal.append(5, 3, entry(3)).await));
    assert_eq!(journal.append(5, 2, entry(2)).await.expect("known, though fenced since").ordinal, 3);
    assert_eq!(journal.append(6, 2, entry(2)).await.expect("appends").ordinal, 6);
    let sessions: Vec<(u64, u64)> = all(journal, 0).await.iter().map(|record| (record.nonce, record.n)).collect();
    assert_eq!(sessions, [(5, 0), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2)]);
}

async fn pointer(journal: &dyn Journal) {
    fill(journal, 5, 10).await;
    let pointer = |ordinal, value: &str| Pointer { ordinal, truncatable: 3, value: Bytes::from(value.to_owned()) };
    journal.publish(5, 10, entry(10), pointer(6, "six")).await.expect("publishes");
    assert_eq!(journal.pointer().await.expect("answers"), Some(pointer(6, "six")));
    journal.publish(5, 10, entry(10), pointer(6, "six")).await.expect("known");
    for (n, ordinal) in [(11, 6), (12, 4)] {
        journal.publish(5, n, entry(n), pointer(ordinal, "late")).await.expect("publishes");
        assert_eq!(journal.pointer().await.expect("answers"), Some(pointer(6, "six")));
    }
    journal.publish(5, 13, entry(13), pointer(8, "eight")).await.expect("publishes");
    assert_eq!(journal.pointer().await.expect("answers"), Some(pointer(8, "eight")));
    assert_eq!(all(journal, 0).await.len(), 14, "a publication is an entry");
}

async fn truncation(journal: &dyn Journal) {
    fill(journal, 5, 40).await;
    journal.truncate().await.expect("without a pointer there is nothing to do");
    assert_eq!(all(journal, 0).await.len(), 40);
    let pointer = Pointer { ordinal: 35, truncatable: 30, value: Bytes::new() };
    journal.publish(5, 40, entry(40), pointer).await.expect("publishes");
    journal.truncate().await.expect("truncates");
    let first = match journal.read(0).await {
        Ok(_) => 1,
        Err(ReadError::Truncated { first }) => first,
        Err(error) => panic!("{error}"),
    };
    assert!(first <= 31, "entry 31 is needed, and entries before {first} are gone");
    assert_eq!(all(journal, first - 1).await.len() as u64, 42 - first);
    for after in 0..first - 1 {
        assert!(matches!(journal.read(after).await, Err(ReadError::Truncated { first: f }) if f == first));
    }
    journal.append(5, 41, entry(41)).await.expect("appends");
    journal.truncate().await.expect("truncates");
}

async fn bounded(journal: &dyn Journal) {
    let big = |n: u64| Bytes::from(vec![u8::try_from(n).expect("few"); 200 << 10]);
    journal.open(ME, 5, entry(0)).await.expect("opens");
    for n in 1..60 {
        journal.append(5, n, big(n)).await.expect("appends");
    }
    let (mut after, mut reads) = (0, 0);
    while after < 60 {
        let records = journal.read(after).await.expect("reads");
        let bytes: usize = records.iter().map(|record| record.entry.len()).sum();
        assert!(bytes <= 5 << 20, "a read returned {bytes} bytes");
        assert!(records.iter().all(|record| record.n == 0 || record.entry == big(record.n)));
        after += records.len() as u64;
        reads += 1;
    }
    assert!(reads >= 3 && after == 60);
}

async fn identities(backend: &mut dyn Backend) {
    let journal = backend.fresh().await;
    let other = Identity { token: 12, ..ME };
    fill(&*journal, 5, 2).await;
    if backend.is_for_one_broker() {
        journal.open(other, 6, entry(0)).await.expect("nobody else can be alive");
        assert!(is_fenced(journal.append(5, 2, entry(2)).await));
        return;
    }
    let refused = journal.open(other, 6, entry(0)).await;
    assert!(matches!(refused, Err(OpenError::InUse { broker_id: 1 })));
    journal.append(5, 2, entry(2)).await.expect("the older session is untouched");
    journal.open(Identity { broker_id: 2, token: 12 }, 7, entry(0)).await.expect("another broker id is free");
    journal.append(5, 3, entry(3)).await.expect("both live");
    journal.append(7, 1, entry(1)).await.expect("both live");
    journal.leave(5, 4, entry(4)).await.expect("leaves");
    journal.open(other, 8, entry(0)).await.expect("the id is free again");
    assert_eq!(all(&*journal, 0).await.len(), 8);
}

async fn restart(backend: &mut dyn Backend) {
    let journal = backend.fresh().await;
    fill(&*journal, 5, 30).await;
    let pointer = Pointer { ordinal: 20, truncatable: 0, value: Bytes::from_static(b"snapshot") };
    journal.publish(5, 30, entry(30), pointer.clone()).await.expect("publishes");
    let before = all(&*journal, 0).await;
    let journal = backend.restart(journal).await;
    assert_eq!(all(&*journal, 0).await, before);
    assert_eq!(journal.pointer().await.expect("answers"), Some(pointer));
    assert_eq!(journal.append(5, 29, entry(29)).await.expect("known").ordinal, 30);
    assert_eq!(journal.open(ME, 6, entry(0)).await.expect("opens").ordinal, 32);
    assert!(is_fenced(journal.append(5, 31, entry(31)).await));
    journal.leave(6, 1, entry(1)).await.expect("leaves");
    let journal = backend.restart(journal).await;
    assert!(is_fenced(journal.append(6, 2, entry(2)).await));
    assert_eq!(all(&*journal, 0).await.len(), 33);
}
