//! Settings of the verifier.

use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, jwks, keys};
use crate::error::{Error, Result};

/// The sources of keys, and the required claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierSettings {
    /// The shared secret of HS256, HS384 and HS512.
    pub hs256_secret: Option<Secret>,
    /// A PEM file with one RSA, EC (P-256 or P-384) or Ed25519 public key.
    pub public_key_file: Option<PathBuf>,
    /// A file with a JWK set (RFC 7517).
    pub jwks_file: Option<PathBuf>,
    /// The URL of a JWK set: `https`, or `http` on loopback.
    pub jwks_url: Option<String>,
    /// The allowed algorithms, of those in RFC 7518 §3.1 (except ES512) and `EdDSA`. Empty means
    /// those that fit the configured keys, and HS256 for a secret.
    pub algorithms: Vec<String>,
    /// The required `iss`.
    pub issuer: Option<String>,
    /// The required `aud`, or one of its members.
    pub audience: Option<String>,
    /// The leeway for clock skew.
    pub leeway: Duration,
    /// The claim with the user name, such as `sub`: a name or a dotted path.
    pub user_claim: String,
    /// The claim with the roles, such as `roles` or `realm_access.roles`.
    pub roles_claim: String,
    /// The claim with the channels that the token itself grants.
    pub channels_claim: String,
    /// The most time between `iat` and `exp`. Zero means no limit.
    pub max_lifetime: Duration,
    /// The most revocations of each kind.
    pub revocations: usize,
}

impl Default for VerifierSettings {
    fn default() -> Self {
        VerifierSettings {
            hs256_secret: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            algorithms: Vec::new(),
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(5),
            user_claim: String::from("sub"),
            roles_claim: String::from("roles"),
            channels_claim: String::from("channels"),
            max_lifetime: Duration::ZERO,
            revocations: 10_000,
        }
    }
}

impl VerifierSettings {
    /// True if any key is configured.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }

    /// All problems for which a [`Verifier`](super::Verifier) would refuse these settings, each
    /// with its key. Keys behind a URL are not fetched.
    #[must_use]
    pub fn faults(&self) -> Vec<Error> {
        let each = [
            keys::algorithms(self, &[]).map(drop),
            keys::of_secret(self).map(drop),
            keys::of_pem_file(self).map(drop),
            keys::of_jwks_file(self).map(drop),
            self.jwks_url.as_deref().map_or(Ok(()), jwks::check_url),
        ];
        let mut faults: Vec<Error> = each.into_iter().filter_map(Result::err).collect();
        if faults.is_empty() {
            faults.extend(keys::load(self).err());
        }
        faults
    }
}
