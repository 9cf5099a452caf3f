//! Consumer groups: generations with their members, committed offsets, and the parts of large generations that wait
//! for their last one.
//!
//! A group is behind `Arc`, and so are its list of members and its pages of offsets ([`offsets`]): a commit copies
//! a page at most. What groups weigh is kept as they change, in numbers that are part of the fold's meaning
//! (`limits`): near to what they take in memory, and never a measurement of it.

mod expired;
mod offsets;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use expired::{Expired, ExpiredOffsets};
pub use offsets::CommittedOffset;
pub(crate) use offsets::Offsets;

use crate::command::{GroupMember, MemberId, Nonce, TopicId, TopicPartition};
use crate::limits::{GROUP_WEIGHT, MEMBER_WEIGHT};

/// How far a group's generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupStage {
    /// It has no members.
    Empty,
    /// Its members are known, their assignments not yet.
    Joined,
    /// Its members have their assignments.
    Assigned,
}

/// A member of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

impl Member {
    pub(crate) fn new(joined: &GroupMember, assignment: Bytes) -> Member {
        Member {
            id: joined.id.clone(),
            instance: joined.instance.as_deref().map(Arc::from),
            client_id: joined.client_id.as_str().into(),
            client_host: joined.client_host.as_str().into(),
            session_timeout_ms: joined.session_timeout_ms,
            rebalance_timeout_ms: joined.rebalance_timeout_ms,
            subscription: joined.subscription.clone(),
            assignment,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &MemberId {
        &self.id
    }

    /// The instance of a static member (KIP-345).
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// What the client calls itself.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Where it came from when it joined.
    #[must_use]
    pub fn client_host(&self) -> &str {
        &self.client_host
    }

    /// Without a heartbeat for so long it is removed; milliseconds.
    #[must_use]
    pub fn session_timeout_ms(&self) -> i32 {
        self.session_timeout_ms
    }

    /// How long the others wait for it in a rebalance; milliseconds.
    #[must_use]
    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.rebalance_timeout_ms
    }

    /// What it subscribes to, in the generation's protocol.
    #[must_use]
    pub fn subscription(&self) -> &Bytes {
        &self.subscription
    }

    /// What the leader gave it; empty before.
    #[must_use]
    pub fn assignment(&self) -> &Bytes {
        &self.assignment
    }

    fn weight(&self) -> u64 {
        let texts = [self.id.len(), self.instance.as_ref().map_or(0, |i| i.len())];
        let texts = texts.iter().sum::<usize>() + self.client_id.len() + self.client_host.len();
        MEMBER_WEIGHT + (texts + self.subscription.len() + self.assignment.len()) as u64
    }
}

/// Who is in a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) protocol_type: Arc<str>,
    pub(crate) protocol: Arc<str>,
    /// Empty if there are no members.
    pub(crate) leader: MemberId,
    /// By id, but for one that is not complete.
    pub(crate) members: Arc<Vec<Member>>,
}

impl Membership {
    pub(crate) fn weight(&self) -> u64 {
        let texts = self.protocol_type.len() + self.protocol.len() + self.leader.len();
        texts as u64 + self.members.iter().map(Member::weight).sum::<u64>()
    }

    /// Puts the members in order. False if they are none that a generation can have: an id or an instance twice, or
    /// another leader than one of them.
    pub(crate) fn complete(&mut self) -> bool {
        Arc::make_mut(&mut self.members).sort_by(|a, b| a.id.cmp(&b.id));
        let mut instances: Vec<&str> = self.members.iter().filter_map(Member::instance).collect();
        instances.sort_unstable();
        let led = if self.members.is_empty() { self.leader.is_empty() } else { self.member(&self.leader).is_some() };
        led && self.members.windows(2).all(|m| m[0].id != m[1].id) && instances.windows(2).all(|i| i[0] != i[1])
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(self.place(id)?)
    }

    pub(crate) fn place(&self, id: &str) -> Option<usize> {
        self.members.binary_search_by(|m| m.id.as_ref().cmp(id)).ok()
    }
}

/// One consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub(crate) generation: i32,
    pub(crate) stage: GroupStage,
    pub(crate) changed_ms: i64,
    membership: Membership,
    /// What `membership` weighs.
    bytes: u64,
    pub(crate) offsets: Offsets,
}

const _: () = assert!(size_of::<Group>() <= 256, "a group's weight covers its tables");
const _: () = assert!(size_of::<Member>() + 64 <= MEMBER_WEIGHT as usize, "a member's weight covers its tables");

impl Group {
    /// A group that nobody ever joined.
    pub(crate) fn empty(changed_ms: i64) -> Group {
        Group {
            generation: 0,
            stage: GroupStage::Empty,
            changed_ms,
            membership: Membership::default(),
            bytes: 0,
            offsets: Offsets::default(),
        }
    }

    /// Its generation, from 1; 0 if nobody ever joined.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// How far its generation is.
    #[must_use]
    pub fn stage(&self) -> GroupStage {
        self.stage
    }

    /// Its protocol type; empty if nobody ever joined.
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        &self.membership.protocol_type
    }

    /// The protocol that its members agreed on; empty if there is none.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.membership.protocol
    }

    /// The member that assigns; empty if there is none.
    #[must_use]
    pub fn leader(&self) -> &str {
        &self.membership.leader
    }

    /// Its members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.membership.members.iter()
    }

    /// One of its members.
    #[must_use]
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.membership.member(id)
    }

    /// The entry time of the last change of its generation or stage; milliseconds. Never goes back.
    #[must_use]
    pub fn changed_ms(&self) -> i64 {
        self.changed_ms
    }

    /// What its members weigh; bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its committed offsets, by topic id and partition.
    pub fn offsets(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.offsets.iter()
    }

    /// How many partitions have a committed offset.
    #[must_use]
    pub fn offset_count(&self) -> usize {
        self.offsets.len()
    }

    /// The committed offset of a partition.
    #[must_use]
    pub fn offset(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(partition)
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    pub(crate) fn set_membership(&mut self, membership: Membership) {
        self.bytes = membership.weight();
        self.membership = membership;
    }

    /// What it weighs with its offsets.
    pub(crate) fn weight(&self, id: &str) -> u64 {
        GROUP_WEIGHT + id.len() as u64 + self.bytes + self.offsets.weight()
    }
}

/// What parts of a generation have brought so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gathered {
    Join(Membership),
    Sync(Vec<(MemberId, Bytes)>),
}

/// A generation of which parts are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// Who began it.
    pub(crate) nonce: Nonce,
    pub(crate) generation: i32,
    /// The part that must follow.
    pub(crate) next: u32,
    pub(crate) gathered: Gathered,
}

impl Unfinished {
    pub(crate) fn weight(&self, id: &str) -> u64 {
        let gathered = match &self.gathered {
            Gathered::Join(membership) => membership.weight(),
            Gathered::Sync(assignments) => assignments.iter().map(|(id, bytes)| (id.len() + bytes.len()) as u64).sum(),
        };
        GROUP_WEIGHT + id.len() as u64 + gathered
    }
}

/// All groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    by_id: BTreeMap<Arc<str>, Arc<Group>>,
    unfinished: BTreeMap<Arc<str>, Unfinished>,
    /// What all of it weighs.
    bytes: u64,
}

impl Groups {
    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id).map(Arc::as_ref)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Group)> {
        self.by_id.iter().map(|(id, group)| (id.as_ref(), group.as_ref()))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes a group, and what all weigh with it.
    pub(crate) fn update<R>(&mut self, id: &str, change: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let group = Arc::make_mut(self.by_id.get_mut(id)?);
        let before = group.weight(id);
        let result = change(group);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(group.weight(id));
        Some(result)
    }

    pub(crate) fn insert(&mut self, id: &str, group: Group) {
        self.remove(id);
        self.bytes = self.bytes.saturating_add(group.weight(id));
        self.by_id.insert(id.into(), Arc::new(group));
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let Some(group) = self.by_id.remove(id) else { return false };
        self.bytes = self.bytes.saturating_sub(group.weight(id));
        true
    }

    /// The groups that hold an offset of the topic.
    pub(crate) fn with_offsets_of(&self, topic: TopicId) -> Vec<Arc<str>> {
        let hold = self.by_id.iter().filter(|(_, group)| group.offsets.has_topic(topic));
        hold.map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn unfinished(&self) -> impl ExactSizeIterator<Item = (&str, &Unfinished)> {
        self.unfinished.iter().map(|(id, unfinished)| (id.as_ref(), unfinished))
    }

    pub(crate) fn is_unfinished(&self, id: &str) -> bool {
        self.unfinished.contains_key(id)
    }

    /// Takes out what was begun of the group's next generation or assignment.
    pub(crate) fn take_unfinished(&mut self, id: &str) -> Option<Unfinished> {
        let unfinished = self.unfinished.remove(id)?;
        self.bytes = self.bytes.saturating_sub(unfinished.weight(id));
        Some(unfinished)
    }

    pub(crate) fn put_unfinished(&mut self, id: &str, unfinished: Unfinished) {
        self.take_unfinished(id);
        self.bytes = self.bytes.saturating_add(unfinished.weight(id));
        self.unfinished.insert(id.into(), unfinished);
    }

    /// Drops what was begun, by group and by who began it.
    pub(crate) fn drop_unfinished(&mut self, drop: impl Fn(&str, Nonce) -> bool) {
        let dropped = self.unfinished.iter().filter(|(id, unfinished)| drop(id, unfinished.nonce));
        let dropped: Vec<Arc<str>> = dropped.map(|(id, _)| id.clone()).collect();
        for id in dropped {
            self.take_unfinished(&id);
        }
    }
}
