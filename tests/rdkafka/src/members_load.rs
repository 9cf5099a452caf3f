//! Thousands of group members that cost next to nothing: no client library, a connection and a thread each, asleep but for
//! a heartbeat every three seconds and a commit every five. Half of the groups make progress; the others commit the same
//! again and again.
//!
//! Owns the few requests of a member, in versions without the compact encoding. Anything but success ends the run: a
//! measurement with errors in it is none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::load::input_ended;

const HEARTBEAT: Duration = Duration::from_secs(3);
const COMMIT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(180);

const OFFSET_COMMIT: i16 = 8;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT_API: i16 = 12;
const SYNC_GROUP: i16 = 14;

const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
/// Of a coordinator that is not ready: loading, not available, not here.
const ASK_AGAIN: [i16; 3] = [14, 15, 16];

/// What all members share.
struct Run {
    bootstrap: String,
    topic: String,
    /// The members of one group.
    members: usize,
    /// Stable members, and what they did since all were.
    stable: AtomicU64,
    measuring: AtomicBool,
    heartbeats: AtomicU64,
    commit_micros: Mutex<Vec<u64>>,
    failure: Mutex<Option<String>>,
}

pub(crate) fn run(bootstrap: &str, topic: &str, groups: usize, members: usize) -> Result<()> {
    let run = Arc::new(Run {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        members,
        stable: AtomicU64::new(0),
        measuring: AtomicBool::new(false),
        heartbeats: AtomicU64::new(0),
        commit_micros: Mutex::default(),
        failure: Mutex::default(),
    });
    let all = groups * members;
    for number in 0..all {
        let shared = Arc::clone(&run);
        let body = move || {
            if let Err(error) = Member::new(&shared, number, all).and_then(|mut member| member.live()) {
                *shared.failure.lock().expect("nobody panics with it") = Some(format!("member {number}: {error:#}"));
            }
        };
        thread::Builder::new().stack_size(128 << 10).spawn(body)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while run.stable.load(Ordering::Relaxed) < all as u64 {
        run.check()?;
        ensure!(Instant::now() < deadline, "{:?} of {all} members are in stable groups", run.stable);
        thread::sleep(Duration::from_millis(100));
    }
    run.measuring.store(true, Ordering::Relaxed);
    println!("ready");
    let (over, began) = (input_ended(), Instant::now());
    while !over.load(Ordering::Relaxed) {
        run.check()?;
        thread::sleep(Duration::from_millis(100));
    }
    run.report(began.elapsed());
    std::process::exit(0)
}

impl Run {
    fn check(&self) -> Result<()> {
        match self.failure.lock().expect("nobody panics with it").take() {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }

    fn report(&self, time: Duration) {
        let mut micros = std::mem::take(&mut *self.commit_micros.lock().expect("nobody panics with it"));
        micros.sort_unstable();
        let at =
            |share: f64| micros.get(((micros.len() - 1) as f64 * share) as usize).map_or(0.0, |m| *m as f64 / 1000.0);
        println!(
            r#"{{"seconds": {:.1}, "heartbeats": {}, "commits": {}, "p50_ms": {:.3}, "p99_ms": {:.3}}}"#,
            time.as_secs_f64(),
            self.heartbeats.load(Ordering::Relaxed),
            micros.len(),
            at(0.5),
            at(0.99),
        );
    }
}

struct Member<'a> {
    run: &'a Run,
    connection: Connection,
    group: String,
    /// Which of its group's members it is: the partition that it commits.
    index: i32,
    makes_progress: bool,
    id: String,
    generation: i32,
    /// When in a period its turn is, so that not all do the same at once.
    phase: f64,
}

impl Member<'_> {
    fn new(run: &Run, number: usize, all: usize) -> Result<Member<'_>> {
        let group = number / run.members;
        let phase = number as f64 / all as f64;
        // Nobody starts a thousand services in the same instant.
        thread::sleep(Duration::from_secs(10).mul_f64(phase));
        Ok(Member {
            run,
            connection: Connection::open(&run.bootstrap)?,
            group: format!("{}-{group}", run.topic),
            index: (number % run.members) as i32,
            makes_progress: group.is_multiple_of(2),
            id: String::new(),
            generation: 0,
            phase,
        })
    }

    fn live(&mut self) -> Result<()> {
        let mut counted = false;
        let mut offset = 0;
        let mut whole = self.join()?;
        let began = Instant::now();
        let mut heartbeat = began + HEARTBEAT.mul_f64(self.phase);
        let mut commit = began + COMMIT.mul_f64(self.phase);
        loop {
            if whole && !counted {
                counted = true;
                self.run.stable.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(heartbeat.min(commit).saturating_duration_since(Instant::now()));
            let measuring = self.run.measuring.load(Ordering::Relaxed);
            if heartbeat <= Instant::now() {
                heartbeat += HEARTBEAT;
                match self.heartbeat()? {
                    0 => _ = self.run.heartbeats.fetch_add(u64::from(measuring), Ordering::Relaxed),
                    REBALANCE_IN_PROGRESS if !measuring => whole = self.join()?,
                    error => bail!("a heartbeat was answered with error {error}"),
                }
            }
            if commit <= Instant::now() {
                commit += COMMIT;
                offset += i64::from(self.makes_progress);
                self.commit(offset, measuring)?;
            }
        }
    }

    /// Joins, and gives assignments if it leads; true if the group has all its members.
    fn join(&mut self) -> Result<bool> {
        loop {
            let (error, members) = self.ask_to_join()?;
            match error {
                0 => {}
                MEMBER_ID_REQUIRED | REBALANCE_IN_PROGRESS => continue,
                _ if ASK_AGAIN.contains(&error) => {
                    thread::sleep(Duration::from_millis(200));
                    continue;
                }
                _ => bail!("a join was answered with error {error}"),
            }
            let (error, assignment) = self.sync(&members)?;
            match error {
                0 => return Ok(usize::from(*assignment.first().context("an empty assignment")?) == self.run.members),
                REBALANCE_IN_PROGRESS => {}
                _ => bail!("a sync was answered with error {error}"),
            }
        }
    }

    /// JoinGroup 5: the error, and the members if this one leads.
    fn ask_to_join(&mut self) -> Result<(i16, Vec<String>)> {
        let mut request = Request::new(JOIN_GROUP, 5).string(&self.group).i32(45_000).i32(60_000).string(&self.id);
        // No instance id; one protocol of the consumer's type.
        let subscription = Request(Vec::new()).i16(0).i32(1).string(&self.run.topic).i32(-1).0;
        request = request.i16(-1).string("consumer").i32(1).string("load").bytes(&subscription);
        let mut answer = self.connection.ask(&request)?;
        answer.i32()?;
        let error = answer.i16()?;
        self.generation = answer.i32()?;
        answer.string()?;
        answer.string()?;
        self.id = answer.string()?;
        let mut members = Vec::new();
        for _ in 0..answer.i32()? {
            members.push(answer.string()?);
            answer.string()?;
            answer.bytes()?;
        }
        Ok((error, members))
    }

    /// SyncGroup 3. An assignment says how many members there are.
    fn sync(&mut self, members: &[String]) -> Result<(i16, Vec<u8>)> {
        let mut request = Request::new(SYNC_GROUP, 3).string(&self.group).i32(self.generation).string(&self.id).i16(-1);
        request = request.i32(members.len() as i32);
        for member in members {
            request = request.string(member).bytes(&[members.len() as u8]);
        }
        let mut answer = self.connection.ask(&request)?;
        answer.i32()?;
        Ok((answer.i16()?, answer.bytes()?))
    }

    /// Heartbeat 3.
    fn heartbeat(&mut self) -> Result<i16> {
        let request = Request::new(HEARTBEAT_API, 3).string(&self.group).i32(self.generation).string(&self.id).i16(-1);
        let mut answer = self.connection.ask(&request)?;
        answer.i32()?;
        answer.i16()
    }

    /// OffsetCommit 7 of one partition.
    fn commit(&mut self, offset: i64, measuring: bool) -> Result<()> {
        let mut request =
            Request::new(OFFSET_COMMIT, 7).string(&self.group).i32(self.generation).string(&self.id).i16(-1);
        request = request.i32(1).string(&self.run.topic).i32(1).i32(self.index).i64(offset).i32(-1).i16(-1);
        let asked = Instant::now();
        let mut answer = self.connection.ask(&request)?;
        let micros = asked.elapsed().as_micros() as u64;
        answer.i32()?;
        answer.i32()?;
        answer.string()?;
        answer.i32()?;
        answer.i32()?;
        match answer.i16()? {
            0 if measuring => self.run.commit_micros.lock().expect("nobody panics with it").push(micros),
            0 => {}
            // The others of the group may still be on their way.
            REBALANCE_IN_PROGRESS if !measuring => {}
            error => bail!("a commit was answered with error {error}"),
        }
        Ok(())
    }
}

struct Connection {
    socket: TcpStream,
}

impl Connection {
    fn open(bootstrap: &str) -> Result<Connection> {
        let socket = TcpStream::connect(bootstrap)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { socket })
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        let size = (request.0.len() as i32).to_be_bytes();
        self.socket.write_all(&[size.as_slice(), request.0.as_slice()].concat())?;
        let mut size = [0; 4];
        self.socket.read_exact(&mut size)?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(size))?];
        self.socket.read_exact(&mut body)?;
        let mut answer = Answer { body, at: 0 };
        answer.i32()?;
        Ok(answer)
    }
}

/// A request, from its header on; what is added goes to its end.
struct Request(Vec<u8>);

impl Request {
    fn new(api: i16, version: i16) -> Request {
        Request(Vec::with_capacity(256)).i16(api).i16(version).i32(1).string("load")
    }

    fn add(mut self, bytes: &[u8]) -> Request {
        self.0.extend_from_slice(bytes);
        self
    }

    fn i16(self, value: i16) -> Request {
        self.add(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Request {
        self.add(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Request {
        self.add(&value.to_be_bytes())
    }

    fn string(self, value: &str) -> Request {
        self.i16(value.len() as i16).add(value.as_bytes())
    }

    fn bytes(self, value: &[u8]) -> Request {
        self.i32(value.len() as i32).add(value)
    }
}

/// An answer, read from its front; null is empty.
struct Answer {
    body: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const SIZE: usize>(&mut self) -> Result<[u8; SIZE]> {
        Ok(self.slice(SIZE)?.try_into()?)
    }

    fn slice(&mut self, size: usize) -> Result<&[u8]> {
        let from = self.at;
        self.at += size;
        self.body.get(from..self.at).context("an answer that ends early")
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn string(&mut self) -> Result<String> {
        let size = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8(self.slice(size)?.to_vec())?)
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let size = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.slice(size)?.to_vec())
    }
}
