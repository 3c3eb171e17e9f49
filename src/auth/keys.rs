//! The keys that a token may be signed with.

use std::path::Path;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use super::{Fingerprint, VerifierSettings};
use crate::error::{Error, Result};

/// The most keys in one JWK set.
const MAX_KEYS: usize = 100;
/// The largest key file or JWK set, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The most keys tried for one token that doesn't name its key.
const MAX_TRIES: usize = 8;

/// A key, with all that limits its use.
#[derive(Clone)]
pub(super) struct Key {
    /// Its name; keys without one are tried for every token.
    id: Option<Box<str>>,
    /// The one algorithm it is meant for, where its set says so.
    algorithm: Option<Algorithm>,
    verifying: DecodingKey,
    /// What stands for it, so that it is known again.
    print: Fingerprint,
}

impl Key {
    fn unnamed(key: DecodingKey) -> Self {
        Key {
            id: None,
            algorithm: None,
            print: print(&key),
            verifying: key,
        }
    }

    /// True if a token that was signed with the key of this print could be signed with this one.
    pub(super) fn is(&self, print: Fingerprint, algorithm: Algorithm) -> bool {
        self.print == print && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// True if it signs as well as it checks.
    pub(super) fn is_secret(&self) -> bool {
        self.verifying.family() == AlgorithmFamily::Hmac
    }

    /// True if a token with this header could be signed with it: never across families, so that
    /// a public key is no shared secret (RFC 8725 §2.1).
    fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.verifying.family() == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
            && match (&self.id, id) {
                (Some(own), Some(id)) => &**own == id,
                _ => true,
            }
    }
}

/// What became of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Good, by the key of this print.
    Good(Fingerprint),
    Bad,
    /// Bad for keys without a name, and no key has the name that the token asks for.
    BadUnnamed,
    /// No key fits.
    Unknown,
}

/// Checks a signature against those of the keys that fit.
pub(super) fn check<'a>(
    keys: impl Iterator<Item = &'a Key>,
    algorithm: Algorithm,
    id: Option<&str>,
    message: &str,
    signature: &str,
) -> Check {
    let mut result = Check::Unknown;
    for key in keys.filter(|key| key.fits(algorithm, id)).take(MAX_TRIES) {
        if id.is_none() || key.id.is_some() {
            result = Check::Bad;
        } else if result == Check::Unknown {
            result = Check::BadUnnamed;
        }
        let verified =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.verifying, algorithm);
        if matches!(verified, Ok(true)) {
            return Check::Good(key.print);
        }
    }
    result
}

/// The algorithms of this allow-list.
pub(super) fn algorithms(names: &[String]) -> Result<Vec<Algorithm>> {
    let wrong = |name: &str| {
        Error::field(
            "auth.algorithms",
            format!(
                "expected some of HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 \
                 ES384 EdDSA, not {name}"
            ),
        )
    };
    if names.is_empty() {
        return Err(wrong("none"));
    }
    names
        .iter()
        .map(|name| name.parse().map_err(|_| wrong(name)))
        .collect()
}

/// The keys that the settings hold or name by a file.
pub(super) fn load(settings: &VerifierSettings, allowed: &[Algorithm]) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    if let Some(secret) = &settings.hs256_secret {
        if secret.is_empty() {
            return Err(Error::field(
                "auth.hs256_secret",
                "expected a secret, not an empty text",
            ));
        }
        keys.push(Key::unnamed(DecodingKey::from_secret(
            secret.expose().as_bytes(),
        )));
    }
    if let Some(path) = &settings.public_key_file {
        let field = "auth.public_key_file";
        keys.push(Key::unnamed(from_pem(&read(path, field)?, field)?));
    }
    if let Some(path) = &settings.jwks_file {
        let field = "auth.jwks_file";
        keys.extend(from_jwks(&read(path, field)?).map_err(|what| Error::field(field, what))?);
    }
    let is_fetched = settings.jwks_url.is_some();
    let is_allowed = |family| allowed.iter().any(|algorithm| algorithm.family() == family);
    let usable = keys.iter().any(|key| is_allowed(key.verifying.family()))
        || (is_fetched && allowed.iter().any(|a| a.family() != AlgorithmFamily::Hmac));
    if usable || (keys.is_empty() && !is_fetched) {
        return Ok(keys);
    }
    Err(Error::field(
        "auth.algorithms",
        "expected an algorithm that some key can be used with",
    ))
}

fn read(path: &Path, field: &'static str) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| Error::field(field, format!("can't read {}: {error}", path.display())))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::field(field, "expected at most 1 MiB"));
    }
    Ok(bytes)
}

fn from_pem(pem: &[u8], field: &'static str) -> Result<DecodingKey> {
    // Whoever holds the signing key can make tokens: it has no place here.
    if pem.windows(11).any(|part| part == b"PRIVATE KEY") {
        return Err(Error::field(
            field,
            "expected a public key, not a private one",
        ));
    }
    DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|_| {
            Error::field(
                field,
                "expected a PEM with an RSA, EC or Ed25519 public key",
            )
        })
}

/// Takes the usable keys of a JWK set; what is unknown is passed over (RFC 7517 §5).
pub(super) fn from_jwks(json: &[u8]) -> std::result::Result<Vec<Key>, String> {
    let set: Value =
        serde_json::from_slice(json).map_err(|_| String::from("expected a JWK set in JSON"))?;
    let Some(Value::Array(keys)) = set.get("keys") else {
        return Err(String::from("expected a JWK set: an object with keys"));
    };
    if keys.len() > MAX_KEYS {
        return Err(String::from("expected at most 100 keys"));
    }
    Ok(keys.iter().filter_map(from_jwk).collect())
}

fn from_jwk(json: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
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
            // P-521 and those to come: nothing checks them.
            EllipticCurve::P521 | EllipticCurve::Ed25519 | _ => return None,
        }),
        (None, _) => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    if algorithm.is_some_and(|algorithm| algorithm.family() != key.family()) {
        return None;
    }
    Some(Key {
        id: common.key_id.as_deref().map(Box::from),
        algorithm,
        print: print(&key),
        verifying: key,
    })
}

/// A print of what a key is made of: the same for the same key under another name.
fn print(key: &DecodingKey) -> Fingerprint {
    let mut material = format!("{:?}:", key.family()).into_bytes();
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => material.extend_from_slice(bytes),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            material.extend_from_slice(n);
            material.push(b':');
            material.extend_from_slice(e);
        }
    }
    Fingerprint::of_bytes(&material)
}
