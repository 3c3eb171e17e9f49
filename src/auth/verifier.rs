//! Verifies tokens and produces identities.

mod state;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cache::Cache;
use super::claims::{MAX_NAMES, is_name};
use super::failure::Refusal;
use super::fetching::{Cause, Fetches, NotFetched, backoff};
use super::interner::Interner;
use super::jwk::from_jwks;
use super::jwks::Source;
use super::keys::Key;
use super::revocation::{Moment, RevocationTable, end_of_time};
use super::revocations::{Revocation, Revocations, RevokedSubject};
use super::{AuthFailure, Fingerprint, Identity, VerifierSettings};
use crate::error::{Error, Result};
use crate::event::Timestamp;
use crate::maybe_ready::MaybeReady;
use state::State;

/// The interval of the periodic fetch of the keys.
const REFRESH: Duration = Duration::from_mins(5);

/// An event that a [`Verifier`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthEvent {
    /// A token was refused.
    Refused(AuthFailure),
    /// A token could be neither accepted nor refused because its key could not be fetched.
    NotJudged,
    /// Whether a fetch of the keys succeeded.
    Fetched(bool),
}

/// Verifies tokens: signed JSON Web Tokens (RFC 7519), following RFC 8725.
///
/// `exp` is always required. Verified tokens are cached until they expire or the keys change, so
/// that a token that comes with every call costs one hash.
pub struct Verifier {
    state: ArcSwap<State>,
    cache: Cache,
    interner: Interner,
    revoked: RevocationTable,
    /// Where revocations are stored outside this process.
    register: Arc<dyn Revocations>,
    /// Counts the revocations that other nodes have added.
    revoked_elsewhere: AtomicU64,
    fetches: Fetches,
    /// Notified when the keys must be fetched before the next periodic fetch.
    refresh_now: Notify,
    /// Held while the state is replaced.
    replacing: Mutex<()>,
    tell: Box<dyn Fn(AuthEvent) + Send + Sync>,
}

impl Verifier {
    /// The longest token, in bytes.
    pub const MAX_TOKEN: usize = 8192;

    /// Loads the keys from the settings and from files; keys behind a URL are fetched for the first
    /// token, or by [`Verifier::keep_fresh`]. [`Verifier::load_revocations`] loads the revocations
    /// from the register. `tell` is called with each [`AuthEvent`].
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the invalid setting.
    pub fn new(
        settings: &VerifierSettings,
        register: Arc<dyn Revocations>,
        tell: impl Fn(AuthEvent) + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Verifier {
            state: ArcSwap::from_pointee(State::load(settings)?),
            cache: Cache::new(),
            interner: Interner::default(),
            revoked: RevocationTable::default(),
            register,
            revoked_elsewhere: AtomicU64::new(0),
            fetches: Fetches::new(),
            refresh_now: Notify::new(),
            replacing: Mutex::new(()),
            tell: Box::new(tell),
        }))
    }

    /// The identity of a token. It is ready at once, unless the token's key must be fetched first.
    ///
    /// # Errors
    ///
    /// `unauthenticated` for a refused token, `unavailable` for one that can't be judged because
    /// its key could not be fetched.
    pub fn verify(self: &Arc<Self>, token: &str) -> MaybeReady<Arc<Identity>> {
        match self.check(token) {
            Err(refusal) if refusal.by_keys => {
                let (this, token, asked) =
                    (Arc::clone(self), Box::<str>::from(token), Instant::now());
                MaybeReady::later(async move {
                    let fetched = this.refresh(Cause::Token, asked).await;
                    this.check(&token).map_err(|refusal| match fetched {
                        Err(not_fetched) if refusal.by_keys => this.not_judged(not_fetched),
                        _ => this.refuse(refusal.failure),
                    })
                })
            }
            answer => MaybeReady::Ready(answer.map_err(|refusal| self.refuse(refusal.failure))),
        }
    }

    /// True while the keys behind the URL have never been fetched: their tokens can't be judged.
    #[must_use]
    pub fn lacks_keys(&self) -> bool {
        self.state.load().lacks_keys()
    }

    /// Reports a failure that occurred before a token could be verified, like any other failure.
    #[must_use]
    pub fn refused(&self, failure: AuthFailure) -> Error {
        self.refuse(failure)
    }

    /// Revalidates an identity that was verified earlier: that it has not expired, was not revoked,
    /// its key is still known, and its claims match the current requirements.
    ///
    /// # Errors
    ///
    /// The reason; it is not reported as an [`AuthEvent`].
    pub fn recheck(&self, identity: &Identity) -> Result<(), AuthFailure> {
        let now = Timestamp::now();
        if identity.valid_until().is_some_and(|end| now >= end) {
            return Err(AuthFailure::Expired);
        }
        if self.revoked.covers(identity, now) {
            return Err(AuthFailure::Revoked);
        }
        match &identity.token {
            Some(token) => self
                .state
                .load()
                .recheck(identity, &token.verification, now),
            None => Ok(()),
        }
    }

    /// A number that changes with each change of keys, algorithms or required claims, and with each
    /// revocation by another node: then open connections must be revalidated.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let elsewhere = self.revoked_elsewhere.load(Ordering::Acquire);
        self.state.load().generation.wrapping_add(elsewhere)
    }

    /// Loads the revocations of the register, and from then on those of other nodes. Call and await
    /// it before the first token is checked.
    ///
    /// # Errors
    ///
    /// As [`Revocations::list`].
    pub fn load_revocations(self: &Arc<Self>) -> MaybeReady<()> {
        let watching = Arc::downgrade(self);
        self.register.watch(Box::new(move |revocation| {
            if let Some(verifier) = watching.upgrade() {
                verifier.revoked.load(vec![revocation], Moment::now());
                verifier.revoked_elsewhere.fetch_add(1, Ordering::AcqRel);
            }
        }));
        let loading = Arc::clone(self);
        self.register.list().then(move |listed| {
            let listed = listed?.into_iter().map(|one| loading.within_lifetime(one));
            loading.revoked.load(listed.collect(), Moment::now());
            Ok(())
        })
    }

    /// Replaces keys and required claims. Keys fetched from the same URL stay.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the invalid setting; then nothing changes.
    pub fn reload(&self, settings: &VerifierSettings) -> Result<()> {
        let mut new = State::load(settings)?;
        self.replace(|old| {
            if let (Some(was), Some(is)) = (&old.source, &new.source)
                && was.is_same(is)
            {
                new.fetched.clone_from(&old.fetched);
                new.fetched_keys.clone_from(&old.fetched_keys);
                new.retired_keys.clone_from(&old.retired_keys);
            } else if new.source.is_some() {
                new.retired_keys.clone_from(&old.fetched_keys);
                new.retired_keys.extend_from_slice(&old.retired_keys);
            }
            new.expected = old.expected;
            if new.expectations != old.expectations {
                new.expected = old.expected.wrapping_add(1);
            }
            Some(new)
        });
        if self.lacks_keys() {
            self.refresh_now.notify_one();
        }
        Ok(())
    }

    /// Revokes the token of an identity until it has expired. It is refused from this call on; the
    /// result is ready once the register has stored the revocation.
    ///
    /// # Errors
    ///
    /// `failed_precondition` if it has no token, `resource_exhausted` if there are
    /// `auth.revocations` already, and as [`Revocations::add`].
    pub fn revoke_token(&self, identity: &Identity) -> MaybeReady<()> {
        let Some(token) = identity.fingerprint() else {
            let error = Error::precondition("the connection has presented no token");
            return MaybeReady::Ready(Err(error));
        };
        self.revoke(Revocation {
            subject: RevokedSubject::Token(token),
            issued_before: end_of_time(),
            until: identity.valid_until().unwrap_or(end_of_time()),
        })
    }

    /// Revokes every token of a user whose `iat` is not later than now or is missing. The entry is
    /// kept until `auth.max_lifetime` has passed; without that setting, for as long as the register
    /// exists. The tokens are refused from this call on; the result is ready once the register has
    /// stored the revocation.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the field `user` if no token can have such a user,
    /// `resource_exhausted` if there are `auth.revocations` already, and as [`Revocations::add`].
    pub fn revoke_user(&self, user: &str) -> MaybeReady<()> {
        if !is_name(user) {
            let expected = "expected 1 to 255 bytes without control characters";
            return MaybeReady::Ready(Err(Error::field("user", expected)));
        }
        let now = Timestamp::now();
        let until = self.state.load().expectations.all_expired(now);
        self.revoke(Revocation {
            subject: RevokedSubject::User(Arc::from(user)),
            issued_before: now,
            until: until.unwrap_or(end_of_time()),
        })
    }

    /// Removes revocations of expired tokens; returns the number of remaining ones.
    pub fn sweep(&self) -> usize {
        let (ended, left) = self.revoked.sweep(Moment::now());
        if !ended.is_empty() {
            self.register.remove(ended);
        }
        left
    }

    /// The end of a user's entry that was made without `auth.max_lifetime`, once that is set.
    fn within_lifetime(&self, revocation: Revocation) -> Revocation {
        let until = match revocation.subject {
            RevokedSubject::Token(_) => None,
            RevokedSubject::User(_) => {
                let state = self.state.load();
                state.expectations.all_expired(revocation.issued_before)
            }
        };
        Revocation {
            until: until.map_or(revocation.until, |until| until.min(revocation.until)),
            ..revocation
        }
    }

    /// The table is changed first: if the register fails, the tokens stay refused while this
    /// process runs, and the operator gets the error and can retry.
    fn revoke(&self, revocation: Revocation) -> MaybeReady<()> {
        let (limit, now) = (self.state.load().revocations, Moment::now());
        // Ended entries are removed first, from the register too, to make room.
        self.sweep();
        match self.revoked.add(revocation, now, limit) {
            Ok(merged) => self.register.add(merged),
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    /// Fetches the keys now and then every five minutes, for as long as it is polled, and sooner
    /// after a failed fetch. If a fetch fails, the current keys stay.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            let fetched = self.refresh(Cause::Routine, Instant::now()).await;
            failures = if fetched.is_ok() {
                0
            } else {
                failures.saturating_add(1)
            };
            let pause = if failures == 0 {
                REFRESH
            } else {
                backoff(failures)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.refresh_now.notified() => {}
            }
        }
    }

    /// The identity of a user with these roles, or that a token with these claims would have, for
    /// questions about rules. Nothing is verified, and nobody is let in with it.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `claims`, `user` and `roles`.
    pub fn suppose(&self, user: &str, claims: &str, roles: &[String]) -> Result<Identity> {
        let expectations = &self.state.load().expectations;
        if roles.len() > MAX_NAMES || !roles.iter().all(|role| is_name(role)) {
            let expected =
                "expected at most 100 roles of 1 to 255 bytes without control characters";
            return Err(Error::field("roles", expected));
        }
        if claims.is_empty() {
            if !user.is_empty() && !is_name(user) {
                let expected = "expected 1 to 255 bytes without control characters";
                return Err(Error::field("user", expected));
            }
            let claims = expectations.claims_of(user, roles);
            let supposed = expectations.supposed(&claims, &[]);
            return supposed.map_err(|_| Error::field("user", "expected a user's name"));
        }
        let expected = "expected the claims of a token: a JSON object of at most 8192 bytes, in \
                        which user, roles and channels are as [auth] names them";
        let supposed =
            (claims.len() <= Self::MAX_TOKEN).then(|| expectations.supposed(claims, roles));
        match supposed {
            Some(Ok(identity)) => Ok(identity),
            Some(Err(_)) | None => Err(Error::field("claims", expected)),
        }
    }

    fn refuse(&self, failure: AuthFailure) -> Error {
        (self.tell)(AuthEvent::Refused(failure));
        failure.into()
    }

    fn not_judged(&self, NotFetched { retry_after }: NotFetched) -> Error {
        (self.tell)(AuthEvent::NotJudged);
        Error::unavailable("the keys to check the token with can't be fetched; try again")
            .retry_after(retry_after)
    }

    fn check(&self, token: &str) -> Result<Arc<Identity>, Refusal> {
        if token.is_empty() {
            return Err(AuthFailure::Missing.into());
        }
        if token.len() > Self::MAX_TOKEN {
            return Err(AuthFailure::Malformed.into());
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
            self.interner.share(&mut identity);
            let identity = Arc::new(identity);
            self.cache.put(state.generation, &identity);
            identity
        };
        if self.revoked.covers(&identity, now) {
            return Err(AuthFailure::Revoked.into());
        }
        Ok(identity)
    }

    /// Fetches the keys for a caller that asked at this time.
    async fn refresh(&self, cause: Cause, asked: Instant) -> Result<(), NotFetched> {
        let Some(source) = self.state.load().source.clone() else {
            return Ok(());
        };
        self.fetches
            .fetch(cause, asked, || async {
                let outcome = self.fetch(&source).await;
                if let Err(reason) = &outcome {
                    tracing::warn!(%reason, "the JWK set could not be fetched; the known keys stay");
                }
                (self.tell)(AuthEvent::Fetched(outcome.is_ok()));
                outcome.is_ok()
            })
            .await
    }

    async fn fetch(&self, source: &Source) -> Result<(), String> {
        let fetched = source.fetch().await?;
        let mut keys = from_jwks(&fetched)?;
        // Everybody can read the set, so everybody could sign with a secret in it.
        keys.retain(|key| !key.is_secret());
        if keys.is_empty() {
            // An empty set is more likely a provider's fault than the intent to lock everybody out.
            return Err("it holds no usable key".to_owned());
        }
        self.adopt(source, fetched, keys);
        Ok(())
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
                retired_keys: Vec::new(),
                ..old.clone()
            })
        });
    }

    /// Replaces the state, and drops everything that was verified with the old one.
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

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
