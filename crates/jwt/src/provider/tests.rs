use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rsa::PublicKeyComponents;
use ring::signature::KeyPair as _;

use super::*;
use crate::{sign, verify};

/// A key used only by tests.
const RSA: &[u8] = include_bytes!("rsa.pk8");

fn ec_pair(curve: &'static EcdsaSigningAlgorithm) -> (EncodingKey, DecodingKey) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(curve, pkcs8.as_ref(), &random).unwrap();
    let public = DecodingKey::from_ec_der(pair.public_key().as_ref());
    (EncodingKey::from_ec_der(pkcs8.as_ref()), public)
}

/// Key pairs for the algorithm; the public key of RSA is returned in both of its forms.
fn pairs(algorithm: Algorithm) -> Vec<(EncodingKey, DecodingKey)> {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => vec![(
            EncodingKey::from_secret(b"secret"),
            DecodingKey::from_secret(b"secret"),
        )],
        Algorithm::ES256 => vec![ec_pair(&ECDSA_P256_SHA256_FIXED_SIGNING)],
        Algorithm::ES384 => vec![ec_pair(&ECDSA_P384_SHA384_FIXED_SIGNING)],
        Algorithm::EdDSA => {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
            let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
            vec![(EncodingKey::from_ed_der(pkcs8.as_ref()), public)]
        }
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => {
            let pair = RsaKeyPair::from_pkcs8(RSA).unwrap();
            let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
            let private = EncodingKey::from_rsa_der(RSA);
            vec![
                (
                    private.clone(),
                    DecodingKey::from_rsa_der(pair.public().as_ref()),
                ),
                (
                    private,
                    DecodingKey::from_rsa_raw_components(&parts.n, &parts.e),
                ),
            ]
        }
        other => panic!("no pair for {other:?}"),
    }
}

const ALL: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::EdDSA,
];

#[test]
fn each_algorithm_verifies_its_own_signature_of_the_same_message_only() {
    for algorithm in ALL {
        for (private, public) in pairs(algorithm) {
            let signature = sign(b"message", &private, algorithm).unwrap();
            assert!(verify(&signature, b"message", &public, algorithm).unwrap());
            assert!(!verify(&signature, b"another", &public, algorithm).unwrap());
            assert!(!verify("AAAA", b"message", &public, algorithm).unwrap());
            for other in ALL {
                let same_key = other.family() == algorithm.family();
                if same_key && other != algorithm {
                    assert!(!verify(&signature, b"message", &public, other).unwrap_or(false));
                }
                if !same_key {
                    assert!(verify(&signature, b"message", &public, other).is_err());
                    assert!(sign(b"message", &private, other).is_err());
                }
            }
        }
    }
}

#[test]
fn signatures_of_the_rfcs_are_good() {
    let secret = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    // RFC 7515 A.1, and RFC 8037 A.4.
    for (algorithm, key, token) in [
        (
            Algorithm::HS256,
            DecodingKey::from_secret(&secret),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            Algorithm::EdDSA,
            DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap(),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(verify(signature, message.as_bytes(), &key, algorithm).unwrap());
    }
}

#[test]
fn invalid_key_signs_nothing() {
    for (key, algorithm) in [
        (EncodingKey::from_ec_der(b"x"), Algorithm::ES256),
        (EncodingKey::from_rsa_der(b"x"), Algorithm::RS256),
        (EncodingKey::from_ed_der(b"x"), Algorithm::EdDSA),
    ] {
        assert!(sign(b"message", &key, algorithm).is_err());
    }
}
