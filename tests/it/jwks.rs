//! Keys that are fetched: from a server that is slow, or says too much, or nonsense.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Config, Server, eventually, within};

/// A key pair of an identity provider.
struct Signer {
    pkcs8: Vec<u8>,
    jwk: Value,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, document.as_ref()).unwrap();
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
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(&self.pkcs8)).unwrap()
    }
}

/// What the identity provider answers.
#[derive(Clone)]
enum Says {
    Document(String),
    /// A head, and then bytes without end.
    Endless,
    /// Nothing at all.
    Nothing,
    Status(&'static str),
    Redirect(String),
}

/// An identity provider; answers as it is told.
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
    Config::rooms()
        .without_key()
        .set("auth.jwks_url", &format!("{url:?}"))
        .set("auth.algorithms", r#"["ES256"]"#)
}

#[tokio::test]
async fn tokens_of_a_published_key_are_taken() {
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
async fn a_public_key_is_no_shared_secret() {
    let signer = Signer::new("one");
    let set = json!({"keys": [signer.jwk]}).to_string();
    let (url, _) = provider(Says::Document(set.clone())).await;
    let config = config(&url).set("auth.algorithms", r#"["ES256", "HS256"]"#);
    let server = Server::start(config).await;
    let point = |name: &str| signer.jwk[name].as_str().unwrap().to_owned();
    // Everything public that might be taken for the key.
    for secret in [point("x"), point("y"), point("x") + &point("y"), set] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        let claims = json!({"sub": "alice", "exp": 4_000_000_000_u64});
        let key = EncodingKey::from_secret(secret.as_bytes());
        let forged = jsonwebtoken::encode(&header, &claims, &key).unwrap();
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
async fn a_provider_that_misbehaves_lets_nobody_in_and_holds_nobody_up() {
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
        assert_eq!(upgrade.await.map(drop), Err(401));
        assert_eq!(server.get("/healthz").await.status, 200);
        eventually("a word in the log", async || {
            server.log().contains("JWK set").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_given_up() {
    let signer = Signer::new("one");
    let (url, _) = provider(Says::Nothing).await;
    let server = Server::start(config(&url)).await;
    let builder = server.ws().bearer(&signer.token("one"));
    let upgrade = tokio_util::task::TaskTracker::new().spawn(builder.upgrade());
    // Others are not held up by it.
    let mut nobody = server.ws().connect().await;
    nobody.lives().await;
    let upgrade = within("the refusal", upgrade).await.unwrap();
    assert_eq!(upgrade.map(drop), Err(401));
    nobody.lives().await;
}
