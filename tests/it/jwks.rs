//! Fetched key sets: from providers that are slow, too verbose or faulty.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use tidings::proto::event_service_client::EventServiceClient;

use crate::harness::{Config, Server, eventually, within};

/// A key pair of an identity provider.
struct Signer {
    pkcs8: Vec<u8>,
    jwk: Value,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, document.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
            "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..65]),
        });
        Self {
            pkcs8: document.as_ref().to_vec(),
            jwk,
        }
    }

    fn token(&self, kid: &str) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64});
        tidings_jwt::encode(&header, &claims, &EncodingKey::from_ec_der(&self.pkcs8)).unwrap()
    }
}

/// How the identity provider responds.
#[derive(Clone)]
enum Says {
    Document(String),
    /// A response head, followed by endless bytes.
    Endless,
    /// No response.
    Nothing,
    Status(&'static str),
    Redirect(String),
}

/// An identity provider with configurable responses.
async fn provider(says: Says) -> (String, Arc<Mutex<Says>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let shared = Arc::new(Mutex::new(says));
    let says = Arc::clone(&shared);
    tokio_util::task::TaskTracker::new().spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let says = says.lock().unwrap().clone();
            tokio_util::task::TaskTracker::new().spawn(async move {
                let _ = socket.read(&mut [0; 4096]).await;
                let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}\r\n");
                let _ = match says {
                    Says::Document(text) => {
                        let length = format!("Content-Length: {}\r\n", text.len());
                        socket
                            .write_all((head("200 OK", &length) + &text).as_bytes())
                            .await
                    }
                    Says::Endless => {
                        let _ = socket.write_all(head("200 OK", "").as_bytes()).await;
                        while socket.write_all(&[b' '; 8192]).await.is_ok() {}
                        Ok(())
                    }
                    Says::Nothing => socket.read(&mut [0; 1]).await.map(drop),
                    Says::Status(status) => {
                        let empty = "Content-Length: 0\r\n";
                        socket.write_all(head(status, empty).as_bytes()).await
                    }
                    Says::Redirect(to) => {
                        let more = format!("Location: {to}\r\nContent-Length: 0\r\n");
                        socket.write_all(head("302 Found", &more).as_bytes()).await
                    }
                };
            });
        }
    });
    (url, shared)
}

fn config(url: &str) -> Config {
    Config::socketio()
        .without_key()
        .set("auth.jwks_url", &format!("{url:?}"))
}

#[tokio::test]
async fn token_signed_by_published_key_is_accepted() {
    let (one, other) = (Signer::new("one"), Signer::new("one"));
    let set = json!({"keys": [one.jwk]}).to_string();
    let (url, _) = provider(Says::Document(set)).await;
    let server = Server::start(config(&url)).await;
    server
        .ws()
        .bearer(&one.token("one"))
        .connect()
        .await
        .lives()
        .await;
    for forged in [other.token("one"), other.token("two")] {
        let upgrade = server.ws().bearer(&forged).upgrade().await;
        assert_eq!(upgrade.map(drop), Err(401));
    }
}

#[tokio::test]
async fn public_key_is_not_accepted_as_hmac_secret() {
    let signer = Signer::new("one");
    let set = json!({"keys": [signer.jwk]}).to_string();
    let (url, _) = provider(Says::Document(set.clone())).await;
    let config = config(&url).set("auth.algorithms", r#"["ES256", "HS256"]"#);
    let server = Server::start(config).await;
    let point = |name: &str| signer.jwk[name].as_str().unwrap().to_owned();
    // Everything public that might be mistaken for the key.
    for secret in [point("x"), point("y"), point("x") + &point("y"), set] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64});
        let key = EncodingKey::from_secret(secret.as_bytes());
        let forged = tidings_jwt::encode(&header, &claims, &key).unwrap();
        let upgrade = server.ws().bearer(&forged).upgrade().await;
        assert_eq!(upgrade.map(drop), Err(401));
    }
    server
        .ws()
        .bearer(&signer.token("one"))
        .connect()
        .await
        .lives()
        .await;
}

#[tokio::test]
async fn invalid_jwks_response_admits_and_blocks_nobody() {
    let signer = Signer::new("one");
    let set = json!({"keys": [signer.jwk]}).to_string();
    let (elsewhere, _) = provider(Says::Document(set)).await;
    for says in [
        Says::Document("not json".to_owned()),
        Says::Document(r#"{"keys": "none"}"#.to_owned()),
        Says::Document(r#"{"keys": []}"#.to_owned()),
        Says::Document(format!("[{}", "[".repeat(100_000))),
        Says::Endless,
        Says::Status("500 Internal Server Error"),
        Says::Redirect(elsewhere.clone()),
    ] {
        let (url, _) = provider(says).await;
        let server = Server::start(config(&url)).await;
        let upgrade = server.ws().bearer(&signer.token("one")).upgrade();
        assert_eq!(upgrade.await.map(drop), Err(503));
        assert_eq!(server.get("/healthz").await.status, 200);
        let ready = server.get("/readyz").await.assert_problem(503);
        let detail = ready["detail"].as_str().unwrap();
        assert!(detail.contains("auth.jwks_url"), "{detail}");
        eventually("a word in the log", async || {
            server.log().contains("JWK set").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn silent_jwks_provider_times_out() {
    let signer = Signer::new("one");
    let (url, _) = provider(Says::Nothing).await;
    let server = Server::start(config(&url)).await;
    let builder = server.ws().bearer(&signer.token("one"));
    let upgrade = tokio_util::task::TaskTracker::new().spawn(builder.upgrade());
    // Other clients are not delayed by it.
    let mut nobody = server.ws().connect().await;
    nobody.lives().await;
    let upgrade = within("the refusal", upgrade).await.unwrap();
    assert_eq!(upgrade.map(drop), Err(503));
    nobody.lives().await;
}

/// Presents a token on every transport. Returns the responses of those that report that it cannot
/// be verified now.
async fn not_judged_anywhere(server: &Server, token: &str) {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = server
        .http(http::Method::GET, "/api/v1/stats", &headers, "")
        .await;
    assert_eq!(answer.assert_problem(503)["code"], "unavailable");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);

    let answer = server.refused_upgrade("/ws", &headers).await;
    assert_eq!(answer.assert_problem(503)["code"], "unavailable");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);

    // A page cannot read the status.
    let origin = format!("http://{}", server.public);
    let page = server.ws().origin(&origin).query_token(token).upgrade();
    let mut page = page.await.unwrap();
    let error = page.expect("error").await;
    assert_eq!(error["code"], "unavailable");
    assert!(error["retry_after_ms"].as_u64().unwrap() >= 1000, "{error}");
    page.expect_close(1013).await;

    let mut ws = server.ws().connect().await;
    let message = json!({"type": "authenticate", "token": token});
    let error = ws.refused(message, "unavailable").await;
    assert!(error["retry_after_ms"].as_u64().unwrap() >= 1000, "{error}");
    ws.lives().await;

    let path = format!("/sse?channel=global&token={token}");
    assert_ne!(server.get(&path).await.status, 401);

    let mut client = server.engine_ws("", &[]).await.unwrap();
    client.until("0{").await;
    client.send(&format!(r#"40{{"token":"{token}"}}"#)).await;
    let refusal = client.until("44").await;
    assert!(refusal.contains(r#""code":"unavailable""#), "{refusal}");

    let mut events = EventServiceClient::new(server.channel().await);
    let mut request = tonic::Request::new(crate::harness::event("room:1", "a.b", json!(1)));
    let metadata = request.metadata_mut();
    metadata.insert("authorization", bearer.parse().unwrap());
    let status = events.publish(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
}

#[tokio::test]
async fn valid_token_gets_unavailable_while_jwks_is_down() {
    let signer = Signer::new("one");
    let (url, says) = provider(Says::Status("503 Service Unavailable")).await;
    let server = Server::start(config(&url)).await;
    let token = signer.token("one");
    not_judged_anywhere(&server, &token).await;
    assert!(server.metric("tidings_tokens_not_judged_total").await >= 6);
    let failed = r#"tidings_jwks_fetches_total{outcome="failed"}"#;
    assert!(server.metric(failed).await >= 1);
    let log = server.log();
    assert!(log.contains("rejected for now"), "{log}");
    assert!(!log.contains(&token));

    // It is accepted as soon as the provider is back, without a restart.
    let set = json!({"keys": [signer.jwk]}).to_string();
    *says.lock().unwrap() = Says::Document(set);
    let mut ws = eventually("the token to be taken", async || {
        server.ws().bearer(&token).upgrade().await.ok()
    })
    .await;
    ws.lives().await;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn connections_stay_open_while_jwks_is_down() {
    let (old, new) = (Signer::new("one"), Signer::new("two"));
    let (url, says) = provider(Says::Document(json!({"keys": [old.jwk]}).to_string())).await;
    let server = Server::start(config(&url)).await;
    let mut ws = server.ws().bearer(&old.token("one")).connect().await;
    *says.lock().unwrap() = Says::Status("500 Internal Server Error");
    // A token with an unknown key, over the open connection and over others.
    let message = json!({"type": "authenticate", "token": new.token("two")});
    ws.refused(message, "unavailable").await;
    let upgrade = server.ws().bearer(&new.token("two")).upgrade().await;
    assert_eq!(upgrade.map(drop), Err(503));
    ws.lives().await;
    // The known key is still valid, and the server ready.
    server
        .ws()
        .bearer(&old.token("one"))
        .connect()
        .await
        .lives()
        .await;
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn key_added_right_after_fetch_is_found() {
    let (old, new, again) = (Signer::new("one"), Signer::new("two"), Signer::new("one"));
    let (url, says) = provider(Says::Document(json!({"keys": [old.jwk]}).to_string())).await;
    let server = Server::start(config(&url)).await;
    server.ws().bearer(&old.token("one")).connect().await;
    let set = json!({"keys": [old.jwk, new.jwk]}).to_string();
    *says.lock().unwrap() = Says::Document(set);
    server.ws().bearer(&new.token("two")).connect().await;
    // A known key id with another key.
    let set = json!({"keys": [again.jwk, new.jwk]}).to_string();
    *says.lock().unwrap() = Says::Document(set);
    server.ws().bearer(&again.token("one")).connect().await;
    let upgrade = server.ws().bearer(&old.token("one")).upgrade().await;
    assert_eq!(upgrade.map(drop), Err(401), "the old one is gone");
}

#[tokio::test]
async fn auth_deadline_without_keys_closes_1013() {
    let signer = Signer::new("one");
    let (url, _) = provider(Says::Nothing).await;
    let config = config(&url).set("auth.deadline", r#""1s""#);
    let server = Server::start(config).await;
    let mut ws = server.ws().connect().await;
    ws.send(json!({"type": "authenticate", "token": signer.token("one")}))
        .await;
    assert_eq!(ws.expect("error").await["code"], "unavailable");
    ws.expect_close(1013).await;
    // A client without a token is told that one is required, as always.
    let mut nobody = server.ws().connect().await;
    assert_eq!(nobody.expect("error").await["code"], "unauthenticated");
    nobody.expect_close(4401).await;
}

#[tokio::test]
async fn unknown_key_flood_causes_few_fetches() {
    let (signer, stranger) = (Signer::new("one"), Signer::new("x"));
    let (url, _) = provider(Says::Document(json!({"keys": [signer.jwk]}).to_string())).await;
    let server = Server::start(config(&url)).await;
    let fetched = r#"tidings_jwks_fetches_total{outcome="fetched"}"#;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..200 {
        let builder = server.ws().bearer(&stranger.token(&format!("kid-{n}")));
        tries.spawn(async move { builder.upgrade().await.map(drop) });
    }
    while let Some(tried) = tries.join_next().await {
        assert!(matches!(tried.unwrap(), Err(401 | 503)));
    }
    let count = server.metric(fetched).await;
    assert!(count <= 20, "{count} fetches");
    server.ws().bearer(&signer.token("one")).connect().await;
}
