//! Making an identity of a token.

mod state;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::Instant;

use super::cache::Cache;
use super::common::Common;
use super::jwks::Source;
use super::keys::{self, Key};
use super::revocation::{Moment, Revocations, Revoke};
use super::{AuthFailure, Fingerprint, Identity, VerifierSettings};
use crate::error::{Error, Result};
use crate::event::Timestamp;
use crate::promise::Promise;
use state::State;

/// The shortest time between two fetches of the keys, however many unknown keys are named.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// How often the keys are fetched anew.
const REFRESH: Duration = Duration::from_mins(5);

/// Verifies tokens: JSON Web Tokens (RFC 7519) with a signature, held to RFC 8725.
///
/// `exp` is always required. Verified tokens are remembered until they expire or the keys change,
/// so that a token that comes with every call costs one hash.
pub struct Verifier {
    state: ArcSwap<State>,
    cache: Cache,
    common: Common,
    revocations: Revocations,
    /// Held by whoever fetches keys: there is one fetch at a time.
    fetching: tokio::sync::Mutex<()>,
    last_fetch: Mutex<Option<Instant>>,
    /// Held by whoever replaces the state.
    replacing: Mutex<()>,
    on_failure: Box<dyn Fn(AuthFailure) + Send + Sync>,
}

impl Verifier {
    /// The longest token, in bytes.
    pub const MAX_TOKEN: usize = 8192;

    /// Loads the keys that are in the settings or in files; those behind a URL come with the
    /// first token, or with [`Verifier::keep_fresh`]. `on_failure` is told of every refused token.
    ///
    /// # Errors
    /// `invalid_argument` naming the setting that is wrong.
    pub fn new(
        settings: &VerifierSettings,
        on_failure: impl Fn(AuthFailure) + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Verifier {
            state: ArcSwap::from_pointee(State::load(settings)?),
            cache: Cache::new(),
            common: Common::default(),
            revocations: Revocations::default(),
            fetching: tokio::sync::Mutex::new(()),
            last_fetch: Mutex::new(None),
            replacing: Mutex::new(()),
            on_failure: Box::new(on_failure),
        }))
    }

    /// The identity of a token: at once, but where its key must first be fetched.
    ///
    /// # Errors
    /// `unauthenticated`; the reason goes to `on_failure`.
    pub fn verify(self: &Arc<Self>, token: &str) -> Promise<Arc<Identity>> {
        match self.check(token) {
            Err(AuthFailure::UnknownKey) if self.may_fetch() => {
                let (this, token) = (Arc::clone(self), Box::<str>::from(token));
                Promise::later(async move {
                    this.refresh().await;
                    this.check(&token).map_err(|failure| this.refuse(failure))
                })
            }
            answer => Promise::Ready(answer.map_err(|failure| self.refuse(failure))),
        }
    }

    /// The failure of a token that never came so far as to be verified, reported as the others
    /// are.
    #[must_use]
    pub fn refused(&self, failure: AuthFailure) -> Error {
        self.refuse(failure)
    }

    /// Looks again at an identity that was verified earlier: has it expired, was it revoked, is
    /// its key still known, are its claims what is expected now.
    ///
    /// # Errors
    /// What is wrong with it; `on_failure` is not told.
    pub fn recheck(&self, identity: &Identity) -> Result<(), AuthFailure> {
        let now = Timestamp::now();
        if identity.valid_until().is_some_and(|end| now >= end) {
            return Err(AuthFailure::Expired);
        }
        if self.revocations.covers(identity, now) {
            return Err(AuthFailure::Revoked);
        }
        match &identity.token {
            Some(token) => self.state.load().recheck(identity, &token.vouched, now),
            None => Ok(()),
        }
    }

    /// Another number after each change of keys, algorithms or expectations.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.load().generation
    }

    /// Replaces keys and expectations. Keys fetched from the same URL stay.
    ///
    /// # Errors
    /// `invalid_argument` naming the setting that is wrong; then everything stays as it is.
    pub fn reload(&self, settings: &VerifierSettings) -> Result<()> {
        let mut new = State::load(settings)?;
        self.replace(|old| {
            if let (Some(was), Some(is)) = (&old.source, &new.source)
                && was.is_same(is)
            {
                new.fetched.clone_from(&old.fetched);
                new.fetched_keys.clone_from(&old.fetched_keys);
            }
            new.expected = old.expected;
            if new.expectations != old.expectations {
                new.expected = old.expected.wrapping_add(1);
            }
            Some(new)
        });
        Ok(())
    }

    /// Takes back the token of an identity, until it has expired.
    ///
    /// # Errors
    /// `failed_precondition` where it has no token, `resource_exhausted` where
    /// `auth.revocations` are kept already.
    pub fn revoke_token(&self, identity: &Identity) -> Result<()> {
        let token = identity
            .fingerprint()
            .ok_or_else(|| Error::precondition("the connection has shown no token"))?;
        let until = identity.valid_until().unwrap_or_else(never);
        let limit = self.state.load().revocations;
        self.revocations
            .add(Revoke::Token(token), until, Moment::now(), limit)
    }

    /// Takes back every token of a user that was issued until now, or that doesn't say when. This
    /// is kept until `auth.max_lifetime` has passed, and without one for as long as the server
    /// runs.
    ///
    /// # Errors
    /// `resource_exhausted` where `auth.revocations` are kept already.
    pub fn revoke_user(&self, user: &str) -> Result<()> {
        let (state, now) = (self.state.load(), Moment::now());
        let what = Revoke::User {
            user: Arc::from(user),
            issued_before: now.wall,
        };
        let until = state.expectations.all_expired(now.wall);
        let until = until.unwrap_or_else(never);
        self.revocations.add(what, until, now, state.revocations)
    }

    /// Forgets revocations of what has expired; answers how many are left.
    pub fn sweep(&self) -> usize {
        self.revocations.sweep(Moment::now())
    }

    /// Fetches the keys now and then every five minutes, for as long as it is polled. Where a
    /// fetch fails, the keys that are there stay.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            if self.state.load().source.is_some() {
                self.refresh().await;
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    fn refuse(&self, failure: AuthFailure) -> Error {
        (self.on_failure)(failure);
        failure.into()
    }

    fn check(&self, token: &str) -> Result<Arc<Identity>, AuthFailure> {
        if token.is_empty() {
            return Err(AuthFailure::Missing);
        }
        if token.len() > Self::MAX_TOKEN {
            return Err(AuthFailure::Malformed);
        }
        let (state, now, exact) = (
            self.state.load(),
            Timestamp::now(),
            Fingerprint::exact(token),
        );
        let identity = if let Some(known) = self.cache.get(exact, state.generation, now) {
            known
        } else {
            let mut identity = state.verify(token, exact, now)?;
            self.common.share(&mut identity);
            let identity = Arc::new(identity);
            self.cache.put(state.generation, &identity, now);
            identity
        };
        if self.revocations.covers(&identity, now) {
            return Err(AuthFailure::Revoked);
        }
        Ok(identity)
    }

    /// True if the keys can be fetched, and weren't just now, or are being fetched.
    fn may_fetch(&self) -> bool {
        self.state.load().source.is_some() && (self.is_due() || self.fetching.try_lock().is_err())
    }

    fn is_due(&self) -> bool {
        let last = *self
            .last_fetch
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= FETCH_PAUSE)
    }

    /// Fetches the keys, or waits for the fetch that is under way.
    async fn refresh(&self) {
        let _only_one = self.fetching.lock().await;
        let Some(source) = self.state.load().source.clone() else {
            return;
        };
        if !self.is_due() {
            return;
        }
        *self
            .last_fetch
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let fetched = match source.fetch().await {
            Ok(fetched) => fetched,
            Err(reason) => {
                tracing::warn!(%reason, "the JWK set could not be fetched; the known keys stay");
                return;
            }
        };
        match keys::from_jwks(&fetched) {
            Ok(mut keys) => {
                // Everybody can read the set, so everybody could sign with a secret in it.
                keys.retain(|key| !key.is_secret());
                if keys.is_empty() {
                    // More likely a fault over there than a wish to shut everybody out.
                    tracing::warn!("the JWK set holds no usable key; the known keys stay");
                    return;
                }
                self.adopt(&source, fetched, keys);
            }
            Err(reason) => {
                tracing::warn!(%reason, "the JWK set is not valid; the known keys stay");
            }
        }
    }

    fn adopt(&self, source: &Source, fetched: Bytes, keys: Vec<Key>) {
        self.replace(|old| {
            let same_source = old.source.as_ref().is_some_and(|now| now.is_same(source));
            if !same_source || old.fetched.as_ref() == Some(&fetched) {
                return None;
            }
            Some(State {
                fetched: Some(fetched),
                fetched_keys: keys,
                ..old.clone()
            })
        });
    }

    /// Puts a new state in the old one's place, and forgets what was verified with the old one.
    fn replace(&self, next: impl FnOnce(&State) -> Option<State>) {
        let _only_one = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = self.state.load_full();
        if let Some(mut new) = next(&old) {
            new.generation = old.generation.wrapping_add(1);
            self.state.store(Arc::new(new));
            self.cache.clear();
        }
    }
}

/// Further away than any token lives.
fn never() -> Timestamp {
    Timestamp::from_micros(i64::MAX)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
