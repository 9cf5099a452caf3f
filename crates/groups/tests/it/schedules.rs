//! Random schedules of one group: members that join, sync, leave, crash, repeat themselves, a journal that is slow or
//! refuses, a group that expires, and restarts from the state. What must hold is in [`Run::answered`],
//! [`Run::quiet`] and [`Run::silence`].

use std::collections::BTreeMap;

use bytes::Bytes;
use kafscale_groups::{
    Answer, Commit, Effect, Error, Heartbeat, Join, JoinedMember, Leaver, NotDecided, Now, Request, Settings,
    StageName, Sync, Token,
};
use kafscale_metadata::{GroupStage, OffsetCommit, Refusal};
use proptest::prelude::*;

use crate::world::{WALL_MS, World};

const GROUP: &str = "g";
const CLIENTS: usize = 6;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Op {
    /// A client does what it would do next.
    Step(usize),
    /// It sends its parked request again, on another connection.
    Repeat(usize),
    /// It loses its connection.
    Cut(usize),
    /// It forgets everything, and starts anew.
    Crash(usize),
    Leave(usize),
    Commit(usize),
    /// It commits in the generation before its own.
    CommitOld(usize),
    /// It wants to consume something else.
    Change(usize),
    Pass(u64),
    Written,
    NotWritten,
    Refused,
    /// The verdict is lost; whether the journal has it or not.
    Unknown(bool),
    /// The group's offsets are too old, and so is the group if it holds nothing.
    Expire,
    Restart,
    /// The group goes to the other broker; this one hears of it, or not yet.
    Move(bool),
    /// The other broker hears that sessions have changed.
    Look,
    /// What the other broker proposed is in the journal after all.
    WrittenThere,
    /// The broker dies; the other one goes on.
    Kill,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let client = 0..CLIENTS;
    let op = prop_oneof![
        20 => client.clone().prop_map(Op::Step),
        2 => client.clone().prop_map(Op::Repeat),
        2 => client.clone().prop_map(Op::Cut),
        2 => client.clone().prop_map(Op::Crash),
        2 => client.clone().prop_map(Op::Leave),
        3 => client.clone().prop_map(Op::Commit),
        1 => client.clone().prop_map(Op::CommitOld),
        1 => client.prop_map(Op::Change),
        6 => (1_u64..4_000).prop_map(Op::Pass),
        1 => (1_u64..30_000).prop_map(Op::Pass),
        14 => Just(Op::Written),
        1 => Just(Op::NotWritten),
        1 => Just(Op::Refused),
        1 => any::<bool>().prop_map(Op::Unknown),
        1 => Just(Op::Expire),
        1 => Just(Op::Restart),
        2 => any::<bool>().prop_map(Op::Move),
        1 => Just(Op::Look),
        2 => Just(Op::WrittenThere),
        1 => Just(Op::Kill),
    ];
    proptest::collection::vec(op, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn schedules(ops in ops(), delay in prop_oneof![Just(0), Just(3_000)]) {
        let mut run = Run::new(delay);
        for op in ops {
            run.op(&op);
        }
        run.quiet();
        run.silence();
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    NeedsJoin,
    /// With the members, if it leads.
    Joined(Vec<JoinedMember>),
    Synced,
}

#[derive(Debug, Clone)]
struct Client {
    instance: Option<String>,
    version: u8,
    id: String,
    generation: i32,
    stage: Stage,
    metadata: u8,
    /// The request it waits for.
    parked: Option<(u64, Request)>,
}

impl Client {
    fn new(number: usize) -> Self {
        let instance = (number < 2).then(|| format!("i{number}"));
        let version = [9, 8, 3, 4, 2, 9][number];
        let (id, stage) = (String::new(), Stage::NeedsJoin);
        Self { instance, version, id, generation: -1, stage, metadata: 0, parked: None }
    }

    fn forget(&mut self) {
        self.id = String::new();
        self.generation = -1;
        self.cut();
    }

    fn cut(&mut self) {
        self.stage = Stage::NeedsJoin;
        self.parked = None;
    }

    fn failed(&mut self, error: &Error) {
        match error {
            Error::MemberIdRequired(id) => {
                self.id = id.to_string();
                self.cut();
            }
            Error::UnknownMember | Error::FencedInstance | Error::NotFound => self.forget(),
            Error::IllegalGeneration | Error::RebalanceInProgress | Error::Retry | Error::NotCoordinator => self.cut(),
            Error::InconsistentProtocol
            | Error::InvalidSessionTimeout
            | Error::GroupFull
            | Error::InvalidGroup
            | Error::NotEmpty
            | Error::Subscribed
            | Error::UnknownPartition
            | Error::MetadataTooLarge
            | Error::TooLarge => panic!("no reason for {error}"),
        }
    }
}

/// Who asked, and what.
struct Asked {
    client: usize,
    request: Request,
    at: u64,
    /// The session of the broker that was asked.
    session: u64,
}

struct Run {
    world: World,
    clients: Vec<Client>,
    asked: BTreeMap<u64, Asked>,
    tokens: u64,
    ids: u64,
    /// The newest generation that anybody was told.
    generation: i32,
    /// Which leader's word was handed out in a generation.
    assigned: BTreeMap<i32, String>,
}

impl Run {
    fn new(delay: u64) -> Self {
        let mut world = World::new(Settings { initial_delay_ms: delay, ..Settings::default() });
        world.topic("T", CLIENTS as u32);
        let clients = (0..CLIENTS).map(Client::new).collect();
        let (asked, assigned) = (BTreeMap::new(), BTreeMap::new());
        Self { world, clients, asked, tokens: 0, ids: 0, generation: 0, assigned }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Step(client) => self.step(*client),
            Op::Repeat(client) => {
                if let Some((_, request)) = self.clients[*client].parked.clone() {
                    self.ask(*client, request);
                }
            }
            Op::Cut(client) => self.clients[*client].cut(),
            Op::Crash(client) => self.clients[*client].forget(),
            Op::Leave(client) => self.leave(*client),
            Op::Commit(client) => self.commit(*client, 0),
            Op::CommitOld(client) => self.commit(*client, 1),
            Op::Change(client) => {
                let client = &mut self.clients[*client];
                client.metadata += 1;
                client.cut();
            }
            Op::Pass(ms) => self.pass(*ms),
            Op::Expire => {
                self.world.expire(GROUP);
                if self.world.state.group(GROUP).is_none() {
                    // Who comes after that is in another group, which begins at 1.
                    self.generation = 0;
                    self.assigned.clear();
                }
            }
            Op::Restart => {
                self.lose_waiters();
                self.world.restart();
            }
            Op::Move(seen) => {
                let effects = self.world.move_over(*seen);
                self.take(effects);
            }
            Op::Look => self.look_there(),
            Op::WrittenThere => {
                let effects = self.world.written_there();
                self.take(effects);
            }
            Op::Kill => {
                self.lose_waiters();
                let effects = self.world.kill();
                self.take(effects);
            }
            Op::Written | Op::NotWritten | Op::Refused | Op::Unknown(_) if self.world.journal().is_empty() => {}
            Op::Written => self.written(),
            Op::NotWritten => {
                let effects = self.world.not_decided(NotDecided::NotWritten);
                self.take(effects);
            }
            Op::Refused => {
                let effects = self.world.refused(Refusal::NotAllowed);
                self.take(effects);
            }
            Op::Unknown(happened) => {
                if *happened {
                    let (_, commands) = self.world.journal().front().cloned().unwrap();
                    self.world.append(commands);
                }
                let effects = self.world.not_decided(NotDecided::Unknown);
                self.take(effects);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.world.now + ms;
        while let Some(at) = self.world.groups().next_deadline().filter(|at| at.ms <= until) {
            self.world.now = self.world.now.max(at.ms);
            let effects = self.world.tick();
            self.take(effects);
            let next = self.world.groups().next_deadline();
            assert!(next.is_none_or(|next| next > Now { ms: self.world.now }), "what was due is still due");
        }
        self.world.now = until;
    }

    /// The broker that coordinates goes, and all connections to it.
    fn lose_waiters(&mut self) {
        let session = self.world.view().session;
        self.asked.retain(|_, asked| asked.session != session);
        self.clients.iter_mut().for_each(Client::cut);
    }

    fn look_there(&mut self) {
        let effects = self.world.look_there();
        self.take(effects);
    }

    fn written(&mut self) {
        let before = self.world.state.group(GROUP).map_or(0, |g| g.generation());
        let effects = self.world.written();
        let after = self.world.state.group(GROUP).map_or(0, |g| g.generation());
        assert!(after == before || after == before + 1, "from generation {before} to {after}");
        self.take(effects);
    }

    fn ask(&mut self, client: usize, request: Request) {
        self.tokens += 1;
        let (token, session) = (self.tokens, self.world.view().session);
        self.clients[client].parked = Some((token, request.clone()));
        self.asked.insert(token, Asked { client, request: request.clone(), at: self.world.now, session });
        let effects = self.world.request(Token(token), GROUP, request);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Answer(token, answer) = effect {
                let asked = self.asked.remove(&token.0).unwrap_or_else(|| panic!("{token:?} has its answer already"));
                self.answered(token, &asked, &answer);
            }
        }
    }

    /// What must be true of an answer, whoever still waits for it.
    fn answered(&mut self, token: Token, asked: &Asked, answer: &Answer) {
        match (&asked.request, answer) {
            (Request::Join(_), Answer::Join(Ok(joined))) => {
                assert!(joined.generation >= self.generation, "generations only grow");
                self.generation = joined.generation;
                let group = self.world.state.group(GROUP).expect("a generation is answered when the fold has it");
                assert_eq!(group.generation(), joined.generation);
                assert!(group.member(&joined.member_id).is_some(), "{} is not a member", joined.member_id);
                let told: Vec<_> = joined.members.iter().map(|m| m.id.clone()).collect();
                let all: Vec<_> = group.members().map(|m| m.id().clone()).collect();
                assert!(told.is_empty() || told == all, "the leader hears of {told:?}, not of {all:?}");
                assert_eq!(told.is_empty(), joined.leader != joined.member_id, "who leads hears of all");
            }
            (Request::Join(_), Answer::Join(Err(error))) => {
                assert_ne!(*error, Error::IllegalGeneration, "clients do not expect this of a join, and end");
            }
            (Request::Sync(sync), Answer::Sync(Ok(synced))) => {
                let group = self.world.state.group(GROUP).expect("an assignment is answered when the fold has it");
                assert_eq!((group.generation(), group.stage()), (sync.generation, GroupStage::Assigned));
                let text = String::from_utf8(synced.assignment.to_vec()).unwrap();
                let (word, name) = text.split_once('/').expect("everybody gets something");
                let mine = self.clients[asked.client].instance.as_deref().unwrap_or(&sync.member_id);
                assert_eq!(name, mine, "somebody else's assignment");
                let first = self.assigned.entry(sync.generation).or_insert_with(|| word.to_owned());
                assert_eq!(first, word, "two assignments in generation {}", sync.generation);
            }
            (Request::Commit(commit), Answer::Commit(Ok(verdicts))) if verdicts.iter().any(Result::is_ok) => {
                let group = self.world.state.group(GROUP).expect("who commits is in a group");
                let offset = group.offset(commit.offsets[0].partition).expect("the offset is stored");
                assert!(
                    offset.offset >= commit.offsets[0].offset,
                    "a later commit of this partition has a greater offset"
                );
                assert_eq!(group.generation(), commit.generation, "an old generation commits");
                assert!(group.member(&commit.member_id).is_some(), "a stranger commits");
            }
            _ => {}
        }
        let client = &mut self.clients[asked.client];
        if client.parked.as_ref().is_none_or(|(parked, _)| *parked != token.0) {
            return; // It does not listen any more.
        }
        client.parked = None;
        match answer {
            Answer::Join(Ok(joined)) => {
                client.id = joined.member_id.to_string();
                client.generation = joined.generation;
                let members = if joined.skip_assignment { Vec::new() } else { joined.members.clone() };
                client.stage = Stage::Joined(members);
            }
            Answer::Sync(Ok(_)) => client.stage = Stage::Synced,
            Answer::Join(Err(error))
            | Answer::Sync(Err(error))
            | Answer::Heartbeat(Err(error))
            | Answer::Commit(Err(error)) => client.failed(error),
            Answer::Commit(Ok(verdicts)) => {
                if let Some(error) = verdicts.iter().find_map(|v| v.as_ref().err()) {
                    client.failed(error);
                }
            }
            Answer::Leave(_) => client.forget(),
            Answer::Heartbeat(Ok(())) | Answer::DeleteGroup(_) | Answer::DeleteOffsets(_) => {}
        }
    }

    /// What a client does next.
    fn step(&mut self, number: usize) {
        let client = self.clients[number].clone();
        if client.parked.is_some() {
            return;
        }
        let (member_id, instance, generation) = (client.id.clone(), client.instance.clone(), client.generation);
        let request = match &client.stage {
            Stage::NeedsJoin => {
                self.ids += 1;
                Request::Join(Join {
                    new_id: format!("{}-{}", instance.clone().unwrap_or_else(|| format!("c{number}")), self.ids),
                    member_id,
                    instance,
                    client_id: format!("c{number}"),
                    client_host: "/10.0.0.1".to_owned(),
                    protocol_type: "consumer".to_owned(),
                    protocols: [
                        ("range".to_owned(), Bytes::from(vec![client.metadata])),
                        (format!("own{number}"), Bytes::from(vec![client.metadata])),
                    ]
                    .into(),
                    session_timeout_ms: 6_000 + 1_000 * number as i32,
                    rebalance_timeout_ms: 8_000 + 2_000 * number as i32,
                    requires_known_id: client.version >= 4,
                    can_skip_assignment: client.version >= 9,
                })
            }
            Stage::Joined(members) => {
                let word = self.tokens;
                let name = |m: &JoinedMember| m.instance.clone().unwrap_or_else(|| m.id.to_string());
                let assign = |m: &JoinedMember| (m.id.to_string(), Bytes::from(format!("{word}/{}", name(m))));
                let assignments = members.iter().map(assign).collect();
                let (protocol_type, protocol) = (Some("consumer".to_owned()), Some("range".to_owned()));
                Request::Sync(Sync { member_id, instance, generation, protocol_type, protocol, assignments })
            }
            Stage::Synced => Request::Heartbeat(Heartbeat { member_id, instance, generation }),
        };
        self.ask(number, request);
    }

    fn leave(&mut self, number: usize) {
        let client = self.clients[number].clone();
        if !client.id.is_empty() {
            self.clients[number].cut();
            let leaver = Leaver { member_id: client.id, instance: client.instance };
            self.ask(number, Request::Leave(vec![leaver]));
        }
    }

    /// Each commit has a greater offset than the one before it.
    fn commit(&mut self, number: usize, behind: i32) {
        let client = self.clients[number].clone();
        if client.parked.is_some() || client.stage != Stage::Synced || client.generation <= behind {
            return;
        }
        let offset = OffsetCommit {
            partition: self.world.partition("T", number as u32),
            offset: self.tokens as i64,
            leader_epoch: -1,
            metadata: String::new(),
        };
        self.ask(
            number,
            Request::Commit(Commit {
                member_id: client.id,
                instance: client.instance,
                generation: client.generation - behind,
                offsets: vec![offset],
                fresh_at_ms: Some(WALL_MS + self.world.now as i64),
            }),
        );
    }

    /// Everything works, and all clients do what they should: soon all are in one stable generation, and then the journal
    /// has nothing to do.
    fn quiet(&mut self) {
        let settled = |run: &Self| {
            let group = run.world.state.group(GROUP);
            // Memory may know already that somebody was silent for too long.
            let memory = run.world.groups().describe(run.world.view(), GROUP).unwrap();
            memory.is_some_and(|g| g.stage == StageName::Stable && g.members.len() == CLIENTS)
                && group.is_some_and(|g| g.stage() == GroupStage::Assigned && g.members().len() == CLIENTS)
                && run.clients.iter().all(|c| c.stage == Stage::Synced && c.generation == run.generation)
        };
        self.look_there();
        for _ in 0..200 {
            let effects = self.world.written_there();
            self.take(effects);
        }
        self.drain(true);
        self.live(0, |run| settled(run), 600);
        assert!(
            settled(self),
            "it does not settle: {:?}",
            self.world.groups().describe(self.world.view(), GROUP).unwrap()
        );
        let generation = self.generation;
        self.live(1, |_| false, 120);
        assert!(settled(self) && self.generation == generation, "it does not stay settled");
    }

    /// Seconds in which every client steps and the journal works, until something is so. In the second part nothing may
    /// be journalled.
    fn live(&mut self, part: u32, until: impl Fn(&Self) -> bool, seconds: u32) {
        for _ in 0..seconds {
            if until(self) {
                return;
            }
            for client in 0..CLIENTS {
                self.step(client);
                self.drain(part == 0);
            }
            self.pass(1_000);
            self.drain(part == 0);
        }
    }

    fn drain(&mut self, allowed: bool) {
        while let Some((_, commands)) = self.world.journal().front() {
            assert!(allowed, "nothing changes, but {commands:?} is journalled");
            self.written();
        }
    }

    /// Nobody says anything any more: within bounded time everybody has an answer, and the group is empty and forgotten.
    fn silence(&mut self) {
        // One of them waits in a join meanwhile, and one has lost its connection.
        self.clients[0].stage = Stage::NeedsJoin;
        self.step(0);
        for _ in 0..900 {
            self.pass(1_000);
            self.drain(true);
        }
        let waits: Vec<_> = self.asked.values().map(|a| (a.at, &a.request)).collect();
        assert!(waits.is_empty(), "these wait for ever: {waits:?}");
        assert_eq!(self.world.state.group(GROUP).map(|g| (g.stage(), g.members().len())), Some((GroupStage::Empty, 0)));
        assert_eq!(self.world.groups().in_memory(), 0);
        assert_eq!(self.world.groups().next_deadline(), None);
    }
}
