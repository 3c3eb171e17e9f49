//! The parameters that a query may have: an unknown one is refused by name, because it would be
//! ignored silently.

use std::collections::BTreeSet;

use http::Method;

use super::query::Query;
use crate::error::{Error, Result};

/// Names under which clients put tokens into URLs (RFC 6750 §2.3). `/sse` accepts them; other
/// routes use the header `Authorization`, and ignore them.
const TOKENS: [&str; 2] = ["token", "access_token"];
/// Parameters that `/sse` accepts more than once.
const LISTS: [&str; 2] = ["channel", "event_types"];
/// For lists of connections.
const CONNECTIONS: &[&str] = &[
    "user",
    "role",
    "channel",
    "transport",
    "client_type",
    "address",
    "order_by",
    "desc",
    "page_size",
    "page_token",
];

/// The parameters of a route, as a request extension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters(&'static [&'static str]);

impl Parameters {
    /// The parameters of a route and a method.
    pub(super) fn of(route: &str, method: &Method) -> Self {
        let deletes = method == Method::DELETE;
        Parameters(match route {
            "/sse" => &[
                "channel",
                "event_types",
                "filter",
                "rewind",
                "presence",
                "durable",
                "min_interval",
                "last_event_id",
                "sample",
            ],
            "/stream" => &[
                "channel",
                "event_types",
                "filter",
                "rewind",
                "presence",
                "durable",
                "min_interval",
                "since",
            ],
            "/api/v1/stats" => &["interval_ms"],
            "/api/v1/stats/history" => &["after"],
            "/api/v1/refusals" => &["limit", "after"],
            "/api/v1/webhooks/resend" => &["url"],
            "/api/v1/connections" if deletes => &["user", "reason", "revoke"],
            "/api/v1/connections/{id}" if deletes => &["reason", "revoke"],
            "/api/v1/connections" | "/api/v1/websocket/connections" | "/websocket/clients" => {
                CONNECTIONS
            }
            "/api/v1/channels/{*channel}" if deletes => &["until_offset", "user"],
            "/api/v1/channels" => &["prefix", "order_by", "desc", "page_size", "page_token"],
            "/api/v1/channels/{*channel}" => &["limit", "since", "reverse"],
            "/api/v1/catalog" => &["page_size", "page_token"],
            _ => &[],
        })
    }

    /// Checks that the query has no other parameters, and each once, except for lists.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the first unknown or repeated one.
    pub(super) fn check(self, path: &str, query: &Query) -> Result<()> {
        let known = |name: &str| self.0.contains(&name) || TOKENS.contains(&name);
        // The last part of the path decides what is requested of a channel.
        let none = self.0.contains(&"reverse") && path.ends_with("/presence");
        let mut names = query.names();
        let unknown = names.find(|name| !known(name) || (none && !TOKENS.contains(name)));
        let Some(name) = unknown else {
            return self.once_each(query);
        };
        let name: String = name.chars().take(64).collect();
        let expected = if self.0.is_empty() || none {
            "there is no such parameter: none is taken here".to_owned()
        } else {
            format!("there is no such parameter: expected {}", self.0.join(", "))
        };
        Err(Error::field(name, expected))
    }

    /// A repeated parameter is refused, because only one of the values would be used.
    fn once_each(self, query: &Query) -> Result<()> {
        let is_stream = self.0.contains(&"durable");
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
        let refused = Parameters::of(route, method).check(path, &query).err()?;
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

    #[test]
    fn openapi_lists_the_same_parameters() {
        let document = super::super::openapi::document();
        for (route, _) in super::super::api() {
            let path = route.replace("{*channel}", "{channel}/history");
            let described = &document["paths"][&path];
            for (verb, method) in [
                ("get", Method::GET),
                ("post", Method::POST),
                ("delete", Method::DELETE),
            ] {
                let Some(operation) = described.get(verb) else {
                    continue;
                };
                let parameters = operation["parameters"].as_array();
                let named: BTreeSet<&str> = parameters
                    .into_iter()
                    .flatten()
                    .filter(|parameter| parameter["in"] == "query")
                    .filter_map(|parameter| parameter["name"].as_str())
                    .collect();
                let taken: BTreeSet<&str> =
                    Parameters::of(route, &method).0.iter().copied().collect();
                assert_eq!(named, taken, "{verb} {route}");
            }
        }
    }
}
