//! What an event carries: bytes that are passed on exactly as they came.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};

/// The media type of a payload that names none.
pub const JSON: &str = "application/json";

/// The deepest nesting of arrays and objects that a JSON payload may have.
pub const MAX_JSON_DEPTH: usize = 64;

/// An event's data with its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    data: Bytes,
    content_type: Option<Arc<str>>,
}

impl Payload {
    /// Takes data of a media type; empty means JSON. JSON must be valid, UTF-8 and at most
    /// [`MAX_JSON_DEPTH`] deep. The data is copied, as it mostly is a part of a request's buffer: a
    /// few bytes that are kept for long must not keep all of that in memory.
    ///
    /// # Errors
    /// `invalid_argument` for the field `data` or `content_type`.
    pub fn new(data: Bytes, content_type: &str) -> Result<Self> {
        let mut payload = Self::checked(data, content_type)?;
        payload.data = Bytes::copy_from_slice(&payload.data);
        Ok(payload)
    }

    /// As [`Payload::new`], of data whose buffer holds nothing else.
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
        check_json(&data)?;
        let kept = !content_type.is_empty() && content_type != JSON;
        Ok(Payload {
            data,
            content_type: kept.then(|| Arc::from(content_type)),
        })
    }

    /// Takes JSON that a parser has just accepted.
    ///
    /// # Errors
    /// `invalid_argument` for the field `data` where it is nested too deep.
    pub fn from_json(json: &serde_json::value::RawValue) -> Result<Self> {
        Payload::checked(Bytes::copy_from_slice(json.get().as_bytes()), "")
    }

    /// Rebuilds a payload that a store kept.
    #[must_use]
    pub fn restored(data: Bytes, content_type: Option<Arc<str>>) -> Self {
        Payload { data, content_type }
    }

    /// The bytes, as published.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(JSON)
    }

    /// The media type where it was given and is not plain JSON.
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

/// A type and a subtype, and what may follow them (RFC 9110 §8.3.1), in printable ASCII; or none.
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

/// True for `application/json`, any `…+json` (RFC 6839), and for none at all.
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

fn check_json(data: &[u8]) -> Result<()> {
    if json_depth(data) > MAX_JSON_DEPTH {
        return Err(Error::field("data", "expected JSON at most 64 levels deep"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(data) {
        Ok(_) => {
            // serde_json skips over strings without looking at their encoding.
            std::str::from_utf8(data)
                .map(|_| ())
                .map_err(|_| Error::field("data", "expected JSON in UTF-8"))
        }
        Err(error) => Err(Error::field(
            "data",
            format!(
                "expected valid JSON: line {} column {}",
                error.line(),
                error.column()
            ),
        )),
    }
}

/// The deepest nesting, found without recursion so that no input can exhaust the stack.
fn json_depth(data: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in data {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_a_type_and_a_subtype() {
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
}
