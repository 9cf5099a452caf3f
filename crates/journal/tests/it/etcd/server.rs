//! Real etcd servers for tests: found, started on free loopback ports with their data in a temporary directory, and
//! stopped by their process id when dropped, also when a test fails.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kafscale_journal::etcd::client::{Config, Etcd};
use kafscale_journal::etcd::kv::{Get, Keys, Kv, Range};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A program, and its version for people.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
}

/// Every etcd on this machine: the one in `PATH`, and those that `scripts/build-etcd.sh` made.
pub(crate) fn binaries() -> Vec<Binary> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let made = std::fs::read_dir(tools).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut made: Vec<PathBuf> = made
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd-")))
        .map(|path| path.join("etcd"))
        .collect();
    made.sort();
    made.push(PathBuf::from("etcd"));
    let mut binaries: Vec<Binary> = made.into_iter().filter_map(version).collect();
    binaries.sort_by(|a, b| a.version.cmp(&b.version));
    binaries.dedup_by(|a, b| a.version == b.version);
    binaries
}

fn version(path: PathBuf) -> Option<Binary> {
    let output = Command::new(&path).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "))?.to_owned();
    Some(Binary { path, version })
}

/// Says in one line that a test did nothing.
pub(crate) fn skipped(test: &str) {
    println!("skipped: {test}: no etcd in PATH nor in .tools (scripts/build-etcd.sh makes one)");
}

/// A running server.
pub(crate) struct Server {
    process: Child,
    client_port: u16,
    data: TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) async fn start(binary: &Binary, extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(|&flag| flag.to_owned()).collect();
        let mut log = String::new();
        // A port that was free a moment ago may be taken by now.
        for _ in 0..5 {
            let (data, client_port, peer_port) = (TempDir::new().unwrap(), free_port(), free_port());
            let process = spawn(binary, data.path(), (client_port, peer_port), &extra);
            let mut server = Self { process, client_port, data };
            if server.is_up().await {
                return server;
            }
            log = std::fs::read_to_string(server.data.path().join("log")).unwrap();
        }
        panic!("etcd {} does not answer:\n{log}", binary.version);
    }

    async fn is_up(&mut self) -> bool {
        let client = Etcd::new(&self.config()).unwrap();
        let get = Get { keys: Keys::One("health".into()), keys_only: true, limit: 1 };
        for _ in 0..200 {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            let asked = client.range(Range { get: get.clone(), revision: 0, serializable: false });
            if matches!(timeout(Duration::from_secs(2), asked).await, Ok(Ok(_))) {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// How it is reached.
    pub(crate) fn config(&self) -> Config {
        Config { endpoints: vec![format!("127.0.0.1:{}", self.client_port)], ..Config::default() }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Etcd {
        Etcd::new(&self.config()).unwrap()
    }

    fn stop(&mut self) {
        // It may be gone already.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn spawn(binary: &Binary, data: &Path, (client, peer): (u16, u16), extra: &[String]) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let log = std::fs::File::create(data.join("log")).unwrap();
    Command::new(&binary.path)
        .arg("--data-dir")
        .arg(data.join("data"))
        .args(["--name", "one", "--log-level", "error", "--logger", "zap"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
