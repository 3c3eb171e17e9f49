//! What the server says, before any dialect has words for it.

use serde_json::{Map, Value, json};

use super::request::{Asked, RequestId};
use crate::auth::Identity;
use crate::error::Error;
use crate::event::{ChannelName, ConnectionId, Timestamp};
use crate::hub::{Client, Joined, Notice, Present, Refused, server_text};
use crate::session::{HistoryPage, Published};

/// A reply, or something that the server says by itself. Events are not among these.
#[derive(Debug)]
pub enum ServerMessage<'a> {
    /// The first message on a connection.
    ConnectionEstablished {
        /// The connection.
        connection: ConnectionId,
        /// Who it is.
        identity: Option<&'a Identity>,
        /// How often the server says something to a silent client, in milliseconds.
        heartbeat_interval_ms: u64,
        /// After what silence it gives a client up, in milliseconds.
        heartbeat_timeout_ms: u64,
        /// Now.
        now: Timestamp,
    },
    /// A token was taken.
    Authenticated(&'a Identity),
    /// The client is noted as this.
    Registered(&'a Client),
    /// How each subscription of a request began, or why not.
    Subscribed {
        /// Those that began.
        joined: &'a [Joined],
        /// Those that did not.
        refused: &'a [Refused],
    },
    /// What is no longer followed.
    Unsubscribed {
        /// Channels that were left.
        channels: &'a [String],
        /// Event types that were taken out.
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
    /// Who is in a channel.
    Presence {
        /// The channel.
        channel: &'a ChannelName,
        /// Its users.
        present: &'a Present,
    },
    /// The answer to a ping.
    Pong(Timestamp),
    /// A request was refused.
    Error(&'a Error),
    /// Nothing was heard for an interval.
    Heartbeat(Timestamp),
    /// What the bus says by itself.
    Notice(&'a Notice<'a>),
}

impl ServerMessage<'_> {
    /// Every name of [`ServerMessage::name`].
    pub const NAMES: [&'static str; 16] = [
        "connection_established",
        "authenticated",
        "registered",
        "subscribed",
        "unsubscribed",
        "published",
        "history",
        "presence",
        "pong",
        "error",
        "heartbeat",
        "presence_joined",
        "presence_left",
        "token_expiring",
        "gap",
        "reconnect",
    ];

    /// What the dialect `tidings` calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ServerMessage::ConnectionEstablished { .. } => "connection_established",
            ServerMessage::Authenticated(_) => "authenticated",
            ServerMessage::Registered(_) => "registered",
            ServerMessage::Subscribed { .. } => "subscribed",
            ServerMessage::Unsubscribed { .. } => "unsubscribed",
            ServerMessage::Published(_) => "published",
            ServerMessage::History { .. } => "history",
            ServerMessage::Presence { .. } => "presence",
            ServerMessage::Pong(_) => "pong",
            ServerMessage::Error(_) => "error",
            ServerMessage::Heartbeat(_) => "heartbeat",
            ServerMessage::Notice(notice) => server_text::notice_name(notice),
        }
    }

    /// Its members as JSON, but for the events of a page of history, which each dialect writes in
    /// its own way.
    #[must_use]
    pub fn members(&self, asked: &Asked) -> Map<String, Value> {
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
            ServerMessage::Subscribed { joined, refused } => {
                server_text::subscribed(joined, refused)
            }
            ServerMessage::Unsubscribed {
                channels,
                event_types,
            } => json!({ "channels": channels, "event_types": event_types }),
            ServerMessage::Published(published) => published_body(published, asked),
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
            ServerMessage::Error(error) => server_text::error(error),
            ServerMessage::Notice(notice) => server_text::notice(notice),
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

/// A user and its roles, as messages show them.
fn describe(identity: Option<&Identity>) -> (Option<&str>, Vec<&str>) {
    let user = identity.and_then(|i| i.user()).map(|user| &**user);
    let roles = identity.map_or(&[][..], |identity| identity.roles());
    (user, roles.iter().map(|role| &**role).collect())
}

fn published_body(published: &Published, asked: &Asked) -> Value {
    let id = published.id.to_string();
    let mut body = Map::new();
    if asked.id == RequestId::None || matches!(asked.id, RequestId::Token(_)) {
        // A request's own `id` is echoed as in every reply; the event's is then beside it.
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
    use crate::event::is_control_name;
    use crate::protocol::Kind;

    #[test]
    fn no_event_is_called_what_a_message_is() {
        for name in ServerMessage::NAMES {
            assert!(is_control_name(name), "{name}");
        }
        for kind in Kind::ALL {
            assert!(is_control_name(kind.name()), "{kind:?}");
        }
    }

    #[test]
    fn every_name_is_listed() {
        let error = Error::denied("no");
        let now = Timestamp::now();
        let notice = Notice::Presence {
            channel: "a",
            user: "ann",
            joined: false,
        };
        for said in [
            ServerMessage::Error(&error),
            ServerMessage::Pong(now),
            ServerMessage::Heartbeat(now),
            ServerMessage::Notice(&notice),
        ] {
            assert!(ServerMessage::NAMES.contains(&said.name()), "{said:?}");
        }
    }
}
