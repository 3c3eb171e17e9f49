//! The register of revocations, which stores them outside this process or shares them between
//! nodes.
//!
//! Every check of a token uses the [`Verifier`](super::Verifier)'s own table. The register makes
//! that table outlive the process, and carries revocations between nodes.

use std::sync::Arc;

use super::Fingerprint;
use crate::event::Timestamp;
use crate::maybe_ready::MaybeReady;

/// What a revocation applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RevokedSubject {
    /// One token.
    Token(Fingerprint),
    /// The tokens of a user that were issued before [`Revocation::issued_before`], and those that
    /// do not say when they were issued.
    User(Arc<str>),
}

/// Tokens that are refused although they have not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub subject: RevokedSubject,
    /// For a user: tokens issued (`iat`) from this time on are valid. Unused for a single token.
    pub issued_before: Timestamp,
    /// When the tokens have expired anyway, so that the entry can be removed.
    pub until: Timestamp,
}

/// A callback for each revocation that another node adds.
pub type RevocationWatcher = Box<dyn Fn(Revocation) + Send + Sync>;

/// A register of revocations. A later revocation of the same subject replaces an earlier one.
pub trait Revocations: Send + Sync {
    /// Adds a revocation. The result is ready once the revocation is as durable as the register
    /// makes it.
    ///
    /// # Errors
    ///
    /// `unavailable` if it could not be stored.
    fn add(&self, revocation: Revocation) -> MaybeReady<()>;

    /// All revocations in the register; read once, before the first token is checked.
    ///
    /// # Errors
    ///
    /// If the register can't be read, or some entries may be missing.
    fn list(&self) -> MaybeReady<Vec<Revocation>>;

    /// Removes ended revocations, unless a later one of the same subject has replaced them. Never
    /// waits; entries that can't be removed now are removed after the next [`Self::list`].
    fn remove(&self, ended: Vec<Revocation>);

    /// Reports the revocations of other nodes from now on. The caller watches before it lists, so
    /// that none is missed between the two.
    fn watch(&self, watcher: RevocationWatcher);
}

/// The register of a single node without a store: the verifier's table is the only copy.
#[derive(Debug, Default, Clone, Copy)]
pub struct LocalRevocations;

impl Revocations for LocalRevocations {
    fn add(&self, _: Revocation) -> MaybeReady<()> {
        MaybeReady::ok(())
    }

    fn list(&self) -> MaybeReady<Vec<Revocation>> {
        MaybeReady::ok(Vec::new())
    }

    fn remove(&self, _: Vec<Revocation>) {}

    fn watch(&self, _: RevocationWatcher) {}
}
