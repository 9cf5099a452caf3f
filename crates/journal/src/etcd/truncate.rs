//! Truncation: which keys go, and when etcd forgets what they were. Pure plans, and a thin driver.
//!
//! Entries up to the pointer's floor go, by each session's numbers in the pointer; never H, and never by numbers that
//! came after. A session's old numbers can hold a *new* entry: a late repetition that landed after an earlier truncation
//! has an old n and a new place in the order, and no snapshot holds that place yet. So a range goes only if every key in
//! it is at most as new as the floor; else it stays until a later pointer covers it.
//!
//! etcd compares a range by reading it, and does so while it applies the transaction: ranges are kept short.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::kv::{Compare, Failure, Get, Is, Kv, Op, Refusal, Revision, Target, Txn};
use super::shared::{Shared, failed};
use super::stored::StoredPointer;
use super::txns::{Life, all};
use crate::ReadError;

/// Ranges in one transaction.
const MAX_RANGES: usize = 100;
/// Numbers in one range.
const MAX_PIECE: u64 = 250;
/// Numbers in one transaction.
const MAX_NUMBERS: u64 = 1000;

/// Readers may ask for revisions that are this old.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Revisions are noted this often.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// Some numbers of a session, `end` not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    nonce: u64,
    first: u64,
    end: u64,
}

/// Cuts what is to go into transactions. `firsts`: each session's lowest number that is there.
fn plan(stored: &StoredPointer, firsts: &BTreeMap<u64, u64>) -> Vec<Vec<Piece>> {
    let mut txns: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut numbers = 0;
    for (nonce, first) in firsts {
        let end = stored.counts.get(nonce).map_or(0, |count| count.next);
        let mut at = *first;
        while at < end {
            let piece = Piece { nonce: *nonce, first: at, end: end.min(at + MAX_PIECE) };
            let txn = txns.last_mut().expect("there is always one");
            numbers += piece.end - piece.first;
            if txn.len() == MAX_RANGES || numbers > MAX_NUMBERS {
                numbers = piece.end - piece.first;
                txns.push(vec![piece]);
            } else {
                txn.push(piece);
            }
            at = piece.end;
        }
    }
    txns.retain(|txn| !txn.is_empty());
    txns
}

/// Removes the pieces, if nothing in them is newer than `floor`, and nothing of another life of the journal.
fn removal(life: &Life, pieces: &[Piece], floor: Revision) -> Txn {
    let keys = |piece: &Piece| life.names.entries_of(piece.nonce, piece.first, piece.end);
    let old = |piece: &Piece| Compare { keys: keys(piece), is: Is::Less, target: Target::Mod(floor + 1) };
    Txn {
        when: pieces.iter().map(old).chain([life.compare_head()]).collect(),
        then: pieces.iter().map(|piece| Op::Delete(keys(piece))).collect(),
        otherwise: Vec::new(),
    }
}

/// Which revision was the newest when.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// Oldest first; the first may be older than it need be.
    noted: VecDeque<(Instant, Revision)>,
}

impl Ages {
    pub(super) fn note(&mut self, now: Instant, revision: Revision) {
        if self.noted.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < NOTE_INTERVAL) {
            return;
        }
        self.noted.push_back((now, revision));
        while self.noted.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= KEPT) {
            self.noted.pop_front();
        }
    }

    /// A revision that was the newest [`KEPT`] ago, or before that.
    fn kept(&self, now: Instant) -> Option<Revision> {
        let old = |(at, _): &&(Instant, Revision)| now.saturating_duration_since(*at) >= KEPT;
        self.noted.iter().rev().find(old).map(|(_, revision)| *revision)
    }
}

impl Shared {
    pub(super) async fn truncate(&self) -> Result<(), ReadError> {
        let stored = self.read_pointer().await?;
        let firsts = self.firsts(&stored).await.map_err(failed)?;
        for pieces in plan(&stored, &firsts) {
            if !self.remove(&pieces, stored.floor.revision).await? {
                for piece in pieces {
                    // One that stays holds a repetition that landed late; the next pointers cover it.
                    let _stays = self.remove(&[piece], stored.floor.revision).await?;
                }
            }
        }
        self.compact().await
    }

    /// Each session's lowest number that is there.
    async fn firsts(&self, stored: &StoredPointer) -> Result<BTreeMap<u64, u64>, Failure> {
        let mut firsts = BTreeMap::new();
        let sessions: Vec<(u64, u64)> = stored.counts.iter().map(|(nonce, count)| (*nonce, count.next)).collect();
        for sessions in sessions.chunks(MAX_RANGES) {
            let keys = |(nonce, next): &(u64, u64)| self.life.names.entries_of(*nonce, 0, *next);
            let get = |session| Op::Get(Get { keys: keys(session), keys_only: true, limit: 1 });
            let txn = Txn { then: sessions.iter().map(get).collect(), ..Txn::default() };
            let reply = self.kv.txn(txn).await?;
            for kv in reply.results.iter().filter_map(|result| all(Some(result)).first()) {
                if let super::keys::Named::Entry { nonce, n } = self.life.names.read(&kv.key) {
                    firsts.insert(nonce, n);
                }
            }
        }
        Ok(firsts)
    }

    async fn remove(&self, pieces: &[Piece], floor: Revision) -> Result<bool, ReadError> {
        let reply = self.kv.txn(removal(&self.life, pieces, floor)).await.map_err(failed)?;
        Ok(reply.succeeded)
    }

    async fn compact(&self) -> Result<(), ReadError> {
        let revision = self.inside.lock().ages.kept(self.env.clock.now());
        match revision {
            None => Ok(()),
            Some(revision) => match self.kv.compact(revision).await {
                Ok(()) | Err(Failure::Refused(Refusal::Compacted)) => Ok(()),
                Err(why) => Err(failed(why)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{LIFE, Rig, is_now};
    use super::super::stored::{Count, encode_head};
    use super::*;

    fn pointer(counts: &[(u64, u64)]) -> StoredPointer {
        let counts = counts.iter().map(|(nonce, next)| (*nonce, Count { next: *next, fence: 0 })).collect();
        StoredPointer { counts, ..StoredPointer::first(1, 0) }
    }

    #[test]
    fn every_number_below_the_pointers_goes_once_in_bounded_transactions() {
        let sessions: Vec<(u64, u64)> = (0..300).map(|nonce| (nonce, (nonce * 37) % 1500)).collect();
        let firsts = sessions.iter().map(|(nonce, next)| (*nonce, next / 3)).collect();
        let txns = plan(&pointer(&sessions), &firsts);
        assert!(txns.iter().all(|txn| txn.len() <= MAX_RANGES && !txn.is_empty()));
        assert!(txns.iter().all(|txn| txn.iter().map(|p| p.end - p.first).sum::<u64>() <= MAX_NUMBERS));
        let mut gone: BTreeMap<u64, u64> = firsts;
        for piece in txns.iter().flatten() {
            assert!(piece.first < piece.end);
            assert_eq!(gone.insert(piece.nonce, piece.end), Some(piece.first), "pieces follow each other");
        }
        for (nonce, next) in sessions {
            assert_eq!(gone[&nonce], next);
        }
    }

    #[test]
    fn a_session_without_keys_or_unknown_to_the_pointer_is_left_alone() {
        assert!(plan(&pointer(&[(1, 10)]), &BTreeMap::new()).is_empty());
        assert!(plan(&pointer(&[]), &BTreeMap::from([(1, 0)])).is_empty());
        assert!(plan(&pointer(&[(1, 10)]), &BTreeMap::from([(1, 10)])).is_empty());
    }

    #[test]
    fn what_is_newer_than_the_floor_stays() {
        let mut rig = Rig::new(0);
        let me = rig.open(1, 5);
        (1..10).for_each(|n| assert!(is_now(&rig.append(me, n))));
        let piece = |first, end| Piece { nonce: 5, first, end };
        let life = rig.life.clone();
        let remove =
            |rig: &mut Rig, pieces: &[Piece], floor| rig.run(&removal(&life, pieces, floor)).unwrap().succeeded;
        let floor = me.fence + 4;
        assert!(!remove(&mut rig, &[piece(0, 6)], floor), "entry 5 is newer");
        assert!(remove(&mut rig, &[piece(0, 2), piece(2, 5)], floor));
        assert_eq!(rig.view().entries.len(), 5);
        // A late repetition lands, and so does the truncation once more.
        assert!(is_now(&rig.append(me, 3)));
        let (head, entries) = (rig.view().head, rig.view().entries.len());
        assert!(!remove(&mut rig, &[piece(0, 5)], floor));
        assert_eq!((rig.view().head, rig.view().entries.len()), (head, entries));
        // It lands when the journal has begun anew, from a copy of the same entries.
        rig.put(rig.life.names.head(), encode_head(LIFE + 1));
        assert!(!remove(&mut rig, &[piece(5, 6)], floor + 100));
        rig.put(rig.life.names.head(), encode_head(LIFE));
        assert!(remove(&mut rig, &[piece(5, 6)], floor + 100));
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the test's own clock")]
    async fn only_what_is_five_minutes_old_is_forgotten() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut ages = Ages::default();
        for at in 0..1000u32 {
            let now = start + second * at;
            ages.note(now, u64::from(at));
            let kept = ages.kept(now);
            assert_eq!(kept.is_some(), at >= 300, "{at}");
            assert!(kept.is_none_or(|kept| kept + 300 <= u64::from(at) && kept + 320 > u64::from(at)), "{at} {kept:?}");
            assert!(ages.noted.len() < 40);
        }
        assert_eq!(ages.kept(start + second * 10_000), Some(990));
    }
}
