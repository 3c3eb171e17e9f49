//! Tokens signed with a shared secret.

mod fetched_keys;
mod public_keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::auth::{LocalRevocations, RevocationWatcher, Secret, TokenMint, TokenRequest};
use crate::error::Code;

const SECRET: &str = "a secret that is long enough for HS256";

/// Keeps the reasons of all refusals.
type Reasons = Arc<Mutex<Vec<AuthFailure>>>;

fn verifier(settings: &VerifierSettings) -> (Arc<Verifier>, Reasons) {
    let reasons = Reasons::default();
    let seen = Arc::clone(&reasons);
    let verifier = Verifier::new(settings, Arc::new(LocalRevocations), move |event| {
        if let AuthEvent::Refused(reason) = event {
            seen.lock().unwrap().push(reason);
        }
    });
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
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    move |message| ring::hmac::sign(&key, message).as_ref().to_vec()
}

fn hs256_token(payload: &Value) -> String {
    signed(
        r#"{"alg":"HS256"}"#,
        &payload.to_string(),
        hs256(SECRET.as_bytes()),
    )
}

/// Takes a result that must be ready at once.
fn now<T>(answer: MaybeReady<T>) -> Result<T> {
    match answer {
        MaybeReady::Ready(answer) => answer,
        MaybeReady::Pending(_) => panic!("the answer is not there yet"),
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
fn valid_token_yields_identity() {
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
fn verified_token_is_cached_until_keys_change() {
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
fn revoked_cached_token_is_refused() {
    let (verifier, reasons) = verifier(&with_secret());
    let token = hs256_token(&with("iat", json!(seconds())));
    let identity = now(verifier.verify(&token)).unwrap();
    assert_eq!(verifier.recheck(&identity), Ok(()));
    now(verifier.revoke_token(&identity)).unwrap();
    assert!(now(verifier.verify(&token)).is_err());
    assert_eq!(verifier.recheck(&identity), Err(AuthFailure::Revoked));
    assert_eq!(*reasons.lock().unwrap(), [AuthFailure::Revoked]);
    assert_eq!(verifier.sweep(), 1);
}

/// A register that other nodes use too.
#[derive(Default)]
struct SharedRegister {
    kept: Mutex<Vec<Revocation>>,
    watcher: Mutex<Option<RevocationWatcher>>,
    is_away: std::sync::atomic::AtomicBool,
}

impl Revocations for SharedRegister {
    fn add(&self, revocation: Revocation) -> MaybeReady<()> {
        if self.is_away.load(Ordering::Relaxed) {
            return MaybeReady::Ready(Err(Error::unavailable("the register is away")));
        }
        self.kept.lock().unwrap().push(revocation);
        MaybeReady::ok(())
    }

    fn list(&self) -> MaybeReady<Vec<Revocation>> {
        MaybeReady::ok(self.kept.lock().unwrap().clone())
    }

    fn remove(&self, ended: Vec<Revocation>) {
        self.kept.lock().unwrap().retain(|one| !ended.contains(one));
    }

    fn watch(&self, watcher: RevocationWatcher) {
        *self.watcher.lock().unwrap() = Some(watcher);
    }
}

fn sharing(register: &Arc<SharedRegister>) -> Arc<Verifier> {
    let verifier = Verifier::new(
        &with_secret(),
        Arc::<SharedRegister>::clone(register),
        |_| (),
    )
    .unwrap();
    now(verifier.load_revocations()).unwrap();
    verifier
}

#[test]
fn registered_revocation_holds_for_the_next_verifier() {
    let register = Arc::new(SharedRegister::default());
    let token = hs256_token(&claims());
    let first = sharing(&register);
    let identity = now(first.verify(&token)).unwrap();
    now(first.revoke_token(&identity)).unwrap();
    let second = sharing(&register);
    assert!(now(second.verify(&token)).is_err());
    assert_eq!(second.sweep(), 1);
}

#[test]
fn registered_revocation_of_a_user_ends_with_the_longest_lifetime() {
    let register = Arc::new(SharedRegister::default());
    let first = sharing(&register);
    now(first.revoke_user("ann")).unwrap();
    let kept = register.kept.lock().unwrap()[0].clone();
    assert_eq!(kept.until, end_of_time());
    let settings = VerifierSettings {
        max_lifetime: std::time::Duration::from_hours(1),
        ..with_secret()
    };
    let second = Verifier::new(&settings, Arc::<SharedRegister>::clone(&register), |_| ()).unwrap();
    let ends = second.within_lifetime(kept.clone()).until;
    assert!(ends > kept.issued_before && ends < end_of_time());
}

#[test]
fn revocation_by_another_node_holds_here_and_asks_for_a_recheck() {
    let register = Arc::new(SharedRegister::default());
    let verifier = sharing(&register);
    let token = hs256_token(&claims());
    let identity = now(verifier.verify(&token)).unwrap();
    let before = verifier.generation();
    let watcher = register.watcher.lock().unwrap().take().unwrap();
    watcher(Revocation {
        subject: RevokedSubject::User(Arc::from("ann")),
        issued_before: Timestamp::now(),
        until: end_of_time(),
    });
    assert_ne!(verifier.generation(), before);
    assert_eq!(verifier.recheck(&identity), Err(AuthFailure::Revoked));
}

#[test]
fn revocation_holds_here_although_the_register_is_away() {
    let register = Arc::new(SharedRegister::default());
    let verifier = sharing(&register);
    let identity = now(verifier.verify(&hs256_token(&claims()))).unwrap();
    register.is_away.store(true, Ordering::Relaxed);
    let error = now(verifier.revoke_token(&identity)).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(verifier.recheck(&identity), Err(AuthFailure::Revoked));
    register.is_away.store(false, Ordering::Relaxed);
    now(verifier.revoke_token(&identity)).unwrap();
    assert_eq!(register.kept.lock().unwrap().len(), 1);
}

#[test]
fn all_tokens_of_a_user_are_revoked_but_those_that_are_issued_later() {
    let settings = VerifierSettings {
        revocations: 1,
        ..with_secret()
    };
    let (verifier, _) = verifier(&settings);
    let issued = |at: i64| hs256_token(&with("iat", json!(at)));
    let old = now(verifier.verify(&issued(seconds() - 1))).unwrap();
    now(verifier.revoke_user("ann")).unwrap();
    assert_eq!(verifier.recheck(&old), Err(AuthFailure::Revoked));
    assert!(
        now(verifier.verify(&hs256_token(&claims()))).is_err(),
        "no iat"
    );
    assert!(now(verifier.verify(&issued(seconds() + 1))).is_ok());
    let full = now(verifier.revoke_user("bob")).unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("auth.revocations"));
    for nobody in ["", "a\nb", &"x".repeat(256)] {
        let error = now(verifier.revoke_user(nobody)).unwrap_err();
        assert_eq!(error.field_name(), Some("user"));
    }
}

#[test]
fn identity_ends_with_key_algorithm_or_claims() {
    let (verifier, _) = verifier(&with_secret());
    let identity = now(verifier.verify(&hs256_token(&claims()))).unwrap();
    let changed = |change: fn(&mut VerifierSettings)| {
        let mut settings = with_secret();
        change(&mut settings);
        verifier.reload(&settings).unwrap();
        verifier.recheck(&identity)
    };
    assert_eq!(changed(|_| {}), Ok(()));
    let other = changed(|s| s.hs256_secret = Some(Secret::new("new")));
    assert_eq!(other, Err(AuthFailure::UnknownKey));
    assert_eq!(changed(|_| {}), Ok(()), "the key is back");
    let algorithm = changed(|s| s.algorithms = vec![String::from("HS512")]);
    assert_eq!(algorithm, Err(AuthFailure::Algorithm));
    let issuer = changed(|s| s.issuer = Some(String::from("me")));
    assert_eq!(issuer, Err(AuthFailure::Issuer));
    assert_eq!(changed(|s| s.leeway = Duration::from_secs(6)), Ok(()));
}

#[test]
fn token_beyond_max_lifetime_is_refused() {
    let settings = VerifierSettings {
        max_lifetime: Duration::from_mins(5),
        ..with_secret()
    };
    let token = |iat: Value, lifetime: i64| {
        let mut claims = with("iat", iat);
        claims["exp"] = json!(seconds() + lifetime);
        hs256_token(&claims)
    };
    assert_eq!(reason(&settings, &token(json!(seconds()), 300)), None);
    for wrong in [
        token(json!(seconds()), 310),
        token(json!(null), 60),
        token(json!(seconds() + 100), 350),
    ] {
        assert_eq!(reason(&settings, &wrong), Some(AuthFailure::Claims));
    }
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
        let faults = settings.faults();
        let named: Vec<_> = faults.iter().map(Error::field_name).collect();
        assert_eq!(
            named,
            [Some(field)],
            "what is refused here, `check` refuses"
        );
        let error = Verifier::new(&settings, Arc::new(LocalRevocations), |_| ()).unwrap_err();
        assert_eq!(error.field_name(), Some(field), "{error}");
        assert!(!error.message().contains(SECRET));
    }
}

#[test]
fn minted_token_is_accepted_with_same_settings() {
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
    assert!(settings.faults().is_empty());
}
