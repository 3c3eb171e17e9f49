//! Attacks on identity: forging tokens and reading foreign events.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tidings::proto::{
    DisconnectRequest, GetPresenceRequest, GetStatsRequest, ListChannelsRequest,
    ListConnectionsRequest, WatchStatsRequest,
};

use crate::harness::{Config, SECRET, Server, Token};

/// A token with this header and payload, verbatim, and a valid signature.
fn signed(head: &str, payload: &str) -> String {
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(head),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = tidings_jwt::sign(text.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{text}.{signature}")
}

/// Invalid tokens beside those in `tokens.rs`.
fn forged() -> Vec<(String, String)> {
    let root = r#"{"sub":"root","roles":["admin"],"exp":4000000000}"#;
    let good = Token::new("alice").sign();
    let parts: Vec<&str> = good.split('.').collect();
    let mut all = Vec::new();
    let mut add = |what: &str, token: String| all.push((what.to_owned(), token));
    for alg in [
        "None", "NONE", "nOnE", "", "hs256", "RS256", "ES256", "EdDSA", "PS512",
    ] {
        add(alg, signed(&format!(r#"{{"alg":"{alg}"}}"#), root));
    }
    for (what, head) in [
        ("two algorithms", r#"{"alg":"HS256","alg":"none"}"#),
        (
            "two algorithms the other way",
            r#"{"alg":"none","alg":"HS256"}"#,
        ),
        ("an algorithm that is no text", r#"{"alg":["HS256"]}"#),
        ("no algorithm", "{}"),
        ("no object", "[]"),
        (
            "what must be understood",
            r#"{"alg":"HS256","crit":["exp"]}"#,
        ),
    ] {
        add(what, signed(head, root));
    }
    for (what, claims) in [
        ("an expiry far too large", r#"{"sub":"a","exp":1e400}"#),
        ("an expiry before all", r#"{"sub":"a","exp":-1}"#),
        ("an expiry of null", r#"{"sub":"a","exp":null}"#),
        ("an expiry in a list", r#"{"sub":"a","exp":[4000000000]}"#),
        ("an expiry of zero", r#"{"sub":"a","exp":0}"#),
        (
            "a user that is a list",
            r#"{"sub":["root"],"exp":4000000000}"#,
        ),
        (
            "a user that is an object",
            r#"{"sub":{"a":1},"exp":4000000000}"#,
        ),
        ("an empty user", r#"{"sub":"","exp":4000000000}"#),
        (
            "text behind the claims",
            r#"{"sub":"a","exp":4000000000}{}"#,
        ),
    ] {
        add(what, signed(r#"{"alg":"HS256"}"#, claims));
    }
    let deep = format!(
        r#"{{"sub":"a","exp":4000000000,"x":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    add("claims nested deeply", signed(r#"{"alg":"HS256"}"#, &deep));
    // A valid signature of other content.
    let payload = URL_SAFE_NO_PAD.encode(root);
    add(
        "a payload of one's own",
        format!("{}.{payload}.{}", parts[0], parts[2]),
    );
    add("a key of one's own", {
        let head = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YQ"},"jku":"http://127.0.0.1:1/","kid":"../../dev/null"}"#;
        let text = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(head));
        let key = EncodingKey::from_secret(b"a");
        let signature = tidings_jwt::sign(text.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{text}.{signature}")
    });
    add("an empty key", Token::new("root").secret("").sign());
    add("four parts", format!("{good}.{}", parts[2]));
    add("five parts", format!("{good}.a.b"));
    add("padding", format!("{good}="));
    add("a signature cut off", good[..good.len() - 4].to_owned());
    add("dots", "..".to_owned());
    add("many dots", ".".repeat(8000));
    add(
        "very long",
        format!("{}.{}.{}", parts[0], "A".repeat(20_000), parts[2]),
    );
    all
}

#[tokio::test]
async fn forged_tokens_are_refused_on_all_transports() {
    let server = Server::start(Config::rooms().set("audit.file", r#""audit.log""#)).await;
    let calm = server.calm().await;
    let mut ws = server.ws().connect().await;
    for (what, token) in forged() {
        let header = format!("Bearer {token}");
        let headers = [("Authorization", header.as_str())];
        server
            .refused_upgrade("/ws", &headers)
            .await
            .assert_problem(401);
        let api = server
            .http(Method::GET, "/api/v1/stats", &headers, "")
            .await;
        api.assert_problem(401);
        let query = format!("/sse?channel=room:1&token={token}");
        let answer = server.http(Method::GET, &query, &[], "").await;
        assert!(matches!(answer.status, 400 | 401), "{what}: {answer:?}");
        let reply = ws
            .ask(json!({"type": "authenticate", "token": token}))
            .await;
        assert_eq!(reply["type"], "error", "{what}: {reply}");
        assert!(
            !reply.to_string().contains(&token[..token.len().min(20)]) || token.len() < 3,
            "{what}: {reply}"
        );
    }
    // Texts that cannot appear in a header.
    for token in ["\u{0}", "a\r\nb", "\u{1b}[31m", "ä.ö.ü", " ", ""] {
        let reply = ws
            .ask(json!({"type": "authenticate", "token": token}))
            .await;
        assert_eq!(reply["type"], "error", "{token:?}: {reply}");
    }
    ws.close().await;
    calm.comes_back().await;
}

#[tokio::test]
async fn operator_endpoints_require_admin_role() {
    let server = Server::start(Config::rooms()).await;
    let victim = server.ws().token("alice", &[]).connect().await;
    let one = format!("/api/v1/connections/{}", victim.id());
    let older = format!("/websocket/disconnect/{}", victim.id());
    let endpoints = [
        (Method::GET, "/api/v1/stats"),
        (Method::GET, "/api/v1/connections"),
        (Method::GET, one.as_str()),
        (Method::DELETE, one.as_str()),
        (Method::DELETE, "/api/v1/connections?user=alice"),
        (Method::GET, "/api/v1/channels"),
        (Method::GET, "/api/v1/channels?prefix=user:"),
        (Method::GET, "/api/v1/channels/user:alice/history"),
        (Method::GET, "/api/v1/channels/room:1/presence"),
        (Method::GET, "/api/v1/catalog"),
        (Method::GET, "/api/v1/websocket/connections"),
        (Method::POST, "/api/v1/websocket/broadcast"),
        (Method::GET, "/api/v1/websocket/stats"),
        (Method::GET, "/websocket/clients"),
        (Method::POST, "/websocket/broadcast"),
        (Method::POST, older.as_str()),
        (Method::GET, "/websocket/stats"),
    ];
    let spellings = json!([
        [], ["Admin"], ["ADMIN"], ["admin "], [" admin"], ["admin\u{0}"], ["administrator"],
        ["service,admin"], ["аdmin"], [""], ["*"], [["admin"]], {"admin": true}
    ]);
    for roles in spellings.as_array().unwrap() {
        let token = Token::new("eve").claim("roles", roles.clone());
        let header = format!("Bearer {}", token.sign());
        for (method, path) in &endpoints {
            let headers = [("Authorization", header.as_str())];
            let answer = server.http(method.clone(), path, &headers, "{}").await;
            assert!(
                matches!(answer.status, 401 | 403),
                "{roles} {path}: {answer:?}"
            );
        }
    }
    let mut eve = server.connections_as(Some(&Token::new("eve"))).await;
    let disconnect = DisconnectRequest::default();
    for refused in [
        eve.get_stats(GetStatsRequest::default()).await.err(),
        eve.watch_stats(WatchStatsRequest::default()).await.err(),
        eve.list_connections(ListConnectionsRequest::default())
            .await
            .err(),
        eve.list_channels(ListChannelsRequest::default())
            .await
            .err(),
        eve.get_presence(GetPresenceRequest::default()).await.err(),
        eve.disconnect(disconnect).await.err(),
    ] {
        let status = refused.expect("a refusal");
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
    }
    let mut victim = victim;
    victim.lives().await;
}

/// Every spelling that might address another user's channel.
const SPELLINGS: [&str; 26] = [
    "user:alice",
    "USER:alice",
    "User:alice",
    "user:Alice",
    "user:ALICE",
    "user:alice ",
    " user:alice",
    "user: alice",
    "user::alice",
    "user:alice:",
    "user:alice/",
    "user:/alice",
    "user:./alice",
    "user:eve/../alice",
    "user:eve:alice",
    "user:eve,user:alice",
    "user:%61lice",
    "user%3Aalice",
    "user:\u{61}\u{301}lice",
    "user:alice\u{0}",
    "user:alice\n",
    "user:*",
    "user:a*",
    "user:alic?",
    "*",
    "u*",
];

#[tokio::test]
async fn events_for_one_user_reach_no_other_user() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut service = server.publisher("service").await;
    // Names that a pattern, a path or a rule might interpret.
    for name in [
        "eve",
        "*",
        "eve:alice",
        "eve/../alice",
        "alice ",
        "ALICE",
        "a*",
        "alice/",
        ":alice",
    ] {
        let mut eve = server.ws().token(name, &[]).connect().await;
        for spelling in SPELLINGS {
            let message = json!({"type": "subscribe", "channels": [spelling]});
            eve.ask(message).await;
            for kind in ["history", "presence"] {
                let reply = eve.ask(json!({"type": kind, "channel": spelling})).await;
                assert!(
                    !reply.to_string().contains("for-alice"),
                    "{name} {spelling}: {reply}"
                );
            }
        }
        let message =
            json!({"type": "subscribe", "channels": ["global", "room:1"], "event_types": ["*"]});
        eve.ask(message).await;
        service
            .publish("user:alice", "for.you", json!("for-alice"))
            .await;
        // All earlier responses of the server precede this one.
        eve.lives().await;
        let received: Vec<&Value> = eve
            .unread()
            .filter(|m| m["channel"] == "user:alice" || m["data"] == "for-alice")
            .collect();
        assert!(received.is_empty(), "{name} hears {received:?}");
        let forged =
            json!({"type": "publish", "channel": "user:alice", "event_type": "a.b", "data": 1});
        eve.refused(forged, "permission_denied").await;
        assert_eq!(alice.expect_event("for.you").await["data"], "for-alice");
        eve.close().await;
    }
    let token = Token::new("eve").sign();
    for spelling in ["user:alice", "user%3Aalice", "user:alice%00", "user:*", "*"] {
        let path = format!("/sse?channel={spelling}&token={token}");
        let answer = server.http(Method::GET, &path, &[], "").await;
        assert!(
            (400..500).contains(&answer.status),
            "{spelling}: {answer:?}"
        );
    }
    alice.close().await;
    calm.comes_back().await;
}

#[tokio::test]
async fn page_of_foreign_origin_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let host = server.public.clone();
    let own = format!("http://{host}");
    let good = format!("bearer.{}", Token::new("alice").sign());
    let upgrade = |origins: &[&str]| {
        let mut headers: Vec<(String, String)> = origins
            .iter()
            .map(|o| ("Origin".to_owned(), (*o).to_owned()))
            .collect();
        headers.push(("Sec-WebSocket-Protocol".to_owned(), good.clone()));
        headers.push(("Cookie".to_owned(), "session=1".to_owned()));
        headers
    };
    let foreign = [
        vec!["https://evil.example"],
        vec!["null"],
        vec![""],
        vec!["*"],
        vec!["file://"],
        vec![own.as_str(), "https://evil.example"],
        vec!["https://evil.example", own.as_str()],
    ];
    let tricks = [
        format!("{own}.evil.example"),
        format!("{own}@evil.example"),
        format!("{own} https://evil.example"),
        format!("{own},https://evil.example"),
        format!("{own}/"),
        format!("{own}#"),
        format!("http://evil.example/{host}"),
        format!("http://evil.example?{host}"),
        format!("ftp://{host}"),
    ];
    let tricks = tricks.iter().map(|trick| vec![trick.as_str()]);
    for origins in foreign.into_iter().chain(tricks) {
        let headers = upgrade(&origins);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let answer = server.refused_upgrade("/ws", &headers).await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{origins:?}: {answer:?}"
        );
    }
    server.serves_promptly().await;
}
