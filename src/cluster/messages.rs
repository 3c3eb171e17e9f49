//! The messages of `proto/tidings/cluster/v1`, and the values that they carry.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    reason = "generated"
)]
pub(super) mod pb {
    include!(concat!(env!("OUT_DIR"), "/cluster/tidings.cluster.v1.rs"));
}

use std::sync::Arc;

use super::stats_message;
use super::{Answer, ConnectionsPage, ConnectionsQuery, Control, Place, Query};
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, ChannelPattern, Epoch, Position, Timestamp, TypePattern};
use crate::filter::{Condition, EventFilter};
use crate::hub::{
    Client, ConnectionFilter, ConnectionInfo, ConnectionOrder, Grant, GrantTo, Present, RankQuery,
    Ranked, RequestFacts, SubscriptionInfo,
};

fn unreadable() -> Error {
    Error::internal("a message of another node is unreadable")
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn large(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn size(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// A command for other nodes. `None` for presence, which has a message of its own.
pub(super) fn command(control: &Control) -> Option<pb::Command> {
    use pb::command::Command;
    let command = match control {
        Control::Disconnect {
            connection,
            reason,
            by,
        } => Command::Disconnect(pb::Disconnect {
            connection_id: connection.to_string(),
            reason: reason.clone(),
            by: by.to_string(),
        }),
        Control::DisconnectUser { user, reason, by } => {
            Command::DisconnectUser(pb::DisconnectUser {
                user: user.to_string(),
                reason: reason.to_string(),
                by: by.to_string(),
            })
        }
        Control::Grant(it) => Command::Grant(grant(it)),
        Control::Revoked => Command::Revoked(pb::Revoked {}),
        Control::Presence { .. } => return None,
    };
    Some(pb::Command {
        command: Some(command),
    })
}

/// The source of the filter in a command, which the node compiles before it executes the command.
pub(super) fn filter_source(command: &pb::Command) -> Option<&str> {
    match &command.command {
        Some(pb::command::Command::Grant(it)) if !it.filter.is_empty() => Some(&it.filter),
        _ => None,
    }
}

/// The command in a message, with the compiled filter of its [`filter_source`].
pub(super) fn control(command: pb::Command, condition: Option<Arc<Condition>>) -> Result<Control> {
    use pb::command::Command;
    Ok(match command.command.ok_or_else(unreadable)? {
        Command::Disconnect(it) => Control::Disconnect {
            connection: it.connection_id.parse().map_err(|_| unreadable())?,
            reason: it.reason,
            by: it.by.into(),
        },
        Command::DisconnectUser(it) => Control::DisconnectUser {
            user: it.user.into(),
            reason: it.reason.into(),
            by: it.by.into(),
        },
        Command::Grant(it) => Control::Grant(Arc::new(granted(it, condition)?)),
        Command::Revoked(_) => Control::Revoked,
    })
}

fn grant(grant: &Grant) -> pb::Grant {
    let filter = grant.filter.as_ref().map(|filter| filter.key());
    let types = filter.map_or(&[][..], |key| key.types());
    pb::Grant {
        to: Some(match &grant.to {
            GrantTo::User(user) => pb::grant::To::User(user.to_string()),
            GrantTo::Connection(id) => pb::grant::To::ConnectionId(id.to_string()),
        }),
        channels: grant.patterns.iter().map(ToString::to_string).collect(),
        event_types: types.iter().map(|kind| kind.as_str().to_owned()).collect(),
        filter: filter
            .and_then(|key| key.source())
            .map_or_else(String::new, ToString::to_string),
        begins: grant.begins,
    }
}

fn granted(grant: pb::Grant, condition: Option<Arc<Condition>>) -> Result<Grant> {
    let patterns = grant
        .channels
        .iter()
        .map(|name| ChannelPattern::parse(name));
    let types = grant
        .event_types
        .iter()
        .map(|name| TypePattern::parse(name));
    let types = types.collect::<Result<Vec<TypePattern>>>()?;
    Ok(Grant {
        to: match grant.to.ok_or_else(unreadable)? {
            pb::grant::To::User(user) => GrantTo::User(user.into()),
            pb::grant::To::ConnectionId(id) => {
                GrantTo::Connection(id.parse().map_err(|_| unreadable())?)
            }
        },
        patterns: patterns.collect::<Result<_>>()?,
        filter: EventFilter::with(types, condition)?,
        begins: grant.begins,
    })
}

/// A query for other nodes. `None` if only the node itself can answer it.
pub(super) fn query(query: &Query) -> Option<pb::Query> {
    use pb::query::Query as Body;
    let body = match query {
        Query::Connections(it) => Body::Connections(pb::ConnectionsQuery {
            shard: small(it.from.shard),
            slot: it.from.slot,
            limit: small(it.limit),
            bytes: large(it.bytes),
            ..filter(&it.filter)
        }),
        Query::Ranked(it) => Body::Ranked(pb::RankQuery {
            filter: Some(filter(&it.filter)),
            order: it.order.as_str().to_owned(),
            descending: it.descending,
            after_id: it.after.map(|after| after.id.to_string()),
            after_value: it.after.map_or(0, |after| after.value),
            limit: small(it.limit),
        }),
        Query::Connection(id) => Body::ConnectionId(id.to_string()),
        Query::Channels {
            prefix,
            after,
            limit,
        } => Body::Channels(pb::ChannelsQuery {
            prefix: prefix.clone(),
            after: after.clone(),
            limit: small(*limit),
        }),
        Query::Presence { channel, limit } => Body::Presence(pb::PresenceQuery {
            channel: channel.to_string(),
            limit: small(*limit),
        }),
        Query::Stats => Body::Stats(pb::StatsQuery {}),
        Query::Identity(_) => return None,
    };
    Some(pb::Query { query: Some(body) })
}

fn filter(filter: &ConnectionFilter) -> pb::ConnectionsQuery {
    let text = |text: &Option<Box<str>>| text.as_ref().map(ToString::to_string);
    pb::ConnectionsQuery {
        user: filter.user.as_ref().map(ToString::to_string),
        role: filter.role.as_ref().map(ToString::to_string),
        channel: filter.channel.as_ref().map(ToString::to_string),
        transport: text(&filter.transport),
        client_type: text(&filter.client_type),
        address: filter.address.as_ref().map(ToString::to_string),
        ..pb::ConnectionsQuery::default()
    }
}

fn filter_of(query: pb::ConnectionsQuery) -> Result<ConnectionFilter> {
    Ok(ConnectionFilter {
        user: query.user.map(Into::into),
        role: query.role.map(Into::into),
        channel: query.channel.map(ChannelName::new).transpose()?,
        transport: query.transport.map(Into::into),
        client_type: query.client_type.map(Into::into),
        address: query.address.map(|text| text.parse()).transpose()?,
    })
}

/// The query in a message.
pub(super) fn asked(query: pb::Query) -> Result<Query> {
    use pb::query::Query as Body;
    Ok(match query.query.ok_or_else(unreadable)? {
        Body::Connections(it) => Query::Connections(ConnectionsQuery {
            from: Place {
                shard: size(it.shard),
                slot: it.slot,
            },
            limit: size(it.limit),
            bytes: size(it.bytes),
            filter: filter_of(it)?,
        }),
        Body::Ranked(it) => {
            let mut orders = ConnectionOrder::ALL.into_iter();
            let after = it.after_id.map(|id| id.parse()).transpose();
            Query::Ranked(RankQuery {
                order: orders
                    .find(|order| order.as_str() == it.order)
                    .ok_or_else(unreadable)?,
                descending: it.descending,
                after: after.map_err(|_| unreadable())?.map(|id| Ranked {
                    value: it.after_value,
                    id,
                }),
                limit: size(it.limit),
                filter: filter_of(it.filter.unwrap_or_default())?,
            })
        }
        Body::Stats(_) => Query::Stats,
        Body::ConnectionId(id) => Query::Connection(id.parse().map_err(|_| unreadable())?),
        Body::Channels(it) => Query::Channels {
            prefix: it.prefix,
            after: it.after,
            limit: size(it.limit),
        },
        Body::Presence(it) => Query::Presence {
            channel: ChannelName::new(it.channel)?,
            limit: size(it.limit),
        },
    })
}

/// The reply to a command or a query.
pub(super) fn reply(answer: Result<Answer>) -> pb::Reply {
    use pb::reply::Reply;
    let reply = match answer {
        Ok(Answer::Connections(page)) => Reply::Connections(connections(page)),
        Ok(Answer::Connection(found)) => Reply::Connection(connections(ConnectionsPage {
            connections: found.into_iter().map(|found| *found).collect(),
            ..ConnectionsPage::default()
        })),
        Ok(Answer::Channels(channels)) => Reply::Channels(pb::ChannelsPage {
            channels: channels
                .into_iter()
                .map(|(channel, subscribers)| pb::ChannelSubscribers {
                    channel: channel.to_string(),
                    subscribers,
                })
                .collect(),
        }),
        Ok(Answer::Presence(present)) => Reply::Presence(pb::PresentUsers {
            users: present
                .users
                .into_iter()
                .map(|(user, connections)| pb::PresentUser {
                    user: user.to_string(),
                    connections,
                })
                .collect(),
            total: present.total,
        }),
        Ok(Answer::Ranked(ranked)) => Reply::Ranked(pb::RankedConnections {
            connections: ranked
                .into_iter()
                .map(|(ranked, info)| pb::RankedConnection {
                    value: ranked.value,
                    connection: Some(connection(info)),
                })
                .collect(),
        }),
        Ok(Answer::Stats(stats)) => Reply::Stats(stats_message::message(*stats)),
        Ok(Answer::Identity(_)) => {
            return reply(Err(Error::internal("not for other nodes")));
        }
        Err(error) => return refused(&error),
    };
    pb::Reply { reply: Some(reply) }
}

/// The reply to a command.
pub(super) fn closed(closed: Result<u64>) -> pb::Reply {
    match closed {
        Ok(closed) => pb::Reply {
            reply: Some(pb::reply::Reply::Closed(closed)),
        },
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> pb::Reply {
    pb::Reply {
        reply: Some(pb::reply::Reply::Refused(pb::Refusal {
            code: error.code().as_str().to_owned(),
            message: error.message(),
        })),
    }
}

/// What a node has replied.
pub(super) enum Replied {
    /// To a command.
    Closed(u64),
    /// To a query.
    Answer(Answer),
}

/// The value in a reply.
pub(super) fn replied(reply: pb::Reply) -> Result<Replied> {
    use pb::reply::Reply;
    Ok(match reply.reply.ok_or_else(unreadable)? {
        Reply::Closed(closed) => Replied::Closed(closed),
        Reply::Refused(refusal) => {
            let mut codes = Code::ALL.into_iter();
            let code = codes.find(|code| code.as_str() == refusal.code);
            return Err(Error::new(code.unwrap_or(Code::Internal), refusal.message));
        }
        Reply::Stats(stats) => {
            Replied::Answer(Answer::Stats(Box::new(stats_message::stats(stats))))
        }
        Reply::Connections(page) => Replied::Answer(Answer::Connections(page_of(page)?)),
        Reply::Connection(page) => {
            let found = page_of(page)?.connections.into_iter().next();
            Replied::Answer(Answer::Connection(found.map(Box::new)))
        }
        Reply::Ranked(ranked) => {
            let ranked = ranked.connections.into_iter().map(|it| {
                let info = info(it.connection.ok_or_else(unreadable)?)?;
                let ranked = Ranked {
                    value: it.value,
                    id: info.id,
                };
                Ok((ranked, info))
            });
            Replied::Answer(Answer::Ranked(ranked.collect::<Result<_>>()?))
        }
        Reply::Channels(page) => {
            let channels = page.channels.into_iter();
            let channels = channels.map(|it| Ok((ChannelName::new(it.channel)?, it.subscribers)));
            Replied::Answer(Answer::Channels(channels.collect::<Result<_>>()?))
        }
        Reply::Presence(present) => Replied::Answer(Answer::Presence(Present {
            users: present
                .users
                .into_iter()
                .map(|it| (Arc::from(it.user), it.connections))
                .collect(),
            total: present.total,
        })),
    })
}

fn connections(page: ConnectionsPage) -> pb::ConnectionsPage {
    let next = page.next.unwrap_or_default();
    pb::ConnectionsPage {
        connections: page.connections.into_iter().map(connection).collect(),
        more: page.next.is_some(),
        next_shard: small(next.shard),
        next_slot: next.slot,
        bytes: large(page.bytes),
        full: page.is_full,
    }
}

fn page_of(page: pb::ConnectionsPage) -> Result<ConnectionsPage> {
    let connections = page.connections.into_iter().map(info);
    Ok(ConnectionsPage {
        connections: connections.collect::<Result<_>>()?,
        next: page.more.then_some(Place {
            shard: size(page.next_shard),
            slot: page.next_slot,
        }),
        bytes: size(page.bytes),
        is_full: page.full,
    })
}

fn connection(info: ConnectionInfo) -> pb::Connection {
    let (client_type, client_name) = info.client.map_or((None, None), |client| {
        (Some(client.kind.to_string()), Some(client.name.to_string()))
    });
    pb::Connection {
        id: info.id.to_string(),
        user: info.user.map(|user| user.to_string()),
        roles: info.roles.iter().map(ToString::to_string).collect(),
        transport: info.transport.to_owned(),
        client_type,
        client_name,
        address: info.address.to_string(),
        connected_at_us: info.connected_at.as_micros(),
        last_seen_at_us: info.last_seen_at.as_micros(),
        subscriptions: info
            .subscriptions
            .into_iter()
            .map(|it| pb::Subscription {
                channel: it.channel,
                epoch: it.position.map(|position| position.epoch.to_bits()),
                offset: it.position.map_or(0, |position| position.offset),
                filter: it.filter,
                event_types: it.event_types,
                live: it.is_live,
            })
            .collect(),
        subscription_count: large(info.subscription_count),
        delivered: info.delivered,
        dropped: info.dropped,
        bytes_in: info.bytes_in,
        bytes_out: info.bytes_out,
        outbox_bytes: large(info.outbox_bytes),
        round_trip_us: info.round_trip_us,
        origin: info
            .request
            .as_ref()
            .map_or_else(String::new, |request| request.origin.to_string()),
        user_agent: info.request.map(|request| request.user_agent.to_string()),
        dialect: info.dialect.into(),
        compressed: info.is_compressed,
        expires_at_us: info.expires_at.map(Timestamp::as_micros),
        messages_in: info.messages_in,
        rate_limited: info.rate_limited,
        claims: info.claims,
        node: info.node.to_string(),
    }
}

fn info(connection: pb::Connection) -> Result<ConnectionInfo> {
    let transports = ["websocket", "socketio", "sse", "grpc"];
    let mut transports = transports.into_iter();
    Ok(ConnectionInfo {
        id: connection.id.parse().map_err(|_| unreadable())?,
        user: connection.user.map(Into::into),
        roles: connection.roles.into_iter().map(Into::into).collect(),
        transport: transports
            .find(|transport| *transport == connection.transport)
            .unwrap_or("other"),
        client: connection.client_type.map(|kind| Client {
            kind: kind.into(),
            name: connection.client_name.unwrap_or_default().into(),
        }),
        address: connection.address.parse().map_err(|_| unreadable())?,
        connected_at: Timestamp::from_micros(connection.connected_at_us),
        last_seen_at: Timestamp::from_micros(connection.last_seen_at_us),
        subscriptions: connection
            .subscriptions
            .into_iter()
            .map(|it| {
                let position = it.epoch.map(|epoch| Position {
                    epoch: Epoch::from_bits(epoch),
                    offset: it.offset,
                });
                SubscriptionInfo {
                    channel: it.channel,
                    position,
                    filter: it.filter,
                    event_types: it.event_types,
                    is_live: it.live,
                }
            })
            .collect(),
        subscription_count: size(connection.subscription_count),
        delivered: connection.delivered,
        dropped: connection.dropped,
        bytes_in: connection.bytes_in,
        bytes_out: connection.bytes_out,
        outbox_bytes: size(connection.outbox_bytes),
        round_trip_us: connection.round_trip_us,
        request: connection.user_agent.map(|user_agent| {
            Arc::new(RequestFacts {
                user_agent: user_agent.into(),
                origin: connection.origin.into(),
            })
        }),
        dialect: connection.dialect.into(),
        is_compressed: connection.compressed,
        expires_at: connection.expires_at_us.map(Timestamp::from_micros),
        messages_in: connection.messages_in,
        rate_limited: connection.rate_limited,
        claims: connection.claims,
        node: connection.node.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ConnectionId;

    fn carried(grant: Grant) -> Grant {
        let sent = command(&Control::Grant(Arc::new(grant))).unwrap();
        let source = filter_source(&sent).map(ToOwned::to_owned);
        let compiled = EventFilter::new([], source.as_deref()).unwrap();
        let condition = compiled.and_then(|filter| filter.condition().cloned());
        let Control::Grant(grant) = control(sent, condition).unwrap() else {
            panic!("expected a grant");
        };
        Grant::clone(&grant)
    }

    #[test]
    fn grant_arrives_as_it_was_sent() {
        let order = || [TypePattern::parse("order.*").unwrap()];
        let to_user = GrantTo::User("ann".into());
        let to_one = GrantTo::Connection(ConnectionId::new(1, 2, 3));
        let wanted = EventFilter::new(order(), Some("data.n > 1")).unwrap();
        let typed = EventFilter::new(order(), None).unwrap();
        for (to, filter) in [(to_user, wanted), (to_one.clone(), typed), (to_one, None)] {
            let sent = Grant {
                to,
                patterns: vec![
                    ChannelPattern::parse("room:1").unwrap(),
                    ChannelPattern::parse("room:*").unwrap(),
                ],
                filter,
                begins: true,
            };
            let arrived = carried(sent.clone());
            assert_eq!(arrived.to, sent.to);
            assert_eq!(arrived.patterns, sent.patterns);
            assert!(arrived.begins);
            let keys = [&arrived, &sent].map(|grant| grant.filter.as_ref().map(|it| it.key()));
            assert_eq!(keys[0], keys[1]);
        }
    }
}
