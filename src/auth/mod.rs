//! Authentication and authorization.
//!
//! A [`Verifier`] turns a token into an [`Identity`]. A [`Policy`] decides what that identity may
//! do.

mod bearer;
mod cache;
mod claims;
mod failure;
mod fetching;
mod fingerprint;
mod identity;
mod interner;
mod jwk;
mod jwks;
mod keys;
mod mint;
mod policy;
mod revocation;
mod revocations;
mod secret;
mod settings;
mod stated;
mod verifier;
mod visibility;

pub use bearer::bearer;
pub use claims::{MAX_NAMES, is_name};
pub use failure::AuthFailure;
pub use fingerprint::Fingerprint;
pub use identity::{ADMIN, Identity, SERVICE, VIEWER, rate_limit_key};
pub use interner::Pool;
pub use jwks::{JwksProbe, probe_jwks};
pub use mint::{TokenMint, TokenRequest};
pub use policy::{Action, Explanation, NamespaceRules, Policy, RuleError};
pub use revocations::{
    LocalRevocations, Revocation, RevocationWatcher, Revocations, RevokedSubject,
};
pub use secret::Secret;
pub use settings::VerifierSettings;
pub use stated::StatedIdentity;
pub use verifier::{AuthEvent, Verifier};
pub use visibility::may_see;
