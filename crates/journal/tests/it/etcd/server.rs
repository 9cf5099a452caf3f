//! Real etcd servers for tests: found, started on free loopback ports with their data in a temporary directory, and
//! stopped by their process id when dropped, also when a test fails.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use kafscale_journal::etcd::client::{Config, Etcd};
use kafscale_journal::etcd::kv::{Get, Keys, Kv, Range};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A program, and its version for people.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// It can be told not to fsync (from 3.5 on): processes die in tests, and no machine does.
    is_hasty: bool,
}

/// Every etcd on this machine: the one in `PATH`, and those that `scripts/build-etcd.sh` made.
pub(crate) fn binaries() -> Vec<Binary> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools");
    let made = std::fs::read_dir(tools).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut made: Vec<PathBuf> = made
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd-")))
        .map(|path| path.join("etcd"))
        .collect();
    made.push(PathBuf::from("etcd"));
    let mut binaries: Vec<Binary> = made.into_iter().filter_map(version).collect();
    binaries.sort_by(|a, b| a.version.cmp(&b.version));
    binaries.dedup_by(|a, b| a.version == b.version);
    binaries
}

fn version(path: PathBuf) -> Option<Binary> {
    let says = |flag| {
        let output = Command::new(&path).arg(flag).output().ok()?;
        Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let version = says("--version")?.lines().find_map(|line| line.strip_prefix("etcd Version: "))?.to_owned();
    let is_hasty = says("--help")?.contains("unsafe-no-fsync");
    Some(Binary { path, version, is_hasty })
}

/// Says in one line that a test did nothing.
pub(crate) fn skipped(test: &str) {
    println!("skipped: {test}: no etcd in PATH nor in .tools (scripts/build-etcd.sh makes one)");
}

/// Does the same on every etcd at once: most of it is waiting.
pub(crate) async fn on_each(test: &str, run: impl AsyncFn(&Binary)) {
    let binaries = binaries();
    if binaries.is_empty() {
        skipped(test);
    }
    join_all(binaries.iter().map(|binary| run(binary))).await;
}

/// How a server is started.
#[derive(Debug, Clone)]
struct Plan {
    binary: Binary,
    name: String,
    scheme: &'static str,
    client_port: u16,
    peer_port: u16,
    cluster: String,
    extra: Vec<String>,
}

/// A running server, or one that was stopped and can run again.
pub(crate) struct Server {
    plan: Plan,
    process: Child,
    data: TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) async fn start(binary: &Binary, extra: &[&str]) -> Self {
        Self::start_cluster(binary, 1, extra).await.pop().unwrap()
    }

    /// Starts the members of one cluster.
    pub(crate) async fn start_cluster(binary: &Binary, members: usize, extra: &[&str]) -> Vec<Self> {
        let mut log = String::new();
        // A port that was free a moment ago may be taken by now.
        for _ in 0..5 {
            let mut servers: Vec<Self> = plans(binary, members, "http", extra).into_iter().map(Self::run).collect();
            let mut up = true;
            for server in &mut servers {
                let config = server.config();
                up = up && server.is_up(&config).await;
            }
            if up {
                return servers;
            }
            log = servers.iter().map(Self::log).collect();
        }
        panic!("etcd {} does not answer:\n{log}", binary.version);
    }

    /// Starts one that talks TLS, or whatever else `config` and `extra` make of it.
    pub(crate) async fn start_tls(binary: &Binary, extra: &[&str], config: impl Fn(&str) -> Config) -> Self {
        for _ in 0..5 {
            let plan = plans(binary, 1, "https", extra).pop().unwrap();
            let mut server = Self::run(plan);
            if server.is_up(&config(&server.endpoint())).await {
                return server;
            }
            println!("{}", server.log());
        }
        panic!("etcd {} does not answer", binary.version);
    }

    fn run(plan: Plan) -> Self {
        let data = TempDir::new().unwrap();
        Self { process: spawn(&plan, data.path()), plan, data }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap()
    }

    async fn is_up(&mut self, config: &Config) -> bool {
        let client = Etcd::new(config).unwrap();
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

    /// `HOST:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.plan.client_port)
    }

    /// How it is reached.
    pub(crate) fn config(&self) -> Config {
        Config { endpoints: vec![self.endpoint()], ..Config::default() }
    }

    /// How many calls of a gRPC method it has taken, by its own metrics.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        let mut connection = TcpStream::connect(self.endpoint()).unwrap();
        connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut metrics = String::new();
        connection.read_to_string(&mut metrics).unwrap();
        let label = format!("grpc_method=\"{method}\"");
        let of = |line: &&str| line.starts_with("grpc_server_started_total{") && line.contains(&label);
        let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
        metrics.lines().filter(of).map(count).sum()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Etcd {
        Etcd::new(&self.config()).unwrap()
    }

    /// Where its data are. They are not written while it is stopped.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        // It may be gone already.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }

    /// Starts it again on its data and its ports.
    pub(crate) async fn start_again(&mut self, config: &Config) {
        self.process = spawn(&self.plan, self.data.path());
        assert!(self.is_up(config).await, "{}", self.log());
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// It does nothing more, and its connections stay.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }
}

fn plans(binary: &Binary, members: usize, scheme: &'static str, extra: &[&str]) -> Vec<Plan> {
    let peers: Vec<(String, u16)> = (0..members).map(|member| (format!("m{member}"), free_port())).collect();
    let cluster: Vec<String> = peers.iter().map(|(name, port)| format!("{name}=http://127.0.0.1:{port}")).collect();
    let plan = |(name, peer_port)| Plan {
        binary: binary.clone(),
        name,
        scheme,
        client_port: free_port(),
        peer_port,
        cluster: cluster.join(","),
        extra: extra.iter().map(|&flag| flag.to_owned()).collect(),
    };
    peers.into_iter().map(plan).collect()
}

fn spawn(plan: &Plan, data: &Path) -> Child {
    let client = format!("{}://127.0.0.1:{}", plan.scheme, plan.client_port);
    let peer = format!("http://127.0.0.1:{}", plan.peer_port);
    let log = std::fs::File::create(data.join("log")).unwrap();
    Command::new(&plan.binary.path)
        .arg("--data-dir")
        .arg(data.join("data"))
        .args(["--name", &plan.name, "--log-level", "error", "--logger", "zap"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &plan.cluster])
        .args(plan.binary.is_hasty.then_some("--unsafe-no-fsync"))
        .args(&plan.extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // A paused process takes SIGKILL too.
        self.stop();
    }
}
