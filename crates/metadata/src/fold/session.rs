//! Sessions in the fold: opening, and the header of each entry. An opening ends any older session of its broker id.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{Entry, Nonce, OpenSession, Outcome, Refusal};
use crate::limits::{ADDRESS_BYTES, COORDINATORS_SINCE, LISTENERS, LIVE_SESSIONS};
use crate::state::{Session, Standing, State};

/// Takes note of a new nonce. The session lives only once its opening was accepted; it is known before, so that the
/// entries of a session whose opening was refused are refused too, and do not look like a gap.
pub(super) fn enter(state: &mut State, nonce: Nonce, ordinal: u64) {
    let session = Session {
        nonce,
        broker_id: -1,
        identity: 0,
        listeners: Vec::new(),
        rack: None,
        standing: Standing::New,
        ended: Some(ordinal),
        next_n: 0,
        reservations: Vec::new(),
        low: 0,
    };
    state.sessions.by_nonce.insert(nonce, session);
}

pub(super) fn open(state: &mut State, entry: &Entry, open: &OpenSession) -> Outcome {
    if !is_well_formed(open) {
        return Outcome::Refused(Refusal::NotAllowed);
    }
    let older = state.sessions.live.get(&open.broker_id).copied();
    if older.is_none() && state.sessions.live.len() >= LIVE_SESSIONS {
        return Outcome::Refused(Refusal::LimitReached);
    }
    if let Some(older) = older {
        leave(state, older);
    }
    if let Some(session) = state.sessions.by_nonce.get_mut(&entry.nonce) {
        session.broker_id = open.broker_id;
        session.identity = open.identity;
        session.listeners.clone_from(&open.listeners);
        session.rack.clone_from(&open.rack);
        session.ended = None;
        state.sessions.live.insert(open.broker_id, entry.nonce);
    }
    changed(state, entry);
    Outcome::Done
}

/// Ends a session, and drops what it left unfinished. False if there never was such a session.
pub(super) fn end(state: &mut State, entry: &Entry, nonce: Nonce) -> bool {
    if state.sessions.is_live(nonce) {
        leave(state, nonce);
        changed(state, entry);
    }
    state.session(nonce).is_some()
}

fn leave(state: &mut State, nonce: Nonce) {
    state.groups.drop_unfinished(|_, owner| owner == nonce);
    state.sessions.end(nonce, state.ordinal.saturating_add(1));
}

/// The entry's session, which lives, is ready, or withdraws.
pub(super) fn set_ready(state: &mut State, entry: &Entry, ready: bool) {
    let standing = if ready { Standing::Ready } else { Standing::Withdrawn };
    if let Some(session) = state.sessions.by_nonce.get_mut(&entry.nonce)
        && session.standing != standing
    {
        session.standing = standing;
        changed(state, entry);
    }
}

/// Groups may have moved. Unfinished parts vanish with a change of coordinator, also if the group comes back to the session later: in between
/// another may have told members something else.
fn changed(state: &mut State, entry: &Entry) {
    if entry.feature_level < COORDINATORS_SINCE {
        return;
    }
    state.sessions.changes = state.sessions.changes.saturating_add(1);
    if state.groups.unfinished().len() == 0 {
        return;
    }
    let moved = state.groups.unfinished().filter(|(id, unfinished)| !state.coordinates(unfinished.nonce, id));
    let moved: BTreeSet<Arc<str>> = moved.map(|(id, _)| id.into()).collect();
    state.groups.drop_unfinished(|id, _| moved.contains(id));
}

fn is_well_formed(open: &OpenSession) -> bool {
    open.broker_id >= 0
        && open.listeners.len() <= LISTENERS
        && open.listeners.iter().all(|l| l.name.len() <= ADDRESS_BYTES && l.host.len() <= ADDRESS_BYTES)
        && open.rack.as_ref().is_none_or(|rack| rack.len() <= ADDRESS_BYTES)
}

/// After the commands: counts the entry and, if it was of a live session and its header is valid, applies the header.
/// `low` never goes back: a lower one is no news.
pub(super) fn settle(state: &mut State, entry: &Entry, apply_header: bool) {
    let Some(session) = state.sessions.by_nonce.get_mut(&entry.nonce) else { return };
    session.next_n = entry.n.saturating_add(1);
    if !apply_header {
        return;
    }
    for reservation in &entry.reserved {
        match session.reservations.last_mut() {
            Some(last) if last.kind == reservation.kind => last.end = reservation.end,
            _ => session.reservations.push(*reservation),
        }
    }
    session.low = session.low.max(entry.low);
}
