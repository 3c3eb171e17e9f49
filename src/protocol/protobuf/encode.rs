//! Encodes `ServerMessage` in protobuf.

use std::sync::Arc;

use super::schema::{self, event, position, timestamp};
use crate::auth::Identity;
use crate::error::Error;
use crate::event::ChannelName;
use crate::hub::{Joined, Refused};
use crate::proto;
use crate::proto::server_message::Message;
use crate::protocol::server_message::{ServerMessage, resubscribed};
use crate::session::{HistoryPage, Published};

/// The message in protobuf.
#[must_use]
pub fn message(message: &ServerMessage<'_>) -> Message {
    match message {
        ServerMessage::ConnectionEstablished {
            connection,
            identity,
            heartbeat_interval_ms,
            heartbeat_timeout_ms,
            now,
        } => Message::ConnectionEstablished(proto::ConnectionEstablished {
            connection_id: connection.to_string(),
            user: user(*identity),
            roles: roles(*identity),
            heartbeat_interval_ms: *heartbeat_interval_ms,
            heartbeat_timeout_ms: *heartbeat_timeout_ms,
            timestamp: Some(timestamp(*now)),
        }),
        ServerMessage::Authenticated(identity) => Message::Authenticated(proto::Authenticated {
            user: user(Some(identity)),
            roles: roles(Some(identity)),
            expires_at: identity.expires_at().map(timestamp),
        }),
        ServerMessage::Registered(client) => Message::Registered(proto::Registered {
            client_type: client.kind.to_string(),
            client_name: client.name.to_string(),
        }),
        ServerMessage::Subscribed { joined, refused } => {
            Message::Subscribed(subscribed(joined, refused))
        }
        ServerMessage::Unsubscribed {
            channels,
            event_types,
        } => Message::Unsubscribed(proto::Unsubscribed {
            channels: channels.to_vec(),
            event_types: event_types.to_vec(),
            reason: None,
        }),
        ServerMessage::Published(published) => Message::Published(self::published(published)),
        ServerMessage::History { channel, page } => Message::History(history(channel, page)),
        ServerMessage::Presence { channel, present } => {
            let users = present.users.iter().map(|(user, connections)| {
                let (user, connections) = (user.to_string(), *connections);
                proto::PresentUser { user, connections }
            });
            Message::Presence(proto::Presence {
                channel: channel.to_string(),
                users: users.collect(),
                total: present.total,
            })
        }
        ServerMessage::Rpc(result) => Message::Rpc(proto::RpcReply {
            data: result.data().clone(),
        }),
        ServerMessage::Pong(now) => Message::Pong(proto::Pong {
            timestamp: Some(timestamp(*now)),
        }),
        ServerMessage::Error(error) => Message::Error(failure(error)),
        ServerMessage::Heartbeat(now) => Message::Heartbeat(proto::Heartbeat {
            timestamp: Some(timestamp(*now)),
        }),
        ServerMessage::Event(event) => Message::Event(schema::event(event)),
        ServerMessage::Gap {
            channel,
            from,
            to,
            reason,
        } => Message::Gap(proto::Gap {
            channel: (*channel).to_owned(),
            from: *from,
            to: *to,
            reason: (*reason).to_owned(),
        }),
        ServerMessage::EpochChanged { channel, position } => {
            Message::Subscribed(subscribed(&[resubscribed(channel, *position)], &[]))
        }
        ServerMessage::PresenceJoined { channel, user } => {
            let (channel, user) = ((*channel).to_owned(), (*user).to_owned());
            Message::PresenceJoined(proto::PresenceJoined { channel, user })
        }
        ServerMessage::PresenceLeft { channel, user } => {
            let (channel, user) = ((*channel).to_owned(), (*user).to_owned());
            Message::PresenceLeft(proto::PresenceLeft { channel, user })
        }
        ServerMessage::TokenExpiring { expires_at } => {
            Message::TokenExpiring(proto::TokenExpiring {
                expires_at: Some(timestamp(*expires_at)),
            })
        }
        ServerMessage::Reconnect { after_ms, reason } => Message::Reconnect(proto::Reconnect {
            after_ms: *after_ms,
            reason: (*reason).to_owned(),
        }),
        ServerMessage::SubscriptionEnded { channel, error } => {
            Message::Unsubscribed(proto::Unsubscribed {
                channels: vec![(*channel).to_owned()],
                event_types: Vec::new(),
                reason: Some(refusal(channel, error)),
            })
        }
    }
}

fn user(identity: Option<&Identity>) -> String {
    let user = identity.and_then(|identity| identity.user());
    user.map(ToString::to_string).unwrap_or_default()
}

fn roles(identity: Option<&Identity>) -> Vec<String> {
    let roles: &[Arc<str>] = identity.map_or(&[], |identity| identity.roles());
    roles.iter().map(ToString::to_string).collect()
}

/// How the subscriptions of one request began.
#[must_use]
pub fn subscribed(joined: &[Joined], refused: &[Refused]) -> proto::Subscribed {
    let channels = joined.iter().map(|joined| proto::SubscribedChannel {
        channel: joined.channel.clone(),
        position: joined.position.map(position),
        recovered: joined.recovered,
        replayed: joined.replayed,
        cursor: joined.cursor,
    });
    let errors = refused
        .iter()
        .map(|refused| refusal(&refused.channel, &refused.error));
    proto::Subscribed {
        channels: channels.collect(),
        errors: errors.collect(),
        connection_id: String::new(),
    }
}

fn refusal(channel: &str, error: &Error) -> proto::SubscriptionError {
    proto::SubscriptionError {
        channel: channel.to_owned(),
        code: error.code().as_str().to_owned(),
        message: error.message(),
    }
}

fn published(published: &Published) -> proto::Published {
    let receipt = published.results.first().map(|result| result.receipt);
    proto::Published {
        event_id: published.id.to_string(),
        position: receipt.and_then(|receipt| receipt.position).map(position),
        duplicate: receipt.is_some_and(|receipt| receipt.duplicate),
    }
}

fn history(channel: &ChannelName, page: &HistoryPage) -> proto::HistoryPage {
    proto::HistoryPage {
        channel: channel.to_string(),
        position: Some(position(page.top)),
        events: page.events.iter().map(|one| event(one)).collect(),
    }
}

fn failure(error: &Error) -> proto::Failure {
    let field = error.field_name();
    let wait = error.retry_delay();
    proto::Failure {
        code: error.code().as_str().to_owned(),
        message: error.message(),
        field: field.unwrap_or_default().to_owned(),
        expected: field
            .map(|_| error.description().to_owned())
            .unwrap_or_default(),
        retry_after_ms: wait.map_or(0, |wait| {
            u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
        }),
    }
}
