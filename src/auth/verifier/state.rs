//! What tokens are held to.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth::claims::Expectations;
use crate::auth::failure::Refusal;
use crate::auth::identity::{Token, Vouched};
use crate::auth::jwks::Source;
use crate::auth::keys::{self, Check, Key};
use crate::auth::{AuthFailure, Fingerprint, Identity, VerifierSettings};
use crate::error::Result;
use crate::event::Timestamp;

/// All that a reload replaces at once.
#[derive(Clone)]
pub(super) struct State {
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) expectations: Expectations,
    /// Grows when the expectations change.
    pub(super) expected: u64,
    /// The most revocations of each kind.
    pub(super) revocations: usize,
    /// From the settings and their files.
    pub(super) keys: Vec<Key>,
    pub(super) source: Option<Source>,
    /// What was fetched last, and its keys.
    pub(super) fetched: Option<Bytes>,
    pub(super) fetched_keys: Vec<Key>,
    /// The keys of another URL, before a reload. They let nobody in; whoever came by them stays
    /// until the keys of the new URL are there.
    pub(super) retired_keys: Vec<Key>,
    /// Grows with each change, so that nothing verified before counts after it.
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

/// What of a token's header matters. A member that stands twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl State {
    /// Reads the keys.
    ///
    /// # Errors
    /// `invalid_argument` naming the setting that is wrong.
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

    /// True if the keys behind the URL are not known yet.
    pub(super) fn lacks_keys(&self) -> bool {
        self.source.is_some() && self.fetched.is_none()
    }

    /// The identity of a token, whose fingerprint with its signature is `exact`.
    ///
    /// # Errors
    /// What is wrong with it.
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
                    vouched: Arc::new(Vouched {
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
        // The provider may have another key by now, also under a name that is known. No secret is
        // ever taken from it.
        let by_keys = self.source.is_some() && parts.algorithm.family() != AlgorithmFamily::Hmac;
        if by_keys {
            // What no key can mend is judged now: an expired token costs no fetch.
            self.expectations.identity(&payload, now)?;
        }
        Err(Refusal { failure, by_keys })
    }

    /// Whether a token that was good once would be good now, apart from its signature.
    pub(super) fn recheck(
        &self,
        identity: &Identity,
        vouched: &Vouched,
        now: Timestamp,
    ) -> Result<(), AuthFailure> {
        if !self.algorithms.contains(&vouched.algorithm) {
            return Err(AuthFailure::Algorithm);
        }
        let mut keys = self
            .keys
            .iter()
            .chain(&self.fetched_keys)
            .chain(&self.retired_keys);
        if !keys.any(|key| key.is(vouched.key, vouched.algorithm)) {
            return Err(AuthFailure::UnknownKey);
        }
        if vouched.expected == self.expected {
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
        // Extensions that must be understood (RFC 7515 §4.1.11): none is.
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
