//! The authenticated identity of a client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::Fingerprint;
use crate::event::Timestamp;

/// The role that may publish and subscribe everywhere.
pub const SERVICE: &str = "service";
/// The role that may also list and disconnect connections.
pub const ADMIN: &str = "admin";
/// The role that may look at everything and change nothing.
pub const VIEWER: &str = "viewer";

/// The identity of a client, as stated by its token. Shared by all connections and calls with the
/// same token.
///
/// A large server holds one per user, so it is small: common values are shared, and rare ones are
/// boxed.
#[derive(Clone, Default)]
pub struct Identity {
    pub(super) user: Option<Arc<str>>,
    pub(super) roles: Arc<[Arc<str>]>,
    /// The token's payload, as JSON. Empty means no claims.
    pub(super) claims: Box<str>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) token: Option<Token>,
    pub(super) extras: Option<Box<IdentityExtras>>,
}

/// Fields that few identities have.
#[derive(Clone, Default)]
pub(super) struct IdentityExtras {
    /// The channels that the token itself grants.
    pub(super) channels: Box<[Box<str>]>,
    /// The channels that the application subscribes the client to.
    pub(super) follows: Box<[Box<str>]>,
    /// The address of an anonymous client.
    pub(super) address: Option<IpAddr>,
    /// The subject of a client certificate that was presented instead of a token.
    pub(super) certified: Option<Arc<str>>,
}

/// The stored part of a token.
#[derive(Clone)]
pub(super) struct Token {
    /// Fingerprint of the signed part.
    pub(super) signed: Fingerprint,
    /// Fingerprint of the whole token, including its signature.
    pub(super) exact: Fingerprint,
    pub(super) verification: Arc<Verification>,
}

/// How a token was verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Verification {
    /// The fingerprint of the key.
    pub(super) key: Fingerprint,
    pub(super) algorithm: Algorithm,
    /// Which requirements its claims were checked against.
    pub(super) expected: u64,
    /// The leeway after its expiry.
    pub(super) leeway: Duration,
}

impl Identity {
    /// An anonymous client without roles.
    #[must_use]
    pub fn anonymous() -> Self {
        Identity::default()
    }

    /// An anonymous client from this address.
    #[must_use]
    pub fn anonymous_from(address: IpAddr) -> Self {
        Identity {
            extras: Some(Box::new(IdentityExtras {
                address: Some(address),
                ..IdentityExtras::default()
            })),
            ..Identity::default()
        }
    }

    /// The key for rate limits: the user, or else the address.
    #[must_use]
    pub fn account(&self) -> Arc<str> {
        let address = self.extras.as_ref().and_then(|extras| extras.address);
        match (&self.user, address) {
            (Some(user), _) => Arc::clone(user),
            // User names contain no control characters, so these cannot collide with one.
            (None, Some(address)) => Arc::from(format!("\0{}", rate_limit_key(address))),
            (None, None) => Arc::from("\0"),
        }
    }

    /// The owner of idempotency keys: a name that is unique and stable across restarts. Its first
    /// letter tells the kind, so that a user cannot pose as a service or a certificate, whatever
    /// its name.
    #[must_use]
    pub fn publisher(&self) -> Arc<str> {
        let extras = self.extras.as_deref();
        let certified = extras.and_then(|extras| extras.certified.as_ref());
        let address = extras.and_then(|extras| extras.address);
        let kind = if self.is_service() { 's' } else { 'u' };
        Arc::from(match (certified, &self.user, address) {
            (Some(name), _, _) => format!("c:{name}"),
            (None, Some(user), _) => format!("{kind}:{user}"),
            (None, None, Some(address)) => format!("a:{}", rate_limit_key(address)),
            (None, None, None) => format!("{kind}-"),
        })
    }

    /// A client of the internal listener, where no token is required. It has all permissions.
    #[must_use]
    pub fn trusted(user: &str) -> Self {
        Identity {
            user: Some(Arc::from(user)),
            roles: Arc::new([Arc::from(SERVICE), Arc::from(ADMIN)]),
            ..Identity::default()
        }
    }

    /// The same, with the subject of its certificate.
    #[must_use]
    pub fn certified(user: &str, name: Arc<str>) -> Self {
        Identity {
            extras: Some(Box::new(IdentityExtras {
                certified: Some(name),
                ..IdentityExtras::default()
            })),
            ..Identity::trusted(user)
        }
    }

    /// The name in audit records: the certificate's subject, or else the user.
    #[must_use]
    pub fn audited(&self) -> Option<&Arc<str>> {
        let certified = self.extras.as_ref().and_then(|a| a.certified.as_ref());
        certified.or(self.user.as_ref())
    }

    /// The user name: 1 to 255 bytes without control characters. `None` is anonymous.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    /// The roles, at most 100.
    #[must_use]
    pub fn roles(&self) -> &[Arc<str>] {
        &self.roles
    }

    /// True if it has this role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| &**held == role)
    }

    /// True if it may publish and subscribe everywhere: role `service` or `admin`.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.has_role(SERVICE) || self.is_admin()
    }

    /// True if it may list and disconnect connections: role `admin`.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.has_role(ADMIN)
    }

    /// True if it may see everything that operators and services see: role `viewer`, `service` or
    /// `admin`.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.is_service() || self.has_role(VIEWER)
    }

    /// True if it may look at connections and counters: role `admin` or `viewer`.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.is_admin() || self.has_role(VIEWER)
    }

    /// True if it may only look: role `viewer`, and neither `service` nor `admin`.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.has_role(VIEWER) && !self.is_service()
    }

    /// The names of the claims of its token, sorted. Never their values.
    #[must_use]
    pub fn claim_names(&self) -> Vec<String> {
        let claims: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.claims).unwrap_or_default();
        let mut names: Vec<String> = claims.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// True if there is no user name.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.user.is_none()
    }

    /// The token's `exp`; `None` never expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// When the token ceases to be accepted: `exp` plus the leeway for clock skew.
    #[must_use]
    pub fn valid_until(&self) -> Option<Timestamp> {
        let leeway = self.token.as_ref().map(|token| token.verification.leeway);
        Some(self.expires_at?.later(leeway.unwrap_or_default()))
    }

    /// The fingerprint by which the token can be revoked.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.token.as_ref().map(|token| token.signed)
    }

    /// The token's claims as JSON. `{}` without a token.
    #[must_use]
    pub fn claims(&self) -> &str {
        if self.claims.is_empty() {
            "{}"
        } else {
            &self.claims
        }
    }

    /// True if the token itself grants this channel, by name or by a pattern with a trailing `*`.
    #[must_use]
    pub fn is_granted(&self, channel: &str) -> bool {
        let channels = self.extras.as_deref().map(|extras| &*extras.channels);
        channels
            .unwrap_or_default()
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => channel.starts_with(prefix),
                None => channel == &**pattern,
            })
    }

    /// True if the token itself grants every channel whose name begins with this.
    #[must_use]
    pub fn is_granted_all(&self, prefix: &str) -> bool {
        let channels = self.extras.as_deref().map(|extras| &*extras.channels);
        let covers = |pattern: &str| prefix.starts_with(pattern);
        let mut patterns = channels.unwrap_or_default().iter();
        patterns.any(|pattern| pattern.strip_suffix('*').is_some_and(covers))
    }
}

/// Maps an address to its rate-limit key. For IPv6 this is the /64, which is what one subscriber is
/// assigned (RFC 6177).
#[must_use]
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

/// Shows the user and roles only, never other contents of the token.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Identity {
    /// A user with these roles and claims.
    pub(super) fn supposed(user: &str, roles: &[&str], claims: &str) -> Self {
        Identity {
            user: Some(Arc::from(user)),
            roles: roles.iter().map(|role| Arc::from(*role)).collect(),
            claims: Box::from(claims),
            ..Identity::default()
        }
    }
}

#[cfg(test)]
impl Token {
    /// A token that some key has verified.
    pub(super) fn of(text: &str, leeway: Duration) -> Self {
        Token {
            signed: Fingerprint::of(text),
            exact: Fingerprint::exact(text),
            verification: Arc::new(Verification {
                key: Fingerprint::of("key"),
                algorithm: Algorithm::HS256,
                expected: 0,
                leeway,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_small() {
        // With the two counters of its `Arc` it takes 128 bytes, a size class of every allocator.
        assert_eq!(size_of::<Identity>(), 112);
    }

    #[test]
    fn trusted_identity_has_all_permissions() {
        let identity = Identity::trusted("internal");
        assert!(identity.is_service() && identity.is_admin() && !identity.is_anonymous());
    }

    #[test]
    fn admin_is_service_but_not_vice_versa() {
        let with = |role: &str| Identity {
            roles: Arc::new([Arc::from(role)]),
            ..Identity::default()
        };
        assert!(with(ADMIN).is_service());
        assert!(!with(SERVICE).is_admin());
        assert!(!with("editor").is_service());
    }

    #[test]
    fn viewer_sees_all_and_changes_nothing() {
        let with = |roles: &[&str]| Identity {
            roles: roles.iter().map(|role| Arc::from(*role)).collect(),
            ..Identity::default()
        };
        let viewer = with(&[VIEWER]);
        assert!(viewer.sees_all() && viewer.is_operator() && viewer.is_read_only());
        assert!(!viewer.is_admin() && !viewer.is_service());
        assert!(!with(&[VIEWER, ADMIN]).is_read_only());
        assert!(with(&[SERVICE]).sees_all() && !with(&[SERVICE]).is_operator());
    }

    #[test]
    fn claim_names_are_told_without_their_values() {
        let identity = Identity {
            claims: Box::from(r#"{"sub":"ann","email":"ann@example.com"}"#),
            ..Identity::default()
        };
        assert_eq!(identity.claim_names(), ["email", "sub"]);
        assert!(Identity::anonymous().claim_names().is_empty());
    }

    #[test]
    fn publisher_names_of_different_kinds_differ() {
        let user = |user: &str, roles: &[&str]| Identity {
            user: Some(Arc::from(user)),
            roles: roles.iter().map(|role| Arc::from(*role)).collect(),
            ..Identity::default()
        };
        let publishers = [
            user("billing", &[]),
            user("billing", &[SERVICE]),
            user("shop", &[SERVICE]),
            user("c:billing", &[]),
            Identity::certified("internal", Arc::from("billing")),
            Identity::trusted("internal"),
            Identity::anonymous(),
            Identity::anonymous_from([192, 0, 2, 1].into()),
            Identity::anonymous_from([192, 0, 2, 2].into()),
        ];
        let names: std::collections::BTreeSet<_> =
            publishers.iter().map(Identity::publisher).collect();
        assert_eq!(names.len(), publishers.len(), "{names:?}");
    }

    #[test]
    fn debug_shows_no_claims_and_no_fingerprint() {
        let identity = Identity {
            claims: Box::from(r#"{"email":"ann@example.com"}"#),
            token: Some(Token::of("token", Duration::ZERO)),
            ..Identity::trusted("ann")
        };
        let shown = format!("{identity:?}");
        assert!(shown.contains("ann") && !shown.contains("email"));
        assert!(!shown.contains(&Fingerprint::of("token").to_string()));
    }

    #[test]
    fn grant_is_name_or_prefix() {
        let identity = Identity {
            extras: Some(Box::new(IdentityExtras {
                channels: Box::new([Box::from("news"), Box::from("project:*")]),
                ..IdentityExtras::default()
            })),
            ..Identity::anonymous()
        };
        assert!(identity.is_granted("news") && identity.is_granted("project:42"));
        assert!(!identity.is_granted("news:1") && !identity.is_granted("projects"));
    }
}
