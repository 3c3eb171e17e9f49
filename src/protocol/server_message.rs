//! All messages of the server, before a codec encodes them.
//!
//! A new reply is a variant here with its name and its members, and its protobuf in
//! `protobuf/encode.rs`. For the names see
//! [`RESERVED_EVENT_TYPES`](crate::event::RESERVED_EVENT_TYPES).

use serde_json::{Map, Value, json};

use super::request::{ReplyTo, RequestId};
use crate::api::ErrorBody;
use crate::auth::Identity;
use crate::error::Error;
use crate::event::{ChannelName, ConnectionId, Event, Payload, Position, Timestamp};
use crate::hub::{Client, Joined, Notice, Present, Refused};
use crate::session::{HistoryPage, Published};

/// A reply, a notice of the hub, or an event.
#[derive(Debug)]
pub enum ServerMessage<'a> {
    /// The first message on a connection.
    ConnectionEstablished {
        /// The connection.
        connection: ConnectionId,
        /// The identity, if the client has authenticated.
        identity: Option<&'a Identity>,
        /// The interval of heartbeats to a silent client, in milliseconds.
        heartbeat_interval_ms: u64,
        /// The silence after which the server closes, in milliseconds.
        heartbeat_timeout_ms: u64,
        /// The current time.
        now: Timestamp,
    },
    /// The token is valid.
    Authenticated(&'a Identity),
    /// The client's type and name are set.
    Registered(&'a Client),
    /// The result of each subscription of a request.
    Subscribed {
        /// Those that have begun.
        joined: &'a [Joined],
        /// Those that were refused.
        refused: &'a [Refused],
    },
    /// The subscriptions that have ended on the client's request.
    Unsubscribed {
        /// Channels.
        channels: &'a [String],
        /// Event types to which `global` was restricted.
        event_types: &'a [String],
    },
    /// An event was published to one channel.
    Published(&'a Published),
    /// A page of history.
    History {
        /// The channel.
        channel: &'a ChannelName,
        /// The page.
        page: &'a HistoryPage,
    },
    /// The users in a channel.
    Presence {
        /// The channel.
        channel: &'a ChannelName,
        /// Its users.
        present: &'a Present,
    },
    /// The result of a call of the application, JSON.
    Rpc(&'a Payload),
    /// The answer to a ping.
    Pong(Timestamp),
    /// A request was refused.
    Error(&'a Error),
    /// Sent after an interval without traffic from the client.
    Heartbeat(Timestamp),
    /// An event.
    Event(&'a Event),
    /// Events that will not be delivered to the connection.
    Gap {
        /// The channel.
        channel: &'a str,
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
        /// The reason.
        reason: &'static str,
    },
    /// The channel has a new epoch: earlier positions are invalid.
    EpochChanged {
        /// The channel.
        channel: &'a str,
        /// The position after which live delivery continues.
        position: Position,
    },
    /// A user joined a channel.
    PresenceJoined {
        /// The channel.
        channel: &'a str,
        /// The user.
        user: &'a str,
    },
    /// A user left a channel.
    PresenceLeft {
        /// The channel.
        channel: &'a str,
        /// The user.
        user: &'a str,
    },
    /// The token will expire.
    TokenExpiring {
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The server closes: reconnect after a delay.
    Reconnect {
        /// The delay in milliseconds.
        after_ms: u64,
        /// The reason.
        reason: &'static str,
    },
    /// The server has ended a subscription.
    SubscriptionEnded {
        /// The channel.
        channel: &'a str,
        /// The reason.
        error: &'a Error,
    },
}

impl<'a> From<&Notice<'a>> for ServerMessage<'a> {
    fn from(notice: &Notice<'a>) -> Self {
        match *notice {
            Notice::Gap {
                channel,
                from,
                to,
                reason,
            } => ServerMessage::Gap {
                channel,
                from,
                to,
                reason,
            },
            Notice::Renumbered { channel, position } => {
                ServerMessage::EpochChanged { channel, position }
            }
            Notice::Presence {
                channel,
                user,
                joined: true,
            } => ServerMessage::PresenceJoined { channel, user },
            Notice::Presence {
                channel,
                user,
                joined: false,
            } => ServerMessage::PresenceLeft { channel, user },
            Notice::TokenExpiring { expires_at } => ServerMessage::TokenExpiring { expires_at },
            Notice::Reconnect { after_ms, reason } => ServerMessage::Reconnect { after_ms, reason },
            Notice::Failure(error) => ServerMessage::Error(error),
            Notice::Unsubscribed { channel, error } => {
                ServerMessage::SubscriptionEnded { channel, error }
            }
        }
    }
}

impl ServerMessage<'_> {
    /// Every value of [`ServerMessage::name`] except event types.
    pub const NAMES: [&'static str; 17] = [
        "connection_established",
        "authenticated",
        "registered",
        "subscribed",
        "unsubscribed",
        "published",
        "history",
        "presence",
        "rpc",
        "pong",
        "error",
        "heartbeat",
        "presence_joined",
        "presence_left",
        "token_expiring",
        "gap",
        "reconnect",
    ];

    /// Its name in the dialect `tidings`; for an event, its type.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            ServerMessage::ConnectionEstablished { .. } => "connection_established",
            ServerMessage::Authenticated(_) => "authenticated",
            ServerMessage::Registered(_) => "registered",
            ServerMessage::Subscribed { .. } | ServerMessage::EpochChanged { .. } => "subscribed",
            ServerMessage::Unsubscribed { .. } | ServerMessage::SubscriptionEnded { .. } => {
                "unsubscribed"
            }
            ServerMessage::Published(_) => "published",
            ServerMessage::History { .. } => "history",
            ServerMessage::Presence { .. } => "presence",
            ServerMessage::Rpc(_) => "rpc",
            ServerMessage::Pong(_) => "pong",
            ServerMessage::Error(_) => "error",
            ServerMessage::Heartbeat(_) => "heartbeat",
            ServerMessage::PresenceJoined { .. } => "presence_joined",
            ServerMessage::PresenceLeft { .. } => "presence_left",
            ServerMessage::TokenExpiring { .. } => "token_expiring",
            ServerMessage::Gap { .. } => "gap",
            ServerMessage::Reconnect { .. } => "reconnect",
            ServerMessage::Event(event) => event.event_type.as_str(),
        }
    }

    /// Its members in JSON. Events, those of a page of history, and the result of a call are not
    /// included: each codec has its own form for them.
    #[must_use]
    pub fn members(&self, reply_to: &ReplyTo) -> Map<String, Value> {
        let body = match self {
            ServerMessage::ConnectionEstablished {
                connection,
                identity,
                heartbeat_interval_ms,
                heartbeat_timeout_ms,
                now,
            } => {
                let (user, roles) = describe(*identity);
                json!({
                    "connection_id": connection.to_string(),
                    "user": user,
                    "roles": roles,
                    "heartbeat_interval_ms": heartbeat_interval_ms,
                    "heartbeat_timeout_ms": heartbeat_timeout_ms,
                    "timestamp": now.to_rfc3339(),
                })
            }
            ServerMessage::Authenticated(identity) => {
                let (user, roles) = describe(Some(identity));
                let expires_at = identity.expires_at().map(Timestamp::to_rfc3339);
                json!({ "user": user, "roles": roles, "expires_at": expires_at })
            }
            ServerMessage::Registered(Client { kind, name }) => {
                json!({ "client_type": kind, "client_name": name })
            }
            ServerMessage::Subscribed { joined, refused } => subscribed(joined, refused),
            ServerMessage::Unsubscribed {
                channels,
                event_types,
            } => json!({ "channels": channels, "event_types": event_types }),
            ServerMessage::Published(published) => published_body(published, reply_to),
            ServerMessage::History { channel, page } => json!({
                "channel": channel.as_str(),
                "epoch": page.top.epoch.to_string(),
                "offset": page.top.offset,
            }),
            ServerMessage::Presence { channel, present } => {
                let users = present.users.iter().map(
                    |(user, connections)| json!({ "user": &**user, "connections": connections }),
                );
                let users: Vec<Value> = users.collect();
                json!({ "channel": channel.as_str(), "users": users, "total": present.total })
            }
            ServerMessage::Pong(now) | ServerMessage::Heartbeat(now) => {
                json!({ "timestamp": now.to_rfc3339() })
            }
            ServerMessage::Error(error) => error_members(error),
            ServerMessage::Gap {
                channel,
                from,
                to,
                reason,
            } => json!({ "channel": channel, "from": from, "to": to, "reason": reason }),
            ServerMessage::EpochChanged { channel, position } => {
                subscribed(&[resubscribed(channel, *position)], &[])
            }
            ServerMessage::PresenceJoined { channel, user }
            | ServerMessage::PresenceLeft { channel, user } => {
                json!({ "channel": channel, "user": user })
            }
            ServerMessage::TokenExpiring { expires_at } => {
                json!({ "expires_at": expires_at.to_rfc3339() })
            }
            ServerMessage::Reconnect { after_ms, reason } => {
                json!({ "after_ms": after_ms, "reason": reason })
            }
            ServerMessage::SubscriptionEnded { channel, error } => {
                let (code, message) = (error.code().as_str(), error.message());
                let reason = json!({ "code": code, "message": message });
                json!({ "channels": [channel], "reason": reason })
            }
            ServerMessage::Event(_) | ServerMessage::Rpc(_) => Value::Null,
        };
        match body {
            Value::Object(members) => members,
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Map::new(),
        }
    }
}

/// The members of an `error` message.
#[must_use]
pub fn error_members(error: &Error) -> Value {
    serde_json::to_value(ErrorBody::from(error)).unwrap_or_default()
}

/// The members of a `subscribed` message.
fn subscribed(joined: &[Joined], refused: &[Refused]) -> Value {
    let channels = joined.iter().map(|joined| {
        let mut entry = json!({
            "channel": joined.channel,
            "recovered": joined.recovered,
            "replayed": joined.replayed,
        });
        if let (Some(position), Some(entry)) = (joined.position, entry.as_object_mut()) {
            entry.insert("epoch".into(), position.epoch.to_string().into());
            entry.insert("offset".into(), position.offset.into());
        }
        if let (Some(cursor), Some(entry)) = (joined.cursor, entry.as_object_mut()) {
            entry.insert("cursor".into(), cursor.into());
        }
        entry
    });
    let errors = refused.iter().map(|refused| {
        json!({
            "channel": refused.channel,
            "code": refused.error.code().as_str(),
            "message": refused.error.message(),
        })
    });
    json!({ "channels": channels.collect::<Vec<_>>(), "errors": errors.collect::<Vec<_>>() })
}

/// A subscription after its channel's epoch has changed: nothing is recovered.
pub(super) fn resubscribed(channel: &str, position: Position) -> Joined {
    Joined {
        channel: channel.to_owned(),
        position: Some(position),
        recovered: false,
        replayed: 0,
        cursor: None,
    }
}

/// A user and its roles, as messages show them.
fn describe(identity: Option<&Identity>) -> (Option<&str>, Vec<&str>) {
    let user = identity.and_then(|i| i.user()).map(|user| &**user);
    let roles = identity.map_or(&[][..], |identity| identity.roles());
    (user, roles.iter().map(|role| &**role).collect())
}

fn published_body(published: &Published, reply_to: &ReplyTo) -> Value {
    let id = published.id.to_string();
    let mut body = Map::new();
    if reply_to.id == RequestId::None || matches!(reply_to.id, RequestId::Token(_)) {
        // With a request `id`, which every reply echoes, the event's id is only in `event_id`.
        body.insert("id".into(), id.as_str().into());
    }
    body.insert("event_id".into(), id.into());
    if let Some(result) = published.results.first() {
        if let Some(position) = result.receipt.position {
            body.insert("epoch".into(), position.epoch.to_string().into());
            body.insert("offset".into(), position.offset.into());
        }
        if result.receipt.duplicate {
            body.insert("duplicate".into(), true.into());
        }
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    #[test]
    fn unsolicited_message_names_are_reserved() {
        let error = Error::denied("no");
        let (channel, user) = ("a", "ann");
        let now = Timestamp::from_micros(0);
        let position = Position {
            epoch: "00000000000000aa".parse().unwrap(),
            offset: 1,
        };
        for notice in [
            Notice::Gap {
                channel,
                from: 1,
                to: 2,
                reason: "expired",
            },
            Notice::Renumbered { channel, position },
            Notice::Presence {
                channel,
                user,
                joined: true,
            },
            Notice::Presence {
                channel,
                user,
                joined: false,
            },
            Notice::TokenExpiring { expires_at: now },
            Notice::Reconnect {
                after_ms: 1,
                reason: "restart",
            },
            Notice::Failure(&error),
            Notice::Unsubscribed {
                channel,
                error: &error,
            },
        ] {
            let message = ServerMessage::from(&notice);
            assert!(EventType::new(message.name()).is_err(), "{message:?}");
            assert!(
                ServerMessage::NAMES.contains(&message.name()),
                "{message:?}"
            );
        }
        assert!(EventType::new(ServerMessage::Heartbeat(now).name()).is_err());
    }

    #[test]
    fn every_message_name_is_listed() {
        let error = Error::denied("no");
        let now = Timestamp::now();
        let notice = Notice::Presence {
            channel: "a",
            user: "ann",
            joined: false,
        };
        for message in [
            ServerMessage::Error(&error),
            ServerMessage::Pong(now),
            ServerMessage::Heartbeat(now),
            ServerMessage::from(&notice),
        ] {
            assert!(
                ServerMessage::NAMES.contains(&message.name()),
                "{message:?}"
            );
        }
    }
}
