//! The application's answer, and why there is none.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use super::HookType;
use crate::auth::is_name;
use crate::error::{Code, Error};
use crate::event::{ChannelPattern, Payload, Timestamp, strict_json};
use crate::outbound::RequestFailed;
use crate::telemetry::HookOutcome;

/// The longest reason of a refusal, in bytes.
const MAX_MESSAGE: usize = 1024;
/// The most roles and channels.
const MAX_NAMES: usize = 100;
/// The longest time for which an answer is kept.
const MAX_CACHE: Duration = Duration::from_hours(24);

/// A valid answer. `Debug` shows no content.
#[derive(Clone)]
pub struct Answer {
    refusal: Option<Error>,
    received_at: Timestamp,
    /// The user that it states.
    pub user: Option<Box<str>>,
    /// The roles; `None` if it states none.
    pub roles: Option<Vec<String>>,
    /// The claims, a JSON object; `None` if it states none.
    pub claims: Option<Box<str>>,
    /// Channels and patterns to follow.
    pub channels: Vec<String>,
    /// When the identity expires.
    pub expires_at: Option<Timestamp>,
    /// A CEL expression.
    pub filter: Option<Box<str>>,
    /// The payload in place of the client's, or the result of a call.
    pub data: Option<Payload>,
    cache: Duration,
    bytes: usize,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("refusal", &self.refusal)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The refusal; `None` if it is allowed.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    /// When the application gave it.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    pub(super) fn outcome(&self) -> HookOutcome {
        match self.refusal {
            None => HookOutcome::Allowed,
            Some(_) => HookOutcome::Refused,
        }
    }

    pub(super) fn cache_time(&self) -> Duration {
        self.cache
    }

    /// Its size on the wire, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or it broke.
    Unreachable,
    /// No whole answer within the time.
    Timeout,
    /// The answer is longer than allowed.
    TooLarge,
    /// A status other than 200; for gRPC the code.
    Status(u16),
    /// It could not be read, for this reason. It contains nothing of the answer.
    Malformed(&'static str),
    /// Too many questions wait, or no request was free in time.
    Busy,
    /// The breaker is open for this time.
    BreakerOpen(Duration),
}

impl Failure {
    pub(super) const fn label(&self) -> HookOutcome {
        match self {
            Failure::Unreachable => HookOutcome::Unreachable,
            Failure::Timeout => HookOutcome::Timeout,
            Failure::TooLarge => HookOutcome::TooLarge,
            Failure::Status(_) => HookOutcome::Status,
            Failure::Malformed(_) => HookOutcome::Malformed,
            Failure::Busy => HookOutcome::Busy,
            Failure::BreakerOpen(_) => HookOutcome::BreakerOpen,
        }
    }

    /// Whether it means that the application is down. A failure on one question does not: a client
    /// might provoke it to keep others out.
    pub(super) const fn means_down(&self) -> bool {
        match self {
            Failure::Unreachable | Failure::Timeout => true,
            Failure::Status(status) => matches!(status, 502..=504),
            Failure::TooLarge | Failure::Malformed(_) | Failure::Busy | Failure::BreakerOpen(_) => {
                false
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Malformed(why) => write!(f, "malformed answer: {why}"),
            Failure::Unreachable
            | Failure::Timeout
            | Failure::TooLarge
            | Failure::Busy
            | Failure::BreakerOpen(_) => f.write_str(self.label().as_str()),
        }
    }
}

impl From<RequestFailed> for Failure {
    fn from(failed: RequestFailed) -> Self {
        match failed {
            RequestFailed::Unreachable => Failure::Unreachable,
            RequestFailed::Timeout => Failure::Timeout,
            RequestFailed::TooLarge => Failure::TooLarge,
        }
    }
}

/// An answer before it is checked.
#[derive(Default)]
pub(super) struct Stated {
    pub(super) allow: bool,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) user: Option<String>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) claims: Option<String>,
    pub(super) channels: Vec<String>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) filter: String,
    pub(super) data: Option<Bytes>,
    pub(super) content_type: String,
    pub(super) cache_seconds: u64,
    pub(super) bytes: usize,
}

/// An answer in JSON. Other members are ignored.
#[derive(Deserialize)]
struct Json {
    allow: bool,
    code: Option<String>,
    message: Option<String>,
    user: Option<Box<RawValue>>,
    roles: Option<Vec<String>>,
    claims: Option<Box<RawValue>>,
    channels: Option<Vec<String>>,
    expires_at: Option<Moment>,
    filter: Option<String>,
    data: Option<Box<RawValue>>,
    cache_seconds: Option<u64>,
}

/// RFC 3339, or seconds since 1970.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Text(String),
    Seconds(Number),
}

impl Stated {
    /// Reads an answer in JSON.
    pub(super) fn from_json(body: &[u8]) -> Result<Self, Failure> {
        let malformed = Failure::Malformed;
        strict_json::check_names_once(body).map_err(|_| malformed("expected one JSON object"))?;
        let json: Json = serde_json::from_slice(body)
            .map_err(|_| malformed("expected an object with \"allow\": true or false"))?;
        let user = json.user.map(|user| {
            strict_json::identifier(&user)
                .map(std::borrow::Cow::into_owned)
                .ok_or(malformed("user: expected a text or an integer"))
        });
        let expires_at = json.expires_at.map(|moment| {
            moment
                .read()
                .ok_or(malformed("expires_at: expected RFC 3339 or seconds"))
        });
        Ok(Stated {
            allow: json.allow,
            code: json.code.unwrap_or_default(),
            message: json.message.unwrap_or_default(),
            user: user.transpose()?,
            roles: json.roles,
            claims: json.claims.map(|claims| claims.get().to_owned()),
            channels: json.channels.unwrap_or_default(),
            expires_at: expires_at.transpose()?,
            filter: json.filter.unwrap_or_default(),
            data: json
                .data
                .map(|data| Bytes::copy_from_slice(data.get().as_bytes())),
            content_type: String::new(),
            cache_seconds: json.cache_seconds.unwrap_or_default(),
            bytes: body.len(),
        })
    }

    /// Checks the members that belong to a question of this type.
    pub(super) fn check(self, kind: HookType) -> Result<Answer, Failure> {
        let refusal = if self.allow {
            None
        } else {
            Some(refusal(&self.code, self.message)?)
        };
        let mut answer = Answer {
            refusal,
            received_at: Timestamp::now(),
            user: None,
            roles: None,
            claims: None,
            channels: Vec::new(),
            expires_at: None,
            filter: None,
            data: None,
            cache: Duration::from_secs(self.cache_seconds).min(MAX_CACHE),
            bytes: self.bytes,
        };
        match kind {
            HookType::Connect | HookType::Refresh => {
                answer.user = name(self.user)?;
                answer.roles = self.roles.map(names).transpose()?;
                answer.claims = claims(self.claims)?;
                answer.channels = patterns(self.channels)?;
                answer.expires_at = self.expires_at;
            }
            HookType::Subscribe => {
                let filter = self.filter.trim();
                answer.filter = (!filter.is_empty()).then(|| filter.into());
            }
            HookType::Publish | HookType::Rpc => {
                let payload = self
                    .data
                    .map(|data| Payload::new(data, &self.content_type))
                    .transpose()
                    .map_err(|_| Failure::Malformed("data: expected JSON or a content_type"))?;
                if kind == HookType::Rpc && payload.as_ref().is_some_and(|data| !data.is_json()) {
                    return Err(Failure::Malformed("data: the result of a call is JSON"));
                }
                answer.data = payload;
            }
            HookType::Disconnected => {}
        }
        Ok(answer)
    }
}

impl Moment {
    fn read(&self) -> Option<Timestamp> {
        match self {
            Moment::Text(text) => Timestamp::parse(text),
            Moment::Seconds(seconds) => {
                let micros = match seconds.as_i64() {
                    Some(seconds) => seconds.checked_mul(1_000_000)?,
                    None => whole(seconds.as_f64()? * 1e6)?,
                };
                Some(Timestamp::from_micros(micros))
            }
        }
    }
}

/// A float as an integer, if it is within the range of timestamps.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the range is checked"
)]
fn whole(micros: f64) -> Option<i64> {
    (micros.abs() < 1e18).then_some(micros as i64)
}

fn refusal(code: &str, message: String) -> Result<Error, Failure> {
    let code = match code {
        "" => Code::PermissionDenied,
        code => Code::ALL
            .into_iter()
            .find(|known| known.as_str() == code)
            .ok_or(Failure::Malformed("code: expected one of the error codes"))?,
    };
    if message.len() > MAX_MESSAGE {
        return Err(Failure::Malformed("message: expected at most 1024 bytes"));
    }
    let message = if message.is_empty() {
        "the application refused this".into()
    } else {
        message
    };
    Ok(Error::new(code, message))
}

fn name(user: Option<String>) -> Result<Option<Box<str>>, Failure> {
    let user = user.filter(|user| !user.is_empty());
    match user {
        Some(user) if !is_name(&user) => Err(Failure::Malformed(
            "user: expected at most 255 bytes without control characters",
        )),
        user => Ok(user.map(String::into_boxed_str)),
    }
}

fn names(roles: Vec<String>) -> Result<Vec<String>, Failure> {
    if roles.len() > MAX_NAMES || !roles.iter().all(|role| is_name(role)) {
        return Err(Failure::Malformed("roles: expected at most 100 names"));
    }
    Ok(roles)
}

fn claims(claims: Option<String>) -> Result<Option<Box<str>>, Failure> {
    let claims = claims.filter(|claims| !claims.is_empty());
    let is_object = |claims: &String| {
        strict_json::check_names_once(claims.as_bytes()).is_ok()
            && claims.trim_start().starts_with('{')
    };
    match claims {
        Some(claims) if !is_object(&claims) => {
            Err(Failure::Malformed("claims: expected a JSON object"))
        }
        claims => Ok(claims.map(String::into_boxed_str)),
    }
}

fn patterns(channels: Vec<String>) -> Result<Vec<String>, Failure> {
    let good = |channel: &String| ChannelPattern::parse(channel).is_ok();
    if channels.len() > MAX_NAMES || !channels.iter().all(good) {
        return Err(Failure::Malformed(
            "channels: expected at most 100 channels or patterns",
        ));
    }
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: HookType, json: &str) -> Result<Answer, Failure> {
        Stated::from_json(json.as_bytes())?.check(kind)
    }

    #[test]
    fn connect_states_an_identity() {
        let answer = read(
            HookType::Connect,
            r#"{"allow":true,"user":7,"roles":["editor"],"claims":{"n":1.0},"channels":["news","room:*"],
                "expires_at":1700000000,"cache_seconds":60,"later":"ignored"}"#,
        )
        .unwrap();
        assert_eq!(answer.user.as_deref(), Some("7"));
        assert_eq!(answer.claims.as_deref(), Some(r#"{"n":1.0}"#));
        assert_eq!(answer.channels, ["news", "room:*"]);
        assert_eq!(
            answer.expires_at.unwrap().to_rfc3339(),
            "2023-11-14T22:13:20.000Z"
        );
        assert_eq!(answer.cache_time(), Duration::from_mins(1));
        let text = r#"{"allow":true,"expires_at":"2023-11-14T22:13:20Z"}"#;
        let same = read(HookType::Connect, text).unwrap();
        assert_eq!(same.expires_at, answer.expires_at);
    }

    #[test]
    fn refusal_has_a_code_of_the_catalogue() {
        let refusal = |json| {
            let answer = read(HookType::Subscribe, json).unwrap();
            answer.refusal().cloned().unwrap()
        };
        assert_eq!(refusal(r#"{"allow":false}"#).code(), Code::PermissionDenied);
        let own = refusal(r#"{"allow":false,"code":"not_found","message":"no such room"}"#);
        assert_eq!(
            (own.code(), own.message().as_str()),
            (Code::NotFound, "no such room")
        );
    }

    #[test]
    fn malformed_answers_are_failures() {
        for (kind, json) in [
            (HookType::Connect, ""),
            (HookType::Connect, "[]"),
            (HookType::Connect, "{}"),
            (HookType::Connect, r#"{"allow":"yes"}"#),
            (HookType::Connect, r#"{"allow":false,"allow":true}"#),
            (HookType::Connect, r#"{"allow":false,"code":"nope"}"#),
            (HookType::Connect, r#"{"allow":true,"user":{}}"#),
            (HookType::Connect, r#"{"allow":true,"user":"a\u0000"}"#),
            (HookType::Connect, r#"{"allow":true,"claims":[]}"#),
            (HookType::Connect, r#"{"allow":true,"channels":["a b"]}"#),
            (HookType::Connect, r#"{"allow":true,"expires_at":"soon"}"#),
            (HookType::Connect, r#"{"allow":true,"cache_seconds":-1}"#),
        ] {
            let failure = read(kind, json).unwrap_err();
            assert!(matches!(failure, Failure::Malformed(_)), "{json}");
            assert!(!failure.means_down());
        }
    }
}
