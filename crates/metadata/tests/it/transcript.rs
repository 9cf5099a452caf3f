//! Runs `testdata/transcripts/*.txt`. A line that begins with `>` is one journal entry (or a question), the lines below
//! it are what must come out. Each entry also goes through the reference fold, which must agree.
//!
//! ```text
//! > SESSION [time=MS] [low=N] [reserve=KIND:END,…] [n=N] COMMAND ; COMMAND
//!   open ID | end SESSION | ready | withdraw | create NAME PARTITIONS | delete NAME | allocate COUNT | expire ID:SEEN,…
//!   publish NUMBER ORDINAL | add NAME PARTITIONS
//!   commit NUMBER NAME/PARTITION: BATCH … | NAME/PARTITION: BATCH …
//!     BATCH = [PRODUCER.EPOCH#SEQUENCE]+RECORDS, 100 bytes; one that ends in `!` is transactional
//!   join GROUP GENERATION LEADER MEMBER…   a member is ID or ID@INSTANCE; a generation in parts is 3/0, then 3/1.
//!   sync GROUP GENERATION MEMBER=ASSIGNMENT… | replace GROUP GENERATION OLD NEW
//!   offsets GROUP GENERATION MEMBER NAME/PARTITION=OFFSET[@EPOCH][+METADATA]… | forget GROUP NAME/PARTITION…
//!   lapse GROUP GENERATION NAME/PARTITION:SEEN… | drop GROUP     (`-` is an empty name)
//! > group GROUP             its generation, members and offsets
//! > expired BEFORE          what `lapse` should say
//! > show NAME/PARTITION     its offsets and extents
//! > producers               living ids: activity, and whether they are strict
//! > sessions
//! > coordinator GROUP       whose commands of it are taken
//! > restore                 goes on from a snapshot of the state
//! ```

mod groups;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::reference::Reference;
use kafscale_metadata::{
    BatchMeta, Command, CommitBundle, CreateTopic, Entry, ObjectId, ObjectKind, OpenSession, Outcome, ProducerBatch,
    Reservation, Run, Standing, State, TopicId, TopicPartition, Verdict, apply, snapshot,
};

#[test]
fn transcripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/transcripts");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 6, "the transcripts are missing");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let played = play(&text);
        assert!(played == text, "{} should read:\n\n{played}", file.display());
    }
}

/// The text with what really comes out.
fn play(text: &str) -> String {
    let mut world = World::default();
    let mut out = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}\n{}", world.line(command).trim_end()).unwrap();
        } else if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

#[derive(Default)]
struct World {
    state: State,
    reference: Reference,
    topics: BTreeMap<String, TopicId>,
    created: u128,
}

impl World {
    fn line(&mut self, line: &str) -> String {
        self.topics = self.names();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("show", partition) => self.show(partition),
            ("group", id) => groups::show(self, id),
            ("expired", before) => groups::expired(self, before),
            ("producers", _) => self.producers(),
            ("sessions", _) => self.sessions(),
            ("coordinator", group) => {
                self.state.coordinator(group).map_or_else(|| "none".to_owned(), |s| format!("s{}", s.nonce()))
            }
            ("restore", _) => {
                let restored = snapshot::decode(&snapshot::encode(&self.state)).unwrap();
                assert_eq!(restored, self.state);
                self.state = restored;
                "same".to_owned()
            }
            (session, rest) => self.entry(session, rest),
        }
    }

    fn names(&self) -> BTreeMap<String, TopicId> {
        self.state.topics().map(|t| (t.name().to_owned(), t.id())).collect()
    }

    fn entry(&mut self, session: &str, rest: &str) -> String {
        let nonce = number(session.strip_prefix('s').expect("a session is called s1, s2, …"));
        let known = self.state.session(nonce);
        let mut entry = Entry {
            feature_level: FEATURE_LEVEL,
            nonce,
            n: known.map_or(0, |s| s.next_n()),
            time_ms: 0,
            reserved: Vec::new(),
            low: 0,
            commands: Vec::new(),
        };
        let mut commands = rest;
        while let Some((option, rest)) = commands.split_once(' ').filter(|(option, _)| option.contains('=')) {
            set(&mut entry, option);
            commands = rest;
        }
        entry.commands = commands.split(" ; ").map(|c| self.command(nonce, c)).collect();
        let entry = match Entry::decode(&entry.encode()) {
            Ok(entry) => entry,
            Err(error) => return format!("stop: {error}"),
        };
        let ordinal = self.state.ordinal() + 1;
        let applied = apply(&mut self.state, ordinal, &entry);
        assert_eq!(applied, self.reference.apply(ordinal, &entry), "the reference says otherwise");
        self.topics = self.names();
        match applied {
            Err(stop) => format!("stop: {stop}"),
            Ok(applied) if applied.repeat => "repeat".to_owned(),
            Ok(applied) => {
                self.reference.check(&self.state).unwrap();
                let outcomes = entry.commands.iter().zip(&applied.outcomes);
                outcomes.map(|(command, outcome)| self.outcome(command, outcome)).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn command(&mut self, nonce: u64, text: &str) -> Command {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["open", id] => {
                let broker_id = number(id) as i32;
                Command::OpenSession(OpenSession { broker_id, identity: 7, listeners: vec![], rack: None })
            }
            ["ready"] => Command::SetReady { ready: true },
            ["withdraw"] => Command::SetReady { ready: false },
            ["end", session] => Command::EndSession { nonce: number(&session[1..]) },
            ["create", name, partitions] => {
                self.created += 1;
                let topic = TopicId(self.created);
                self.topics.entry((*name).to_owned()).or_insert(topic);
                let (name, partitions) = ((*name).to_owned(), number(partitions) as u32);
                Command::CreateTopic(CreateTopic { topic, name, partitions, configs: BTreeMap::new() })
            }
            ["delete", name] => Command::DeleteTopic { topic: self.topics.remove(*name).unwrap_or_default() },
            ["allocate", count] => Command::AllocateProducerIds { count: number(count) as u32 },
            ["expire", ids] => {
                let pair = |p: &str| p.split_once(':').map(|(id, at)| (number(id) as i64, number(at) as i64)).unwrap();
                Command::ExpireProducers { idle: ids.split(',').map(pair).collect() }
            }
            ["publish", object, ordinal] => {
                let object = ObjectId { nonce, number: number(object) as u32 };
                Command::PublishSnapshot { object, ordinal: number(ordinal) }
            }
            ["commit", object, ..] => {
                let runs = text.splitn(3, ' ').nth(2).unwrap();
                let mut position = 0;
                let runs = runs.split(" | ").map(|run| self.run(run, &mut position)).collect();
                Command::CommitBundle(CommitBundle { number: number(object) as u32, runs })
            }
            ["add", name, count] => {
                let topic = self.topics.get(*name).copied().unwrap_or_default();
                Command::AddPartitions { topic, count: number(count) as u32 }
            }
            words => groups::command(self, words).unwrap_or_else(|| panic!("not a command: {text}")),
        }
    }

    fn run(&self, text: &str, position: &mut u32) -> Run {
        let (partition, batches) = text.split_once(": ").unwrap();
        let batches: Vec<BatchMeta> = batches.split_whitespace().map(batch).collect();
        let run = Run { partition: self.partition(partition), position: *position, batches };
        *position += 100 * run.batches.len() as u32;
        run
    }

    fn partition(&self, text: &str) -> TopicPartition {
        let (name, partition) = text.split_once('/').unwrap();
        let topic = self.topics.get(name).copied().unwrap_or(TopicId(u128::MAX));
        TopicPartition { topic, partition: number(partition) as u32 }
    }

    fn outcome(&self, command: &Command, outcome: &Outcome) -> String {
        match (outcome, command) {
            (Outcome::Done, _) => "done".to_owned(),
            (Outcome::Refused(refusal), _) => format!("refused: {refusal}"),
            (Outcome::ProducerIds { first }, _) => format!("from {first}"),
            (Outcome::Bundle(verdicts), Command::CommitBundle(bundle)) => {
                let runs = bundle.runs.iter().zip(verdicts);
                runs.map(|(run, verdicts)| self.verdicts(run, verdicts)).collect::<Vec<_>>().join("\n")
            }
            (Outcome::Offsets(verdicts), Command::CommitOffsets(commit)) => {
                let one =
                    |(offset, verdict): (&kafscale_metadata::OffsetCommit, &Option<kafscale_metadata::Refusal>)| {
                        let verdict = verdict.map_or_else(|| offset.offset.to_string(), |refusal| refusal.to_string());
                        format!("{}: {verdict}", self.name(offset.partition))
                    };
                commit.offsets.iter().zip(verdicts).map(one).collect::<Vec<_>>().join("\n")
            }
            (outcome, command) => panic!("{command:?} cannot give {outcome:?}"),
        }
    }

    fn verdicts(&self, run: &Run, verdicts: &[Verdict]) -> String {
        let verdict = |v: &Verdict| match v {
            Verdict::Accepted { first_offset, .. } => format!("{first_offset}"),
            Verdict::Duplicate { first_offset, .. } => format!("duplicate of {first_offset}"),
            Verdict::Refused(refusal) => refusal.to_string(),
        };
        let verdicts: Vec<String> = verdicts.iter().map(verdict).collect();
        format!("{}: {}", self.name(run.partition), verdicts.join(", "))
    }

    fn name(&self, of: TopicPartition) -> String {
        let name = self.topics.iter().find(|(_, id)| **id == of.topic).map_or("?", |(name, _)| name);
        format!("{name}/{}", of.partition)
    }

    fn show(&self, partition: &str) -> String {
        let Some(partition) = self.state.partition(self.partition(partition)) else { return "none".to_owned() };
        let mut out =
            format!("offsets {}..{}, {} bytes\n", partition.log_start(), partition.high_watermark(), partition.bytes());
        for e in partition.extents().iter() {
            let (first, last, position) = (e.first_offset, e.last_offset, e.position);
            writeln!(out, "{first}..={last} in s{}-{} at {position}, {} bytes", e.nonce, e.number, e.bytes).unwrap();
        }
        out
    }

    fn producers(&self) -> String {
        let all = (0..100).filter_map(|id| self.state.producer(id));
        let one = |p: &kafscale_metadata::Producer| {
            format!("{}: {}{}", p.id, p.last_activity, if p.strict { " strict" } else { "" })
        };
        all.map(one).collect::<Vec<_>>().join("\n")
    }

    fn sessions(&self) -> String {
        let one = |s: &kafscale_metadata::Session| {
            let standing = match s.standing() {
                Standing::New => "",
                Standing::Ready => ", ready",
                Standing::Withdrawn => ", withdrawn",
            };
            format!("s{}: broker {}{standing}, objects {}..{}", s.nonce(), s.broker_id(), s.low(), s.reserved())
        };
        self.state.live_sessions().map(one).collect::<Vec<_>>().join("\n")
    }
}

fn set(entry: &mut Entry, option: &str) {
    match option.split_once('=').unwrap() {
        ("time", value) => entry.time_ms = number(value) as i64,
        ("low", value) => entry.low = number(value) as u32,
        ("n", value) => entry.n = number(value),
        ("level", value) => entry.feature_level = number(value) as u32,
        ("reserve", value) => entry.reserved = value.split(',').map(reservation).collect(),
        (name, _) => panic!("no such option: {name}"),
    }
}

fn reservation(text: &str) -> Reservation {
    let (kind, end) = text.split_once(':').unwrap();
    let kind = if kind == "bundle" { ObjectKind::Bundle } else { ObjectKind::Snapshot };
    Reservation { kind, end: number(end) as u32 }
}

fn batch(text: &str) -> BatchMeta {
    let (producer, records) = text.split_once('+').unwrap();
    let producer = producer.split_once('#').map(|(producer, sequence)| {
        let (id, epoch) = producer.split_once('.').unwrap();
        ProducerBatch { id: number(id) as i64, epoch: number(epoch) as i16, first_sequence: number(sequence) as i32 }
    });
    let transactional = records.ends_with('!');
    let records = number(records.trim_end_matches('!')) as u32;
    BatchMeta { bytes: 100, records, max_timestamp: 0, producer, transactional }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}
