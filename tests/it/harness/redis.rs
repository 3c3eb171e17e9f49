//! A Redis server, as a process of the test.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{eventually, free_port};

/// Ends the server when the test process ends, however that ends: then its input closes.
const GUARD: &str = r#"redis-server "$@" & server=$!
cat >/dev/null
kill -9 "$server" 2>/dev/null"#;

/// A `redis-server` of its own, which writes every command to disk.
pub struct Redis {
    guard: Child,
    port: u16,
    directory: TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), free_port()).await
    }

    pub async fn start_in(directory: TempDir, port: u16) -> Self {
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--port", &port.to_string()])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Redis {
            guard,
            port,
            directory,
        };
        eventually(
            "redis-server (Debian: apt-get install redis-server)",
            async || (redis.asks(&["PING"]).trim() == "PONG").then_some(()),
        )
        .await;
        redis
    }

    /// The answer to a command, as text.
    pub fn asks(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let asked = Command::new("redis-cli")
            .args(["-p", &port])
            .args(command)
            .output();
        asked.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As `kill -9`. Returns its directory and its port.
    pub fn kill(mut self) -> (TempDir, u16) {
        self.end();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        (directory, self.port)
    }

    fn end(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
