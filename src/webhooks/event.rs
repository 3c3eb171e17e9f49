//! The events of webhooks, as CloudEvents 1.0 in JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::event::{ChannelName, ConnectionId, Timestamp};
use crate::hub::Totals;

/// The close code of a connection that ended without a close frame (RFC 6455 §7.4.1).
pub(super) const ABNORMAL: u16 = 1006;
/// The type of the event that reports dropped ones. Every webhook gets it.
const DROPPED: &str = "webhook.dropped";

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A connection was opened and has an identity.
    ConnectionOpened,
    /// It was closed.
    ConnectionClosed,
    /// A channel gained its first subscriber.
    ChannelOccupied,
    /// It lost its last, and got no new one for a second.
    ChannelVacated,
    /// A user joined a channel with presence.
    PresenceJoined,
    /// A user left it with the last connection.
    PresenceLeft,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 6] = [
        EventKind::ConnectionOpened,
        EventKind::ConnectionClosed,
        EventKind::ChannelOccupied,
        EventKind::ChannelVacated,
        EventKind::PresenceJoined,
        EventKind::PresenceLeft,
    ];

    /// Its name: the type of the CloudEvent.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::ConnectionOpened => "connection.opened",
            EventKind::ConnectionClosed => "connection.closed",
            EventKind::ChannelOccupied => "channel.occupied",
            EventKind::ChannelVacated => "channel.vacated",
            EventKind::PresenceJoined => "presence.joined",
            EventKind::PresenceLeft => "presence.left",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A connection at an edge.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) user: Option<Arc<str>>,
    pub(super) roles: Vec<Arc<str>>,
    /// `None` if only its id is known.
    pub(super) address: Option<SocketAddr>,
    pub(super) transport: &'static str,
}

/// How it ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) code: u16,
    pub(super) reason: Box<str>,
    pub(super) by: Box<str>,
    /// `None` if they are not known.
    pub(super) totals: Option<Totals>,
}

/// Something to report.
#[derive(Debug, Clone)]
pub(super) enum What {
    Opened(Box<Connection>),
    Closed(Box<Connection>, Box<Ended>),
    Occupied(ChannelName),
    Vacated(ChannelName),
    Joined(ChannelName, Arc<str>),
    Left(ChannelName, Arc<str>),
}

/// Something that happened, with its time.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) what: What,
    pub(super) at: Timestamp,
}

impl Fact {
    pub(super) fn kind(&self) -> EventKind {
        match self.what {
            What::Opened(..) => EventKind::ConnectionOpened,
            What::Closed(..) => EventKind::ConnectionClosed,
            What::Occupied(..) => EventKind::ChannelOccupied,
            What::Vacated(..) => EventKind::ChannelVacated,
            What::Joined(..) => EventKind::PresenceJoined,
            What::Left(..) => EventKind::PresenceLeft,
        }
    }

    /// Whether it concerns a connection, and no channel.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self.what, What::Opened(..) | What::Closed(..))
    }

    /// The CloudEvent.
    pub(super) fn encode(&self, source: &str) -> Bytes {
        let kind = self.kind().name();
        match &self.what {
            What::Opened(connection) => {
                let data = of(connection);
                cloud_event(source, kind, &connection.id.to_string(), self.at, data)
            }
            What::Closed(connection, ended) => {
                let mut data = of(connection);
                add_end(&mut data, ended);
                cloud_event(source, kind, &connection.id.to_string(), self.at, data)
            }
            What::Occupied(channel) | What::Vacated(channel) => {
                let data = json!({ "channel": channel.as_str() });
                cloud_event(source, kind, channel.as_str(), self.at, data)
            }
            What::Joined(channel, user) | What::Left(channel, user) => {
                let data = json!({ "channel": channel.as_str(), "user": &**user });
                cloud_event(source, kind, channel.as_str(), self.at, data)
            }
        }
    }
}

fn of(connection: &Connection) -> Value {
    let mut data = json!({
        "connection_id": connection.id.to_string(),
        "user": connection.user.as_deref(),
    });
    if let Some(address) = connection.address {
        let roles: Vec<&str> = connection.roles.iter().map(|role| &**role).collect();
        data["roles"] = json!(roles);
        data["transport"] = json!(connection.transport);
        data["address"] = json!(address.to_string());
    }
    data
}

fn add_end(data: &mut Value, ended: &Ended) {
    data["code"] = json!(ended.code);
    data["reason"] = json!(&*ended.reason);
    data["by"] = json!(&*ended.by);
    if let Some(totals) = &ended.totals {
        let ms = u64::try_from(totals.open_for.as_millis()).unwrap_or(u64::MAX);
        data["duration_ms"] = json!(ms);
        data["events_delivered"] = json!(totals.delivered);
        data["events_dropped"] = json!(totals.dropped);
        data["bytes_in"] = json!(totals.bytes_in);
        data["bytes_out"] = json!(totals.bytes_out);
    }
}

/// The event that says how many events were dropped since the one before it in the queue.
pub(super) fn dropped(source: &str, count: u64, from: Timestamp, to: Timestamp) -> Bytes {
    let data = json!({ "count": count, "from": from.to_rfc3339(), "to": to.to_rfc3339() });
    cloud_event(source, DROPPED, "queue", to, data)
}

fn cloud_event(source: &str, kind: &str, subject: &str, at: Timestamp, data: Value) -> Bytes {
    let event = json!({
        "specversion": "1.0",
        "id": uuid::Uuid::now_v7().to_string(),
        "source": source,
        "type": kind,
        "subject": subject,
        "time": at.to_rfc3339(),
        "datacontenttype": "application/json",
        "data": data,
    });
    event.to_string().into()
}
