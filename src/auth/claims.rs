//! What a token says: its payload, read strictly.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::identity::Apart;
use super::{AuthFailure, Identity, VerifierSettings};
use crate::event::Timestamp;

/// The most roles, and the most channel patterns, in one token.
const MAX_NAMES: usize = 100;
/// The longest user, role or channel pattern, in bytes.
const MAX_NAME_LEN: usize = 255;

/// A token's payload: an object in which no name stands twice (RFC 7519 §4), because a proxy in
/// front might have looked at the other one.
pub(super) struct Claims(Map<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim stands twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What the claims must say, and where to look.
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

    /// When the last token that was issued until now will have expired; `None` is never.
    pub(super) fn all_expired(&self, now: Timestamp) -> Option<Timestamp> {
        // A token from the future by a clock that is ahead counts as issued now.
        let leeway = self.leeway.saturating_mul(2);
        (!self.max_lifetime.is_zero()).then(|| now.later(self.max_lifetime).later(leeway))
    }

    /// How long after its expiry a token is honoured.
    pub(super) fn leeway(&self) -> Duration {
        self.leeway
    }

    /// Makes an identity of a payload whose signature is good; its token is yet to be noted.
    pub(super) fn identity(&self, payload: &[u8], now: Timestamp) -> Result<Identity, AuthFailure> {
        let text = std::str::from_utf8(payload).map_err(|_| AuthFailure::Malformed)?;
        let claims: Claims = serde_json::from_str(text).map_err(|_| AuthFailure::Claims)?;
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
        if self.issuer.is_some() && claims.text("iss") != self.issuer.as_deref() {
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
        let channels: Box<[Box<str>]> = claims
            .names(&self.channels)?
            .into_iter()
            .map(Box::from)
            .collect();
        let apart = (!channels.is_empty()).then(|| {
            Box::new(Apart {
                channels,
                ..Apart::default()
            })
        });
        Ok(Identity {
            user: Some(claims.user(&self.user)?),
            roles,
            claims: Box::from(text),
            issued_at,
            expires_at: Some(expires_at),
            token: None,
            apart,
        })
    }
}

impl Claims {
    /// A claim by its name, or by a dotted path through objects.
    fn find(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value);
        }
        let mut steps = path.split('.');
        let first = self.0.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.find(path).and_then(Value::as_str)
    }

    /// A `NumericDate` (RFC 7519 §2): seconds since 1970, whole or not.
    fn time(&self, name: &str) -> Result<Option<Timestamp>, AuthFailure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let seconds = value
                    .as_f64()
                    .filter(|s| s.is_finite())
                    .ok_or(AuthFailure::Claims)?;
                // Held within what a timestamp can say, so the cast can't lose anything that matters.
                let micros = (seconds.clamp(-1e12, 1e12) * 1e6).round();
                #[expect(
                    clippy::as_conversions,
                    clippy::cast_possible_truncation,
                    reason = "within the range of i64, see above"
                )]
                Ok(Some(Timestamp::from_micros(micros as i64)))
            }
        }
    }

    /// `aud` is a text or a list of texts (RFC 7519 §4.1.3).
    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    fn user(&self, path: &str) -> Result<Arc<str>, AuthFailure> {
        let user = match self.find(path) {
            Some(Value::String(user)) if is_name(user) => Arc::from(user.as_str()),
            Some(Value::Number(user)) => Arc::from(user.to_string()),
            _ => return Err(AuthFailure::Claims),
        };
        Ok(user)
    }

    /// A list of texts, or one text with spaces between (as `scope` has it, RFC 8693 §4.2).
    fn names(&self, path: &str) -> Result<Vec<&str>, AuthFailure> {
        let names: Vec<&str> = match self.find(path) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(names)) => names
                .split(' ')
                .filter(|n| !n.is_empty())
                .take(MAX_NAMES + 1)
                .collect(),
            Some(Value::Array(names)) => names
                .iter()
                .take(MAX_NAMES + 1)
                .map(|name| name.as_str().ok_or(AuthFailure::Claims))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(AuthFailure::Claims),
        };
        if names.len() > MAX_NAMES || !names.iter().all(|name| is_name(name)) {
            return Err(AuthFailure::Claims);
        }
        Ok(names)
    }
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len()) && !name.chars().any(char::is_control)
}
