//! Real servers for tests.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

/// Ends the server when the test process ends, however that ends: then its input closes.
const GUARD: &str = r#"redis-server "$@" & server=$!
cat >/dev/null
kill -9 "$server" 2>/dev/null"#;

/// A `redis-server` with a directory of its own, on a Unix socket.
pub(crate) struct TestServer {
    directory: TempDir,
    options: Vec<String>,
    guard: Option<Child>,
    pid: u32,
}

impl TestServer {
    /// The one of this test process.
    pub(crate) fn shared() -> &'static TestServer {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| TestServer::start(&[]))
    }

    pub(super) fn start(options: &[&str]) -> Self {
        let mut server = TestServer {
            directory: TempDir::new().unwrap(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            guard: None,
            pid: 0,
        };
        server.run();
        server
    }

    /// A Sentinel that watches the master `main` on this port.
    pub(super) fn sentinel(port: u16, master: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut server = TestServer {
            directory,
            options: vec![config.display().to_string(), "--sentinel".to_owned()],
            guard: None,
            pid: 0,
        };
        server.run();
        server
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.path().display())
    }

    /// Starts it, again after [`TestServer::kill`].
    pub(super) fn run(&mut self) {
        let directory = self.directory.path();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]);
        let is_sentinel = self.options.iter().any(|option| option == "--sentinel");
        if is_sentinel {
            command.args(&self.options);
        } else {
            command.args([
                "--port",
                "0",
                "--save",
                "",
                "--repl-diskless-sync-delay",
                "0",
            ]);
            command.args(&self.options);
        }
        command.arg("--unixsocket").arg(self.path());
        command.arg("--dir").arg(directory);
        command.arg("--pidfile").arg(directory.join("pid"));
        command.arg("--logfile").arg(directory.join("log"));
        let guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        self.guard = Some(guard.expect("sh starts"));
        for _ in 0..1000 {
            if self.asks("PING").trim() == "PONG" {
                let info = self.asks("INFO server");
                let pid = info
                    .lines()
                    .find_map(|line| line.strip_prefix("process_id:"));
                self.pid = pid.expect("a process").trim().parse().unwrap();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        let mut guard = self.guard.take().unwrap();
        guard.kill().ok();
        let mut error = String::new();
        guard.stderr.take().unwrap().read_to_string(&mut error).ok();
        panic!("redis-server is needed (Debian: apt-get install redis-server): {error}{log}");
    }

    /// The answer of `redis-cli`.
    pub(super) fn asks(&self, command: &str) -> String {
        let asked = Command::new("redis-cli")
            .arg("-s")
            .arg(self.path())
            .args(command.split(' '))
            .output();
        asked.map_or_else(
            |error| format!("redis-cli: {error}"),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid.to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Stops it without ending it.
    pub(super) fn pause(&mut self) {
        self.signal("-STOP");
    }

    /// Continues it.
    pub(super) fn go_on(&mut self) {
        self.signal("-CONT");
    }

    /// As `kill -9`.
    pub(super) fn kill(&mut self) {
        self.signal("-KILL");
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
        std::fs::remove_file(self.path()).ok();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().ok();
        }
    }
}
