//! The transactions that put entries, and what their answers mean. Pure: values in, values out.
//!
//! Each of them puts exactly one new E and H, in that order, and reads H back: the version says the entry's ordinal.
//!
//! | what | if | then | else |
//! |---|---|---|---|
//! | append | mod(S) = c, create(E) = 0, value(H) = incarnation | put E, put H | get S, E, H |
//! | open | create(S) = 0, create(E) = 0, value(H) = incarnation | put S on its lease, put E, put H | get S, E, H, P |
//! | take over | mod(S) = c of the old one, and as above | as above | as above |
//! | leave | as append | delete S, put E, put H | as append |
//! | publish | as append, mod(P) as it was read | put P, put E, put H | as append, get P |
//! | end | as append, mod(S of the ended) ≠ its c | put E, put H | as append |
//! | expel | as append, mod(S of the expelled) = its c | delete that S, put E, put H | as append |
//!
//! c, a session's fence, is the mod-revision of S as its opening wrote it, which is also that of its entry 0. Never the
//! create-revision: a takeover keeps that, and the old process would go on appending.
//!
//! **An end is an entry of the session that writes it**, under that session's own key and number. It is not an entry of
//! the session that it ends: there, under the next number n, it would answer a repetition of the ended session's own
//! append n, which never landed, with "E is there: committed". A key of its own under the ended session would avoid
//! that too, but its entry needs a number that no fold has promised it, it could be written by a broker that has been
//! ended itself, and a repetition after a truncation would land. As an ordinary append it is fenced and numbered like
//! any other, and what is unknown about it is found out in the same way. Several brokers may end one session: the fold
//! does nothing the second time.
//!
//! **create(E) = 0 stands in openings too.** A late duplicate of an opening finds the S of a session that has left
//! gone. It would put entry 0 over the old one, which then is missing from its place in the order.
//!
//! **value(H) stands everywhere**, so that nothing of an old life of the journal is ever put into a new one.

use bytes::Bytes;

use super::keys::Names;
use super::kv::{Compare, Found, Get, Is, KeyValue, Keys, LeaseId, Op, OpResult, Revision, Target, Txn, TxnReply};
use super::stored::{StoredPointer, StoredSession, Unreadable, encode_head};
use crate::Identity;

/// What all transactions of one journal have in common.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) names: Names,
    pub(super) incarnation: u128,
}

/// A session, and the right to append under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fenced {
    pub(super) broker_id: i32,
    pub(super) nonce: u64,
    /// c.
    pub(super) fence: Revision,
}

fn equal(key: Bytes, target: Target) -> Compare {
    Compare { keys: Keys::One(key), is: Is::Equal, target }
}

fn put(key: Bytes, value: Bytes, lease: LeaseId) -> Op {
    Op::Put { key, value, lease }
}

fn get(key: Bytes) -> Op {
    Op::Get(Get::one(key))
}

/// What a read found.
pub(super) fn all(result: Option<&OpResult>) -> &[KeyValue] {
    match result {
        Some(OpResult::Got(Found { kvs, .. })) => kvs,
        Some(OpResult::Put | OpResult::Deleted(_)) | None => &[],
    }
}

/// What a read of one key found.
fn only(result: Option<&OpResult>) -> Option<&KeyValue> {
    all(result).first()
}

impl Life {
    fn is_head(&self, kv: &KeyValue) -> bool {
        kv.value == encode_head(self.incarnation)
    }

    /// H is of this life: in every transaction that puts or removes entries.
    pub(super) fn compare_head(&self) -> Compare {
        equal(self.names.head(), Target::Value(encode_head(self.incarnation)))
    }

    /// The end of every transaction that puts an entry.
    fn put_entry(&self, nonce: u64, n: u64, entry: &Bytes, then: &mut Vec<Op>) {
        then.push(put(self.names.entry(nonce, n), entry.clone(), 0));
        then.push(put(self.names.head(), encode_head(self.incarnation), 0));
        then.push(get(self.names.head()));
    }
}

/// How many entries the journal's life has, by the H that a transaction read back.
fn count(reply: &TxnReply) -> Option<u64> {
    only(reply.results.last()).map(|head| head.version)
}

/// An entry of a session.
#[derive(Debug, Clone)]
pub(super) struct Append {
    pub(super) by: Fenced,
    pub(super) n: u64,
    pub(super) entry: Bytes,
    pub(super) with: With,
}

/// What else an append does.
#[derive(Debug, Clone)]
pub(super) enum With {
    Nothing,
    /// Its session is over.
    Leave,
    /// The pointer moves. `seen`: the mod-revision of the one that it replaces.
    Publish {
        seen: Revision,
        pointer: Bytes,
    },
    /// Another session, whose S is gone, is over.
    End(Fenced),
    /// Another session, whose S is there, is over.
    Expel(Fenced),
}

/// What became of an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is there. `count`: see [`count`].
    Now { revision: Revision, count: u64 },
    /// An earlier attempt had put it there.
    Before { revision: Revision },
    /// The session is over.
    Fenced,
    /// The pointer was moved by somebody else, and is this now.
    PointerMoved(Option<KeyValue>),
    /// The session to be ended is alive, or the one to be expelled is gone.
    VictimDiffers,
    /// H is of another life, or gone.
    OtherLife,
    /// Something else stands under its key.
    OtherEntry,
    /// An answer that fits no state of the store.
    Nonsense,
}

impl Append {
    pub(super) fn txn(&self, life: &Life) -> Txn {
        let names = &life.names;
        let (session, own) = (names.session(self.by.broker_id), names.entry(self.by.nonce, self.n));
        let mut when = vec![
            equal(session.clone(), Target::Mod(self.by.fence)),
            equal(own.clone(), Target::Create(0)),
            life.compare_head(),
        ];
        let mut then = Vec::new();
        let mut otherwise = vec![get(session.clone()), get(own), get(names.head())];
        match &self.with {
            With::Nothing => {}
            With::Leave => then.push(Op::Delete(Keys::One(session))),
            With::Publish { seen, pointer } => {
                when.push(equal(names.pointer(), Target::Mod(*seen)));
                then.push(put(names.pointer(), pointer.clone(), 0));
                otherwise.push(get(names.pointer()));
            }
            With::End(victim) => {
                let keys = Keys::One(names.session(victim.broker_id));
                when.push(Compare { keys, is: Is::NotEqual, target: Target::Mod(victim.fence) });
                otherwise.push(get(names.session(victim.broker_id)));
            }
            With::Expel(victim) => {
                let key = names.session(victim.broker_id);
                when.push(equal(key.clone(), Target::Mod(victim.fence)));
                then.push(Op::Delete(Keys::One(key.clone())));
                otherwise.push(get(key));
            }
        }
        life.put_entry(self.by.nonce, self.n, &self.entry, &mut then);
        Txn { when, then, otherwise }
    }

    pub(super) fn read(&self, life: &Life, reply: &TxnReply) -> Appended {
        if reply.succeeded {
            return match count(reply) {
                Some(count) => Appended::Now { revision: reply.revision, count },
                None => Appended::Nonsense,
            };
        }
        let [session, own, head, more] = [0, 1, 2, 3].map(|at| only(reply.results.get(at)));
        if !head.is_some_and(|head| life.is_head(head)) {
            return Appended::OtherLife;
        }
        if let Some(own) = own {
            // Also if the session was fenced since.
            let is_this = own.value == self.entry;
            return if is_this { Appended::Before { revision: own.mod_revision } } else { Appended::OtherEntry };
        }
        let is_at = |kv: Option<&KeyValue>, fence| kv.is_some_and(|kv| kv.mod_revision == fence);
        if !is_at(session, self.by.fence) {
            return Appended::Fenced;
        }
        match &self.with {
            With::Publish { seen, .. } if !is_at(more, *seen) => Appended::PointerMoved(more.cloned()),
            With::End(victim) if is_at(more, victim.fence) => Appended::VictimDiffers,
            With::Expel(victim) if !is_at(more, victim.fence) => Appended::VictimDiffers,
            With::Nothing | With::Leave | With::Publish { .. } | With::End(_) | With::Expel(_) => Appended::Nonsense,
        }
    }
}

/// A session's opening.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) identity: Identity,
    pub(super) nonce: u64,
    pub(super) entry: Bytes,
    pub(super) lease: LeaseId,
    /// What is known of the store; a wrong guess is answered by a better one.
    pub(super) guess: Guess,
}

/// What an opening takes for true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guess {
    /// The fence of a session of the same identity that is taken over; none: there is no session of this broker id.
    pub(super) older: Option<Revision>,
    /// There is no entry yet, and the pointer has this mod-revision.
    pub(super) empty: Option<Revision>,
}

/// What became of an [`Open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opened {
    /// It is there, and its fence is `revision`.
    Now { revision: Revision, count: u64 },
    /// An earlier attempt had put it there.
    Before { revision: Revision },
    /// An earlier attempt had put it there, and its session is over already.
    Over,
    /// Another identity has the broker id.
    InUse,
    /// The guess was wrong.
    Again(Guess),
    /// H is of another life.
    OtherLife,
    /// What stands there is not for us to read.
    Unreadable(Unreadable),
}

impl Open {
    pub(super) fn txn(&self, life: &Life) -> Txn {
        let names = &life.names;
        let (session, own) = (names.session(self.identity.broker_id), names.entry(self.nonce, 0));
        let mut when = vec![
            match self.guess.older {
                None => equal(session.clone(), Target::Create(0)),
                Some(fence) => equal(session.clone(), Target::Mod(fence)),
            },
            equal(own.clone(), Target::Create(0)),
        ];
        match self.guess.empty {
            None => when.push(life.compare_head()),
            Some(seen) => {
                when.push(equal(names.head(), Target::Create(0)));
                when.push(equal(names.pointer(), Target::Mod(seen)));
            }
        }
        let value = StoredSession::new(self.identity, self.nonce, self.entry.clone()).encode();
        let mut then = vec![put(session.clone(), value, self.lease)];
        life.put_entry(self.nonce, 0, &self.entry, &mut then);
        Txn { when, then, otherwise: vec![get(session), get(own), get(names.head()), get(names.pointer())] }
    }

    pub(super) fn read(&self, life: &Life, reply: &TxnReply) -> Opened {
        if let Some(count) = count(reply).filter(|_| reply.succeeded) {
            return Opened::Now { revision: reply.revision, count };
        }
        let [session, own, head, pointer] = [0, 1, 2, 3].map(|at| only(reply.results.get(at)));
        let empty = match (head, pointer) {
            (Some(head), _) if life.is_head(head) => None,
            (Some(_), _) => return Opened::OtherLife,
            (None, Some(pointer)) => match StoredPointer::decode(&pointer.value) {
                Err(why) => return Opened::Unreadable(why),
                Ok(stored) if stored.incarnation == life.incarnation && self.guess.empty.is_some() => {
                    Some(pointer.mod_revision)
                }
                // There was an H, or there is another life.
                Ok(_) => return Opened::OtherLife,
            },
            (None, None) => return Opened::OtherLife,
        };
        let stored = match session.map(|kv| StoredSession::decode(&kv.value)).transpose() {
            Ok(stored) => session.zip(stored),
            Err(why) => return Opened::Unreadable(why),
        };
        match stored {
            Some((kv, stored)) if stored.nonce == self.nonce => Opened::Before { revision: kv.mod_revision },
            _ if own.is_some() => Opened::Over,
            Some((kv, stored)) if stored.token == self.identity.token => {
                Opened::Again(Guess { older: Some(kv.mod_revision), empty })
            }
            Some(_) => Opened::InUse,
            None => Opened::Again(Guess { older: None, empty }),
        }
    }
}

#[cfg(test)]
#[path = "txns_tests.rs"]
mod tests;
