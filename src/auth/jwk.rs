//! JWK sets (RFC 7517).

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::keys::{ED25519, Key};

/// The most keys in one JWK set.
pub(super) const MAX_KEYS: usize = 100;

/// Base64url with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the usable keys of a JWK set; unknown ones are ignored (RFC 7517 §5).
pub(super) fn from_jwks(json: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(without_bom(json))
        .map_err(|_| String::from("expected a JWK set in JSON"))?;
    let Some(Value::Array(keys)) = set.get("keys") else {
        return Err(String::from("expected a JWK set: an object with keys"));
    };
    if keys.len() > MAX_KEYS {
        return Err(format!("expected at most {MAX_KEYS} keys"));
    }
    Ok(keys.iter().filter_map(from_jwk).collect())
}

/// Removes the byte order mark that some editors put in front of a text (RFC 8259 §8.1 allows a
/// parser to ignore it).
pub(super) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn from_jwk(json: &Value) -> Option<Key> {
    let mut members = json.as_object()?.clone();
    normalise(&mut members);
    let jwk: Jwk = serde_json::from_value(Value::Object(members)).ok()?;
    let common = &jwk.common;
    if common
        .public_key_use
        .as_ref()
        .is_some_and(|use_| *use_ != PublicKeyUse::Signature)
        || common
            .key_operations
            .as_ref()
            .is_some_and(|ops| !ops.contains(&KeyOperations::Verify))
    {
        return None;
    }
    let algorithm = match (common.key_algorithm, &jwk.algorithm) {
        (Some(KeyAlgorithm::UNKNOWN_ALGORITHM), _) => return None,
        (Some(algorithm), _) => Some(Algorithm::try_from(algorithm).ok()?),
        (None, AlgorithmParameters::EllipticCurve(curve)) => Some(match curve.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            // P-521 and unknown curves are not supported.
            EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => return None,
        }),
        (None, _) => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    if algorithm.is_some_and(|algorithm| algorithm.family() != key.family()) {
        return None;
    }
    Some(Key::of_set(common.key_id.as_deref(), algorithm, key))
}

/// Normalises a key to the form of RFC 7518. Some providers pad their base64url (violating §2), put
/// a zero byte in front of a modulus, as Java's `BigInteger` does (violating §6.3.1.1), or omit the
/// leading zero bytes of a coordinate (violating §6.2.1.2). None of this changes the key.
fn normalise(jwk: &mut Map<String, Value>) {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
    let (members, form): (&[&str], Form) = match (text("kty"), text("crv")) {
        ("RSA", _) => (&["n", "e"], Form::Number),
        ("EC", "P-256") => (&["x", "y"], Form::Coordinate(32)),
        ("EC", "P-384") => (&["x", "y"], Form::Coordinate(48)),
        ("OKP", _) => (&["x"], Form::Bytes),
        ("oct", _) => (&["k"], Form::Bytes),
        _ => (&[], Form::Bytes),
    };
    // RFC 9864 §2.2 names the algorithm after the curve.
    let is_ed25519 = text("alg") == ED25519;
    for name in members {
        let bytes = jwk
            .get(*name)
            .and_then(Value::as_str)
            .and_then(|text| LENIENT.decode(text).ok());
        if let Some(bytes) = bytes {
            let text = URL_SAFE_NO_PAD.encode(form.of(bytes));
            jwk.insert((*name).to_owned(), Value::String(text));
        }
    }
    if is_ed25519 {
        jwk.insert("alg".to_owned(), Value::from("EdDSA"));
    }
}

/// The encoding of a member.
#[derive(Clone, Copy)]
enum Form {
    /// All of its bytes.
    Bytes,
    /// A number in as few bytes as possible.
    Number,
    /// A number in exactly this many bytes.
    Coordinate(usize),
}

impl Form {
    fn of(self, bytes: Vec<u8>) -> Vec<u8> {
        let number = || {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.get(zeros..).unwrap_or_default()
        };
        match self {
            Form::Bytes => bytes,
            Form::Number => number().to_vec(),
            Form::Coordinate(size) => {
                let number = number();
                let mut padded = vec![0; size.saturating_sub(number.len())];
                padded.extend_from_slice(number);
                padded
            }
        }
    }
}
