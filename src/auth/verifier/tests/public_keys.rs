//! Public keys: from files, and from sets behind a URL.

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
