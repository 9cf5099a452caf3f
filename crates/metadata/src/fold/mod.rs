//! The fold: what a journal entry does to the state. Pure and total: whatever an entry says, it is applied, refused
//! command by command, or the fold stops in front of it; it never panics.
//!
//! How an entry is applied, in the order of the path: its place ([`apply`]), its session and its header, its
//! commands one after the other ([`session`], [`topic`], [`bundle`] with [`sequence`], [`producer`], [`group`] with
//! [`offsets`]), then its header
//! (object numbers are checked against `low` and the reservations as they were before the entry), then the rolling
//! hash ([`digest`]).

mod bundle;
mod digest;
mod group;
mod offsets;
mod producer;
mod sequence;
mod session;
mod topic;

pub use topic::is_topic_name;

use crate::command::{Command, Entry, ObjectId, ObjectKind, Outcome, Refusal, TopicId, TopicPartition};
use crate::limits::{COORDINATORS_SINCE, FEATURE_LEVEL, RESERVATIONS};
use crate::state::{Session, SnapshotRef, State};

/// Why the fold cannot go on. The state is as it was before the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The entry is not the next one of the journal.
    #[error("entry {got} follows entry {after} of the journal: entries are missing or came twice")]
    Ordinal {
        /// The last applied ordinal.
        after: u64,
        /// The ordinal of the entry.
        got: u64,
    },
    /// An entry of the session is missing.
    #[error("session {nonce:016x} is at its entry {expected}, and entry {got} came: the journal lost entries")]
    Gap {
        /// The session.
        nonce: u64,
        /// The number that its next entry must have.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// The entry needs a newer release.
    #[error("the journal needs feature level {level}, and this release knows {FEATURE_LEVEL}: upgrade this broker")]
    Newer {
        /// The entry's level.
        level: u32,
    },
}

/// What an entry did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What became of each command, in their order. Empty for a repeat.
    pub outcomes: Vec<Outcome>,
    /// The partitions whose high watermark moved; sorted, each once.
    pub advanced: Vec<TopicPartition>,
    /// The topics that were deleted.
    pub deleted: Vec<TopicId>,
    /// The entry had been applied before (a repeat can land after a truncation): it did nothing.
    pub repeat: bool,
}

/// Applies the journal's entry `ordinal`. Errors mean that the fold must not go on; the state is unchanged then.
pub fn apply(state: &mut State, ordinal: u64, entry: &Entry) -> Result<Applied, Stop> {
    if state.ordinal.checked_add(1) != Some(ordinal) {
        return Err(Stop::Ordinal { after: state.ordinal, got: ordinal });
    }
    if entry.feature_level > FEATURE_LEVEL {
        return Err(Stop::Newer { level: entry.feature_level });
    }
    let expected = state.session(entry.nonce).map_or(0, Session::next_n);
    if entry.n > expected {
        return Err(Stop::Gap { nonce: entry.nonce, expected, got: entry.n });
    }
    let applied =
        if entry.n < expected { Applied { repeat: true, ..Applied::default() } } else { apply_next(state, entry) };
    state.ordinal = ordinal;
    state.hash = digest::chain(state.hash, ordinal, entry, &applied);
    Ok(applied)
}

fn apply_next(state: &mut State, entry: &Entry) -> Applied {
    let ordinal = state.ordinal.saturating_add(1);
    if entry.n == 0 {
        session::enter(state, entry.nonce, ordinal);
    }
    let header = header_is_valid(state, entry);
    let mut applied = Applied::default();
    let mut opened = false;
    for (index, command) in entry.commands.iter().enumerate() {
        let outcome = if let Command::OpenSession(open) = command
            && header
            && (entry.n, index) == (0, 0)
        {
            session::open(state, entry, open)
        } else if !header || !state.sessions.is_live(entry.nonce) {
            Outcome::Refused(Refusal::NotAllowed)
        } else {
            run(state, entry, command, &mut applied)
        };
        opened |= state.sessions.is_live(entry.nonce);
        applied.outcomes.push(outcome);
    }
    applied.advanced.sort_unstable();
    applied.advanced.dedup();
    let live = opened || state.sessions.is_live(entry.nonce);
    session::settle(state, entry, header && live);
    applied
}

/// One command of a live session.
fn run(state: &mut State, entry: &Entry, command: &Command, applied: &mut Applied) -> Outcome {
    if command.group().is_some_and(|group| !coordinates(state, entry, group)) {
        return Outcome::Refused(Refusal::NotCoordinator);
    }
    match command {
        Command::OpenSession(_) => Outcome::Refused(Refusal::NotAllowed),
        Command::EndSession { nonce } => {
            answer(session::end(state, entry, *nonce).then_some(()).ok_or(Refusal::NotAllowed))
        }
        Command::SetReady { ready } => {
            session::set_ready(state, entry, *ready);
            Outcome::Done
        }
        Command::CreateTopic(create) => answer(topic::create(state, create)),
        Command::DeleteTopic { topic } => {
            let result = topic::delete(state, *topic);
            if result.is_ok() {
                applied.deleted.push(*topic);
            }
            answer(result)
        }
        Command::CommitBundle(bundle) => bundle::commit(state, entry, bundle, &mut applied.advanced),
        Command::AllocateProducerIds { count } => match producer::allocate(state, *count, entry.time_ms) {
            Ok(first) => Outcome::ProducerIds { first },
            Err(refusal) => Outcome::Refused(refusal),
        },
        Command::ExpireProducers { idle } => {
            producer::expire(state, idle);
            Outcome::Done
        }
        Command::PublishSnapshot { object, ordinal } => answer(publish(state, entry, *object, *ordinal)),
        Command::AddPartitions { topic, count } => answer(topic::add_partitions(state, *topic, *count)),
        Command::CommitOffsets(commit) => offsets::commit(state, entry, commit),
        Command::CompleteJoin(join) => answer(group::complete_join(state, entry, join)),
        Command::CompleteSync(sync) => answer(group::complete_sync(state, entry, sync)),
        Command::ReplaceMember(replace) => answer(group::replace_member(state, replace)),
        Command::DeleteGroup { group } => answer(group::delete(state, group)),
        Command::DeleteOffsets { group, partitions } => answer(offsets::delete(state, group, partitions)),
        Command::ExpireOffsets { group, generation, offsets } => {
            offsets::expire(state, group, *generation, offsets);
            Outcome::Done
        }
    }
}

/// Whether the entry's session coordinates the group here, between the commands before and the commands after. So two
/// sessions that both believe that they do cannot both complete a generation, nor commit.
fn coordinates(state: &State, entry: &Entry, group: &str) -> bool {
    entry.feature_level < COORDINATORS_SINCE || state.coordinates(entry.nonce, group)
}

fn answer(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}

/// Reservations only go up, and `low` stays within them.
fn header_is_valid(state: &State, entry: &Entry) -> bool {
    let Some(session) = state.session(entry.nonce) else { return false };
    let mut reserved = session.reserved();
    for reservation in &entry.reserved {
        if reservation.end <= reserved {
            return false;
        }
        reserved = reservation.end;
    }
    entry.low <= reserved && session.reservations.len().saturating_add(entry.reserved.len()) <= RESERVATIONS
}

/// Whether the entry may reference the object: a number of its own session, of the right kind, in [low, reserved) as
/// they were before the entry.
fn may_reference(state: &State, entry: &Entry, object: ObjectId, kind: ObjectKind) -> bool {
    let Some(session) = state.session(entry.nonce) else { return false };
    object.nonce == entry.nonce && object.number >= session.low && session.kind_of(object.number) == Some(kind)
}

/// The pointer to the newest snapshot only goes up, and only to a state that every broker has passed.
fn publish(state: &mut State, entry: &Entry, object: ObjectId, ordinal: u64) -> Result<(), Refusal> {
    let newest = state.snapshots[0].map_or(0, |s| s.ordinal);
    if !may_reference(state, entry, object, ObjectKind::Snapshot) || ordinal <= newest || ordinal > state.ordinal {
        return Err(Refusal::NotAllowed);
    }
    state.snapshots = [Some(SnapshotRef { object, ordinal }), state.snapshots[0]];
    Ok(())
}
