//! Runs the real binary: starts, kills, stops and restarts it in one directory.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::clock::Clock;
use crate::options::{NAMESPACES, Store};

/// The key of the clients' tokens.
pub const SECRET: &str = "a-secret-of-the-fault-run-that-is-long-enough";
/// The drain time.
const DRAIN: Duration = Duration::from_secs(2);
/// The timeout of a start or stop, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(40);
/// The polling interval.
const LOOK: Duration = Duration::from_millis(10);

/// The addresses of the server.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub public: SocketAddr,
    pub internal: SocketAddr,
}

/// The server process, running or not.
pub struct Server {
    directory: PathBuf,
    clock: Option<Clock>,
    /// The store's directory.
    pub store: PathBuf,
    /// Whether it starts with a damaged store.
    pub bears_damage: bool,
    child: Option<Child>,
}

impl Server {
    /// A server that is not started yet, with its configuration in `directory` and its store in
    /// `store`.
    pub fn new(directory: &Path, configuration: &str, store: &Path, clock: Option<Clock>) -> Self {
        fs::write(directory.join("tidings.toml"), configuration).unwrap();
        Server {
            directory: directory.to_owned(),
            clock,
            store: store.to_owned(),
            bears_damage: false,
            child: None,
        }
    }

    /// Starts it and waits until it accepts connections. Fails with its output if it exits instead.
    pub async fn start(&mut self) -> Result<Addresses, ExitStatus> {
        let ready = self.directory.join("ready.json");
        let _ = fs::remove_file(&ready);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        let child = Command::new(binary())
            .args(["serve", "--config", "tidings.toml", "--ready-file"])
            .arg(&ready)
            .current_dir(&self.directory)
            .env_remove("RUST_LOG")
            .envs(self.clock.iter().flat_map(Clock::environment))
            .env("TIDINGS_HISTORY__ON_DAMAGE", self.on_damage())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Err(status);
            }
            if let Some(addresses) = read_addresses(&ready) {
                return Ok(addresses);
            }
            assert!(Instant::now() < deadline, "the server does not get ready");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn on_damage(&self) -> &'static str {
        if self.bears_damage {
            "new_epoch"
        } else {
            "refuse"
        }
    }

    /// The process.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its exit status, if it has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops the process (SIGSTOP).
    pub async fn stall(&self, lasts: Duration) {
        self.signal(Signal::STOP);
        tokio::time::sleep(lasts).await;
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let Some(child) = &self.child else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and waits for the exit. `None` if it had to be killed.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        self.terminate();
        let deadline = Instant::now() + DRAIN + TIMEOUT;
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if Instant::now() > deadline {
                self.kill();
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// The log of all its processes.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary to test: `TIDINGS_BIN`, or the one that was built with this test.
fn binary() -> OsString {
    std::env::var_os("TIDINGS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidings").into())
}

fn read_addresses(ready: &Path) -> Option<Addresses> {
    let addresses: Value = serde_json::from_slice(&fs::read(ready).ok()?).ok()?;
    let address = |name: &str| addresses[name].as_str()?.parse().ok();
    Some(Addresses {
        public: address("public")?,
        internal: address("internal")?,
    })
}

/// The configuration of a node without an engine.
pub fn alone(kind: Store, store: &Path) -> String {
    let (storage, path) = (kind.name(), store.display());
    configuration(&format!(
        "[history]\nstorage = {storage:?}\npath = \"{path}\"\ncache_bytes = 262144\n"
    ))
}

/// The configuration of a node that finds its engine at this address. It notices a lost last event
/// soon, and publishers do not outwait it.
pub fn joined(kind: Store, number: usize, engine: SocketAddr) -> String {
    let name = kind.name();
    configuration(&format!(
        "[history]\ncache_bytes = 262144\n\
         [cluster]\nengine = {name:?}\nnode = \"node-{number}\"\n\
         [cluster.{name}]\nurls = [\"{name}://{engine}\"]\nsweep = \"3s\"\n\
         publish_timeout = \"4s\"\n"
    ))
}

/// Small outboxes, so that slow clients matter. Heartbeats longer than a stall. History without
/// retention losses. A small cache, so that much is read from disk.
fn configuration(extra: &str) -> String {
    let mut toml = format!(
        "[public]\nlisten = \"127.0.0.1:0\"\n\
         [internal]\nlisten = \"127.0.0.1:0\"\n\
         [auth]\nhs256_secret = {SECRET:?}\nleeway = \"0s\"\n\
         [limits]\nconnections = 20000\nconnections_per_ip = 20000\noutbox_bytes = 65536\n\
         event_bytes = 16384\n\
         [heartbeat]\ninterval = \"2s\"\ntimeout = \"8s\"\n\
         [server]\ndrain = \"{}s\"\n{extra}",
        DRAIN.as_secs()
    );
    for (policy, _) in NAMESPACES {
        write!(
            toml,
            "[[namespace]]\nname = {policy:?}\nslow_consumer = {policy:?}\nsubscribe = 'true'\n\
             history = {{ size = 1000000, ttl = \"24h\", bytes = 4294967296 }}\n"
        )
        .unwrap();
    }
    toml
}
