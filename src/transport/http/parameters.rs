//! The parameters that a query may have: an unknown one is refused by name, because it would be
//! ignored silently.

use std::collections::BTreeSet;

use http::Method;

use super::openapi;
use super::query::Query;
use crate::error::{Error, Result};

/// Names under which clients put tokens into URLs (RFC 6750 §2.3). `/sse` accepts them; other
/// routes use the header `Authorization`, and ignore them.
const TOKENS: [&str; 2] = ["token", "access_token"];
/// Parameters that `/sse` accepts more than once.
const LISTS: [&str; 2] = ["channel", "event_types"];

/// The query parameters of a route, as a request extension: those that the OpenAPI document names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters(&'static [String]);

impl Parameters {
    /// The parameters of a route, a method and a path.
    pub(super) fn of(route: &str, method: &Method, path: &str) -> Self {
        let described = match route {
            // One route serves both paths, because a channel's name may contain slashes.
            "/api/v1/channels/{*channel}" if path.ends_with("/presence") => {
                "/api/v1/channels/{channel}/presence"
            }
            "/api/v1/channels/{*channel}" => "/api/v1/channels/{channel}/history",
            route => route,
        };
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        Parameters(openapi::query_of(described, method))
    }

    /// Checks that the query has no other parameters, and each once, except for lists.
    ///
    /// # Errors
    /// `invalid_argument` naming the first unknown or repeated one.
    pub(super) fn check(self, query: &Query) -> Result<()> {
        let known = |name: &str| self.takes(name) || TOKENS.contains(&name);
        let Some(name) = query.names().find(|name| !known(name)) else {
            return self.once_each(query);
        };
        let name: String = name.chars().take(64).collect();
        let expected = if self.0.is_empty() {
            "there is no such parameter: none is accepted here".to_owned()
        } else {
            format!("there is no such parameter: expected {}", self.0.join(", "))
        };
        Err(Error::field(name, expected))
    }

    fn takes(self, name: &str) -> bool {
        self.0.iter().any(|taken| taken == name)
    }

    /// A repeated parameter is refused, because only one of the values would be used.
    fn once_each(self, query: &Query) -> Result<()> {
        let is_stream = self.takes("durable");
        let is_list = |name: &str| is_stream && LISTS.contains(&name);
        let names: Vec<&str> = query.names().filter(|name| !is_list(name)).collect();
        let mut seen = BTreeSet::new();
        match names.into_iter().find(|name| !seen.insert(*name)) {
            Some(name) => Err(Error::field(name.to_owned(), "expected once")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(route: &str, method: &Method, uri: &str) -> Option<String> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = Query::parse(query).unwrap();
        let refused = Parameters::of(route, method, path).check(&query).err()?;
        refused.field_name().map(str::to_owned)
    }

    #[test]
    fn unknown_parameter_is_refused_by_name() {
        let connections = "/api/v1/connections";
        for good in ["", "?", "?user=a&page_size=5", "?token=x&access_token=y"] {
            let uri = format!("{connections}{good}");
            assert_eq!(check(connections, &Method::GET, &uri), None, "{good}");
        }
        for (method, query, name) in [
            (Method::GET, "pagesize=5", "pagesize"),
            (Method::GET, "reason=x", "reason"),
            (Method::GET, "User=a", "User"),
            (Method::DELETE, "user=a&role=b", "role"),
            (Method::GET, "a%20b=1", "a b"),
            (Method::GET, "flag", "flag"),
            (Method::DELETE, "user=ann&user=bob", "user"),
            (Method::GET, "user=ann&user=", "user"),
        ] {
            let uri = format!("{connections}?{query}");
            assert_eq!(check(connections, &method, &uri).as_deref(), Some(name));
        }
        let many = "/sse?channel=a&channel=b&event_types=c&event_types=d";
        assert_eq!(check("/sse", &Method::GET, many), None);
        let rewinds = "/sse?channel=a&rewind=1&rewind=2";
        assert_eq!(
            check("/sse", &Method::GET, rewinds).as_deref(),
            Some("rewind")
        );
        let channels = "/api/v1/channels/{*channel}";
        let history = "/api/v1/channels/a:1/history?limit=5";
        assert_eq!(check(channels, &Method::GET, history), None);
        let presence = "/api/v1/channels/a:1/presence?limit=5";
        assert_eq!(
            check(channels, &Method::GET, presence).as_deref(),
            Some("limit")
        );
    }
}
