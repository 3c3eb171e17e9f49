//! Authentication by token.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, Ws, handmade};

fn user(ws: &Ws) -> &Value {
    &ws.established["user"]
}

/// Anonymous connections have no user, or an empty one.
fn is_nobody(user: &Value) -> bool {
    user.is_null() || user == ""
}

#[tokio::test]
async fn token_is_read_from_header_query_and_subprotocol() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("alice").roles(&["editor"]).sign();
    let ways = [
        server.ws().bearer(&token),
        server.ws().query_token(&token),
        // A page must offer a subprotocol beside its token, because the server must select one.
        server
            .ws()
            .protocol("tidings.v1.json")
            .protocol_token(&token),
    ];
    for (at, way) in ways.into_iter().enumerate() {
        let mut ws = way.upgrade().await.expect("an accepted upgrade");
        if at == 2 {
            assert_eq!(ws.protocol.as_deref(), Some("tidings.v1.json"));
        }
        let echoed = ws.protocol.clone().unwrap_or_default();
        assert!(
            !echoed.contains("bearer") && !echoed.contains(&token),
            "{echoed}"
        );
        assert_eq!(
            ws.expect("connection_established").await["user"],
            "alice",
            "way {at}"
        );
        ws.subscribe("room:1").await;
    }
}

#[tokio::test]
async fn token_is_read_from_message() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    assert!(is_nobody(user(&ws)), "{}", ws.established);
    let token = Token::new("alice").sign();
    let reply = ws
        .ask(json!({"type": "authenticate", "token": token}))
        .await;
    assert_eq!(reply["user"], "alice");
    ws.subscribe("room:1").await;
    // Personal events arrive from now on.
    server
        .publisher("service")
        .await
        .publish("user:alice", "for.you", json!({}))
        .await;
    ws.expect_event("for.you").await;
}

fn bad_tokens() -> Vec<(&'static str, String)> {
    let good = Token::new("alice").sign();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"; // {"alg":"none","typ":"JWT"}
    let payload = head.split('.').nth(1).unwrap();
    vec![
        ("expired", Token::new("alice").expires_in(-3600).sign()),
        (
            "signed by somebody else",
            Token::new("alice").secret("another-secret").sign(),
        ),
        (
            "another algorithm",
            Token::new("alice").algorithm(Algorithm::HS512).sign(),
        ),
        ("no algorithm", format!("{none}.{payload}.")),
        (
            "no algorithm, with a signature",
            format!("{none}.{payload}.{signature}"),
        ),
        ("no signature", format!("{head}.")),
        ("no user", Token::new("alice").without("sub").sign()),
        ("not yet valid", {
            let far = json!(4_000_000_000_u64);
            Token::new("alice").claim("nbf", far).sign()
        }),
        ("a claim twice", {
            let twice = r#"{"exp":4000000000,"sub":"alice","sub":"root","roles":["admin"]}"#;
            handmade(twice)
        }),
        ("roles twice", {
            handmade(r#"{"exp":4000000000,"sub":"alice","roles":[],"roles":["admin"]}"#)
        }),
        ("no object", handmade("[]")),
        (
            "an expiry that is no number",
            handmade(r#"{"sub":"alice","exp":"never"}"#),
        ),
        ("not a token", "garbage".to_owned()),
        ("two parts", head.to_owned()),
    ]
}

#[tokio::test]
async fn invalid_token_without_origin_gets_401() {
    let server = Server::start(Config::rooms()).await;
    for (what, token) in bad_tokens() {
        let header = format!("Bearer {token}");
        let answer = server
            .refused_upgrade("/ws", &[("Authorization", &header)])
            .await;
        let problem = answer.assert_problem(401);
        assert_eq!(problem["code"], "unauthenticated", "{what}: {problem}");
        let query = server
            .refused_upgrade(&format!("/ws?token={token}"), &[])
            .await;
        assert_eq!(query.status, 401, "{what} in the query");
        assert!(
            !answer.text().contains(&token),
            "{what}: the token is in the answer"
        );
    }
    let log = server.log();
    for (what, token) in bad_tokens() {
        assert!(!log.contains(&token), "{what}: the token is in the log");
    }
}

#[tokio::test]
async fn invalid_token_of_page_closes_4401() {
    let server = Server::start(Config::rooms()).await;
    let origin = format!("http://{}", server.public);
    for (what, token) in bad_tokens() {
        let page = server
            .ws()
            .origin(&origin)
            .query_token(&token)
            .upgrade()
            .await;
        let mut page = page.unwrap_or_else(|status| panic!("{what}: refused with {status}"));
        assert_eq!(
            page.expect("error").await["code"],
            "unauthenticated",
            "{what}"
        );
        page.expect_close(4401).await;
    }
}

#[tokio::test]
async fn commands_before_authentication_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    for message in [
        json!({"type": "subscribe", "channels": ["global"]}),
        json!({"type": "unsubscribe", "channels": ["global"]}),
        json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1}),
        json!({"type": "history", "channel": "room:1", "limit": 1}),
        json!({"type": "presence", "channel": "room:1"}),
    ] {
        ws.refused(message, "unauthenticated").await;
    }
    ws.lives().await;

    // Nothing reaches it, not even global events: the fence follows them.
    server
        .publisher("service")
        .await
        .publish("global", "secret.news", json!({}))
        .await;
    let token = Token::new("alice").sign();
    ws.ask(json!({"type": "authenticate", "token": token}))
        .await;
    server
        .publisher("service")
        .await
        .publish("global", "fence", json!({}))
        .await;
    let before = ws.until("fence").await;
    assert!(
        before.iter().all(|m| m["type"] != "secret.news"),
        "{before:?}"
    );
}

#[tokio::test]
async fn unauthenticated_connection_closes_at_deadline() {
    let server = Server::start(Config::rooms().set("auth.deadline", r#""1s""#)).await;
    let mut ws = server.ws().connect().await;
    ws.lives().await;
    let mut alice = server.ws().connect().await;
    let token = Token::new("alice").sign();
    alice
        .ask(json!({"type": "authenticate", "token": token}))
        .await;
    ws.expect_close(4401).await;
    alice.lives().await;
}

#[tokio::test]
async fn invalid_token_in_message_is_an_error() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    ws.refused(
        json!({"type": "authenticate", "token": "garbage"}),
        "unauthenticated",
    )
    .await;
    let token = Token::new("alice").sign();
    let reply = ws
        .ask(json!({"type": "authenticate", "token": token}))
        .await;
    assert_eq!(reply["type"], "authenticated", "a second try is possible");
}

#[tokio::test]
async fn anonymous_clients_are_admitted_if_allowed() {
    let server = Server::start(Config::rooms().set("auth.required", "false")).await;
    let mut ws = server.ws().connect().await;
    assert!(is_nobody(user(&ws)), "{}", ws.established);
    ws.subscribe("room:1").await;
    server
        .publisher("service")
        .await
        .publish("global", "a.b", json!({}))
        .await;
    ws.expect_event("a.b").await;
    // Rules apply to anonymous clients like to all others.
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": ["project:1"]}))
        .await;
    assert!(reply.to_string().contains("permission_denied"), "{reply}");
    // An invalid token is refused nevertheless.
    let header = [("Authorization", "Bearer garbage")];
    server
        .refused_upgrade("/ws", &header)
        .await
        .assert_problem(401);
}

#[tokio::test]
async fn issuer_and_audience_are_checked_if_set() {
    let config = Config::rooms()
        .set("auth.issuer", r#""https://id.example.com""#)
        .set("auth.audience", r#""tidings""#);
    let server = Server::start(config).await;
    let right = Token::new("alice").claim("iss", json!("https://id.example.com"));
    let table = [
        (right.clone().claim("aud", json!("tidings")), true),
        (
            right.clone().claim("aud", json!(["other", "tidings"])),
            true,
        ),
        (right.clone().claim("aud", json!("other")), false),
        (right, false),
        (Token::new("alice").claim("aud", json!("tidings")), false),
    ];
    for (at, (token, accepted)) in table.into_iter().enumerate() {
        let upgrade = server.ws().bearer(&token.sign()).upgrade().await;
        assert_eq!(
            upgrade.map(|_| ()),
            if accepted { Ok(()) } else { Err(401) },
            "row {at}"
        );
    }
}

#[tokio::test]
async fn user_and_role_claims_are_configurable() {
    let config = Config::rooms()
        .set("auth.user_claim", r#""email""#)
        .set("auth.roles_claim", r#""groups""#);
    let server = Server::start(config).await;
    let token = Token::new("ignored")
        .claim("email", json!("alice@example.com"))
        .claim("groups", json!(["editor"]));
    let ws = server.ws().bearer(&token.sign()).connect().await;
    assert_eq!(user(&ws), "alice@example.com");
    assert_eq!(ws.established["roles"], json!(["editor"]));
}
