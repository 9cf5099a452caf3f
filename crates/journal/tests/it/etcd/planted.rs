//! Planted bugs: each breaks one rule from the outside, between a journal and the model of etcd, and must be found by a
//! check within a bounded number of seeds. A check that cannot fail proves nothing.
//!
//! Owns the bugs, and that they are found. What a journal does wrong is done to its requests and their answers, so that
//! the code that ships has no place for it; rules of the pure parts alone are broken by their own tests.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use kafscale_journal::etcd::kv::{
    Compare, Failure, Get, Is, KeyValue, Keys, Kv, Lease, LeaseId, Op, OpResult, Range, RangeReply, Revision, Target,
    Txn, TxnReply, Watch, WatchReply, WatchStream,
};
use kafscale_journal::etcd::model::Client;
use parking_lot::Mutex;
use tokio::runtime::Builder;

use super::lab::world;
use super::{schedules, suite};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Nothing but its own number keeps a dead session's entry out.
    NoFence,
    /// The fence is the create-revision of S, which a takeover keeps.
    FenceByCreation,
    /// create(E) = 0 is not asked for: a repetition puts the entry once more, in another place.
    EntryOverEntry,
    /// A session is ended whether its S is there or not.
    EndOfTheLiving,
    /// Whoever leaves keeps its right to append.
    LeavesItsRight,
    /// The pointer is moved whoever has moved it since it was read.
    PointerNotCompared,
    /// A truncation removes all that a session has, not what it had at the pointer's floor.
    TruncatesToNow,
    /// A truncation takes a late repetition for what it repeats.
    TruncatesWhatIsNew,
    /// A truncation takes H too.
    TruncatesHead,
    /// An ordinal beyond the next one is taken for the next one.
    GapIgnored,
    /// The journal ends where the watch says.
    SilenceTrusted,
}

/// Plants a bug between a client and its journal.
pub(crate) fn plant(client: &Client, bug: Option<Bug>) -> Arc<dyn Kv> {
    let client = client.clone();
    match bug {
        None => Arc::new(client),
        Some(bug) => Arc::new(Planted { client, bug, known: Arc::default() }),
    }
}

struct Planted {
    client: Client,
    bug: Bug,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The create-revision of S by its mod-revision.
    creations: BTreeMap<Revision, Revision>,
    /// H as a watch, or a reading of everything, told it last.
    head: Option<KeyValue>,
}

fn one(keys: &Keys) -> Option<&[u8]> {
    match keys {
        Keys::One(key) => Some(key),
        Keys::Between(..) => None,
    }
}

fn is(key: &[u8], part: &str) -> bool {
    std::str::from_utf8(key).is_ok_and(|key| key.contains(part))
}

fn is_of(compare: &Compare, part: &str) -> bool {
    one(&compare.keys).is_some_and(|key| is(key, part))
}

fn puts(txn: &Txn, part: &str) -> bool {
    txn.then.iter().any(|op| matches!(op, Op::Put { key, .. } if is(key, part)))
}

/// Whether it removes entries.
fn is_truncation(txn: &Txn) -> bool {
    txn.then.iter().any(|op| matches!(op, Op::Delete(Keys::Between(first, _)) if is(first, "/e/")))
}

fn head() -> bytes::Bytes {
    "lab/journal/head".into()
}

impl Planted {
    /// What is asked instead.
    fn spoil(&self, mut txn: Txn) -> Txn {
        let is_opening = puts(&txn, "/session/");
        let is_truncation = is_truncation(&txn);
        match self.bug {
            Bug::NoFence if !is_opening => {
                let is_fence = |c: &Compare| c.is == Is::Equal && is_of(c, "/session/");
                txn.when.retain(|compare| !is_fence(compare));
            }
            Bug::FenceByCreation => {
                let known = self.known.lock();
                for compare in txn.when.iter_mut().filter(|c| is_of(c, "/session/")) {
                    if let Target::Mod(fence) = compare.target {
                        compare.target = Target::Create(known.creations.get(&fence).copied().unwrap_or(fence));
                    }
                }
            }
            Bug::EntryOverEntry => txn.when.retain(|compare| !is_of(compare, "/e/")),
            Bug::EndOfTheLiving => txn.when.retain(|compare| compare.is != Is::NotEqual),
            Bug::LeavesItsRight if puts(&txn, "/e/") => {
                let is_own = |op: &Op| matches!(op, Op::Delete(Keys::One(key)) if is(key, "/session/"));
                txn.then.retain(|op| !is_own(op));
            }
            Bug::PointerNotCompared => txn.when.retain(|compare| !is_of(compare, "/pointer") || is_opening),
            Bug::TruncatesToNow if is_truncation => {
                txn.when.clear();
                for op in &mut txn.then {
                    if let Op::Delete(Keys::Between(first, end)) = op {
                        let session = first.len() - "0123456789".len();
                        *end = [&first[..session], b"9999999999"].concat().into();
                    }
                }
            }
            Bug::TruncatesWhatIsNew if is_truncation => txn.when.clear(),
            Bug::TruncatesHead if is_truncation => txn.then.push(Op::Delete(Keys::One(head()))),
            Bug::NoFence
            | Bug::LeavesItsRight
            | Bug::TruncatesToNow
            | Bug::TruncatesWhatIsNew
            | Bug::TruncatesHead
            | Bug::GapIgnored
            | Bug::SilenceTrusted => {}
        }
        txn
    }

    /// A look asks for H first, and is told what the watch has told; a reading of everything asks for H after something
    /// else, and is the beginning of what is known.
    fn hear(&self, asked: &Txn, reply: &mut TxnReply) {
        if self.bug != Bug::SilenceTrusted || !asked.when.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        for (index, (op, result)) in asked.then.iter().zip(&mut reply.results).enumerate() {
            let (Op::Get(Get { keys, .. }), OpResult::Got(found)) = (op, result) else { continue };
            if one(keys).is_none_or(|key| key != head()) {
                continue;
            }
            if index == 0 {
                found.kvs = known.head.iter().cloned().collect();
            } else {
                known.head = found.kvs.first().cloned();
            }
        }
    }
}

#[async_trait]
impl Kv for Planted {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, Failure> {
        let mut txn = self.spoil(txn);
        let is_opening = puts(&txn, "/session/");
        if is_opening {
            let Op::Put { key, .. } = &txn.then[0] else { unreachable!("an opening puts S first") };
            txn.then.insert(1, Op::Get(Get::one(key.clone())));
        }
        let mut reply = self.client.txn(txn.clone()).await?;
        if is_opening && reply.succeeded {
            let OpResult::Got(found) = reply.results.remove(1) else { unreachable!("it was asked for") };
            let session = &found.kvs[0];
            self.known.lock().creations.insert(session.mod_revision, session.create_revision);
            txn.then.remove(1);
        }
        self.hear(&txn, &mut reply);
        Ok(reply)
    }

    async fn range(&self, range: Range) -> Result<RangeReply, Failure> {
        self.client.range(range).await
    }

    async fn watch(&self, watch: Watch) -> Result<Box<dyn WatchStream>, Failure> {
        let stream = self.client.watch(watch).await?;
        let known = Arc::clone(&self.known);
        Ok(Box::new(Listening { stream, bug: self.bug, known, versions: BTreeMap::new() }))
    }

    async fn lease_grant(&self, ttl_s: u64) -> Result<Lease, Failure> {
        self.client.lease_grant(ttl_s).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, Failure> {
        self.client.lease_keep_alive(id).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Failure> {
        self.client.lease_revoke(id).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Failure> {
        self.client.compact(revision).await
    }
}

/// A watch through which a bug looks.
struct Listening {
    stream: Box<dyn WatchStream>,
    bug: Bug,
    known: Arc<Mutex<Known>>,
    /// What each revision's H was said to be.
    versions: BTreeMap<Revision, u64>,
}

impl Listening {
    /// Without gaps, whatever is missing.
    fn close_gap(&mut self, kv: &mut KeyValue) {
        let last = self.versions.last_key_value().map(|(_, version)| *version);
        let next = last.map_or(kv.version, |last| kv.version.min(last + 1));
        kv.version = *self.versions.entry(kv.mod_revision).or_insert(next);
    }
}

#[async_trait]
impl WatchStream for Listening {
    async fn next(&mut self) -> Result<WatchReply, Failure> {
        let mut reply = self.stream.next().await?;
        for event in reply.events.iter_mut().filter(|event| event.kv.key == head()) {
            let kv = &mut event.kv;
            let mut known = self.known.lock();
            if known.head.as_ref().is_none_or(|head| head.mod_revision < kv.mod_revision) {
                known.head = Some(kv.clone());
            }
            drop(known);
            if self.bug == Bug::GapIgnored {
                self.close_gap(kv);
            }
        }
        Ok(reply)
    }
}

/// The words with which a check fails, if it does; each has a runtime, and so a clock, of its own.
fn failure(check: impl Future<Output = ()>) -> Option<String> {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let words = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast::<&str>().map_or_else(|_| "?".to_owned(), |words| (*words).to_owned()),
    };
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(check))).err().map(words)
}

async fn play(seed: u64, bug: Option<Bug>) {
    schedules::play(seed, bug).await;
}

async fn conform(bug: Option<Bug>) {
    let world = world();
    suite::conforms(|| plant(&world.client(()), bug)).await;
}

/// Plays seeds until one fails, with one of these words.
fn must_be_found(bug: Bug, seeds: u64, expected: &[&str]) {
    let (seed, words) = (0..seeds)
        .find_map(|seed| failure(play(seed, Some(bug))).map(|words| (seed, words)))
        .unwrap_or_else(|| panic!("{bug:?} was not found in {seeds} seeds"));
    println!("{bug:?}: seed {seed}, {words}");
    assert!(expected.iter().any(|expected| words.contains(expected)), "{bug:?} was found by something else: {words}");
}

/// The conformance suite fails, with these words.
fn must_not_conform(bug: Bug, expected: &str) {
    let words = failure(conform(Some(bug))).unwrap_or_else(|| panic!("{bug:?} conforms"));
    assert!(words.contains(expected), "{bug:?} was found by something else: {words}");
}

#[test]
fn without_bugs_nothing_is_found() {
    assert_eq!(failure(play(0, None)), None);
    assert_eq!(failure(conform(None)), None);
}

#[test]
fn the_fence_is_not_compared() {
    must_be_found(Bug::NoFence, 20, &["after the session's end"]);
    must_not_conform(Bug::NoFence, "is_fenced");
}

#[test]
fn the_fence_is_a_create_revision() {
    must_be_found(Bug::FenceByCreation, 20, &["after the session's end"]);
    must_not_conform(Bug::FenceByCreation, "is_fenced");
}

#[test]
fn an_entry_replaces_one() {
    must_be_found(Bug::EntryOverEntry, 20, &["an entry never replaces one"]);
}

#[test]
fn the_living_are_ended() {
    must_not_conform(Bug::EndOfTheLiving, "a session that lives is not ended");
}

#[test]
fn who_has_left_goes_on() {
    must_not_conform(Bug::LeavesItsRight, "is_fenced");
}

#[test]
fn the_pointer_goes_back() {
    must_be_found(Bug::PointerNotCompared, 200, &["are there; stop", "the pointer never goes back"]);
}

#[test]
fn a_truncation_goes_by_current_numbers() {
    must_be_found(Bug::TruncatesToNow, 20, &["are there; stop"]);
}

#[test]
fn a_truncation_takes_what_is_new() {
    must_be_found(Bug::TruncatesWhatIsNew, 200, &["are there; stop"]);
}

#[test]
fn a_truncation_takes_the_head() {
    must_be_found(Bug::TruncatesHead, 20, &["the journal's head is gone", "event.deleted"]);
}

#[test]
fn a_gap_is_ignored() {
    must_be_found(Bug::GapIgnored, 50, &["whose next is", "a reader got something else", "are there; stop"]);
}

#[test]
fn silence_is_trusted() {
    must_be_found(Bug::SilenceTrusted, 50, &["the end is before what was committed"]);
}
