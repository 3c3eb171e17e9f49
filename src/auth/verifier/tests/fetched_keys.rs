//! Keys behind a URL.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::public_keys::{Signer, public_only};
use super::*;

/// A server for one document; it counts the requests.
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

#[tokio::test]
async fn rotated_url_keys_are_fetched_on_demand() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, reasons) = verifier(&settings);
    let (old, new) = (rsa.token(Some("one")), ec.token(Some("two")));

    assert!(verifier.lacks_keys());
    assert!(matches!(verifier.verify(&old), MaybeReady::Pending(_)));
    assert!(verifier.verify(&old).await.is_ok());
    assert!(now(verifier.verify(&old)).is_ok());
    assert_eq!(served.asked(), 1);
    assert!(!verifier.lacks_keys());

    // A key that is published right after a fetch is found as well: the token waits for the next
    // fetch.
    served.serve(&json!({"keys": [ec.jwk("two")]}).to_string());
    assert!(verifier.verify(&new).await.is_ok());
    assert_eq!(served.asked(), 2);
    assert!(verifier.verify(&old).await.is_err(), "the old key is gone");
    assert_eq!(served.asked(), 3);
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::UnknownKey]);
}

#[tokio::test]
async fn reused_key_id_with_new_key_is_found() {
    let ([old, ..], [new, ..]) = (Signer::all(), Signer::all());
    let served = Served::start(&json!({"keys": [old.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, reasons) = verifier(&settings);
    assert!(verifier.verify(&old.token(Some("one"))).await.is_ok());
    served.serve(&json!({"keys": [new.jwk("one")]}).to_string());
    verifier.fetches.let_time_pass();
    assert!(verifier.verify(&new.token(Some("one"))).await.is_ok());
    verifier.fetches.let_time_pass();
    assert!(verifier.verify(&old.token(Some("one"))).await.is_err());
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::Signature]);
}

#[tokio::test]
async fn token_is_not_judged_without_fetched_key() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!("no set")).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        hs256_secret: Some(Secret::new(SECRET)),
        ..VerifierSettings::default()
    };
    let (verifier, reasons) = verifier(&settings);
    let error = verifier.verify(&rsa.token(Some("one"))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.retry_delay().is_some());
    assert!(verifier.lacks_keys());
    // A token that no key could make valid is still refused, and causes no fetch.
    let asked = served.asked();
    let expired = json!({"sub": "ann", "exp": seconds() - 60}).to_string();
    let expired = signed(r#"{"alg":"ES256"}"#, &expired, |message| ec.sign(message));
    assert!(now(verifier.verify(&expired)).is_err());
    let forged = signed(r#"{"alg":"HS256"}"#, &claims().to_string(), hs256(b"no"));
    assert!(now(verifier.verify(&forged)).is_err());
    assert_eq!(served.asked(), asked);
    let refused = [AuthFailure::Expired, AuthFailure::Signature];
    assert_eq!(*reasons.lock().unwrap(), refused);
    // Tokens of other keys are accepted.
    assert!(now(verifier.verify(&hs256_token(&claims()))).is_ok());
    served.serve(&json!({"keys": [rsa.jwk("one")]}).to_string());
    verifier.fetches.let_time_pass();
    assert!(verifier.verify(&rsa.token(Some("one"))).await.is_ok());
}

#[tokio::test]
async fn connection_stays_until_new_url_keys_are_fetched() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let elsewhere = Served::start(&json!("not yet")).await;
    let settings = |url: &str| VerifierSettings {
        jwks_url: Some(url.to_owned()),
        ..public_only()
    };
    let (verifier, _) = verifier(&settings(&served.url));
    let identity = verifier.verify(&rsa.token(Some("one"))).await.unwrap();
    verifier.reload(&settings(&elsewhere.url)).unwrap();
    assert_eq!(verifier.recheck(&identity), Ok(()));
    verifier.fetches.let_time_pass();
    let new = verifier.verify(&rsa.token(Some("one"))).await;
    assert_eq!(new.unwrap_err().code(), Code::Unavailable);
    elsewhere.serve(&json!({"keys": [ec.jwk("two")]}).to_string());
    verifier.fetches.let_time_pass();
    assert!(verifier.verify(&ec.token(Some("two"))).await.is_ok());
    assert_eq!(verifier.recheck(&identity), Err(AuthFailure::UnknownKey));
}

#[tokio::test]
async fn changed_secret_ends_connections_without_fetch() {
    let served = Served::start(&json!("no set")).await;
    let settings = |secret: &str| VerifierSettings {
        jwks_url: Some(served.url.clone()),
        hs256_secret: Some(Secret::new(secret)),
        ..VerifierSettings::default()
    };
    let (verifier, _) = verifier(&settings(SECRET));
    let identity = now(verifier.verify(&hs256_token(&claims()))).unwrap();
    verifier.reload(&settings("another")).unwrap();
    assert!(verifier.lacks_keys());
    assert_eq!(verifier.recheck(&identity), Err(AuthFailure::UnknownKey));
}

#[tokio::test]
async fn concurrent_tokens_share_one_fetch() {
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
async fn known_keys_stay_after_failed_fetch() {
    let [rsa, ec, _] = Signer::all();
    let served = Served::start(&json!({"keys": [rsa.jwk("one")]})).await;
    let settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    let (verifier, _) = verifier(&settings);
    assert!(verifier.verify(&rsa.token(Some("one"))).await.is_ok());
    let too_many = json!({"keys": vec![ec.jwk("two"); 101]}).to_string();
    let too_large = " ".repeat(crate::auth::keys::MAX_BYTES + 1);
    for (n, document) in ["not json", too_many.as_str(), too_large.as_str()]
        .iter()
        .enumerate()
    {
        served.serve(document);
        verifier.fetches.let_time_pass();
        let error = verifier.verify(&ec.token(Some("two"))).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
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
async fn secret_in_published_set_is_ignored() {
    let shared = URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!({"keys": [{"kty": "oct", "kid": "s", "k": shared}]});
    let served = Served::start(&set).await;
    let mut settings = VerifierSettings {
        jwks_url: Some(served.url.clone()),
        ..public_only()
    };
    settings.algorithms.push(String::from("HS256"));
    let (verifier, reasons) = verifier(&settings);
    // And no fetch is made for it.
    assert!(now(verifier.verify(&hs256_token(&claims()))).is_err());
    assert_eq!(served.asked(), 0);
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::UnknownKey]);
}
