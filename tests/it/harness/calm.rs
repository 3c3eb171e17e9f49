//! Compares a server's state before and after an attack.

use std::fs;
use std::time::{Duration, Instant};

use super::{SECRET, Server, eventually};

/// The allowed growth of resident memory during an attack, in KiB.
const SPARE: u64 = 32 * 1024;

/// The deadline of a new client's first responses during an attack. A blocked server sends none at
/// all. On a machine that runs many tests, a second is not much.
const PROMPT: Duration = Duration::from_secs(4);

/// Measurements from before an attack.
pub struct Calm<'a> {
    server: &'a Server,
    memory: u64,
}

impl Server {
    /// Takes the measurements.
    pub async fn calm(&self) -> Calm<'_> {
        // Allocates now what is allocated once for all clients.
        for user in ["first", "second"] {
            let mut ws = self.ws().token(user, &[]).connect().await;
            ws.subscribe("room:calm").await;
            ws.close().await;
        }
        let calm = Calm {
            server: self,
            memory: 0,
        };
        let memory = calm.memory();
        Calm { memory, ..calm }
    }

    /// Checks that a new client is served promptly.
    pub async fn serves_promptly(&self) {
        let started = Instant::now();
        let mut ws = self.ws().token("fresh", &[]).connect().await;
        ws.subscribe("room:fresh").await;
        ws.publish("room:fresh", "still.here", serde_json::json!({}))
            .await;
        ws.expect_event("still.here").await;
        ws.close().await;
        let took = started.elapsed();
        assert!(took < PROMPT, "a fresh client waited {took:?}");
    }
}

impl Calm<'_> {
    /// The resident memory of the process, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.process());
        let status = fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse().unwrap()
    }

    /// The growth of resident memory since the measurement, in KiB.
    pub fn grown(&self) -> u64 {
        self.memory().saturating_sub(self.memory)
    }

    /// Checks that the attack left nothing behind: clients are served, all connections of the
    /// attacker are closed, memory has returned to its level, and the log contains no panic, no
    /// secret, and no character that could forge a line.
    pub async fn comes_back(self) {
        self.server.serves_promptly().await;
        eventually("the attackers' connections to end", async || {
            let open = ["websocket", "sse", "grpc"]
                .map(|transport| format!("tidings_connections{{transport=\"{transport}\"}}"));
            for series in open {
                if self.server.metric(&series).await > 0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        let limit = self.memory + SPARE;
        let mut last = 0;
        let freed = tokio::time::timeout(super::DEADLINE, async {
            loop {
                last = self.memory();
                if last <= limit {
                    return;
                }
                // The allocator returns freed memory as it is used.
                self.server.serves_promptly().await;
            }
        });
        let freed = freed.await.is_ok();
        assert!(freed, "{} KiB became {last} KiB", self.memory);
        self.says_nothing_wrong();
    }

    /// Checks the log and the audit log.
    fn says_nothing_wrong(&self) {
        let audit = fs::read_to_string(self.server.path("audit.log")).unwrap_or_default();
        for reported in [self.server.log(), self.server.printed(), audit] {
            assert!(!reported.contains("panicked"), "{reported}");
            assert!(!reported.contains(SECRET), "the secret is in the log");
            // Every token in these tests has this header: {"typ":"JWT","alg":"HS256"}.
            assert!(
                !reported.contains("eyJ"),
                "a token is in the log: {reported}"
            );
            let raw = reported.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(raw, None, "a control character is in the log");
        }
    }
}
