//! The audit log: one line per action.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually};

fn audited() -> Config {
    Config::rooms().set("audit.file", r#""audit.log""#)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line that is being written has no terminator yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// Waits for a line with these members.
async fn noted(server: &Server, members: Value) -> Value {
    let has = |line: &Value| {
        let mut members = members.as_object().unwrap().iter();
        members.all(|(name, value)| &line[name] == value)
    };
    eventually(&format!("a line with {members}"), async || {
        lines(&server.path("audit.log")).into_iter().find(has)
    })
    .await
}

#[tokio::test]
async fn connects_and_disconnects_are_audited() {
    let server = Server::start(audited()).await;
    noted(&server, json!({"event": "start"})).await;
    let mode = std::fs::metadata(server.path("audit.log")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    let line = noted(&server, json!({"event": "connect", "user": "alice"})).await;
    assert_eq!(line["connection"], alice.id());
    assert_eq!(line["transport"], "websocket");
    assert_eq!(line["roles"], json!(["editor"]));
    assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    alice.subscribe("room:1").await;
    for channel in ["user:alice", "room:1"] {
        let granted = json!({
            "event": "subscribe", "user": "alice", "channel": channel, "connection": alice.id(),
        });
        noted(&server, granted).await;
    }

    let admin = Token::new("olga").roles(&["admin"]).sign();
    let path = format!("/api/v1/connections/{}?reason=enough", alice.id());
    let bearer = format!("Bearer {admin}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = server.http(Method::DELETE, &path, &headers, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(alice.expect_close(4410).await, "enough");
    let ended = json!({
        "event": "disconnect", "user": "alice", "by": "olga", "reason": "enough", "code": "4410",
    });
    noted(&server, ended).await;

    let bob = server.ws().token("bob", &[]).connect().await;
    bob.close().await;
    let ended = json!({"event": "disconnect", "user": "bob", "by": "client", "code": "1000"});
    noted(&server, ended).await;
}

#[tokio::test]
async fn refusals_are_audited_with_reason() {
    let server = Server::start(audited()).await;
    let expired = Token::new("alice").expires_in(-3600).sign();
    let bearer = format!("Bearer {expired}");
    let headers = [("Authorization", bearer.as_str())];
    server
        .refused_upgrade("/ws", &headers)
        .await
        .assert_problem(401);
    let failed = json!({
        "event": "authentication_failed", "transport": "websocket", "code": "unauthenticated",
        "reason": "the token has expired",
    });
    noted(&server, failed).await;
    server
        .refused_upgrade("/ws", &[("Origin", "https://evil.example")])
        .await
        .assert_problem(403);
    let refused = json!({"event": "refused", "code": "permission_denied"});
    let line = noted(&server, refused).await;
    assert!(
        line["reason"].as_str().unwrap().contains("origin"),
        "{line}"
    );
    server.get("/api/v1/stats").await.assert_problem(401);
    noted(
        &server,
        json!({"event": "authentication_failed", "reason": "a token is needed"}),
    )
    .await;
    let eve = Token::new("eve");
    server
        .get_as(&eve, "/api/v1/stats")
        .await
        .assert_problem(403);
    noted(
        &server,
        json!({"event": "refused", "user": "eve", "reason": "needs role admin"}),
    )
    .await;

    let mut ws = server.ws().token("eve", &[]).connect().await;
    ws.ask(json!({"type": "subscribe", "channels": ["project:1"]}))
        .await;
    let refused = json!({
        "event": "subscribe_refused", "channel": "project:1", "user": "eve",
        "connection": ws.id(), "code": "permission_denied",
    });
    noted(&server, refused).await;
    let publish = json!({
        "type": "publish", "channel": "project:1", "event_type": "a.b", "data": {"pin": "4711"},
    });
    ws.refused(publish, "permission_denied").await;
    let refused = json!({
        "event": "publish_refused", "channel": "project:1", "event_type": "a.b", "user": "eve",
    });
    noted(&server, refused).await;
    ws.refused(
        json!({"type": "authenticate", "token": "a.b.c"}),
        "unauthenticated",
    )
    .await;
    let failed = json!({"event": "authentication_failed", "connection": ws.id()});
    noted(&server, failed).await;

    let log = std::fs::read_to_string(server.path("audit.log")).unwrap();
    assert!(!log.contains(&expired) && !log.contains("4711"), "{log}");
}

#[tokio::test]
async fn audit_lines_cannot_be_forged() {
    let server = Server::start(audited()).await;
    let mut ws = server.ws().token("eve", &[]).connect().await;
    let evil = "x\"}\n{\"event\":\"connect\",\"user\":\"root\"}\u{1b}[2J\u{2028}\u{7f}";
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": [evil]}))
        .await;
    assert_eq!(reply["errors"][0]["code"], "invalid_argument", "{reply}");
    noted(
        &server,
        json!({"event": "subscribe_refused", "channel": evil}),
    )
    .await;
    let log = std::fs::read_to_string(server.path("audit.log")).unwrap();
    let plain = log
        .chars()
        .all(|c| c == '\n' || !(c.is_control() || c == '\u{2028}'));
    assert!(plain, "{log:?}");
    assert!(
        lines(&server.path("audit.log"))
            .iter()
            .all(|l| l["user"] != "root")
    );
}

#[tokio::test]
async fn rotated_audit_file_is_reopened() {
    let server = Server::start(audited()).await;
    let (path, old) = (server.path("audit.log"), server.path("audit.log.1"));
    noted(&server, json!({"event": "start"})).await;
    std::fs::rename(&path, &old).unwrap();
    server.reload(&audited());
    noted(
        &server,
        json!({"event": "reload", "by": "SIGHUP", "reason": "taken over"}),
    )
    .await;
    let first = lines(&old);
    assert_eq!(first[0]["event"], "start");

    // The server is not told either.
    std::fs::remove_file(&path).unwrap();
    eventually("a new file", async || {
        server
            .ws()
            .token("alice", &[])
            .connect()
            .await
            .close()
            .await;
        path.exists().then_some(())
    })
    .await;
    let refused = audited().set("limits.connections", "0");
    server.reload(&refused);
    let line = noted(&server, json!({"event": "reload", "by": "SIGHUP"})).await;
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("limits.connections"), "{line}");
}

#[tokio::test]
async fn audit_log_is_flushed_on_shutdown() {
    let mut server = Server::start(audited()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    server.signal("TERM");
    alice.expect_close(1012).await;
    drop(alice);
    assert!(server.ended().await.success());
    let lines = lines(&server.path("audit.log"));
    assert_eq!(lines.last().unwrap()["event"], "stop");
    assert!(
        lines
            .iter()
            .any(|l| l["event"] == "disconnect" && l["by"] == "server")
    );
}

#[tokio::test]
async fn unwritable_audit_file_prevents_start() {
    let config = Config::rooms().set("audit.file", r#""no/such/directory/audit.log""#);
    let (status, reported) = Server::refuses(config).await;
    assert!(!status.success());
    assert!(reported.contains("audit.file"), "{reported}");
}

#[tokio::test]
async fn full_audit_disk_blocks_nobody() {
    let server = Server::start(Config::rooms().set("audit.file", r#""/dev/full""#)).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    eventually("a dropped record", async || {
        (server.metric("tidings_audit_dropped_total").await > 0).then_some(())
    })
    .await;
    alice.publish("room:1", "still.here", json!({})).await;
    for _ in 0..5 {
        server.ws().token("bob", &[]).connect().await.close().await;
    }
    alice.lives().await;
    let reported = server
        .log()
        .matches("the audit log can't be written")
        .count();
    assert_eq!(reported, 1, "once, however often it fails");
}
