//! Runs the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;

use super::{Config, RawWs, Token, WsBuilder, eventually};

/// A running server, killed on drop.
pub struct Server {
    child: Child,
    dir: TempDir,
    pub public: String,
    pub internal: String,
}

impl Server {
    /// Starts the server and waits until both listeners accept connections.
    pub async fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, config).await
    }

    /// Starts the server in a directory that may have files of an earlier one.
    pub async fn start_in(dir: TempDir, config: Config) -> Self {
        let ready = dir.path().join("ready.json");
        let _ = fs::remove_file(&ready);
        let child = spawn(dir.path(), &config);
        let mut server = Self {
            child,
            dir,
            public: String::new(),
            internal: String::new(),
        };
        let addresses = eventually("the ready file", async || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", server.log());
            }
            serde_json::from_slice::<Value>(&fs::read(&ready).ok()?).ok()
        })
        .await;
        addresses["public"]
            .as_str()
            .unwrap()
            .clone_into(&mut server.public);
        addresses["internal"]
            .as_str()
            .unwrap()
            .clone_into(&mut server.internal);
        server
    }

    /// Starts a server that should refuse to start. Returns its exit status and output.
    pub async fn refuses(config: Config) -> (ExitStatus, String) {
        let dir = tempfile::tempdir().unwrap();
        Self::refuses_in(dir.path(), config).await
    }

    /// Like [`Server::refuses`], in a directory that may have files of an earlier one.
    pub async fn refuses_in(dir: &Path, config: Config) -> (ExitStatus, String) {
        let mut child = spawn(dir, &config);
        let status = eventually("the server to refuse", async || child.try_wait().unwrap()).await;
        let reported = ["stderr", "stdout"].map(|f| fs::read_to_string(dir.join(f)).unwrap());
        (status, reported.concat())
    }

    /// Kills the process (SIGKILL). Returns its directory.
    pub async fn kill(self) -> TempDir {
        self.end("KILL").await
    }

    /// Stops the process cleanly. Returns its directory.
    pub async fn stop(self) -> TempDir {
        self.end("TERM").await
    }

    async fn end(mut self, signal: &str) -> TempDir {
        self.signal(signal);
        self.ended().await;
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// A builder for a WebSocket client.
    pub fn ws(&self) -> WsBuilder {
        WsBuilder::new(&self.public)
    }

    /// A WebSocket client of raw frames, which answers nothing automatically.
    pub async fn raw_ws(&self, token: &Token) -> RawWs {
        RawWs::connect(
            &self.public,
            &[("Authorization", &format!("Bearer {}", token.sign()))],
        )
        .await
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// The server's standard output.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).unwrap_or_default()
    }

    /// A file in the server's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The server's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The value of a series of `/metrics`. 0 if there is none.
    pub async fn metric(&self, series: &str) -> u64 {
        let answer = self
            .internal_http(Method::GET, "/metrics", &[], Bytes::new())
            .await;
        let mut lines = answer.text().lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        // Gauges are formatted with a fraction.
        let whole = value.map(|value| value.trim().split('.').next().unwrap());
        whole.map_or(0, |whole| whole.parse().unwrap())
    }

    /// Replaces the configuration file and sends SIGHUP.
    pub fn reload(&self, config: &Config) {
        self.reload_text(&config.to_toml());
    }

    /// Replaces the configuration file with any text and sends SIGHUP.
    pub fn reload_text(&self, toml: &str) {
        fs::write(self.dir.path().join("tidings.toml"), toml).unwrap();
        self.signal("HUP");
    }

    /// Sends a signal, given by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        // The shell's built-in `kill` exists even if there is no such program.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to exit.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the server to end", async || child.try_wait().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!(
                "--- end of the server's log ---\n{}",
                log.get(start..).unwrap_or(&log)
            );
        }
    }
}

fn spawn(dir: &Path, config: &Config) -> Child {
    fs::write(dir.join("tidings.toml"), config.to_toml()).unwrap();
    let file = |name: &str| Stdio::from(fs::File::create(dir.join(name)).unwrap());
    let program = env!("CARGO_BIN_EXE_tidings");
    let mut command = match config.descriptors {
        None => Command::new(program),
        Some((soft, hard)) => {
            let mut shell = Command::new("sh");
            let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
            shell.args(["-c", &limited, program]);
            shell
        }
    };
    command
        .args([
            "serve",
            "--config",
            "tidings.toml",
            "--ready-file",
            "ready.json",
        ])
        .args(&config.args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .envs(config.env.iter().cloned())
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap()
}
