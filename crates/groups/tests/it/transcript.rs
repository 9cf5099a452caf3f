//! Runs `testdata/*.txt`. A line that begins with `>` is what happens, the lines below it are what must come out. Time
//! is in milliseconds; it only goes forward, and what is due on the way comes out with its time.
//!
//! ```text
//! > TIME TOKEN join ID|- [group=G] [client=C] [instance=I] [v=9] [type=consumer] [session=10000] [rebalance=60000]
//!                   [protocols=range:TOPIC+TOPIC,…]       an id that is made is CLIENT-N or INSTANCE-N
//! > TIME TOKEN sync ID GENERATION [group=G] [instance=I] [type=T] [protocol=P] [MEMBER=ASSIGNMENT|MEMBER=*LENGTH …]
//! > TIME TOKEN heartbeat ID GENERATION [group=G] [instance=I]
//! > TIME TOKEN leave [group=G] ID|ID/INSTANCE|/INSTANCE …
//! > TIME TOKEN commit ID|- GENERATION [group=G] [instance=I] [fresh] TOPIC/PARTITION=OFFSET[@EPOCH][:METADATA] …
//! > TIME TOKEN delete-group [group=G]
//! > TIME TOKEN delete-offsets [group=G] TOPIC/PARTITION …
//! > TIME wait
//! > hold           from here on proposals stay undecided
//! > written        the oldest goes through the fold (`> go`: that one, and all others from here on at once)
//! > refused        the fold refuses it; `> limit`: because a limit is reached
//! > lost           it was not written; `> unknown`: nobody knows
//! > expire G       all its offsets are too old, and so is it if it has no members
//! > restart        the process; whatever waited is gone
//! > move           all groups, to the other broker; `> move unseen`: this one does not hear of it yet
//! > kill           this broker; the other one goes on
//! > there          the oldest that the other broker proposed is in the journal after all
//! ```
//!
//! Requests go to the broker that coordinates; with the option `at=there` to the other one.
//!
//! ```text
//! > topic NAME PARTITIONS
//! > set NAME=VALUE …      settings; a world of their own begins
//! > describe G   > list   > stored G   > memory
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use kafscale_groups::{
    Answer, Commit, Effect, Error, Heartbeat, Join, Joined, Leaver, NotDecided, Request, Settings, Sync, Token,
};
use kafscale_metadata::{Command, OffsetCommit, Refusal, TopicPartition};

use crate::world::{WALL_MS, World};

#[test]
fn transcripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the transcripts are missing");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let played = play(&text);
        assert!(played == text, "{} should read:\n\n{played}", file.display());
    }
}

/// The text with what really comes out.
fn play(text: &str) -> String {
    let mut stage = Play::new(settings(""));
    let mut out = String::new();
    for line in text.lines() {
        if let Some(happens) = line.strip_prefix("> ") {
            stage.out.clear();
            stage.line(happens);
            writeln!(out, "{line}\n{}", stage.out.trim_end()).unwrap();
            out.truncate(out.trim_end().len());
            out.push('\n');
        } else if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

fn settings(text: &str) -> Settings {
    let mut settings = Settings::default();
    for option in text.split_whitespace() {
        let (name, value) = option.split_once('=').unwrap();
        match name {
            "delay" => settings.initial_delay_ms = number(value),
            "max-members" => settings.max_members = number(value) as usize,
            "max-group-bytes" => settings.max_group_bytes = number(value) as usize,
            "max-bytes" => settings.max_bytes = number(value) as usize,
            name => panic!("no such setting: {name}"),
        }
    }
    settings
}

struct Play {
    world: World,
    /// Proposals are decided at once.
    at_once: bool,
    ids: u64,
    tokens: BTreeMap<u64, String>,
    out: String,
}

impl Play {
    fn new(settings: Settings) -> Self {
        let world = World::new(settings);
        Self { world, at_once: true, ids: 0, tokens: BTreeMap::new(), out: String::new() }
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let decides = matches!(words.as_slice(), ["written" | "go" | "refused" | "limit" | "lost" | "unknown"]);
        if decides && self.world.journal().is_empty() {
            return self.out.push_str("nothing is being journalled\n");
        }
        let effects = match words.as_slice() {
            ["hold"] => {
                self.at_once = false;
                Vec::new()
            }
            ["written"] => self.world.written(),
            ["go"] => {
                self.at_once = true;
                self.world.written()
            }
            ["refused"] => self.world.refused(Refusal::NotAllowed),
            ["limit"] => self.world.refused(Refusal::LimitReached),
            ["lost"] => self.world.not_decided(NotDecided::NotWritten),
            ["unknown"] => self.world.not_decided(NotDecided::Unknown),
            ["expire", group] => {
                self.world.expire(group);
                Vec::new()
            }
            ["restart"] => {
                self.world.restart();
                self.tokens.clear();
                Vec::new()
            }
            ["move", rest @ ..] => self.world.move_over(rest.is_empty()),
            ["kill"] => {
                self.tokens.clear();
                self.world.kill()
            }
            ["there"] => self.world.written_there(),
            ["topic", name, partitions] => {
                self.world.topic(name, number(partitions) as u32);
                Vec::new()
            }
            ["set", ..] => {
                *self = Self::new(settings(&words[1..].join(" ")));
                Vec::new()
            }
            ["describe", group] => return self.describe(group),
            ["list"] => return self.list(),
            ["stored", group] => return self.stored(group),
            ["memory"] => {
                writeln!(self.out, "{} groups in memory", self.world.groups().in_memory()).unwrap();
                return;
            }
            [time, "wait"] => return self.pass(number(time)),
            [time, token, request @ ..] => {
                self.pass(number(time));
                let number = self.tokens.keys().next_back().map_or(1, |last| last + 1);
                self.tokens.insert(number, (*token).to_owned());
                let there = request.contains(&"at=there");
                let (group, request) = self.request(request);
                let ask = if there { World::request_there } else { World::request };
                ask(&mut self.world, Token(number), &group, request)
            }
            _ => panic!("not a line: {line}"),
        };
        self.show(effects, "");
    }

    /// Time passes; what is due on the way happens at its time.
    fn pass(&mut self, until: u64) {
        assert!(until >= self.world.now, "time goes back to {until}");
        let mut ticks = 0;
        while let Some(at) = self.world.groups().next_deadline().filter(|at| at.ms <= until) {
            ticks = if at.ms > self.world.now { 0 } else { ticks + 1 };
            assert!(ticks < 10, "what is due at {} stays due", at.ms);
            self.world.now = self.world.now.max(at.ms);
            let effects = self.world.tick();
            let prefix = format!("at {}: ", self.world.now);
            self.show(effects, &prefix);
        }
        self.world.now = until;
    }

    fn show(&mut self, effects: Vec<Effect>, prefix: &str) {
        for effect in effects {
            match effect {
                Effect::Answer(token, answer) => {
                    let name =
                        self.tokens.remove(&token.0).unwrap_or_else(|| panic!("{token:?} has its answer already"));
                    writeln!(self.out, "{prefix}{name}: {}", answered(&answer)).unwrap();
                }
                Effect::Propose(_, commands) => {
                    let commands: Vec<String> = commands.iter().map(|c| self.proposed(c)).collect();
                    writeln!(self.out, "{prefix}journal: {}", commands.join(" ; ")).unwrap();
                }
            }
        }
        while self.at_once && !self.world.journal().is_empty() {
            let effects = self.world.written();
            self.show(effects, prefix);
        }
    }

    fn request(&mut self, words: &[&str]) -> (String, Request) {
        let mut options = BTreeMap::new();
        let mut rest = Vec::new();
        for word in &words[1..] {
            match word.split_once('=') {
                Some((name, value)) if !name.contains(['-', '/']) => _ = options.insert(name, value),
                Some(_) | None => rest.push(*word),
            }
        }
        let text = |name: &str| options.get(name).map(|value| (*value).to_owned());
        let group = text("group").unwrap_or_else(|| "g".to_owned());
        let group = group.strip_prefix('*').map_or(group.clone(), |length| "g".repeat(number(length) as usize));
        let instance = text("instance");
        let request = match (words[0], rest.as_slice()) {
            ("join", [id]) => Request::Join(self.join(id, &options)),
            ("sync", [id, generation, assignments @ ..]) => {
                let assignment = |text: &&str| {
                    let (member, assignment) = text.split_once('=').unwrap();
                    let length = assignment.strip_prefix('*').map(|length| number(length) as usize);
                    (member.to_owned(), length.map_or_else(|| Bytes::copy_from_slice(assignment.as_bytes()), noise))
                };
                let assignments = assignments.iter().map(assignment).collect();
                let (protocol_type, protocol) = (text("type"), text("protocol"));
                let (member_id, generation) = (member(id), number(generation) as i32);
                Request::Sync(Sync { member_id, instance, generation, protocol_type, protocol, assignments })
            }
            ("heartbeat", [id, generation]) => {
                Request::Heartbeat(Heartbeat { member_id: member(id), instance, generation: number(generation) as i32 })
            }
            ("leave", leavers) => Request::Leave(leavers.iter().map(|l| leaver(l)).collect()),
            ("commit", [id, generation, rest @ ..]) => {
                let fresh_at_ms = rest.contains(&"fresh").then_some(WALL_MS + self.world.now as i64);
                let offsets = rest.iter().filter(|w| **w != "fresh").map(|w| self.offset(w)).collect();
                let generation = generation.parse().unwrap();
                Request::Commit(Commit { member_id: member(id), instance, generation, offsets, fresh_at_ms })
            }
            ("delete-group", []) => Request::DeleteGroup,
            ("delete-offsets", rest) => Request::DeleteOffsets(rest.iter().map(|p| self.partition(p)).collect()),
            _ => panic!("not a request: {words:?}"),
        };
        (group, request)
    }

    fn join(&mut self, id: &str, options: &BTreeMap<&str, &str>) -> Join {
        let text = |name: &str, default: &str| (*options.get(name).unwrap_or(&default)).to_owned();
        let instance = options.get("instance").map(|i| (*i).to_owned());
        let client_id = text("client", "c");
        let session = text("session", "10000").parse().unwrap();
        let version = number(&text("v", "9"));
        let rebalance = if version == 0 { session } else { text("rebalance", "60000").parse().unwrap() };
        let mut new_id = String::new();
        if id == "-" {
            self.ids += 1;
            new_id = format!("{}-{}", instance.as_ref().unwrap_or(&client_id), self.ids);
        }
        let protocols = text("protocols", "range:T");
        Join {
            member_id: member(id),
            instance,
            client_id,
            client_host: "/10.0.0.1".to_owned(),
            protocol_type: text("type", "consumer"),
            protocols: protocols.split(',').filter(|p| !p.is_empty()).map(protocol).collect(),
            session_timeout_ms: session,
            rebalance_timeout_ms: rebalance,
            requires_known_id: version >= 4,
            can_skip_assignment: version >= 9,
            new_id,
        }
    }

    fn offset(&self, text: &str) -> OffsetCommit {
        let (partition, offset) = text.split_once('=').unwrap();
        let (offset, metadata) = offset.split_once(':').unwrap_or((offset, ""));
        let metadata = if let Some(length) = metadata.strip_prefix('*') {
            "x".repeat(number(length) as usize)
        } else {
            metadata.to_owned()
        };
        let (offset, leader_epoch) =
            offset.split_once('@').map_or((offset, -1), |(o, epoch)| (o, number(epoch) as i32));
        OffsetCommit { partition: self.partition(partition), offset: number(offset) as i64, leader_epoch, metadata }
    }

    fn partition(&self, text: &str) -> TopicPartition {
        let (name, partition) = text.split_once('/').unwrap();
        self.world.partition(name, number(partition) as u32)
    }

    fn name(&self, partition: TopicPartition) -> String {
        let name = self.world.state.topic(partition.topic).map_or("?", |t| t.name());
        format!("{name}/{}", partition.partition)
    }

    fn proposed(&self, command: &Command) -> String {
        let part = |part: kafscale_metadata::Part| {
            if part == kafscale_metadata::Part::WHOLE { String::new() } else { format!(" (part {part:?})") }
        };
        match command {
            Command::CompleteJoin(join) if join.members.is_empty() => format!("generation {}, empty", join.generation),
            Command::CompleteJoin(join) => {
                let members: Vec<_> = join.members.iter().map(|m| m.id.to_string()).collect();
                let (generation, protocol, leader) = (join.generation, &join.protocol, &join.leader);
                let part = part(join.part);
                format!("generation {generation} of {protocol}, {leader} leads: {}{part}", members.join(" "))
            }
            Command::CompleteSync(sync) => {
                let all: Vec<_> = sync.assignments.iter().map(|(id, a)| format!("{id}={}", text(a))).collect();
                format!("assignment of {}: {}{}", sync.generation, all.join(" "), part(sync.part))
            }
            Command::ReplaceMember(r) => format!("{} for {} in generation {}", r.new.id, r.old, r.generation),
            Command::CommitOffsets(c) => {
                let offsets: Vec<_> =
                    c.offsets.iter().map(|o| format!("{}={}", self.name(o.partition), o.offset)).collect();
                format!("offsets of '{}' in {}: {}", c.member, c.generation, offsets.join(" "))
            }
            Command::DeleteOffsets { partitions, .. } => {
                let all: Vec<_> = partitions.iter().map(|p| self.name(*p)).collect();
                format!("delete {}", all.join(" "))
            }
            Command::DeleteGroup { group } => format!("delete {group}"),
            Command::OpenSession(_)
            | Command::EndSession { .. }
            | Command::SetReady { .. }
            | Command::CreateTopic(_)
            | Command::DeleteTopic { .. }
            | Command::AddPartitions { .. }
            | Command::CommitBundle(_)
            | Command::AllocateProducerIds { .. }
            | Command::ExpireProducers { .. }
            | Command::PublishSnapshot { .. }
            | Command::ExpireOffsets { .. } => panic!("the coordinators do not say this: {command:?}"),
        }
    }

    fn describe(&mut self, group: &str) {
        let Some(group) = self.world.groups().describe(self.world.view(), group).unwrap() else {
            return self.out.push_str("none\n");
        };
        let (stage, generation) = (group.stage.as_str(), group.generation);
        let kind = format!("{stage}, generation {generation}, {} {}", group.protocol_type, group.protocol);
        writeln!(self.out, "{}", kind.trim_end()).unwrap();
        for m in group.members {
            let instance = m.instance.map_or(String::new(), |i| format!(" = {i}"));
            writeln!(self.out, "{}{instance}: '{}'", m.id, text(&m.assignment)).unwrap();
        }
    }

    fn list(&mut self) {
        for group in self.world.groups().list(self.world.view()) {
            let (stage, members) = (group.stage.as_str(), group.members);
            writeln!(self.out, "{} {stage} {} {members} members", group.group, group.protocol_type).unwrap();
        }
    }

    fn stored(&mut self, group: &str) {
        let Some(group) = self.world.state.group(group) else { return self.out.push_str("none\n") };
        let members: Vec<_> = group.members().map(|m| format!("{}='{}'", m.id(), text(m.assignment()))).collect();
        let (stage, generation) = (group.stage(), group.generation());
        writeln!(self.out, "{stage:?}, generation {generation}: {}", members.join(" ")).unwrap();
        for (partition, offset) in group.offsets() {
            writeln!(self.out, "{}={}", self.name(partition), offset.offset).unwrap();
        }
    }
}

fn answered(answer: &Answer) -> String {
    let each = |verdicts: &Vec<Result<(), Error>>| {
        let verdicts: Vec<String> =
            verdicts.iter().map(|v| v.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned())).collect();
        verdicts.join(", ")
    };
    let all =
        |verdicts: &Result<Vec<Result<(), Error>>, Error>| verdicts.as_ref().map_or_else(ToString::to_string, each);
    let plain = |verdict: &Result<(), Error>| verdict.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned());
    match answer {
        Answer::Join(joined) => joined.as_ref().map_or_else(ToString::to_string, joined_text),
        Answer::Sync(Ok(synced)) => {
            format!("{} {} '{}'", synced.protocol_type, synced.protocol, text(&synced.assignment))
        }
        Answer::Sync(Err(error)) => error.to_string(),
        Answer::Heartbeat(verdict) | Answer::DeleteGroup(verdict) => plain(verdict),
        Answer::Leave(verdicts) | Answer::Commit(verdicts) | Answer::DeleteOffsets(verdicts) => all(verdicts),
    }
}

fn joined_text(joined: &Joined) -> String {
    let Joined { member_id, generation, protocol_type, protocol, leader, skip_assignment, members } = joined;
    let mut out = format!("{member_id} is in {generation}, {protocol_type} {protocol}, {leader} leads");
    if *skip_assignment {
        out += ", skips the assignment";
    }
    if !members.is_empty() {
        let all: Vec<_> = members.iter().map(|m| m.id.to_string()).collect();
        write!(out, ": {}", all.join(" ")).unwrap();
    }
    out
}

fn leaver(text: &str) -> Leaver {
    let (id, instance) = text.split_once('/').map_or((text, None), |(id, instance)| (id, Some(instance.to_owned())));
    Leaver { member_id: id.to_owned(), instance }
}

fn member(id: &str) -> String {
    if id == "-" { String::new() } else { id.to_owned() }
}

/// `NAME:TOPIC+TOPIC`: a consumer's subscription. `NAME:*LENGTH`: so many bytes.
fn protocol(text: &str) -> (String, Bytes) {
    let (name, topics) = text.split_once(':').unwrap();
    if let Some(length) = topics.strip_prefix('*') {
        return (name.to_owned(), noise(number(length) as usize));
    }
    let topics: Vec<&str> = topics.split('+').collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    (name.to_owned(), bytes.freeze())
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(length: usize) -> Bytes {
    let mut x = length as u64;
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (x >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > 100 { format!("{} bytes", bytes.len()) } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}
