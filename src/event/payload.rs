//! The payload of an event. Its bytes are passed on unchanged.

use std::sync::Arc;

use bytes::Bytes;

use super::strict_json;
use crate::error::{Error, Result};

/// The media type of a payload that declares none.
pub const JSON: &str = "application/json";

/// An event's data with its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    data: Bytes,
    content_type: Option<Arc<str>>,
}

impl Payload {
    /// Takes data and its media type. An empty media type means JSON, which must pass
    /// [`strict_json::check`]. A byte order mark is refused, because the data is embedded unchanged
    /// into other JSON texts, where a mark is invalid. The data is copied: it usually is a slice of
    /// a request's buffer, and a small payload that is kept for long must not pin that buffer.
    ///
    /// # Errors
    /// `invalid_argument` for the field `data` or `content_type`.
    pub fn new(data: Bytes, content_type: &str) -> Result<Self> {
        let mut payload = Self::checked(data, content_type)?;
        payload.data = Bytes::copy_from_slice(&payload.data);
        Ok(payload)
    }

    /// Like [`Payload::new`], for data that owns its whole buffer.
    fn checked(data: Bytes, content_type: &str) -> Result<Self> {
        if content_type.len() > 255 || !is_media_type(content_type) {
            return Err(Error::field(
                "content_type",
                "expected a media type of at most 255 bytes, such as text/plain",
            ));
        }
        if !is_json(content_type) {
            return Ok(Payload {
                data,
                content_type: Some(Arc::from(content_type)),
            });
        }
        strict_json::check(&data).map_err(|flaw| Error::field("data", flaw.to_string()))?;
        let kept = !content_type.is_empty() && content_type != JSON;
        Ok(Payload {
            data,
            content_type: kept.then(|| Arc::from(content_type)),
        })
    }

    /// Takes the raw JSON value of a message's member.
    ///
    /// # Errors
    /// `invalid_argument` for the field `data` if [`strict_json::check`] refuses it.
    pub fn from_json(json: &serde_json::value::RawValue) -> Result<Self> {
        Payload::checked(Bytes::copy_from_slice(json.get().as_bytes()), "")
    }

    /// Rebuilds a payload from a store's record.
    #[must_use]
    pub fn restored(data: Bytes, content_type: Option<Arc<str>>) -> Self {
        Payload { data, content_type }
    }

    /// The bytes as published.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(JSON)
    }

    /// The media type, if it was given and is not plain JSON.
    #[must_use]
    pub fn explicit_content_type(&self) -> Option<&Arc<str>> {
        self.content_type.as_ref()
    }

    /// True if the data is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(is_json)
    }
}

/// Checks for a type, a subtype and optional parameters (RFC 9110 §8.3.1) in printable ASCII, or an
/// empty string.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or("").trim_end_matches(' ');
    let names = essence.split_once('/');
    text.bytes().all(|b| (0x20..0x7f).contains(&b))
        && (essence.is_empty() || names.is_some_and(|(kind, sub)| is_token(kind) && is_token(sub)))
}

/// A token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(good)
}

/// True for `application/json`, for any `…+json` (RFC 6839), and for an empty media type.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.is_empty()
        || essence.eq_ignore_ascii_case(JSON)
        || essence
            .len()
            .checked_sub(5)
            .filter(|at| *at > 0)
            .and_then(|at| essence.get(at..))
            .is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_requires_type_and_subtype() {
        let payload = |kind: &str| Payload::new(Bytes::from_static(b"1"), kind);
        for good in [
            "",
            ";charset=utf-8",
            "text/plain",
            "Text/Plain ; charset=x",
            "a/b+JSON",
        ] {
            assert!(payload(good).is_ok(), "{good}");
        }
        let long = format!("text/{}", "a".repeat(251));
        for bad in [
            "?Yf", "text", "text/", "/plain", "a/b/c", "te xt/a", "a/ä", "a/b\n", "+json", &long,
        ] {
            let error = payload(bad).unwrap_err();
            assert_eq!(error.field_name(), Some("content_type"), "{bad}");
        }
    }

    #[test]
    fn unreadable_json_data_is_refused() {
        for data in [r#"{"a":5,"t":"\ud83d"}"#, "1e400", "\u{feff}{}", "{"] {
            let error = Payload::new(Bytes::from_static(data.as_bytes()), "a/b+json").unwrap_err();
            assert_eq!(error.field_name(), Some("data"), "{data}");
        }
        let not_json = Payload::new(Bytes::from_static(b"\xef\xbb\xbf1e400"), "text/plain");
        assert!(not_json.is_ok());
    }
}
