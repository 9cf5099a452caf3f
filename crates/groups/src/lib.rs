//! Coordinators of classic consumer groups, as state machines. Pure: no I/O, no clock, no randomness.
//!
//! ```text
//! Request ─▶ Groups::request ─▶ Effect::Answer(token, …)            what memory alone can say
//!                            └▶ Effect::Propose(id, commands) ─ journal ─ fold ─▶ Groups::decided ─▶ Effect::Answer
//! time    ─▶ Groups::tick    ─▶ the same
//! ```
//!
//! The protocol is Kafka's "classic" one: JoinGroup, SyncGroup, Heartbeat and LeaveGroup with KIP-62 (rebalance timeout),
//! KIP-134 (initial delay), KIP-345 (static members), KIP-394 (known member ids) and KIP-814 (skipped assignment), and the
//! checks of OffsetCommit, DeleteGroups and OffsetDelete.
//!
//! What outlives the process is in the replicated state ([`kafscale_metadata::Group`]): generation, members, assignment,
//! offsets. Memory adds who waits, who is late, and who came or left since the last generation. Its invariants:
//!
//! 1. Every request is answered exactly once, within the time limits of its group.
//! 2. A generation, an assignment, a static member's new id and an offset are answered only after the fold has them.
//! 3. While a change of membership is being journalled, everything but heartbeats waits, in order, and nobody is evicted.
//! 4. After a proposal that was not written, or refused, memory is made anew from the state.
//! 5. A member whose join, sync or commit waits is alive; a silent one is removed after its session timeout.
//! 6. Of a group that the fold gives to another session nothing is remembered and nobody waits, but for offsets on their
//!    way: those have the fold's verdict. A group that the fold gives to this session is made from the state.
//!
//! Not owned here: freshness (the caller's fold must have passed a barrier; see [`Groups::request`]), the expiry of
//! offsets, bytes of Kafka, and the rule by which the fold finds a group's coordinator
//! ([`kafscale_metadata::State::coordinator`]).

mod answer;
mod describe;
mod groups;
mod machine;
mod members;
mod parts;
mod request;
mod settings;
mod turn;

pub use answer::{Answer, Effect, Error, Joined, JoinedMember, Synced};
pub use describe::{DescribedMember, Description, Listed, StageName};
pub use groups::{Groups, NotDecided};
pub use request::{Commit, Heartbeat, Join, Leaver, Request, Sync};
pub use settings::Settings;

/// One request that waits for its answer; the caller gives the numbers, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One proposal; numbered here, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// A moment of a monotonic clock that never goes back; its zero is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds.
    pub ms: u64,
}

/// What the outside is at the time of a call.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Now,
    /// The fold of this broker, as far as it has come.
    pub state: &'a kafscale_metadata::State,
    /// This broker's session.
    pub session: kafscale_metadata::Nonce,
}

impl View<'_> {
    /// Whether this broker coordinates the group.
    pub fn coordinates(&self, group: &str) -> bool {
        self.state.coordinates(self.session, group)
    }
}
