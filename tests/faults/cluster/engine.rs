//! An engine: `nats-server` with JetStream, or `redis-server` that syncs each write.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::options::Store;

/// The timeout of a start.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The polling interval.
const LOOK: Duration = Duration::from_millis(10);
/// The timeout of an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// An engine's process, running or not. It is killed on drop.
pub struct Engine {
    kind: Store,
    data: PathBuf,
    pub address: SocketAddr,
    /// The primary of a replica.
    primary: Option<SocketAddr>,
    child: Option<Child>,
}

impl Engine {
    /// An engine that is not started yet, with its data in this directory.
    pub fn new(kind: Store, data: &Path) -> Self {
        Engine {
            kind,
            data: data.to_owned(),
            address: free_address(),
            primary: None,
            child: None,
        }
    }

    /// Makes it a replica of this one when it starts.
    pub fn follow(&mut self, primary: SocketAddr) {
        self.primary = Some(primary);
    }

    /// Makes a replica the primary.
    pub async fn promote(&mut self) {
        self.primary = None;
        let answer = self.ask("REPLICAOF NO ONE\r\n").await;
        assert_eq!(answer.as_deref(), Some("+OK\r\n"));
    }

    /// Starts it, and waits until it serves.
    pub async fn start(&mut self) {
        fs::create_dir_all(&self.data).unwrap();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.data.with_extension("log"))
            .unwrap();
        let (program, mut arguments) = match self.kind {
            Store::Nats => (nats_server(), nats_arguments(&self.data, self.address)),
            _ => (
                PathBuf::from("redis-server"),
                redis_arguments(&self.data, self.address),
            ),
        };
        if let Some(primary) = self.primary {
            arguments.push("--replicaof".into());
            arguments.push(format!("{} {}", primary.ip(), primary.port()));
        }
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("{}: {why}", program.display()));
        self.child = Some(child);
        let deadline = Instant::now() + TIMEOUT;
        while !self.serves().await {
            assert!(Instant::now() < deadline, "the engine does not get ready");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn serves(&self) -> bool {
        match self.kind {
            Store::Nats => self
                .ask("PING\r\n")
                .await
                .is_some_and(|text| text.contains("\"jetstream\":true")),
            _ => self
                .ask("PING\r\n")
                .await
                .is_some_and(|text| text == "+PONG\r\n"),
        }
    }

    /// The beginning of its answer to this text.
    pub async fn ask(&self, text: &str) -> Option<String> {
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            stream.write_all(text.as_bytes()).await.ok()?;
            let mut answer = vec![0; 8192];
            let read = stream.read(&mut answer).await.ok()?;
            answer.truncate(read);
            String::from_utf8(answer).ok()
        };
        tokio::time::timeout(ANSWER, asked).await.ok().flatten()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops the process (SIGSTOP) for this long.
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

    /// Removes all of its data. It must not be running.
    pub fn remove_data(&self) {
        fs::remove_dir_all(&self.data).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `NATS_SERVER`, or the one on the PATH.
fn nats_server() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from)
}

fn nats_arguments(data: &Path, address: SocketAddr) -> Vec<String> {
    let data = data.display();
    [
        "-js",
        "-a",
        &address.ip().to_string(),
        "-p",
        &address.port().to_string(),
        "-sd",
        &data.to_string(),
    ]
    .map(str::to_owned)
    .into()
}

fn redis_arguments(data: &Path, address: SocketAddr) -> Vec<String> {
    let data = data.display();
    [
        "--bind",
        &address.ip().to_string(),
        "--port",
        &address.port().to_string(),
        "--dir",
        &data.to_string(),
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--repl-diskless-sync-delay",
        "0",
    ]
    .map(str::to_owned)
    .into()
}

/// An address below those that the system assigns by itself, so that it is still free after a
/// restart of the engine.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(20_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
