//! Consumers, admin clients and producers that a test drives from outside, as tests/java/src/GroupHost does: each
//! connection to this process is one of them, and lives on a thread of its own. Owns the conversation, and knows nothing
//! of groups.
//!
//! A request is one line of JSON, with the operation's name as "do"; the first one names the kind and brings its settings.
//! An answer is the length and bytes of a JSON object, then the length and bytes of a record file, all lengths four bytes.
//! An error is answered as "error" and "kind". The process prints its port, and ends with its standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::member::Member;
use crate::record_file::{self, Entry};

/// What a connection drives.
pub(crate) trait Driven {
    /// Carries out one request; records are added to `records`, also when it fails.
    fn carry_out(&mut self, operation: &str, request: &Value, records: &mut Vec<Entry>) -> Result<Value>;
}

pub(crate) fn run() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Err(error) = serve(socket) {
                    eprintln!("a connection broke: {error:#}");
                }
            });
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // At once, with whatever is still connected.
    std::process::exit(0)
}

fn serve(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut driven: Option<Box<dyn Driven>> = None;
    for line in BufReader::new(socket.try_clone()?).lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let operation = request["do"].as_str().context("a request without operation")?;
        let mut records = Vec::new();
        let outcome = match &mut driven {
            Some(driven) => driven.carry_out(operation, &request, &mut records),
            None => open(operation, &request).map(|made| {
                driven = Some(made);
                Value::Null
            }),
        };
        let answer = outcome.map_or_else(|error| refusal(&error), |value| json!({ "value": value }));
        send(&mut socket, answer.to_string().as_bytes())?;
        let mut file = Vec::new();
        record_file::write_to(&mut file, &records)?;
        send(&mut socket, &file)?;
    }
    Ok(())
}

fn open(kind: &str, request: &Value) -> Result<Box<dyn Driven>> {
    let mut config = ClientConfig::new();
    for (name, value) in request["settings"].as_object().context("no settings")? {
        config.set(name, value.as_str().context("a setting that is not a string")?);
    }
    Ok(match kind {
        "consumer" => Box::new(Member::new(&config, request["commit_on_revoke"] == true)?),
        "admin" => Box::new(Admin::new(&config)?),
        "producer" => Box::new(Writer(config)),
        _ => bail!("there is no {kind}"),
    })
}

/// "kind" is librdkafka's code, where there is one.
fn refusal(error: &anyhow::Error) -> Value {
    let code = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    json!({ "error": format!("{error:#}"), "kind": code.map_or_else(|| "other".to_owned(), |code| format!("{code:?}")) })
}

fn send(socket: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    socket.write_all(&(bytes.len() as i32).to_be_bytes())?;
    Ok(socket.write_all(bytes)?)
}

struct Writer(ClientConfig);

impl Driven for Writer {
    fn carry_out(&mut self, operation: &str, request: &Value, _records: &mut Vec<Entry>) -> Result<Value> {
        let word = |name: &str| request[name].as_str().with_context(|| format!("no {name} to {operation}"));
        Ok(json!(crate::produce(&self.0, word("topic")?, word("file")?)?))
    }
}
