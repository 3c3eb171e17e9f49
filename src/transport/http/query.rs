//! Parses a request's URL: the query, and names within the path.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::Shared;
use super::reply::Refusal;
use crate::error::{Error, Result};

/// The parameters of a query, in order. Empty ones are absent.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl FromRequestParts<Shared> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refusal> {
        Ok(Query::parse(parts.uri.query().unwrap_or_default())?)
    }
}

impl Query {
    /// Parses a query.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the parameter whose percent-encoding is invalid.
    pub(super) fn parse(query: &str) -> Result<Self> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, true)
                .ok_or_else(|| Error::invalid("expected a percent-encoded query in UTF-8"))?;
            match decode(value, true) {
                Some(value) => Ok((name, value)),
                None => Err(Error::field(name, "expected percent-encoded UTF-8")),
            }
        });
        Ok(Query(pairs.collect::<Result<_>>()?))
    }

    /// The names of all parameters, including empty ones.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self
            .0
            .iter()
            .filter(move |(n, v)| n == name && !v.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the parameter if it is not a number.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u32>> {
        let expected = "expected a whole number from 0 to 4294967295";
        let text = self.all(name).next();
        text.map(|text| text.parse().map_err(|_| Error::field(name, expected)))
            .transpose()
    }

    /// A boolean; false if it is absent. A name without a value is true: `?revoke` must not mean
    /// no.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the parameter if it has another value.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool> {
        let given = self.0.iter().find(|(given, _)| given == name);
        match given.map(|(_, value)| value.as_str()) {
            Some("" | "true" | "1") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(_) => Err(Error::field(name, "expected true or false")),
        }
    }
}

/// The name in the path between two fixed parts. It is read from the raw path, so that a `/` within
/// the name may be encoded or not.
///
/// # Errors
///
/// `invalid_argument` if the percent-encoding is invalid.
pub(super) fn name_in_path(uri: &Uri, before: &str, after: &str) -> Result<String> {
    let path = uri.path();
    let name = path
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    name.and_then(|name| decode(name, false))
        .ok_or_else(|| Error::invalid("expected a percent-encoded path in UTF-8"))
}

/// Decodes percent-encoding (RFC 3986 §2.1), and in queries `+` as a space; `None` if it is invalid,
/// which `percent_encoding` would keep as it is, or the bytes are not UTF-8.
pub(super) fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let is_whole = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_whole) {
        return None;
    }
    let text = if plus_is_space {
        Cow::Owned(text.replace('+', " "))
    } else {
        Cow::Borrowed(text)
    };
    let plain = percent_decode_str(&text).decode_utf8().ok()?;
    Some(plain.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_decoded_or_refused() {
        assert_eq!(decode("a%2Fb%c3%a4+c", true).unwrap(), "a/bä c");
        assert_eq!(decode("a+b", false).unwrap(), "a+b");
        for broken in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(decode(broken, true), None, "{broken}");
        }
    }

    #[test]
    fn invalid_values_are_refused_by_name() {
        let query = Query::parse("limit=ten&reverse=maybe&x=1&empty=&a=1&a=2").unwrap();
        assert_eq!(
            query.number("limit").unwrap_err().field_name(),
            Some("limit")
        );
        assert_eq!(
            query.flag("reverse").unwrap_err().field_name(),
            Some("reverse")
        );
        assert_eq!(query.number("empty").unwrap(), None);
        for bare in ["revoke", "revoke="] {
            assert!(
                Query::parse(bare).unwrap().flag("revoke").unwrap(),
                "{bare}"
            );
        }
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        let broken = Query::parse("user=%zz").unwrap_err();
        assert_eq!(broken.field_name(), Some("user"));
    }

    #[test]
    fn name_in_path_may_contain_slashes() {
        let uri = Uri::from_static("/api/v1/channels/a/b%2fc/history");
        let name = name_in_path(&uri, "/api/v1/channels/", "/history").unwrap();
        assert_eq!(name, "a/b/c");
        assert!(name_in_path(&Uri::from_static("/x/%zz"), "/x/", "").is_err());
    }
}
