//! What a server is like before an attack, and must be like after it.

use std::fs;
use std::time::{Duration, Instant};

use super::{SECRET, Server, eventually};

/// What the process may hold more after an attack than before it, in KiB.
const SPARE: u64 = 32 * 1024;

/// How long a fresh client may wait for its first answers while others attack. A server that is
/// held up answers none at all; on a machine that runs many tests a second is not much.
const PROMPT: Duration = Duration::from_secs(4);

/// What was measured before an attack.
pub struct Calm<'a> {
    server: &'a Server,
    memory: u64,
}

impl Server {
    /// Notes what there is to come back to.
    pub async fn calm(&self) -> Calm<'_> {
        // Whatever is made once for all clients is made now.
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

    /// Checks that a client that comes now is served, and at once.
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
    /// What the process holds in memory now, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.process());
        let status = fs::read_to_string(path).expect("the server runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse().unwrap()
    }

    /// What the process holds now more than before, in KiB.
    pub fn grown(&self) -> u64 {
        self.memory().saturating_sub(self.memory)
    }

    /// Checks that the attack has left nothing behind: clients are served, no connection of the
    /// attackers is left, memory is what it was, and the log holds neither a panic nor a secret
    /// nor a character that could forge a line.
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
                // Freed memory goes back to the system as the allocator is used.
                self.server.serves_promptly().await;
            }
        });
        let freed = freed.await.is_ok();
        assert!(freed, "{} KiB became {last} KiB", self.memory);
        self.says_nothing_wrong();
    }

    /// Checks what was logged and noted in the audit log.
    fn says_nothing_wrong(&self) {
        let audit = fs::read_to_string(self.server.path("audit.log")).unwrap_or_default();
        for said in [self.server.log(), self.server.printed(), audit] {
            assert!(!said.contains("panicked"), "{said}");
            assert!(!said.contains(SECRET), "the secret is in the log");
            // Every token of these tests has this head: {"typ":"JWT","alg":"HS256"}.
            assert!(!said.contains("eyJ"), "a token is in the log: {said}");
            let raw = said.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(raw, None, "a control character is in the log");
        }
    }
}
