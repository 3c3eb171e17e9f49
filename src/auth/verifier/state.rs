//! The keys and requirements that tokens are checked against.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth::claims::Expectations;
use crate::auth::failure::Refusal;
use crate::auth::identity::{Token, Verification};
use crate::auth::jwks::Source;
use crate::auth::keys::{self, Check, Key};
use crate::auth::{AuthFailure, Fingerprint, Identity, VerifierSettings};
use crate::error::Result;
use crate::event::Timestamp;

/// Everything that a reload replaces atomically.
#[derive(Clone)]
pub(super) struct State {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) expectations: Expectations,
    /// Incremented when the required claims change.
    pub(super) expected: u64,
    /// The most revocations of each kind.
    pub(super) revocations: usize,
    /// From the settings and their files.
    pub(super) keys: Vec<Key>,
    pub(super) source: Option<Source>,
    /// The last fetched document, and its keys.
    pub(super) fetched: Option<Bytes>,
    pub(super) fetched_keys: Vec<Key>,
    /// The keys of the previous URL, after a reload. They authenticate no new connection;
    /// connections authenticated by them stay until the keys of the new URL are fetched.
    pub(super) retired_keys: Vec<Key>,
    /// Incremented with each change, so that nothing verified before it counts after it.
    pub(super) generation: u64,
}

/// A token in its parts (RFC 7515 §7.1).
struct Parts<'a> {
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// The relevant members of a token's header. A duplicate member is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl State {
    /// Loads the keys.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the invalid setting.
    pub(super) fn load(settings: &VerifierSettings) -> Result<Self> {
        let (keys, algorithms) = keys::load(settings)?;
        Ok(State {
            keys,
            expectations: Expectations::new(settings),
            expected: 0,
            revocations: settings.revocations,
            source: settings.jwks_url.as_deref().map(Source::new).transpose()?,
            algorithms,
            fetched: None,
            fetched_keys: Vec::new(),
            retired_keys: Vec::new(),
            generation: 0,
        })
    }

    /// True if the keys behind the URL have not been fetched yet.
    pub(super) fn lacks_keys(&self) -> bool {
        self.source.is_some() && self.fetched.is_none()
    }

    /// The identity of a token; `exact` is the fingerprint of the whole token, including its
    /// signature.
    ///
    /// # Errors
    ///
    /// The reason for refusing it.
    pub(super) fn verify(
        &self,
        token: &str,
        exact: Fingerprint,
        now: Timestamp,
    ) -> Result<Identity, Refusal> {
        let parts = self.take_apart(token)?;
        let keys = self.keys.iter().chain(&self.fetched_keys);
        let key_id = parts.key_id.as_deref();
        let checked = keys::check(
            keys,
            parts.algorithm,
            key_id,
            parts.message,
            parts.signature,
        );
        let payload = URL_SAFE_NO_PAD
            .decode(parts.payload)
            .map_err(|_| AuthFailure::Malformed)?;
        let failure = match checked {
            Check::Good(key) => {
                let mut identity = self.expectations.identity(&payload, now)?;
                identity.token = Some(Token {
                    signed: Fingerprint::of(token),
                    exact,
                    verification: Arc::new(Verification {
                        key,
                        algorithm: parts.algorithm,
                        expected: self.expected,
                        leeway: self.expectations.leeway(),
                    }),
                });
                return Ok(identity);
            }
            Check::Bad => AuthFailure::Signature,
            Check::Unknown => AuthFailure::UnknownKey,
        };
        // The provider may have a new key by now, also under a known `kid`. A shared secret is
        // never taken from the provider.
        let by_keys = self.source.is_some() && parts.algorithm.family() != AlgorithmFamily::Hmac;
        if by_keys {
            // Failures that no key could change are reported now: an expired token causes no fetch.
            self.expectations.identity(&payload, now)?;
        }
        Err(Refusal { failure, by_keys })
    }

    /// Revalidates a token that was valid once, except for its signature.
    pub(super) fn recheck(
        &self,
        identity: &Identity,
        verification: &Verification,
        now: Timestamp,
    ) -> Result<(), AuthFailure> {
        if !self.algorithms.contains(&verification.algorithm) {
            return Err(AuthFailure::Algorithm);
        }
        let mut keys = self
            .keys
            .iter()
            .chain(&self.fetched_keys)
            .chain(&self.retired_keys);
        if !keys.any(|key| key.is(verification.key, verification.algorithm)) {
            return Err(AuthFailure::UnknownKey);
        }
        if verification.expected == self.expected {
            return Ok(());
        }
        self.expectations
            .identity(identity.claims().as_bytes(), now)
            .map(drop)
    }

    fn take_apart<'a>(&self, token: &'a str) -> Result<Parts<'a>, AuthFailure> {
        let malformed = AuthFailure::Malformed;
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = message.split_once('.').ok_or(malformed)?;
        if payload.contains('.') {
            return Err(malformed);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| malformed)?;
        // Critical extensions (RFC 7515 §4.1.11): none is supported.
        if header.crit.is_some() {
            return Err(malformed);
        }
        let algorithm = keys::algorithm(&header.alg).ok_or(AuthFailure::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(AuthFailure::Algorithm);
        }
        Ok(Parts {
            message,
            payload,
            signature,
            algorithm,
            key_id: header.kid,
        })
    }
}
