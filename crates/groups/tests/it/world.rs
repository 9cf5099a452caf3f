//! The coordinators, and a journal whose entries go through the real fold.

use std::collections::VecDeque;

use kafscale_groups::{Effect, Groups, NotDecided, Now, ProposalId, Request, Settings, Token, View};
use kafscale_metadata::{
    Command, CreateTopic, Entry, OpenSession, Outcome, Refusal, State, TopicId, TopicPartition, apply,
};

/// The wall clock when the monotonic one is at 0.
pub(crate) const WALL_MS: i64 = 1_700_000_000_000;

/// See the module.
pub(crate) struct World {
    pub(crate) groups: Groups,
    pub(crate) state: State,
    pub(crate) now: u64,
    settings: Settings,
    session: u64,
    /// Proposals that are not decided.
    pub(crate) journal: VecDeque<(ProposalId, Vec<Command>)>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let groups = Groups::new(settings.clone());
        let (state, journal) = (State::default(), VecDeque::new());
        let mut world = Self { groups, state, now: 0, settings, session: 0, journal };
        world.open();
        world
    }

    fn open(&mut self) {
        self.session += 1;
        let open = OpenSession { broker_id: 1, identity: 7, listeners: Vec::new(), rack: None };
        let opened = self.append(vec![Command::OpenSession(open)]);
        assert_eq!(opened, [Outcome::Done]);
    }

    pub(crate) fn topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let topic = TopicId(self.state.topics().count() as u128 + 1);
        let create = CreateTopic { topic, name: name.to_owned(), partitions, configs: Default::default() };
        assert_eq!(self.append(vec![Command::CreateTopic(create)]), [Outcome::Done]);
        topic
    }

    pub(crate) fn partition(&self, name: &str, partition: u32) -> TopicPartition {
        let topic = self.state.topics().find(|t| t.name() == name).map_or(TopicId(u128::MAX), |t| t.id());
        TopicPartition { topic, partition }
    }

    /// Appends one entry and folds it.
    pub(crate) fn append(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let n = self.state.session(self.session).map_or(0, |s| s.next_n());
        let entry = Entry {
            feature_level: kafscale_metadata::limits::FEATURE_LEVEL,
            nonce: self.session,
            n,
            time_ms: WALL_MS + self.now as i64,
            reserved: Vec::new(),
            low: 0,
            commands,
        };
        let bytes = entry.encode();
        assert!(bytes.len() <= 128 << 10, "an entry of {} bytes", bytes.len());
        let entry = Entry::decode(&bytes).expect("what was encoded can be decoded");
        let ordinal = self.state.ordinal() + 1;
        apply(&mut self.state, ordinal, &entry).expect("the fold goes on").outcomes
    }

    pub(crate) fn request(&mut self, token: Token, group: &str, request: Request) -> Vec<Effect> {
        let view = View { now: Now { ms: self.now }, state: &self.state };
        let effects = self.groups.request(view, token, group, request);
        self.keep(effects)
    }

    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        let effects = self.groups.tick(View { now: Now { ms: self.now }, state: &self.state });
        self.keep(effects)
    }

    /// The oldest proposal is in the journal, each of its commands in an entry.
    pub(crate) fn written(&mut self) -> Vec<Effect> {
        let (id, commands) = self.journal.pop_front().expect("something is being journalled");
        let outcomes = commands.into_iter().flat_map(|command| self.append(vec![command])).collect();
        self.decided(id, Ok(outcomes))
    }

    /// The fold refuses the oldest proposal.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Vec<Effect> {
        let (id, commands) = self.journal.pop_front().expect("something is being journalled");
        self.decided(id, Ok(commands.iter().map(|_| Outcome::Refused(refusal)).collect()))
    }

    /// The oldest proposal is not, or nobody knows.
    pub(crate) fn not_decided(&mut self, why: NotDecided) -> Vec<Effect> {
        let (id, _) = self.journal.pop_front().expect("something is being journalled");
        self.decided(id, Err(why))
    }

    fn decided(&mut self, id: ProposalId, verdict: Result<Vec<Outcome>, NotDecided>) -> Vec<Effect> {
        let view = View { now: Now { ms: self.now }, state: &self.state };
        let effects = self.groups.decided(view, id, verdict);
        self.keep(effects)
    }

    /// Whoever looks for old offsets finds all of the group's.
    pub(crate) fn expire(&mut self, id: &str) {
        let Some(group) = self.state.group(id) else { return };
        let offsets = group.offsets().map(|(partition, stored)| (partition, stored.committed_ms)).collect();
        let (group, generation) = (id.to_owned(), group.generation());
        assert_eq!(self.append(vec![Command::ExpireOffsets { group, generation, offsets }]), [Outcome::Done]);
    }

    /// The process dies and comes back. Whatever waited is gone, with its connections.
    pub(crate) fn restart(&mut self) {
        self.groups = Groups::new(self.settings.clone());
        self.journal.clear();
        self.open();
        self.groups.load(View { now: Now { ms: self.now }, state: &self.state });
    }

    fn keep(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            if let Effect::Propose(id, commands) = effect {
                self.journal.push_back((*id, commands.clone()));
            }
        }
        effects
    }
}
