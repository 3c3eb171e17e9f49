//! The query of an Engine.IO request.

use std::fmt;

use super::failure::Failure;

/// The transport that the client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Long polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The parsed query. Its `Debug` shows neither the session nor the token.
#[derive(PartialEq, Eq)]
pub(super) struct Query<'q> {
    pub(super) transport: Transport,
    /// The session; `None` opens one.
    pub(super) sid: Option<&'q str>,
    /// A token for all namespaces.
    pub(super) token: Option<&'q str>,
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// Whether a query is one of Engine.IO.
pub(super) fn is_engine(query: Option<&str>) -> bool {
    member(query.unwrap_or_default(), "EIO").is_some()
}

impl<'q> Query<'q> {
    /// Parses it.
    pub(super) fn read(query: Option<&'q str>) -> Result<Self, Failure> {
        let query = query.unwrap_or_default();
        let transport = match member(query, "transport") {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Failure::Transport),
        };
        if member(query, "EIO") != Some("4") {
            return Err(Failure::Version);
        }
        Ok(Query {
            transport,
            sid: member(query, "sid"),
            token: member(query, "token"),
        })
    }
}

/// The first parameter of this name, not decoded: no expected value needs percent-encoding.
fn member<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_has_version_transport_and_optional_session() {
        let read = Query::read(Some("token=a.b&EIO=4&transport=polling&t=x&sid=abc")).unwrap();
        let expected = Query {
            transport: Transport::Polling,
            sid: Some("abc"),
            token: Some("a.b"),
        };
        assert_eq!(read, expected);
        let direct = Query::read(Some("EIO=4&transport=websocket")).unwrap();
        assert_eq!((direct.transport, direct.sid), (Transport::WebSocket, None));
    }

    #[test]
    fn debug_shows_no_secrets() {
        let read = Query::read(Some("EIO=4&transport=polling&sid=abc&token=a.b")).unwrap();
        let shown = format!("{read:?}");
        assert!(!shown.contains("abc") && !shown.contains("a.b"), "{shown}");
    }

    #[test]
    fn wrong_query_has_the_protocols_error() {
        for (query, failure) in [
            (None, Failure::Transport),
            (Some("EIO=4"), Failure::Transport),
            (Some("EIO=4&transport=webtransport"), Failure::Transport),
            (Some("transport=polling"), Failure::Version),
            (Some("EIO=3&transport=polling"), Failure::Version),
            (Some("EIO=abc&transport=websocket"), Failure::Version),
        ] {
            assert_eq!(Query::read(query), Err(failure), "{query:?}");
        }
    }
}
