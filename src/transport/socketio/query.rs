//! The query of an Engine.IO request.

use std::fmt;

use super::failure::Failure;

/// How the client wants to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// By long polling.
    Polling,
    /// By a WebSocket.
    WebSocket,
}

/// What stands in it. Its `Debug` shows neither the session nor the token.
#[derive(PartialEq, Eq)]
pub(super) struct Query<'q> {
    pub(super) way: Transport,
    /// The session; `None` opens one.
    pub(super) sid: Option<&'q str>,
    /// A token for all namespaces.
    pub(super) token: Option<&'q str>,
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

/// True if a query is one of Engine.IO, whatever it asks for.
pub(super) fn is_engine(query: Option<&str>) -> bool {
    member(query.unwrap_or_default(), "EIO").is_some()
}

impl<'q> Query<'q> {
    /// Reads it.
    pub(super) fn read(query: Option<&'q str>) -> Result<Self, Failure> {
        let query = query.unwrap_or_default();
        let way = match member(query, "transport") {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(Failure::Transport),
        };
        if member(query, "EIO") != Some("4") {
            return Err(Failure::Version);
        }
        Ok(Query {
            way,
            sid: member(query, "sid"),
            token: member(query, "token"),
        })
    }
}

/// The first member of this name, as it stands: nothing that is looked for needs percent-encoding.
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
    fn a_query_names_the_version_the_transport_and_perhaps_a_session() {
        let read = Query::read(Some("token=a.b&EIO=4&transport=polling&t=x&sid=abc")).unwrap();
        let expected = Query {
            way: Transport::Polling,
            sid: Some("abc"),
            token: Some("a.b"),
        };
        assert_eq!(read, expected);
        let direct = Query::read(Some("EIO=4&transport=websocket")).unwrap();
        assert_eq!((direct.way, direct.sid), (Transport::WebSocket, None));
    }

    #[test]
    fn what_is_secret_in_it_is_not_shown() {
        let read = Query::read(Some("EIO=4&transport=polling&sid=abc&token=a.b")).unwrap();
        let shown = format!("{read:?}");
        assert!(!shown.contains("abc") && !shown.contains("a.b"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_named_as_the_protocol_names_it() {
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
