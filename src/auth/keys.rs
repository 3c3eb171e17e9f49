//! The keys that a token may be signed with.

use std::path::Path;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::jwk::{from_jwks, without_bom};
use super::{Fingerprint, VerifierSettings};
use crate::error::{Error, Result};

/// The largest key file or JWK set, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// The name in RFC 9864 of `EdDSA` with the only supported curve.
pub(super) const ED25519: &str = "Ed25519";
/// The algorithms with a shared secret (RFC 7518 §3.1).
const SHARED: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// The algorithms with a key pair (RFC 7518 §3.1, RFC 8037 §3.1).
const PAIRED: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A key with the restrictions on its use.
#[derive(Clone)]
pub(super) struct Key {
    /// Its `kid`; keys without one are tried for every token.
    id: Option<Box<str>>,
    /// The only algorithm that the JWK set allows for it, if it names one.
    algorithm: Option<Algorithm>,
    verifying: DecodingKey,
    /// Its fingerprint, which identifies it after a reload.
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

    /// A key of a JWK set.
    pub(super) fn of_set(id: Option<&str>, algorithm: Option<Algorithm>, key: DecodingKey) -> Self {
        Key {
            id: id.map(Box::from),
            algorithm,
            ..Key::unnamed(key)
        }
    }

    /// True if this is the key with this fingerprint, and it may be used with this algorithm.
    pub(super) fn is(&self, print: Fingerprint, algorithm: Algorithm) -> bool {
        self.print == print && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// True if the key can sign as well as verify.
    pub(super) fn is_secret(&self) -> bool {
        self.verifying.family() == AlgorithmFamily::Hmac
    }

    /// True if a token with this header may be verified with this key. Never across families, so
    /// that a public key can't be used as a shared secret (RFC 8725 §2.1).
    fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.verifying.family() == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
            && match (&self.id, id) {
                (Some(own), Some(id)) => &**own == id,
                _ => true,
            }
    }
}

/// The result of verifying a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Valid, by the key with this fingerprint.
    Good(Fingerprint),
    Bad,
    /// No key matches.
    Unknown,
}

/// Verifies a signature with the matching keys. A token without a `kid` is tried with every key of
/// its family: at most [`MAX_KEYS`](super::jwk::MAX_KEYS) of each set.
pub(super) fn check<'a>(
    keys: impl Iterator<Item = &'a Key>,
    algorithm: Algorithm,
    id: Option<&str>,
    message: &str,
    signature: &str,
) -> Check {
    let mut result = Check::Unknown;
    for key in keys.filter(|key| key.fits(algorithm, id)) {
        result = Check::Bad;
        let verified =
            tidings_jwt::verify(signature, message.as_bytes(), &key.verifying, algorithm);
        if matches!(verified, Ok(true)) {
            return Check::Good(key.print);
        }
    }
    result
}

/// The algorithm with this name; `None` for `none` and unsupported algorithms.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    if name == ED25519 {
        return Some(Algorithm::EdDSA);
    }
    name.parse().ok()
}

/// The allowed algorithms. If none are configured, those that fit the configured keys; each key is
/// only used with its own family either way.
pub(super) fn algorithms(settings: &VerifierSettings, keys: &[Key]) -> Result<Vec<Algorithm>> {
    if settings.algorithms.is_empty() {
        return Ok(of_kinds(settings.jwks_url.is_some(), keys));
    }
    let wrong = || {
        let names = SHARED.iter().chain(&PAIRED).map(|a| format!("{a:?}"));
        let names: Vec<String> = names.chain([ED25519.to_owned()]).collect();
        Error::field(
            "auth.algorithms",
            format!("expected some of {}", names.join(", ")),
        )
    };
    let names = settings.algorithms.iter();
    names
        .map(|name| algorithm(name).ok_or_else(wrong))
        .collect()
}

/// The algorithms of these keys, and of fetched keys, which never contain a secret. A secret is
/// used with HS256, unless its JWK set names another algorithm.
fn of_kinds(is_fetched: bool, keys: &[Key]) -> Vec<Algorithm> {
    let mut allowed = if is_fetched {
        PAIRED.to_vec()
    } else {
        Vec::new()
    };
    for key in keys {
        match (key.algorithm, key.verifying.family()) {
            (Some(own), _) => allowed.push(own),
            (None, AlgorithmFamily::Hmac) => allowed.push(Algorithm::HS256),
            (None, family) => allowed.extend(family.algorithms()),
        }
    }
    allowed
}

/// The keys in the settings and in the files that they name, and the allowed algorithms.
pub(super) fn load(settings: &VerifierSettings) -> Result<(Vec<Key>, Vec<Algorithm>)> {
    let mut keys = Vec::new();
    keys.extend(of_secret(settings)?);
    keys.extend(of_pem_file(settings)?);
    keys.extend(of_jwks_file(settings)?);
    let allowed = algorithms(settings, &keys)?;
    let is_fetched = settings.jwks_url.is_some();
    let is_allowed = |family| allowed.iter().any(|algorithm| algorithm.family() == family);
    let usable = keys.iter().any(|key| is_allowed(key.verifying.family()))
        || (is_fetched && allowed.iter().any(|a| a.family() != AlgorithmFamily::Hmac));
    if usable || (keys.is_empty() && !is_fetched) {
        return Ok((keys, allowed));
    }
    Err(Error::field(
        "auth.algorithms",
        "none of these fits the key that is set, so no token could ever be accepted",
    ))
}

/// The key of `auth.hs256_secret`.
pub(super) fn of_secret(settings: &VerifierSettings) -> Result<Option<Key>> {
    let Some(secret) = &settings.hs256_secret else {
        return Ok(None);
    };
    if secret.is_empty() {
        let expected = "expected a secret, not an empty string";
        return Err(Error::field("auth.hs256_secret", expected));
    }
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    Ok(Some(Key::unnamed(key)))
}

/// The key of `auth.public_key_file`.
pub(super) fn of_pem_file(settings: &VerifierSettings) -> Result<Option<Key>> {
    let Some(path) = &settings.public_key_file else {
        return Ok(None);
    };
    let field = "auth.public_key_file";
    let key = from_pem(without_bom(&read(path, field)?), field)?;
    Ok(Some(Key::unnamed(key)))
}

/// The keys of `auth.jwks_file`.
pub(super) fn of_jwks_file(settings: &VerifierSettings) -> Result<Vec<Key>> {
    let Some(path) = &settings.jwks_file else {
        return Ok(Vec::new());
    };
    let field = "auth.jwks_file";
    let keys = from_jwks(&read(path, field)?).map_err(|what| Error::field(field, what))?;
    if keys.is_empty() {
        return Err(Error::field(field, "expected a key that can be used"));
    }
    Ok(keys)
}

fn read(path: &Path, field: &'static str) -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| Error::field(field, format!("the file can't be read: {error}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(Error::field(field, "expected at most 1 MiB"));
    }
    Ok(bytes)
}

fn from_pem(pem: &[u8], field: &'static str) -> Result<DecodingKey> {
    // A private key can sign tokens, so it is refused here.
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

/// A fingerprint of the key's material: the same for the same key under another `kid`.
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
