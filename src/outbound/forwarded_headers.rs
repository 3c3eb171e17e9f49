//! The headers of a client's request that the application gets with questions about that client.

use std::fmt;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use crate::error::{Error, Result};

/// Names in lower case with their values. `Debug` hides the values: they hold cookies.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ForwardedHeaders(Box<[(Box<str>, Box<str>)]>);

impl ForwardedHeaders {
    /// Picks the listed headers. Several values of a header are joined as RFC 9110 §5.3 and RFC 6265
    /// §5.4 have it. Values that are not text are left out.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if names and values take more than `most` bytes.
    pub fn pick(headers: &HeaderMap, listed: &[HeaderName], most: usize) -> Result<Self> {
        let mut picked = Vec::new();
        let mut bytes = 0_usize;
        for name in listed {
            let values = headers.get_all(name).iter();
            let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
            if values.is_empty() {
                continue;
            }
            let separator = if name == COOKIE { "; " } else { ", " };
            let value = values.join(separator);
            bytes = bytes
                .saturating_add(name.as_str().len())
                .saturating_add(value.len());
            if bytes > most {
                let text = format!(
                    "the headers for the application take more than {most} bytes (hooks.header_bytes)"
                );
                return Err(Error::exhausted(text));
            }
            picked.push((Box::from(name.as_str()), Box::from(value)));
        }
        Ok(ForwardedHeaders(picked.into()))
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for ForwardedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_listed_headers_are_forwarded() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("session=s3cret"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        headers.append("authorization", HeaderValue::from_static("Bearer x"));
        let listed = [COOKIE, HeaderName::from_static("x-tenant")];
        let picked = ForwardedHeaders::pick(&headers, &listed, 100).unwrap();
        let all: Vec<_> = picked.iter().collect();
        assert_eq!(all, [("cookie", "session=s3cret; b=2")]);
        assert_eq!(format!("{picked:?}"), r#"["cookie"]"#);
        let error = ForwardedHeaders::pick(&headers, &listed, 8).unwrap_err();
        assert!(error.message().contains("hooks.header_bytes"), "{error}");
    }
}
