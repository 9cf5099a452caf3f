//! The coordinators, and a journal whose entries go through the real fold.

use std::collections::VecDeque;

use kafscale_groups::{Effect, Groups, NotDecided, Now, ProposalId, Request, Settings, Token, View};
use kafscale_metadata::{
    Command, CreateTopic, Entry, OpenSession, Outcome, Refusal, State, TopicId, TopicPartition, apply,
};

/// The wall clock when the monotonic one is at 0.
pub(crate) const WALL_MS: i64 = 1_700_000_000_000;

/// A broker.
struct Broker {
    id: i32,
    groups: Groups,
    /// Its session; 0 if it has none yet.
    session: u64,
    /// Its proposals that are not decided.
    journal: VecDeque<(ProposalId, Vec<Command>)>,
}

impl Broker {
    fn new(id: i32, settings: &Settings) -> Self {
        Self { id, groups: Groups::new(settings.clone()), session: 0, journal: VecDeque::new() }
    }
}

/// See the module. Two brokers: one that coordinates, and another one, which has no session until it is needed.
pub(crate) struct World {
    here: Broker,
    there: Broker,
    pub(crate) state: State,
    pub(crate) now: u64,
    settings: Settings,
    sessions: u64,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let (here, there) = (Broker::new(1, &settings), Broker::new(2, &settings));
        let mut world = Self { here, there, state: State::default(), now: 0, settings, sessions: 0 };
        world.open();
        world
    }

    /// The one that coordinates.
    pub(crate) fn groups(&self) -> &Groups {
        &self.here.groups
    }

    /// What it proposed and is not decided.
    pub(crate) fn journal(&self) -> &VecDeque<(ProposalId, Vec<Command>)> {
        &self.here.journal
    }

    fn open(&mut self) {
        self.sessions += 1;
        self.here.session = self.sessions;
        let open = OpenSession { broker_id: self.here.id, identity: 7, listeners: Vec::new(), rack: None };
        let opened = self.append(vec![Command::OpenSession(open)]);
        assert_eq!(opened, [Outcome::Done]);
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { now: Now { ms: self.now }, state: &self.state, session: self.here.session }
    }

    /// What the one that coordinates does when sessions have changed.
    fn look(&mut self) -> Vec<Effect> {
        let view = View { now: Now { ms: self.now }, state: &self.state, session: self.here.session };
        let effects = self.here.groups.look(view);
        self.keep(effects)
    }

    fn swap(&mut self) {
        std::mem::swap(&mut self.here, &mut self.there);
    }

    /// What the other one does when sessions have changed.
    pub(crate) fn look_there(&mut self) -> Vec<Effect> {
        self.swap();
        let effects = if self.here.session == 0 { Vec::new() } else { self.look() };
        self.swap();
        effects
    }

    /// The other broker becomes ready, and this one withdraws; unless it is `seen`, this one does not look at it yet.
    pub(crate) fn move_over(&mut self, seen: bool) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.swap();
        if self.here.session == 0 {
            self.open();
        }
        self.append(vec![Command::SetReady { ready: true }]);
        self.swap();
        if seen {
            effects.extend(self.look());
        }
        self.append(vec![Command::SetReady { ready: false }]);
        if seen {
            effects.extend(self.look());
        }
        self.swap();
        effects.extend(self.look());
        effects
    }

    /// The one that coordinates dies, and whatever waited there with it; the other one ends its session.
    pub(crate) fn kill(&mut self) -> Vec<Effect> {
        let dead = self.here.session;
        self.here = Broker::new(self.here.id, &self.settings);
        self.swap();
        if self.here.session == 0 {
            self.open();
        }
        assert_eq!(self.append(vec![Command::EndSession { nonce: dead }]), [Outcome::Done]);
        self.look()
    }

    /// The other broker's oldest proposal is in the journal, after all.
    pub(crate) fn written_there(&mut self) -> Vec<Effect> {
        self.swap();
        let effects = if self.here.journal.is_empty() { Vec::new() } else { self.written() };
        self.swap();
        effects
    }

    /// A request to the other broker.
    pub(crate) fn request_there(&mut self, token: Token, group: &str, request: Request) -> Vec<Effect> {
        self.swap();
        let effects = self.request(token, group, request);
        self.swap();
        effects
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
        let n = self.state.session(self.here.session).map_or(0, |s| s.next_n());
        let entry = Entry {
            feature_level: kafscale_metadata::limits::FEATURE_LEVEL,
            nonce: self.here.session,
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
        let view = View { now: Now { ms: self.now }, state: &self.state, session: self.here.session };
        let effects = self.here.groups.request(view, token, group, request);
        self.keep(effects)
    }

    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        let view = View { now: Now { ms: self.now }, state: &self.state, session: self.here.session };
        let effects = self.here.groups.tick(view);
        self.keep(effects)
    }

    /// The oldest proposal is in the journal, each of its commands in an entry.
    pub(crate) fn written(&mut self) -> Vec<Effect> {
        let (id, commands) = self.here.journal.pop_front().expect("something is being journalled");
        let outcomes = commands.into_iter().flat_map(|command| self.append(vec![command])).collect();
        self.decided(id, Ok(outcomes))
    }

    /// The fold refuses the oldest proposal.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Vec<Effect> {
        let (id, commands) = self.here.journal.pop_front().expect("something is being journalled");
        self.decided(id, Ok(commands.iter().map(|_| Outcome::Refused(refusal)).collect()))
    }

    /// The oldest proposal is not, or nobody knows.
    pub(crate) fn not_decided(&mut self, why: NotDecided) -> Vec<Effect> {
        let (id, _) = self.here.journal.pop_front().expect("something is being journalled");
        self.decided(id, Err(why))
    }

    fn decided(&mut self, id: ProposalId, verdict: Result<Vec<Outcome>, NotDecided>) -> Vec<Effect> {
        let view = View { now: Now { ms: self.now }, state: &self.state, session: self.here.session };
        let effects = self.here.groups.decided(view, id, verdict);
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
        self.here.groups = Groups::new(self.settings.clone());
        self.here.journal.clear();
        self.open();
        let _nobody_waits = self.look();
    }

    fn keep(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            if let Effect::Propose(id, commands) = effect {
                self.here.journal.push_back((*id, commands.clone()));
            }
        }
        effects
    }
}
