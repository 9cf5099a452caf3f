//! The server as a process: the line that says it is ready, and its end.

use std::net::SocketAddr;
use std::process::Stdio;

use kafscale_log::store::ObjectStore;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::control::ask;
use crate::world::{body, name, open, options};

async fn start() -> (Child, SocketAddr, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kafscale-s3"))
        .args(["--bucket", "kafscale", "--bucket", "replica"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["ready", s3, "control", control] = words[..] else { panic!("{line:?}") };
    (child, s3.parse().unwrap(), control.parse().unwrap())
}

#[tokio::test]
async fn it_serves_until_its_standard_input_is_closed() {
    let (mut child, s3, control) = start().await;
    open(options(s3, "a")).put(&name(1), body()).await.unwrap();
    let other = kafscale_log::store::s3::S3Options { url: "s3://replica/a".to_owned(), ..options(s3, "a") };
    open(other).check().await.unwrap();
    assert_eq!(ask(control, "GET", "/stats", "").await.1["objects"], 1);
    drop(child.stdin.take());
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn it_stops_on_a_signal() {
    let (mut child, s3, _) = start().await;
    open(options(s3, "a")).check().await.unwrap();
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").arg(id).status().await.unwrap().success());
    assert!(child.wait().await.unwrap().success());
}
