use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::auth::{Secret, TokenMint, TokenRequest};
use crate::error::Code;

const SECRET: &str = "a secret that is long enough for HS256";

/// Keeps the reasons of all refusals.
type Reasons = Arc<Mutex<Vec<AuthFailure>>>;

fn verifier(settings: &VerifierSettings) -> (Arc<Verifier>, Reasons) {
    let reasons = Reasons::default();
    let seen = Arc::clone(&reasons);
    let verifier = Verifier::new(settings, move |reason| seen.lock().unwrap().push(reason));
    (verifier.unwrap(), reasons)
}

fn with_secret() -> VerifierSettings {
    VerifierSettings {
        hs256_secret: Some(Secret::new(SECRET)),
        ..VerifierSettings::default()
    }
}

fn seconds() -> i64 {
    Timestamp::now().as_micros() / 1_000_000
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": seconds() + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn part(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

fn signed(header: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(payload));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(key: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    move |message| aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

fn hs256_token(payload: &Value) -> String {
    signed(
        r#"{"alg":"HS256"}"#,
        &payload.to_string(),
        hs256(SECRET.as_bytes()),
    )
}

/// Takes an answer that must be there at once.
fn now(promise: Promise<Arc<Identity>>) -> Result<Arc<Identity>> {
    match promise {
        Promise::Ready(answer) => answer,
        Promise::Pending(_) => panic!("the answer is not there yet"),
    }
}

/// The reason for which a token is refused.
fn reason(settings: &VerifierSettings, token: &str) -> Option<AuthFailure> {
    let (verifier, reasons) = verifier(settings);
    let answer = now(verifier.verify(token));
    let reasons = reasons.lock().unwrap();
    assert_eq!(answer.is_err(), reasons.len() == 1);
    if let Err(error) = &answer {
        assert_eq!(error.code(), Code::Unauthenticated);
        assert!(token.is_empty() || !error.message().contains(token));
    }
    reasons.first().copied()
}

#[test]
fn a_good_token_makes_an_identity() {
    let payload = json!({
        "sub": "ann", "exp": seconds() + 60, "iat": seconds(), "nbf": seconds(),
        "roles": ["editor", "service"], "channels": ["project:*"], "projects": ["42"],
    });
    let (verifier, reasons) = verifier(&with_secret());
    let token = hs256_token(&payload);
    let identity = now(verifier.verify(&token)).unwrap();
    assert_eq!(identity.user().map(AsRef::as_ref), Some("ann"));
    assert!(identity.has_role("editor") && identity.is_service() && !identity.is_admin());
    assert!(identity.is_granted("project:1"));
    assert!(identity.claims().contains("projects"));
    let exp = payload["exp"].as_i64().unwrap() * 1_000_000;
    assert_eq!(identity.expires_at(), Some(Timestamp::from_micros(exp)));
    assert_eq!(
        identity.valid_until(),
        Some(Timestamp::from_micros(exp + 5_000_000))
    );
    assert_eq!(identity.fingerprint(), Some(Fingerprint::of(&token)));
    assert!(reasons.lock().unwrap().is_empty());
}

#[test]
fn bad_tokens_are_refused_each_for_its_reason() {
    let key = SECRET.as_bytes();
    let good = hs256_token(&claims());
    let (message, _) = good.rsplit_once('.').unwrap();
    let other = hs256_token(&with("sub", json!("eve")));
    let (_, other_signature) = other.rsplit_once('.').unwrap();
    let raw = |header: &str, payload: &str| signed(header, payload, hs256(key));
    let text = claims().to_string();
    let doubled = format!(r#"{{"sub":"eve",{}"#, &text[1..]);
    for (token, expected) in [
        (String::new(), AuthFailure::Missing),
        (String::from("x"), AuthFailure::Malformed),
        (format!("{message}."), AuthFailure::Signature),
        (format!("{good}.x"), AuthFailure::Malformed),
        (
            format!("{message}.{other_signature}"),
            AuthFailure::Signature,
        ),
        (
            format!("{good}{}", "A".repeat(8192)),
            AuthFailure::Malformed,
        ),
        (
            signed(r#"{"alg":"HS256"}"#, &text, hs256(b"another")),
            AuthFailure::Signature,
        ),
        (
            format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&text)),
            AuthFailure::Algorithm,
        ),
        (raw(r#"{"alg":"none"}"#, &text), AuthFailure::Algorithm),
        (raw(r#"{"alg":"hs256"}"#, &text), AuthFailure::Algorithm),
        (raw(r#"{"alg":"HS512"}"#, &text), AuthFailure::Algorithm),
        (
            raw(r#"{"alg":"HS256","alg":"HS256"}"#, &text),
            AuthFailure::Malformed,
        ),
        (
            raw(r#"{"alg":"HS256","crit":["exp"]}"#, &text),
            AuthFailure::Malformed,
        ),
        (raw(r#"{"typ":"JWT"}"#, &text), AuthFailure::Malformed),
        (raw(r#"{"alg":"HS256"}"#, &doubled), AuthFailure::Claims),
        (raw(r#"{"alg":"HS256"}"#, "[]"), AuthFailure::Claims),
        (hs256_token(&json!({"sub": "ann"})), AuthFailure::Claims),
        (
            hs256_token(&with("exp", json!("soon"))),
            AuthFailure::Claims,
        ),
        (
            hs256_token(&with("exp", json!(seconds() - 6))),
            AuthFailure::Expired,
        ),
        (
            hs256_token(&with("exp", json!(-1e300))),
            AuthFailure::Expired,
        ),
        (
            hs256_token(&with("nbf", json!(seconds() + 20))),
            AuthFailure::NotYetValid,
        ),
        (hs256_token(&with("sub", json!(""))), AuthFailure::Claims),
        (
            hs256_token(&with("sub", json!("a\nb"))),
            AuthFailure::Claims,
        ),
        (
            hs256_token(&with("sub", json!("x".repeat(256)))),
            AuthFailure::Claims,
        ),
        (hs256_token(&with("sub", json!(null))), AuthFailure::Claims),
        (hs256_token(&with("roles", json!([1]))), AuthFailure::Claims),
        (
            hs256_token(&with("roles", json!(vec!["r"; 101]))),
            AuthFailure::Claims,
        ),
        (
            hs256_token(&with("channels", json!({}))),
            AuthFailure::Claims,
        ),
    ] {
        assert_eq!(reason(&with_secret(), &token), Some(expected), "{token}");
    }
    assert_eq!(reason(&with_secret(), &good), None);
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    for payload in [
        with("exp", json!(seconds() - 2)),
        with("nbf", json!(seconds() + 3)),
    ] {
        assert_eq!(
            reason(&with_secret(), &hs256_token(&payload)),
            None,
            "{payload}"
        );
    }
}

#[test]
fn issuer_and_audience_are_checked_where_set() {
    let settings = VerifierSettings {
        issuer: Some(String::from("https://id.example.com")),
        audience: Some(String::from("tidings")),
        ..with_secret()
    };
    let token = |iss: Value, aud: Value| {
        let mut payload = with("iss", iss);
        payload["aud"] = aud;
        hs256_token(&payload)
    };
    let issuer = json!("https://id.example.com");
    for (token, expected) in [
        (token(issuer.clone(), json!("tidings")), None),
        (token(issuer.clone(), json!(["other", "tidings"])), None),
        (
            token(issuer.clone(), json!(["other"])),
            Some(AuthFailure::Audience),
        ),
        (token(issuer, json!(null)), Some(AuthFailure::Audience)),
        (
            token(json!("https://evil"), json!("tidings")),
            Some(AuthFailure::Issuer),
        ),
        (
            token(json!(["https://id.example.com"]), json!("tidings")),
            Some(AuthFailure::Issuer),
        ),
    ] {
        assert_eq!(reason(&settings, &token), expected, "{token}");
    }
}

#[test]
fn claims_may_be_nested_and_roles_may_be_one_text() {
    let settings = VerifierSettings {
        user_claim: String::from("uid"),
        roles_claim: String::from("realm_access.roles"),
        ..with_secret()
    };
    let (verifier, _) = verifier(&settings);
    let payload = json!({
        "uid": 7, "exp": seconds() + 60, "realm_access": {"roles": "editor  admin"},
    });
    let identity = now(verifier.verify(&hs256_token(&payload))).unwrap();
    assert_eq!(identity.user().map(AsRef::as_ref), Some("7"));
    assert_eq!(identity.roles().len(), 2);
    assert!(identity.is_admin());
}

#[test]
fn a_verified_token_is_shared_until_the_keys_change() {
    let (verifier, reasons) = verifier(&with_secret());
    let token = hs256_token(&claims());
    let first = now(verifier.verify(&token)).unwrap();
    let second = now(verifier.verify(&token)).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let bad = VerifierSettings {
        algorithms: vec![String::from("none")],
        ..with_secret()
    };
    assert!(verifier.reload(&bad).is_err());
    assert!(now(verifier.verify(&token)).is_ok());
    let new = VerifierSettings {
        hs256_secret: Some(Secret::new("new")),
        ..with_secret()
    };
    verifier.reload(&new).unwrap();
    assert!(now(verifier.verify(&token)).is_err());
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::Signature]);
}

#[test]
fn a_revoked_token_is_refused_even_when_it_was_verified_before() {
    let (verifier, reasons) = verifier(&with_secret());
    let token = hs256_token(&with("iat", json!(seconds())));
    let identity = now(verifier.verify(&token)).unwrap();
    assert!(verifier.is_current(&identity));
    let until = identity.valid_until().unwrap();
    verifier
        .revoke(Revoke::Token(identity.fingerprint().unwrap()), until)
        .unwrap();
    assert!(now(verifier.verify(&token)).is_err());
    assert!(!verifier.is_current(&identity));
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::Revoked]);
}

#[test]
fn settings_that_are_wrong_name_their_key() {
    let secret = with_secret();
    let none = VerifierSettings {
        algorithms: vec![String::from("none")],
        ..secret.clone()
    };
    let empty = VerifierSettings {
        hs256_secret: Some(Secret::new("")),
        ..secret.clone()
    };
    let file = VerifierSettings {
        jwks_file: Some("no/such/file".into()),
        ..secret.clone()
    };
    let plain = VerifierSettings {
        jwks_url: Some(String::from("http://example.com/k")),
        ..secret.clone()
    };
    let useless = VerifierSettings {
        algorithms: vec![String::from("RS256")],
        ..secret
    };
    for (settings, field) in [
        (none, "auth.algorithms"),
        (empty, "auth.hs256_secret"),
        (file, "auth.jwks_file"),
        (plain, "auth.jwks_url"),
        (useless, "auth.algorithms"),
    ] {
        let error = Verifier::new(&settings, |_| ()).unwrap_err();
        assert_eq!(error.field_name(), Some(field), "{error}");
        assert!(!error.message().contains(SECRET));
    }
}

#[test]
fn a_minted_token_is_taken_by_a_verifier_with_the_same_settings() {
    let settings = VerifierSettings {
        issuer: Some(String::from("tidings")),
        audience: Some(String::from("tidings")),
        roles_claim: String::from("realm_access.roles"),
        algorithms: vec![String::from("RS256"), String::from("HS512")],
        ..with_secret()
    };
    let request = TokenRequest {
        user: String::from("ann"),
        roles: vec![String::from("service")],
        channels: vec![String::from("project:*")],
        ttl: Duration::from_mins(1),
    };
    let token = TokenMint::new(&settings).unwrap().mint(&request).unwrap();
    let (verifier, _) = verifier(&settings);
    let identity = now(verifier.verify(&token)).unwrap();
    assert!(identity.is_service() && identity.is_granted("project:1"));
    assert!(TokenMint::new(&VerifierSettings::default()).is_err());
}

/// A key pair of each family, with its public half in both forms.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn all() -> [Signer; 3] {
        let curve = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        [
            Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            Signer::Ec(EcdsaKeyPair::generate(curve).unwrap()),
            Signer::Ed(Ed25519KeyPair::generate().unwrap()),
        ]
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
            Signer::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(key) => {
                let mut signed = vec![0; key.public_modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed)
                    .unwrap();
                signed
            }
            Signer::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, kid: Option<&str>) -> String {
        let header = json!({"alg": self.algorithm(), "kid": kid});
        signed(&header.to_string(), &claims().to_string(), |message| {
            self.sign(message)
        })
    }

    fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Signer::Rsa(key) => key.public_key().as_der().unwrap(),
            Signer::Ec(key) => key.public_key().as_der().unwrap(),
            Signer::Ed(key) => key.public_key().as_der().unwrap(),
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        )
    }

    fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Rsa(key) => {
                let public = signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
                    "n": text(&public.n), "e": text(&public.e)})
            }
            Signer::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "kid": kid, "crv": "P-256",
                    "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Signer::Ed(key) => {
                json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": text(key.public_key().as_ref())})
            }
        }
    }
}

fn public_only() -> VerifierSettings {
    let algorithms = ["RS256", "ES256", "EdDSA"].map(String::from).to_vec();
    VerifierSettings {
        algorithms,
        ..VerifierSettings::default()
    }
}

fn write(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn each_family_of_public_keys_verifies_its_own_tokens_only() {
    let signers = Signer::all();
    for own in &signers {
        let file = write(&own.pem());
        let settings = VerifierSettings {
            public_key_file: Some(file.path().into()),
            ..public_only()
        };
        for signer in &signers {
            let expected =
                (signer.algorithm() != own.algorithm()).then_some(AuthFailure::UnknownKey);
            assert_eq!(
                reason(&settings, &signer.token(None)),
                expected,
                "{}",
                signer.algorithm()
            );
        }
        let [rsa, ec, ed] = Signer::all();
        let stranger = [rsa, ec, ed]
            .into_iter()
            .find(|s| s.algorithm() == own.algorithm());
        let forged = stranger.unwrap().token(None);
        assert_eq!(reason(&settings, &forged), Some(AuthFailure::Signature));
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    let [rsa, ..] = Signer::all();
    let file = write(&rsa.pem());
    let algorithms = vec![String::from("RS256"), String::from("HS256")];
    let settings = VerifierSettings {
        public_key_file: Some(file.path().into()),
        algorithms,
        ..VerifierSettings::default()
    };
    let pem = rsa.pem();
    let forged = signed(
        r#"{"alg":"HS256"}"#,
        &claims().to_string(),
        hs256(pem.as_bytes()),
    );
    assert_eq!(reason(&settings, &forged), Some(AuthFailure::UnknownKey));
    let both = VerifierSettings {
        hs256_secret: Some(Secret::new(SECRET)),
        ..settings
    };
    assert_eq!(reason(&both, &forged), Some(AuthFailure::Signature));
    assert_eq!(reason(&both, &rsa.token(None)), None);
    assert_eq!(reason(&both, &hs256_token(&claims())), None);
}

#[test]
fn a_key_set_picks_by_name_and_passes_over_what_it_does_not_know() {
    let [rsa, ec, ed] = Signer::all();
    let mut encrypting = rsa.jwk("enc");
    encrypting["use"] = json!("enc");
    let keys = json!({"keys": [
        {"kty": "future", "kid": "x"}, {"kty": "EC", "crv": "P-521", "x": "", "y": ""},
        rsa.jwk("r"), ec.jwk("e"), ed.jwk("d"), encrypting,
    ]});
    let file = write(&keys.to_string());
    let settings = VerifierSettings {
        jwks_file: Some(file.path().into()),
        ..public_only()
    };
    for (token, expected) in [
        (rsa.token(Some("r")), None),
        (ec.token(Some("e")), None),
        (ed.token(Some("d")), None),
        (ed.token(None), None),
        (rsa.token(Some("e")), Some(AuthFailure::UnknownKey)),
        (rsa.token(Some("enc")), Some(AuthFailure::UnknownKey)),
        (rsa.token(Some("nobody's")), Some(AuthFailure::UnknownKey)),
    ] {
        assert_eq!(reason(&settings, &token), expected, "{token}");
    }
}

/// A server for one document; it counts how often it was asked.
struct Served {
    url: String,
    document: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Served {
    async fn start(document: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let document = Arc::new(Mutex::new(document.to_string()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (body, count) = (Arc::clone(&document), Arc::clone(&asked));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(socket.read(&mut request).await.unwrap() > 0);
                count.fetch_add(1, Ordering::SeqCst);
                let body = body.lock().unwrap().clone();
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
                let answer = format!("{head} {}\r\n\r\n{body}", body.len());
                // The client may go away from a body that is too large.
                drop(socket.write_all(answer.as_bytes()).await);
            }
        });
        Served {
            url,
            document,
            asked,
            _tasks: tasks,
        }
    }

    fn serve(&self, document: &str) {
        document.clone_into(&mut self.document.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Lets the next fetch come at once.
fn let_time_pass(verifier: &Verifier) {
    *verifier.last_fetch.lock().unwrap() = None;
}

#[tokio::test]
async fn keys_behind_a_url_are_fetched_when_needed_and_follow_rotation() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, reasons) = verifier(&settings);
    let (old, new) = (rsa.token(Some("one")), ec.token(Some("two")));

    assert!(matches!(verifier.verify(&old), Promise::Pending(_)));
    assert!(verifier.verify(&old).await.is_ok());
    assert!(now(verifier.verify(&old)).is_ok());
    assert_eq!(served.asked(), 1);

    served.serve(&json!({"keys": [ec.jwk("two")]}).to_string());
    assert!(now(verifier.verify(&new)).is_err(), "it was asked just now");
    assert_eq!(served.asked(), 1);
    let_time_pass(&verifier);
    assert!(verifier.verify(&new).await.is_ok());
    assert!(now(verifier.verify(&old)).is_err(), "the old key is gone");
    assert_eq!(served.asked(), 2);
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::UnknownKey; 2]);
}

#[tokio::test]
async fn many_tokens_at_once_share_one_fetch() {
    let [rsa, ..] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, _) = verifier(&settings);
    let token = rsa.token(Some("one"));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let answer = verifier.verify(&token);
        waiting.spawn(async move { answer.await.is_ok() });
    }
    assert!(waiting.join_all().await.into_iter().all(|good| good));
    assert_eq!(served.asked(), 1);
}

#[tokio::test]
async fn the_known_keys_stay_when_a_fetch_fails() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, _) = verifier(&settings);
    assert!(verifier.verify(&rsa.token(Some("one"))).await.is_ok());
    let too_many = json!({"keys": vec![ec.jwk("two"); 101]}).to_string();
    let too_large = " ".repeat(keys::MAX_BYTES + 1);
    for (n, document) in ["not json", too_many.as_str(), too_large.as_str()]
        .iter()
        .enumerate()
    {
        served.serve(document);
        let_time_pass(&verifier);
        assert!(verifier.verify(&ec.token(Some("two"))).await.is_err());
        assert_eq!(served.asked(), n + 2);
        assert!(now(verifier.verify(&rsa.token(Some("one")))).is_ok());
    }
    verifier.reload(&settings).unwrap();
    assert!(
        now(verifier.verify(&rsa.token(Some("one")))).is_ok(),
        "the same URL keeps its keys"
    );
}

#[tokio::test]
async fn a_secret_in_a_published_set_is_no_key() {
    let shared = URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!({"keys": [{"kty": "oct", "kid": "s", "k": shared}]});
    let served = Served::start(&set).await;
    let mut settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    settings.algorithms.push(String::from("HS256"));
    let (verifier, reasons) = verifier(&settings);
    assert!(verifier.verify(&hs256_token(&claims())).await.is_err());
    assert_eq!(served.asked(), 1);
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::UnknownKey]);
}
