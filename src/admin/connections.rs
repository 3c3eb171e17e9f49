//! Pages of connections.

use super::page_size_of;
use super::viewer::Viewer;
use crate::cluster::{Answer, ConnectionsQuery, DEADLINE, Place, Query, To};
use crate::error::{Error, Result};
use crate::event::NodeId;
use crate::hub::{ConnectionFilter, ConnectionInfo, ConnectionOrder, RankQuery, Ranked};
use crate::session::MAX_ANSWER_BYTES;

/// Which connections, in which order, and which page of them.
#[derive(Debug, Clone, Default)]
pub struct ConnectionsRequest {
    /// Which connections.
    pub filter: ConnectionFilter,
    /// What they are ordered by, and whether the largest come first; `None`: by their places.
    pub order: Option<(ConnectionOrder, bool)>,
    /// The most connections; 0 is the default.
    pub page_size: u32,
    /// The token that came with the page before; empty for the first.
    pub page_token: String,
    /// The name or number of the only node that is asked; empty for all.
    pub node: String,
}

/// A page of connections.
#[derive(Debug, Default)]
pub struct ConnectionsAnswer {
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
    /// The names of nodes whose connections are missing because they did not answer in time.
    pub unreachable: Vec<String>,
}

/// Reads an order such as `bytes` or `bytes desc`; `None` for an empty one.
///
/// # Errors
/// `invalid_argument` for the fields `order_by` and `desc`.
pub fn parse_order<T: Copy>(
    text: &str,
    descending: bool,
    known: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<Option<(T, bool)>> {
    let (name, direction) = text.split_once(' ').unwrap_or((text, ""));
    let descending = match direction {
        "" => descending,
        "desc" => true,
        "asc" if !descending => false,
        _ => {
            return Err(Error::field(
                "order_by",
                "expected a name, with or without desc",
            ));
        }
    };
    if name.is_empty() {
        if descending {
            return Err(Error::field("desc", "expected an order_by with it"));
        }
        return Ok(None);
    }
    let known: Vec<(&'static str, T)> = known.into_iter().collect();
    let found = known.iter().find(|(known, _)| *known == name);
    if let Some((_, order)) = found {
        return Ok(Some((*order, descending)));
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let expected = format!("expected one of {}", names.join(", "));
    Err(Error::field("order_by", expected))
}

impl Viewer {
    /// A page of connections. A page ends early where more would not fit an answer. Without an order, nodes follow one another
    /// by number. With one, a connection whose value changes between two pages may be on both or on
    /// neither.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `page_size` and `page_token`.
    pub async fn connections(&self, request: &ConnectionsRequest) -> Result<ConnectionsAnswer> {
        let size = page_size_of(request.page_size)?;
        let asked = self.node_named(&request.node)?;
        if let Some((order, descending)) = request.order {
            return self.ranked(request, asked, order, descending, size).await;
        }
        let (start, mut from) = parse_token(&request.page_token)?;
        let (mut found, mut room) = (Vec::<ConnectionInfo>::new(), MAX_ANSWER_BYTES);
        let mut unreachable = Vec::new();
        let answer = |connections, next_page_token, unreachable: &[NodeId]| {
            Ok(ConnectionsAnswer {
                connections,
                next_page_token,
                unreachable: self.names_of(unreachable),
            })
        };
        for node in self.services.cluster.nodes() {
            if node < start || asked != To::All && asked != To::Node(node) {
                continue;
            }
            if node > start {
                from = Place::default();
            }
            if found.len() == size {
                return answer(found, page_token_of(node, from), &unreachable);
            }
            let query = Query::Connections(ConnectionsQuery {
                filter: request.filter.clone(),
                from,
                limit: size - found.len(),
                bytes: room,
            });
            let survey = self
                .services
                .cluster
                .survey(To::Node(node), query, DEADLINE);
            let survey = survey.await?;
            unreachable.extend(survey.unreachable);
            let Some((_, Answer::Connections(page))) = survey.answers.into_iter().next() else {
                continue;
            };
            found.extend(page.connections);
            room = room.saturating_sub(page.bytes);
            if let Some(next) = page.next {
                return answer(found, page_token_of(node, next), &unreachable);
            }
        }
        answer(found, String::new(), &unreachable)
    }

    async fn ranked(
        &self,
        request: &ConnectionsRequest,
        asked: To,
        order: ConnectionOrder,
        descending: bool,
        size: usize,
    ) -> Result<ConnectionsAnswer> {
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(parse_ranked(token)?),
        };
        let query = RankQuery {
            filter: request.filter.clone(),
            order,
            descending,
            after,
            limit: size + 1,
        };
        let survey = self
            .services
            .cluster
            .survey(asked, Query::Ranked(query), DEADLINE);
        let mut found: Vec<(Ranked, ConnectionInfo)> = Vec::new();
        let survey = survey.await?;
        for (_, answer) in survey.answers {
            if let Answer::Ranked(connections) = answer {
                found.extend(connections);
            }
        }
        found.sort_by_key(|(ranked, _)| *ranked);
        if descending {
            found.reverse();
        }
        let all = found.len();
        let mut room = MAX_ANSWER_BYTES;
        let fits = found.iter().take(size).take_while(|(_, connection)| {
            let fits = connection.size() <= room;
            room = room.saturating_sub(connection.size());
            fits
        });
        let count = fits.count().max(1).min(all);
        found.truncate(count);
        let last = found.last().filter(|_| count < all);
        let token = last.map(|(Ranked { value, id }, _)| format!("{value}.{id}"));
        let connections = found
            .into_iter()
            .map(|(_, connection)| connection)
            .collect();
        Ok(ConnectionsAnswer {
            connections,
            next_page_token: token.unwrap_or_default(),
            unreachable: self.names_of(&survey.unreachable),
        })
    }
}

/// The last connection of the page before.
fn parse_ranked(token: &str) -> Result<Ranked> {
    let parse = || {
        let (value, id) = token.split_once('.')?;
        Some(Ranked {
            value: value.parse().ok()?,
            id: id.parse().ok()?,
        })
    };
    parse().ok_or_else(wrong_token)
}

fn wrong_token() -> Error {
    Error::field(
        "page_token",
        "expected the next_page_token of the page before",
    )
}

/// The token of a page of connections: node, shard and slot at which it starts.
fn page_token_of(node: NodeId, Place { shard, slot }: Place) -> String {
    format!("{node}.{shard}.{slot}")
}

fn parse_token(token: &str) -> Result<(NodeId, Place)> {
    if token.is_empty() {
        return Ok((NodeId::default(), Place::default()));
    }
    let parse = || {
        let mut parts = token.split('.');
        let node = parts.next()?.parse().ok()?;
        let shard = parts.next()?.parse().ok()?;
        let slot = parts.next()?.parse().ok()?;
        let is_whole = parts.next().is_none();
        is_whole.then_some((node, Place { shard, slot }))
    };
    parse().ok_or_else(wrong_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_token_says_node_shard_and_slot() {
        let (node, place) = (NodeId::new(7), Place { shard: 3, slot: 90 });
        let token = page_token_of(node, place);
        assert_eq!(token, "7.3.90");
        assert_eq!(parse_token(&token).unwrap(), (node, place));
        assert_eq!(parse_token("").unwrap(), (NodeId::ALONE, Place::default()));
    }

    #[test]
    fn order_is_a_known_name_with_or_without_its_direction() {
        let known = ConnectionOrder::ALL.map(|order| (order.as_str(), order));
        let parse = |text, desc| parse_order(text, desc, known);
        assert_eq!(parse("", false).unwrap(), None);
        for (text, desc, expected) in [
            ("bytes", false, false),
            ("bytes", true, true),
            ("bytes desc", false, true),
            ("bytes asc", false, false),
        ] {
            assert_eq!(
                parse(text, desc).unwrap(),
                Some((ConnectionOrder::Bytes, expected))
            );
        }
        for (text, desc, field) in [
            ("size", false, "order_by"),
            ("bytes up", false, "order_by"),
            ("", true, "desc"),
        ] {
            assert_eq!(
                parse(text, desc).unwrap_err().field_name(),
                Some(field),
                "{text}"
            );
        }
    }

    #[test]
    fn token_of_an_ordered_page_is_its_last_connection() {
        let id = crate::event::ConnectionId::new(1, 2, 3);
        let ranked = Ranked { value: 7, id };
        assert_eq!(parse_ranked(&format!("7.{id}")).unwrap(), ranked);
        for token in ["7", "x.00", "7.", &format!("-1.{id}")] {
            let error = parse_ranked(token).unwrap_err();
            assert_eq!(error.field_name(), Some("page_token"), "{token}");
        }
    }

    #[test]
    fn page_token_of_an_earlier_version_is_refused_by_the_field_s_name() {
        for token in [
            "3.90",
            "3",
            "1.2.3.4",
            "x.0.0",
            "-1.0.0",
            "70000.0.0",
            "0..0",
        ] {
            let error = parse_token(token).unwrap_err();
            assert_eq!(error.field_name(), Some("page_token"), "{token}");
        }
    }
}
