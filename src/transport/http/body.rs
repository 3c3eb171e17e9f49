//! Reads request bodies within limits, and splits JSON objects into members.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use super::reply::Refusal;
use crate::clock::timeout;
use crate::error::{Error, Result};
use crate::event::strict_json::{self, Text};
use crate::session::{BodySender, Reservation, Session};

/// How long a client may take to send a body.
const SENDING: Duration = Duration::from_secs(30);
/// How long a body that was refused because of its announced length is still read.
const LINGER: Duration = Duration::from_secs(5);
/// A body that is too long is read and discarded, up to this many times its limit: a client that is
/// disconnected while it sends would not receive the response.
const PATIENCE: usize = 4;
/// The initial buffer for a body of unknown length, in bytes.
const FIRST: usize = 16 * 1024;

/// A completely read body. Its bytes count as reserved until it is dropped.
pub(super) struct Whole {
    bytes: Bytes,
    _held: Reservation,
}

impl Deref for Whole {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Reads a body of at most `limit` bytes, whose caller is authenticated.
///
/// # Errors
///
/// 413 if it is longer, 429 if a limit is reached (`limits.body_bytes` and its variants), 408 if it
/// arrives too slowly, 400 if it is incomplete.
pub(super) async fn read(body: Body, limit: usize, session: &Session) -> Result<Whole, Refusal> {
    let services = session.services();
    let sender = BodySender::of(session.identity());
    let held = services.bodies.reserve(sender, None);
    let whole = collect(body, limit, held, services.hub.tasks());
    let Ok(whole) = timeout(SENDING, whole).await else {
        let error = Error::invalid("the body did not arrive within 30 seconds");
        return Err(Refusal::with_status(error, StatusCode::REQUEST_TIMEOUT));
    };
    whole
}

async fn collect(
    mut body: Body,
    limit: usize,
    mut held: Reservation,
    tasks: &TaskTracker,
) -> Result<Whole, Refusal> {
    let announced = HttpBody::size_hint(&body).lower();
    let Some(announced) = usize::try_from(announced).ok().filter(|a| *a <= limit) else {
        tasks.spawn(throw_away(body, limit));
        return Err(longer_than(limit));
    };
    // If the length is unknown, reserve a little at first.
    let first = announced.max(FIRST.min(limit));
    if let Err(full) = held.grow_to(first) {
        tasks.spawn(throw_away(body, limit));
        return Err(full.into());
    }
    let mut whole = Vec::with_capacity(first);
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::invalid("the body is incomplete"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if seen > limit {
            whole = Vec::new();
            if seen > limit.saturating_mul(PATIENCE) {
                break;
            }
            continue;
        }
        if seen > whole.capacity() {
            let more = whole.capacity().saturating_mul(2).clamp(seen, limit);
            // While the buffer moves, both copies exist.
            if let Err(full) = held.grow_to(more.saturating_add(whole.capacity())) {
                tasks.spawn(throw_away(body, limit));
                return Err(full.into());
            }
            whole.reserve_exact(more - whole.len());
            held.shrink_to(whole.capacity());
        }
        whole.extend_from_slice(&data);
    }
    if seen > limit {
        return Err(longer_than(limit));
    }
    Ok(Whole {
        bytes: whole.into(),
        _held: held,
    })
}

/// Continues reading while the response is sent.
async fn throw_away(mut body: Body, limit: usize) {
    let mut left = limit.saturating_mul(PATIENCE);
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    if timeout(LINGER, all).await.is_err() {
        tracing::debug!("a client continued to send a refused body");
    }
}

fn longer_than(limit: usize) -> Refusal {
    let text = format!("expected a body of at most {limit} bytes");
    too_large(Error::invalid(text))
}

/// The error with status 413.
pub(super) fn too_large(error: Error) -> Refusal {
    Refusal::with_status(error, StatusCode::PAYLOAD_TOO_LARGE)
}

/// The members of a JSON object; their values are parsed on demand.
pub(super) struct Members<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Members<'a> {
    /// Splits an object into its members.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it is not an object, or a member is duplicate.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self> {
        let json = strict_json::without_bom(json);
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(Error::invalid("expected a JSON object"));
        }
        strict_json::members(json).map(Members)
    }

    /// A member as raw text, also `null`.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    /// A member; `null` counts as absent.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the member if it has the wrong type.
    pub(super) fn take<T: Deserialize<'a>>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>> {
        match self.raw(name).filter(|value| value.get() != "null") {
            None => Ok(None),
            Some(raw) => serde_json::from_str(raw.get())
                .map(Some)
                .map_err(|_| Error::field(name, expected)),
        }
    }

    /// Pairs of strings; none if it is absent.
    ///
    /// # Errors
    ///
    /// As [`Members::take`].
    pub(super) fn pairs(&self, name: &'static str) -> Result<HashMap<String, String>> {
        match self.raw(name).filter(|value| value.get() != "null") {
            None => Ok(HashMap::new()),
            Some(raw) => strict_json::pairs(raw)
                .ok_or_else(|| Error::field(name, "expected an object of strings, each name once")),
        }
    }

    /// A string; empty if it is absent.
    ///
    /// # Errors
    ///
    /// As [`Members::take`].
    pub(super) fn text(&self, name: &'static str) -> Result<Cow<'a, str>> {
        let text: Option<Text<'a>> = self.take(name, "expected a string")?;
        Ok(text.map(|text| text.0).unwrap_or_default())
    }

    /// A required string.
    ///
    /// # Errors
    ///
    /// As [`Members::take`], and if it is missing or empty.
    pub(super) fn required_text(&self, name: &'static str) -> Result<Cow<'a, str>> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Err(Error::field(name, "expected a string, and it is missing"));
        }
        Ok(text)
    }

    /// Refuses members with other names: a misspelt one would be ignored silently.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the member.
    pub(super) fn only(&self, known: &'static [&'static str]) -> Result<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_ref())) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                let expected = format!("expected one of {}", known.join(", "));
                Err(Error::field(name, expected))
            }
        }
    }

    /// All names with their values, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Bodies, BodyLimits, BodySender};
    use crate::telemetry::Metrics;

    #[test]
    fn invalid_members_are_named() {
        let members = Members::parse(br#"{"type":5,"n":null,"chanel":"a"}"#).unwrap();
        assert_eq!(members.text("type").unwrap_err().field_name(), Some("type"));
        assert_eq!(members.take::<u32>("n", "a number").unwrap(), None);
        assert_eq!(members.raw("n").map(RawValue::get), Some("null"));
        let unknown = members.only(&["type", "n", "channel"]).unwrap_err();
        assert_eq!(unknown.field_name(), Some("chanel"));
        let marked = Members::parse(b"\xef\xbb\xbf{\"a\":1}").unwrap();
        assert_eq!(marked.raw("a").map(RawValue::get), Some("1"));
        let twice = Members::parse(br#"{"a":1,"\u0061":2}"#).err().unwrap();
        assert_eq!(twice.field_name(), Some("a"));
        for broken in ["", "[]", "{", "5", "{\"a\":}"] {
            assert!(Members::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    async fn read(body: impl Into<Body>, limit: usize) -> Result<Bytes, StatusCode> {
        let bodies = Bodies::new(BodyLimits::default(), &Metrics::new("test"));
        let held = bodies.reserve(BodySender::user("ann"), None);
        let whole = collect(body.into(), limit, held, &TaskTracker::new()).await;
        let read = whole.map(|whole| whole.bytes.clone());
        assert_eq!(bodies.held(), 0, "given back");
        read.map_err(|refusal| axum::response::IntoResponse::into_response(refusal).status())
    }

    #[tokio::test]
    async fn body_over_limit_is_refused_with_413() {
        assert_eq!(read("12345", 5).await.unwrap(), "12345");
        assert_eq!(read("123456", 5).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test]
    async fn body_of_unknown_length_grows() {
        let piece = Bytes::from(vec![7; 10_000]);
        let pieces = |count: usize| {
            let pieces: Vec<_> = (0..count)
                .map(|_| Ok::<_, std::io::Error>(piece.clone()))
                .collect();
            Body::from_stream(tokio_stream::iter(pieces))
        };
        let whole = read(pieces(9), 90_000).await.unwrap();
        assert!(whole.len() == 90_000 && whole.iter().all(|byte| *byte == 7));
        let longer = read(pieces(10), 90_000).await;
        assert_eq!(longer, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }
}
