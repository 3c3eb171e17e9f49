//! Public keys from files.

use std::cell::Cell;

use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};

use super::*;

/// Keys used only by tests: ring can't generate RSA keys.
const RSA_A: &[u8] = include_bytes!("rsa_a.pk8");
const RSA_B: &[u8] = include_bytes!("rsa_b.pk8");
/// The prefix of a 2048-bit key in a `SubjectPublicKeyInfo` (RFC 8017 §A.1).
const RSA_HEAD: &[u8] = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\x82\x01\x0f\x00";
/// The prefix of a P-256 point (RFC 5480 §2).
const EC_HEAD: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The prefix of an Ed25519 key (RFC 8410 §4).
const ED_HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

thread_local! {
    /// Which RSA key this test's last [`Signer::all`] returned: each test has a thread of its own.
    static LAST_WAS_A: Cell<bool> = const { Cell::new(false) };
}

fn ec_pair() -> EcdsaKeyPair {
    let (curve, random) = (
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        SystemRandom::new(),
    );
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref(), &random).unwrap()
}

/// A key pair of each family, with its public half in both forms.
pub(super) enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// Another pair of each family than the previous call in this test returned.
    pub(super) fn all() -> [Signer; 3] {
        let rsa = if LAST_WAS_A.replace(!LAST_WAS_A.get()) {
            RSA_B
        } else {
            RSA_A
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        [
            Signer::Rsa(RsaKeyPair::from_pkcs8(rsa).unwrap()),
            Signer::Ec(ec_pair()),
            Signer::Ed(Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap()),
        ]
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
            Signer::Ed(_) => "EdDSA",
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed)
                    .unwrap();
                signed
            }
            Signer::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Signer::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    pub(super) fn token(&self, kid: Option<&str>) -> String {
        let header = json!({"alg": self.algorithm(), "kid": kid});
        signed(&header.to_string(), &claims().to_string(), |message| {
            self.sign(message)
        })
    }

    fn pem(&self) -> String {
        let (head, key): (&[u8], &[u8]) = match self {
            Signer::Rsa(key) => (RSA_HEAD, key.public().as_ref()),
            Signer::Ec(key) => (EC_HEAD, key.public_key().as_ref()),
            Signer::Ed(key) => (ED_HEAD, key.public_key().as_ref()),
        };
        let text = STANDARD.encode([head, key].concat());
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

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Signer::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
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

pub(super) fn public_only() -> VerifierSettings {
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
fn public_key_is_never_used_as_shared_secret() {
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
fn key_set_selects_by_kid_and_skips_unknown_keys() {
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

#[test]
fn algorithms_follow_the_kind_of_key_where_none_are_listed() {
    for signer in Signer::all() {
        let pem = write(&format!("\u{feff}{}", signer.pem()));
        let set = json!({"keys": [signer.jwk("one")]});
        let set = write(&format!("\u{feff}{set}"));
        let by_pem = VerifierSettings {
            public_key_file: Some(pem.path().into()),
            ..VerifierSettings::default()
        };
        let by_set = VerifierSettings {
            jwks_file: Some(set.path().into()),
            ..VerifierSettings::default()
        };
        for settings in [by_pem, by_set] {
            assert!(settings.faults().is_empty());
            assert_eq!(reason(&settings, &signer.token(Some("one"))), None);
            let shared = hs256_token(&claims());
            assert_eq!(reason(&settings, &shared), Some(AuthFailure::Algorithm));
        }
    }
    let fetched = VerifierSettings {
        jwks_url: Some("https://id.example.com/keys".to_owned()),
        ..VerifierSettings::default()
    };
    assert!(fetched.faults().is_empty());
}

#[test]
fn token_without_kid_tries_every_key() {
    let signers: Vec<Signer> = (0..20).map(|_| Signer::Ec(ec_pair())).collect();
    for named in [true, false] {
        let keys = signers.iter().enumerate().map(|(n, signer)| {
            let mut jwk = signer.jwk(&n.to_string());
            if !named {
                jwk.as_object_mut().unwrap().remove("kid");
            }
            jwk
        });
        let set = write(&json!({"keys": keys.collect::<Vec<_>>()}).to_string());
        let settings = VerifierSettings {
            jwks_file: Some(set.path().into()),
            ..public_only()
        };
        assert_eq!(reason(&settings, &signers[19].token(None)), None);
        let [_, stranger, _] = Signer::all();
        let forged = Some(AuthFailure::Signature);
        assert_eq!(reason(&settings, &stranger.token(None)), forged);
    }
}

/// A key in the form of providers that do not follow RFC 7518.
fn sloppy(mut jwk: Value) -> Value {
    for name in ["n", "e", "x", "y"] {
        let Some(text) = jwk[name].as_str() else {
            continue;
        };
        let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        // A coordinate is a number as well, but an Edwards point is not.
        if jwk["kty"] != "OKP" {
            bytes.insert(0, 0);
        }
        let padded = base64::engine::general_purpose::URL_SAFE.encode(bytes);
        jwk[name] = json!(padded);
    }
    jwk
}

#[test]
fn padded_and_zero_led_numbers_are_the_same_key() {
    for signer in Signer::all() {
        let jwk = sloppy(signer.jwk("one"));
        assert_ne!(jwk, signer.jwk("one"));
        let set = write(&json!({"keys": [jwk]}).to_string());
        let settings = VerifierSettings {
            jwks_file: Some(set.path().into()),
            ..public_only()
        };
        assert_eq!(reason(&settings, &signer.token(Some("one"))), None);
    }
}

#[test]
fn coordinate_without_leading_zeros_is_same_key() {
    let short = (0..20_000).find_map(|_| {
        let pair = ec_pair();
        (pair.public_key().as_ref()[1] == 0).then_some(pair)
    });
    let signer = Signer::Ec(short.expect("one of 256 begins with a zero"));
    let mut jwk = signer.jwk("one");
    let bytes = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    jwk["x"] = json!(URL_SAFE_NO_PAD.encode(&bytes[1..]));
    let set = write(&json!({"keys": [jwk]}).to_string());
    let settings = VerifierSettings {
        jwks_file: Some(set.path().into()),
        ..public_only()
    };
    assert_eq!(reason(&settings, &signer.token(Some("one"))), None);
}

#[test]
fn ed25519_is_taken_by_its_name_of_rfc_9864() {
    let [_, _, ed] = Signer::all();
    let header = json!({"alg": "Ed25519", "kid": "one"}).to_string();
    let token = signed(&header, &claims().to_string(), |message| ed.sign(message));
    for listed in [vec![], vec!["Ed25519"], vec!["EdDSA"]] {
        for alg in [None, Some("Ed25519"), Some("EdDSA")] {
            let mut jwk = ed.jwk("one");
            if let Some(alg) = alg {
                jwk["alg"] = json!(alg);
            }
            let set = write(&json!({"keys": [jwk]}).to_string());
            let settings = VerifierSettings {
                jwks_file: Some(set.path().into()),
                algorithms: listed.iter().map(|name| (*name).to_owned()).collect(),
                ..VerifierSettings::default()
            };
            assert_eq!(reason(&settings, &token), None, "{listed:?} {alg:?}");
            assert_eq!(reason(&settings, &ed.token(Some("one"))), None);
        }
    }
}

#[test]
fn key_files_that_cannot_be_used_are_faults_of_their_keys() {
    let broken = write("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
    let empty = write(r#"{"keys": [{"kty": "future"}]}"#);
    let settings = VerifierSettings {
        public_key_file: Some(broken.path().into()),
        jwks_file: Some(empty.path().into()),
        jwks_url: Some("http://id.example.com/keys".to_owned()),
        ..VerifierSettings::default()
    };
    let faults = settings.faults();
    let named: Vec<_> = faults.iter().filter_map(Error::field_name).collect();
    let keys = ["auth.public_key_file", "auth.jwks_file", "auth.jwks_url"];
    assert_eq!(named, keys);
    assert!(Verifier::new(&settings, Arc::new(crate::auth::LocalRevocations), |_| ()).is_err());
}
