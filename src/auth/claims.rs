//! Strict parsing of a token's claims.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::identity::IdentityExtras;
use super::{AuthFailure, Identity, VerifierSettings};
use crate::event::Timestamp;
use crate::event::strict_json::{self, Text};

/// The most roles, and the most channel patterns, in one token.
pub const MAX_NAMES: usize = 100;
/// The longest user, role or channel pattern, in bytes.
const MAX_NAME_LEN: usize = 255;

/// A token's payload. A repeated name is refused (RFC 7519 §4), because a proxy in front might have
/// checked the other value. Numbers keep their digits: a user may be a number, and double precision
/// would merge users beyond 2^53.
pub(super) struct Claims<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

/// The required claims, and where to find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expectations {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    user: String,
    roles: String,
    channels: String,
    max_lifetime: Duration,
}

impl Expectations {
    pub(super) fn new(settings: &VerifierSettings) -> Self {
        Expectations {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway: settings.leeway,
            user: settings.user_claim.clone(),
            roles: settings.roles_claim.clone(),
            channels: settings.channels_claim.clone(),
            max_lifetime: settings.max_lifetime,
        }
    }

    /// When the last token issued until now expires. `None` means never.
    pub(super) fn all_expired(&self, now: Timestamp) -> Option<Timestamp> {
        // A token from the future, by a clock that is ahead, counts as issued now.
        let leeway = self.leeway.saturating_mul(2);
        (!self.max_lifetime.is_zero()).then(|| now.later(self.max_lifetime).later(leeway))
    }

    /// The leeway after a token's expiry.
    pub(super) fn leeway(&self) -> Duration {
        self.leeway
    }

    /// Makes an identity from a payload whose signature was verified. Its token fingerprint is set
    /// later.
    pub(super) fn identity(&self, payload: &[u8], now: Timestamp) -> Result<Identity, AuthFailure> {
        let text = std::str::from_utf8(payload).map_err(|_| AuthFailure::Malformed)?;
        let claims = Claims::parse(text)?;
        let expires_at = claims.time("exp")?.ok_or(AuthFailure::Claims)?;
        if now >= expires_at.later(self.leeway) {
            return Err(AuthFailure::Expired);
        }
        if claims
            .time("nbf")?
            .is_some_and(|start| start > now.later(self.leeway))
        {
            return Err(AuthFailure::NotYetValid);
        }
        let issued_at = claims.time("iat")?;
        if !self.max_lifetime.is_zero() {
            let issued_at = issued_at.ok_or(AuthFailure::Claims)?;
            let ahead = issued_at > now.later(self.leeway);
            if ahead || expires_at > issued_at.later(self.max_lifetime) {
                return Err(AuthFailure::Claims);
            }
        }
        if self.issuer.is_some() && claims.text("iss").as_deref() != self.issuer.as_deref() {
            return Err(AuthFailure::Issuer);
        }
        if self
            .audience
            .as_deref()
            .is_some_and(|audience| !claims.is_for(audience))
        {
            return Err(AuthFailure::Audience);
        }
        let roles = claims
            .names(&self.roles)?
            .into_iter()
            .map(Arc::from)
            .collect();
        Ok(Identity {
            user: Some(claims.user(&self.user)?),
            roles,
            claims: Box::from(text),
            issued_at,
            expires_at: Some(expires_at),
            token: None,
            extras: self.grants(&claims)?,
        })
    }

    /// What the token itself grants.
    fn grants(&self, claims: &Claims<'_>) -> Result<Option<Box<IdentityExtras>>, AuthFailure> {
        let channels: Box<[Box<str>]> = claims
            .names(&self.channels)?
            .into_iter()
            .map(Box::from)
            .collect();
        Ok((!channels.is_empty()).then(|| {
            Box::new(IdentityExtras {
                channels,
                ..IdentityExtras::default()
            })
        }))
    }

    /// The identity that a token with these claims would have, and these roles besides. Nothing is
    /// verified: it is for questions about rules, never for a client.
    pub(super) fn supposed(&self, claims: &str, roles: &[String]) -> Result<Identity, AuthFailure> {
        let read = Claims::parse(claims)?;
        let of_token = read.names(&self.roles)?;
        let own = of_token.iter().map(|role| Arc::from(&**role));
        let more = roles.iter().map(|role| Arc::from(role.as_str()));
        let user = read.find(&self.user).map(|_| read.user(&self.user));
        Ok(Identity {
            user: user.transpose()?,
            roles: own.chain(more).collect(),
            claims: Box::from(claims),
            extras: self.grants(&read)?,
            ..Identity::default()
        })
    }

    /// The claims of a token that says no more than this.
    pub(super) fn claims_of(&self, user: &str, roles: &[String]) -> String {
        let mut claims = serde_json::Map::new();
        if !user.is_empty() {
            claims.insert(self.user.clone(), Value::from(user));
        }
        claims.insert(self.roles.clone(), Value::from(roles));
        Value::Object(claims).to_string()
    }
}

impl<'a> Claims<'a> {
    /// Checks that the payload is acceptable to every reader of claims.
    pub(super) fn parse(payload: &'a str) -> Result<Self, AuthFailure> {
        strict_json::check_names_once(payload.as_bytes()).map_err(|_| AuthFailure::Claims)?;
        strict_json::members(payload.as_bytes())
            .map(Claims)
            .map_err(|_| AuthFailure::Claims)
    }

    /// A claim, by name or by a dotted path through objects. `null` counts as absent.
    fn find(&self, path: &str) -> Option<&'a RawValue> {
        let found = self.0.get(path).copied().or_else(|| {
            let (first, rest) = path.split_once('.')?;
            strict_json::find(self.0.get(first)?.get().as_bytes(), rest.split('.'))
        });
        found.filter(|raw| raw.get() != "null")
    }

    fn read<T: Deserialize<'a>>(&self, path: &str) -> Result<Option<T>, AuthFailure> {
        let found = self.find(path).map(|raw| serde_json::from_str(raw.get()));
        found.transpose().map_err(|_| AuthFailure::Claims)
    }

    fn text(&self, path: &str) -> Option<Cow<'a, str>> {
        let text: Option<Text<'a>> = self.read(path).ok()?;
        text.map(|text| text.0)
    }

    /// A `NumericDate` (RFC 7519 §2): seconds since 1970, with an optional fraction.
    fn time(&self, name: &str) -> Result<Option<Timestamp>, AuthFailure> {
        let seconds: Option<f64> = match self.0.get(name) {
            None => None,
            Some(raw) => serde_json::from_str(raw.get()).map_err(|_| AuthFailure::Claims)?,
        };
        let Some(seconds) = seconds else {
            return Ok(None);
        };
        // Clamped to the range of a timestamp, so the cast is safe.
        let micros = (seconds.clamp(-1e12, 1e12) * 1e6).round();
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            reason = "within the range of i64, see above"
        )]
        Ok(Some(Timestamp::from_micros(micros as i64)))
    }

    /// `aud` is a string or a list of strings (RFC 7519 §4.1.3).
    fn is_for(&self, audience: &str) -> bool {
        let Some(raw) = self.0.get("aud") else {
            return false;
        };
        match strict_json::value(raw.get().as_bytes()) {
            Ok(Value::String(one)) => one == audience,
            Ok(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// A string, or the digits of an integer. Other numbers have several spellings, and are
    /// refused.
    fn user(&self, path: &str) -> Result<Arc<str>, AuthFailure> {
        let user = self.find(path).and_then(strict_json::identifier);
        match user {
            Some(user) if is_name(&user) => Ok(Arc::from(&*user)),
            _ => Err(AuthFailure::Claims),
        }
    }

    /// A list of strings, or one string separated by spaces (like `scope`, RFC 8693 §4.2).
    fn names(&self, path: &str) -> Result<Vec<Cow<'a, str>>, AuthFailure> {
        let Some(raw) = self.find(path) else {
            return Ok(Vec::new());
        };
        let names: Vec<Cow<'a, str>> = if raw.get().starts_with('"') {
            let names = self.text(path).ok_or(AuthFailure::Claims)?;
            let names = names.split(' ').filter(|name| !name.is_empty());
            names
                .take(MAX_NAMES + 1)
                .map(|name| Cow::Owned(name.to_owned()))
                .collect()
        } else {
            let names: Vec<Text<'a>> =
                serde_json::from_str(raw.get()).map_err(|_| AuthFailure::Claims)?;
            names.into_iter().map(|name| name.0).collect()
        };
        if names.len() > MAX_NAMES || !names.iter().all(|name| is_name(name)) {
            return Err(AuthFailure::Claims);
        }
        Ok(names)
    }
}

/// True for a valid user name: 1 to 255 bytes without control characters.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::strict_json::properties::odd_json;

    fn user(json: &str) -> Option<String> {
        let payload = format!(r#"{{"sub":{json},"a":{{"b":{json}}}}}"#);
        let claims = Claims::parse(&payload).ok()?;
        let user = claims.user("sub").ok()?;
        assert_eq!(claims.user("a.b").as_deref(), Ok(&*user), "at any depth");
        Some(user.to_string())
    }

    #[test]
    fn user_is_string_or_exact_integer() {
        for (json, expected) in [
            (r#""ann""#, Some("ann")),
            ("7", Some("7")),
            ("10000000000000000000001", Some("10000000000000000000001")),
            ("10000000000000000000002", Some("10000000000000000000002")),
            ("7.0", None),
            ("1e22", None),
            ("-0", None),
            (r#""a\u0000""#, None),
            (r#""\ud83d""#, None),
            ("null", None),
            ("[7]", None),
        ] {
            assert_eq!(user(json).as_deref(), expected, "{json}");
        }
        assert_eq!(user(&"1".repeat(255)).map(|user| user.len()), Some(255));
        assert_eq!(user(&"1".repeat(256)), None);
    }

    #[test]
    fn ambiguous_claims_are_refused() {
        for payload in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"a":{"roles":[],"roles":["admin"]}}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"exp":1e400}"#,
            "\u{feff}{}",
            "[]",
            "{} {}",
        ] {
            assert!(Claims::parse(payload).is_err(), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn distinct_user_numbers_are_distinct_users(a in "[1-9][0-9]{0,30}", b in "[1-9][0-9]{0,30}") {
            prop_assert_eq!(user(&a) == user(&b), a == b);
        }

        #[test]
        fn accepted_claims_are_readable_by_rules(value in odd_json()) {
            let payload = format!(r#"{{"a":{value}}}"#);
            if Claims::parse(&payload).is_ok() {
                prop_assert!(strict_json::with_exact_numbers(&payload).is_some());
            }
        }
    }
}
