//! Revoked tokens and removed keys.

use http::Method;
use serde_json::json;
use tidings::proto::DisconnectRequest;
use tidings::proto::disconnect_request::Target;

use crate::harness::{Config, Server, Tidings, Token, event, eventually};

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

fn issued(user: &str, ago: i64) -> Token {
    Token::new(user).claim("iat", json!(now() - ago))
}

async fn revoke(server: &Server, target: Target) -> u64 {
    let request = DisconnectRequest {
        target: Some(target),
        reason: "out".to_owned(),
        revoke: true,
    };
    let answer = server.admin().await.disconnect(request).await.unwrap();
    answer.into_inner().disconnected
}

/// The counter of refused tokens for one reason.
async fn failures(server: &Server, reason: &str) -> u64 {
    let series = format!("tidings_auth_failures_total{{reason=\"{reason}\"}}");
    server.metric(&series).await
}

#[tokio::test]
async fn revoked_token_is_refused_everywhere() {
    let server = Server::start(Config::rooms()).await;
    let (token, other) = (issued("alice", 10), issued("alice", 20));
    let mut one = server.ws().bearer(&token.sign()).connect().await;
    let mut same = server.ws().bearer(&token.sign()).connect().await;
    let mut another = server.ws().bearer(&other.sign()).connect().await;
    assert_eq!(revoke(&server, Target::ConnectionId(one.id())).await, 1);
    assert_eq!(one.expect_close(4410).await, "out");
    same.expect_close(4401).await;
    another.lives().await;

    let bearer = format!("Bearer {}", token.sign());
    let headers = [("Authorization", bearer.as_str())];
    for path in ["/ws", "/sse?channel=room:1", "/api/v1/catalog"] {
        let answer = if path == "/ws" {
            server.refused_upgrade(path, &headers).await
        } else {
            server.http(Method::GET, path, &headers, "").await
        };
        let problem = answer.assert_problem(401);
        assert_eq!(problem["code"], "unauthenticated", "{path}");
        assert_eq!(problem["detail"], "the token was revoked", "{path}");
    }
    let refused = server
        .publisher_as(&token)
        .await
        .try_send(event("room:1", "a.b", json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut nobody = server.ws().connect().await;
    let message = json!({"type": "authenticate", "token": token.sign()});
    nobody.refused(message, "unauthenticated").await;
    another
        .refused(
            json!({"type": "authenticate", "token": token.sign()}),
            "unauthenticated",
        )
        .await;
    assert!(failures(&server, "revoked").await >= 6);
    assert_eq!(server.metric("tidings_revocations").await, 1);
}

#[tokio::test]
async fn all_tokens_of_user_are_revoked_over_http() {
    let server = Server::start(Config::rooms()).await;
    let (one, two) = (issued("alice", 10), Token::new("alice"));
    let mut first = server.ws().bearer(&one.sign()).connect().await;
    let mut second = server.ws().bearer(&two.sign()).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let admin = format!("Bearer {}", Token::new("root").roles(&["admin"]).sign());
    let headers = [("Authorization", admin.as_str())];
    let path = "/api/v1/connections?user=alice&revoke=true";
    let answer = server.http(Method::DELETE, path, &headers, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["disconnected"], 2);
    first.expect_close(4410).await;
    second.expect_close(4410).await;
    bob.lives().await;
    for token in [&one, &two] {
        let upgrade = server.ws().bearer(&token.sign()).upgrade().await;
        assert_eq!(upgrade.map(drop), Err(401));
    }
    let later = issued("alice", -2).sign();
    server.ws().bearer(&later).connect().await.lives().await;

    let nobody = server
        .http(
            Method::DELETE,
            "/api/v1/connections?revoke=true",
            &headers,
            "",
        )
        .await;
    assert_eq!(nobody.assert_problem(400)["errors"][0]["field"], "user");
    bob.lives().await;
}

#[tokio::test]
async fn anonymous_connection_has_no_token_to_revoke() {
    let server = Server::start(Config::rooms().set("auth.required", "false")).await;
    let mut ws = server.ws().connect().await;
    let request = DisconnectRequest {
        target: Some(Target::ConnectionId(ws.id())),
        reason: String::new(),
        revoke: true,
    };
    let refused = server.admin().await.disconnect(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    ws.lives().await;
}

#[tokio::test]
async fn revocation_table_is_bounded() {
    let server = Server::start(Config::rooms().set("auth.revocations", "1")).await;
    revoke(&server, Target::User("alice".into())).await;
    let request = DisconnectRequest {
        target: Some(Target::User("bob".into())),
        reason: String::new(),
        revoke: true,
    };
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let refused = server.admin().await.disconnect(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("auth.revocations"), "{refused}");
    bob.lives().await;
    let series = r#"tidings_limit_reached_total{limit="revocations"}"#;
    assert_eq!(server.metric(series).await, 1);
    // A name that no token can have takes no entry.
    let request = DisconnectRequest {
        target: Some(Target::User("x".repeat(256))),
        revoke: true,
        ..DisconnectRequest::default()
    };
    let mut admin = server.admin().await;
    let status = admin.disconnect(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn revoke_command_works() {
    let server = Server::start(Config::rooms()).await;
    let token = issued("alice", 10).sign();
    let mut alice = server.ws().bearer(&token).connect().await;
    let command = ["disconnect", "--user", "alice", "--revoke", "--json"];
    let done = server.cli(&command).run().await.exits(0);
    assert_eq!(done.json()["disconnected"], 1);
    alice.expect_close(4410).await;
    let upgrade = server.ws().bearer(&token).upgrade().await;
    assert_eq!(upgrade.map(drop), Err(401));
}

#[tokio::test]
async fn streams_end_when_token_is_revoked() {
    let server = Server::start(Config::rooms()).await;
    let token = issued("backend", 10).roles(&["service"]);
    let mut stream = server.publisher_as(&token).await.follow(&["room:1"]).await;
    revoke(&server, Target::User("backend".into())).await;
    let status = stream.ended().await.unwrap_err();
    assert_eq!(
        status.code(),
        tonic::Code::Unavailable,
        "disconnected: {status}"
    );
}

#[tokio::test]
async fn removed_secret_disconnects_its_clients() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    // The rules change, but the secret does not, so connections stay open.
    server.reload(&Config::rooms().set("limits.connections", "99"));
    eventually("the reload", async || {
        (server
            .metric("tidings_reloads_total{outcome=\"taken\"}")
            .await
            == 1)
            .then_some(())
    })
    .await;
    alice.lives().await;

    let leaked = Config::rooms().without_key().set(
        "auth.hs256_secret",
        r#""another-secret-that-nobody-has-seen-yet""#,
    );
    server.reload(&leaked);
    alice.expect_close(4401).await;
    assert_eq!(alice.expect("error").await["code"], "unauthenticated");
    let fresh = Token::new("alice").secret("another-secret-that-nobody-has-seen-yet");
    server
        .ws()
        .bearer(&fresh.sign())
        .connect()
        .await
        .lives()
        .await;
    assert_eq!(failures(&server, "unknown_key").await, 1);
}

#[tokio::test]
async fn token_lifetime_is_limited() {
    let server = Server::start(Config::rooms().set("auth.max_lifetime", r#""2h""#)).await;
    let good = issued("alice", 0).sign();
    server.ws().bearer(&good).connect().await.lives().await;
    for token in [Token::new("alice"), issued("alice", 2 * 3600)] {
        let upgrade = server.ws().bearer(&token.sign()).upgrade().await;
        assert_eq!(upgrade.map(drop), Err(401));
    }
}

fn on_disk() -> Config {
    Config::rooms()
        .set("history.storage", r#""disk""#)
        .set("server.drain", r#""1s""#)
}

/// Asserts that a token is refused, both ways in which a client can show one.
async fn is_revoked(server: &Server, token: &str) {
    let before = failures(server, "revoked").await;
    let upgrade = server.ws().bearer(token).upgrade().await;
    assert_eq!(upgrade.map(drop), Err(401));
    let origin = format!("http://{}", server.public);
    let page = server.ws().origin(&origin).query_token(token);
    let mut page = page.upgrade().await.expect("pages are told in the socket");
    page.expect_close(4401).await;
    assert_eq!(failures(server, "revoked").await, before + 2);
}

#[tokio::test]
async fn revocations_survive_kill_9_with_the_store_on_disk() {
    for durability in [r#""fsync""#, r#""async""#] {
        let config = || on_disk().set("history.durability", durability);
        let server = Server::start(config()).await;
        let (old, one) = (issued("alice", 10).sign(), issued("bob", 10).sign());
        let spared = issued("bob", 20).sign();
        let bob = server.ws().bearer(&one).connect().await;
        revoke(&server, Target::User("alice".into())).await;
        revoke(&server, Target::ConnectionId(bob.id())).await;
        let newer = issued("alice", -2).sign();
        let server = Server::start_in(server.kill().await, config()).await;
        is_revoked(&server, &old).await;
        is_revoked(&server, &one).await;
        for good in [&newer, &spared] {
            server.ws().bearer(good).connect().await.lives().await;
        }
        assert_eq!(server.metric("tidings_revocations").await, 2);
        // A backup takes them along, and so does every later restart.
        server.cli(&["backup", "a.backup"]).run().await.exits(0);
        let dir = server.stop().await;
        std::fs::remove_dir_all(dir.path().join("tidings-data")).unwrap();
        let restore = ["restore", "a.backup", "--to", "tidings-data"];
        let restored = Tidings::new(&restore).within(dir.path()).run().await;
        restored.exits(0);
        let server = Server::start_in(dir, config()).await;
        is_revoked(&server, &old).await;
        is_revoked(&server, &one).await;
        server.ws().bearer(&newer).connect().await.lives().await;
    }
}

#[tokio::test]
async fn damaged_store_never_brings_a_revoked_token_back_silently() {
    let server = Server::start(on_disk()).await;
    let old = issued("alice", 10).sign();
    revoke(&server, Target::User("alice".into())).await;
    let dir = server.kill().await;
    let journal = dir.path().join("tidings-data/log/0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    let name = bytes.windows(5).rposition(|five| five == b"alice").unwrap();
    bytes[name] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let (status, output) = Server::refuses_in(dir.path(), on_disk()).await;
    assert!(!status.success(), "{output}");
    assert!(output.contains("the store is damaged"), "{output}");
    let config = on_disk().set("history.on_damage", r#""new_epoch""#);
    let server = Server::start_in(dir, config).await;
    let log = server.log();
    assert!(log.contains("revocations may be lost"), "{log}");
    server.ws().bearer(&old).connect().await.lives().await;
}
