//! What the coordinators cost: 1,000 groups of 3 members that send heartbeats, and a tick when nothing is due.
//!
//! ```text
//! cargo run --release -p kafscale-groups --example heartbeats
//! ```

use std::error::Error;
use std::io::Write as _;

use bytes::Bytes;
use kafscale_groups::{Answer, Effect, Groups, Heartbeat, Join, Now, Request, Settings, Token, View};
use kafscale_metadata::{Entry, OpenSession, State, apply};

const GROUPS: usize = 1_000;
const ROUNDS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut world =
        World { groups: Groups::new(Settings { initial_delay_ms: 0, ..Settings::default() }), ..World::new()? };
    let names: Vec<String> = (0..GROUPS).map(|n| format!("group-{n}")).collect();
    for name in &names {
        for member in 0..3 {
            world.request(name, Request::Join(join(&format!("member-{member}-7d1c3c3e-8c0f-4b0e-9a3d"))))?;
        }
    }
    let view = View { now: Now { ms: 1 }, state: &world.state, session: 1 };
    let effects = world.groups.tick(view);
    world.journal(effects)?;
    let members = |group: &str| world.state.group(group).map_or(0, |g| g.members().len());
    let all: usize = names.iter().map(|name| members(name)).sum();
    let heartbeats: Vec<(&str, Request)> = names.iter().flat_map(|name| beats(&world.state, name)).collect();
    let mut answered = 0;
    let started = clock();
    for round in 0..ROUNDS {
        let view = View { now: Now { ms: 2 + round }, state: &world.state, session: 1 };
        for (group, heartbeat) in &heartbeats {
            let effects = world.groups.request(view, Token(0), group, heartbeat.clone());
            answered += usize::from(matches!(effects.as_slice(), [Effect::Answer(_, Answer::Heartbeat(Ok(())))]));
        }
    }
    let heartbeat_ns = started.elapsed().as_nanos() / u128::from(ROUNDS) / heartbeats.len() as u128;
    let started = clock();
    for round in 0..1_000_000 {
        let view = View { now: Now { ms: 200 + round / 100_000 }, state: &world.state, session: 1 };
        answered += world.groups.tick(view).len();
    }
    let tick_ns = started.elapsed().as_nanos() / 1_000_000;
    writeln!(
        std::io::stdout(),
        "{all} members, {answered} heartbeats: {heartbeat_ns} ns each; idle tick {tick_ns} ns"
    )?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn beats<'a>(state: &State, group: &'a str) -> Vec<(&'a str, Request)> {
    let beat = |id: &str| Heartbeat { member_id: id.to_owned(), instance: None, generation: 1 };
    let members = state.group(group).into_iter().flat_map(|g| g.members());
    members.map(|m| (group, Request::Heartbeat(beat(m.id())))).collect()
}

fn join(id: &str) -> Join {
    Join {
        member_id: String::new(),
        instance: None,
        client_id: "bench".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"topic"))],
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        requires_known_id: false,
        can_skip_assignment: false,
        new_id: id.to_owned(),
    }
}

struct World {
    groups: Groups,
    state: State,
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut world = Self { groups: Groups::new(Settings::default()), state: State::default() };
        let open = OpenSession { broker_id: 1, identity: 7, listeners: Vec::new(), rack: None };
        world.append(kafscale_metadata::Command::OpenSession(open))?;
        Ok(world)
    }

    fn request(&mut self, group: &str, request: Request) -> Result<(), Box<dyn Error>> {
        let view = View { now: Now { ms: 0 }, state: &self.state, session: 1 };
        let effects = self.groups.request(view, Token(0), group, request);
        self.journal(effects)
    }

    /// Everything that is proposed is written at once.
    fn journal(&mut self, effects: Vec<Effect>) -> Result<(), Box<dyn Error>> {
        for effect in effects {
            if let Effect::Propose(id, commands) = effect {
                let mut outcomes = Vec::new();
                for command in commands {
                    outcomes.extend(self.append(command)?);
                }
                let view = View { now: Now { ms: 1 }, state: &self.state, session: 1 };
                self.groups.decided(view, id, Ok(outcomes));
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        command: kafscale_metadata::Command,
    ) -> Result<Vec<kafscale_metadata::Outcome>, Box<dyn Error>> {
        let n = self.state.session(1).map_or(0, |s| s.next_n());
        let feature_level = kafscale_metadata::limits::FEATURE_LEVEL;
        let commands = vec![command];
        let entry = Entry { feature_level, nonce: 1, n, time_ms: 0, reserved: Vec::new(), low: 0, commands };
        let ordinal = self.state.ordinal() + 1;
        Ok(apply(&mut self.state, ordinal, &entry).map_err(|stop| stop.to_string())?.outcomes)
    }
}
