//! Events, as they are published and as they come.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

use crate::{Error, Result, proto};

/// A place in a channel: the epoch, in which the channel counts its events, and the offset of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The numbering; offsets of different epochs have nothing to do with each other.
    pub epoch: String,
    /// The event's number in it, from 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = Error;

    /// Reads what [`Position`]'s `Display` writes, `epoch/offset`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Code::InvalidArgument, "expected a position: epoch/offset");
        let (epoch, offset) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Position {
            epoch: epoch.to_owned(),
            offset: offset.parse().map_err(|_| wrong())?,
        })
    }
}

impl From<proto::Position> for Position {
    fn from(position: proto::Position) -> Self {
        Position {
            epoch: position.epoch,
            offset: position.offset,
        }
    }
}

impl From<Position> for proto::Position {
    fn from(position: Position) -> Self {
        proto::Position {
            epoch: position.epoch,
            offset: position.offset,
        }
    }
}

/// An event that came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    message: Box<proto::Event>,
    position: Option<Position>,
}

impl Event {
    /// Its id, a UUID of version 7.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.message.id
    }

    /// Its type, such as `project.updated`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.message.r#type
    }

    /// The channel; empty for what was sent straight to a user, a role or a connection.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.message.channel
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        let time = self.message.time.as_ref()?;
        let seconds = Duration::from_secs(u64::try_from(time.seconds).ok()?);
        let nanos = Duration::from_nanos(u64::try_from(time.nanos).ok()?);
        UNIX_EPOCH.checked_add(seconds)?.checked_add(nanos)
    }

    /// The payload, byte for byte as it was published.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.message.data
    }

    /// The payload's media type.
    #[must_use]
    pub fn content_type(&self) -> &str {
        if self.message.content_type.is_empty() {
            "application/json"
        } else {
            &self.message.content_type
        }
    }

    /// The payload, read as JSON.
    ///
    /// # Errors
    /// Where it is no JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.message.data)
    }

    /// Who published it, as the publisher says.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.message.source
    }

    /// Pairs that travel with it.
    #[must_use]
    pub fn headers(&self) -> &HashMap<String, String> {
        &self.message.headers
    }

    /// Its W3C trace context; empty if it has none.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.message.traceparent
    }

    /// Its place; `None` where the channel keeps no history.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The message itself.
    #[must_use]
    pub fn as_message(&self) -> &proto::Event {
        &self.message
    }
}

impl From<proto::Event> for Event {
    fn from(message: proto::Event) -> Self {
        let position = message.position.clone().map(Position::from);
        Event {
            message: Box::new(message),
            position,
        }
    }
}

/// Offsets that will not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The channel.
    pub channel: String,
    /// The first offset that is missing.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Why, such as `slow_consumer`, `conflated` or `expired`.
    pub reason: String,
}

impl From<proto::Gap> for Gap {
    fn from(gap: proto::Gap) -> Self {
        Gap {
            channel: gap.channel,
            first: gap.from,
            last: gap.to,
            reason: gap.reason,
        }
    }
}

/// An event to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub(crate) request: proto::PublishRequest,
}

impl NewEvent {
    /// An event with a payload of JSON.
    ///
    /// # Errors
    /// `InvalidArgument` where the value can't be written as JSON.
    pub fn json<T: Serialize + ?Sized>(event_type: impl Into<String>, data: &T) -> Result<Self> {
        let data = serde_json::to_vec(data)
            .map_err(|error| Error::new(Code::InvalidArgument, format!("data: {error}")))?;
        Ok(NewEvent::bytes(event_type, data, ""))
    }

    /// An event with a payload of any media type; empty means `application/json`.
    pub fn bytes(
        event_type: impl Into<String>,
        data: impl Into<Bytes>,
        content_type: impl Into<String>,
    ) -> Self {
        NewEvent {
            request: proto::PublishRequest {
                r#type: event_type.into(),
                data: data.into(),
                content_type: content_type.into(),
                ..proto::PublishRequest::default()
            },
        }
    }

    /// Also in this channel; at most 100. Without any it goes to `global`, or straight to its audience.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.request.channels.push(channel.into());
        self
    }

    /// A pair that travels with it; at most 32, 8 KiB in all.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.headers.insert(name.into(), value.into());
        self
    }

    /// What it is about: of two events with one key the newer may stand for both, where a slow reader can't have
    /// both. At most 255 bytes.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = key.into();
        self
    }

    /// Makes a repeat within five minutes answer the first one's id and position. At most 255 bytes. An event
    /// with a channel is given one where it has none, so that it can be sent again when the answer is lost.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// Only for this user.
    #[must_use]
    pub fn to_user(mut self, user: impl Into<String>) -> Self {
        self.audience().users.push(user.into());
        self
    }

    /// Only for holders of this role.
    #[must_use]
    pub fn to_role(mut self, role: impl Into<String>) -> Self {
        self.audience().roles.push(role.into());
        self
    }

    /// Who publishes, as subscribers shall see it; the token's user if it is not said.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.request.source = source.into();
        self
    }

    fn audience(&mut self) -> &mut proto::Audience {
        self.request.audience.get_or_insert_default()
    }

    /// The request, with a key that makes it safe to repeat where one can have an effect.
    pub(crate) fn into_request(self) -> proto::PublishRequest {
        let mut request = self.request;
        // Straight to an audience, there is no channel that could know the key.
        let keeps = !request.channels.is_empty() || request.audience.is_none();
        if request.idempotency_key.is_empty() && keeps {
            request.idempotency_key = uuid::Uuid::new_v4().to_string();
        }
        request
    }
}

/// True if the request can be sent again without being published twice.
pub(crate) fn is_repeatable(request: &proto::PublishRequest) -> bool {
    !request.idempotency_key.is_empty()
        && (!request.channels.is_empty() || request.audience.is_none())
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id, a UUID of version 7.
    pub id: String,
    /// One for each channel, in the order of the request.
    pub results: Vec<PublishedIn>,
}

/// What became of an event in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedIn {
    /// The channel; empty where the event went straight to an audience.
    pub channel: String,
    /// Its place; `None` where the channel keeps no history.
    pub position: Option<Position>,
    /// Subscriptions to the channel at that moment.
    pub subscribers: u64,
    /// True if an earlier publish with the same idempotency key stands for this one.
    pub duplicate: bool,
}

impl From<proto::PublishResponse> for Published {
    fn from(response: proto::PublishResponse) -> Self {
        let results = response.results.into_iter().map(|result| PublishedIn {
            channel: result.channel,
            position: result.position.map(Position::from),
            subscribers: result.subscribers,
            duplicate: result.duplicate,
        });
        Published {
            id: response.id,
            results: results.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_display_round_trips() {
        let position: Position = "00ff/7".parse().expect("a position");
        assert_eq!((position.epoch.as_str(), position.offset), ("00ff", 7));
        assert_eq!(position.to_string(), "00ff/7");
        for wrong in ["", "7", "a/", "a/-1", "a/b"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn event_with_channel_is_repeatable() {
        let in_channel = NewEvent::bytes("a", "1", "").channel("c").into_request();
        assert!(is_repeatable(&in_channel));
        let own = NewEvent::bytes("a", "1", "").idempotency_key("k");
        assert_eq!(own.into_request().idempotency_key, "k");
        let straight = NewEvent::bytes("a", "1", "").to_user("ann").into_request();
        assert!(!is_repeatable(&straight));
    }
}
