//! Events, as published and as received.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

use crate::{Error, Result, proto};

/// A position in a channel: an epoch, and an offset within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch. Offsets of different epochs are not comparable.
    pub epoch: String,
    /// The event's offset in it, starting at 1.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = Error;

    /// Parses the `Display` form of a [`Position`], `epoch/offset`.
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

/// A received event.
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

    /// The channel. Empty for an event that was addressed directly to a user, a role or a
    /// connection.
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

    /// The payload, exactly as published.
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

    /// The payload, deserialized from JSON.
    ///
    /// # Errors
    /// It is not JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.message.data)
    }

    /// The publisher, as it names itself.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.message.source
    }

    /// Header pairs.
    #[must_use]
    pub fn headers(&self) -> &HashMap<String, String> {
        &self.message.headers
    }

    /// Its W3C trace context. Empty if it has none.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.message.traceparent
    }

    /// Its position. `None` if the channel keeps no history.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The protobuf message.
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

/// A range of offsets that will not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The channel.
    pub channel: String,
    /// The first missing offset.
    pub first: u64,
    /// The last missing offset.
    pub last: u64,
    /// The reason, such as `slow_consumer`, `conflated` or `expired`.
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
    /// An event with a JSON payload.
    ///
    /// # Errors
    /// `InvalidArgument` if the value cannot be serialized as JSON.
    pub fn json<T: Serialize + ?Sized>(event_type: impl Into<String>, data: &T) -> Result<Self> {
        let data = serde_json::to_vec(data)
            .map_err(|error| Error::new(Code::InvalidArgument, format!("data: {error}")))?;
        Ok(NewEvent::bytes(event_type, data, ""))
    }

    /// An event with a payload of any media type. Empty means `application/json`.
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

    /// Adds a channel, at most 100. An event without a channel goes to `global`, or directly to its
    /// audience.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<String>) -> Self {
        self.request.channels.push(channel.into());
        self
    }

    /// Adds a header pair, at most 32 with 8 KiB in total.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the conflation key: for a slow reader, the newest event of a key may replace earlier
    /// ones. At most 255 bytes.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = key.into();
        self
    }

    /// Sets the idempotency key: a repeat within five minutes returns the id and position of the
    /// first publish. At most 255 bytes. An event with a channel gets a random key by default, so
    /// that it can be retried when the response is lost.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// Restricts it to this user.
    #[must_use]
    pub fn to_user(mut self, user: impl Into<String>) -> Self {
        self.audience().users.push(user.into());
        self
    }

    /// Restricts it to holders of this role.
    #[must_use]
    pub fn to_role(mut self, role: impl Into<String>) -> Self {
        self.audience().roles.push(role.into());
        self
    }

    /// Sets the publisher that subscribers see. Default: the token's user.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.request.source = source.into();
        self
    }

    /// Lets the event be replayed and read for so long only.
    #[must_use]
    pub fn ttl(mut self, ttl: std::time::Duration) -> Self {
        self.request.ttl = ttl.try_into().ok();
        self
    }

    /// Delivers the event and keeps it nowhere.
    #[must_use]
    pub fn skip_history(mut self) -> Self {
        self.request.skip_history = true;
        self
    }

    /// Publishes only if this is the channel's newest offset. Otherwise `FailedPrecondition`.
    #[must_use]
    pub fn expected_offset(mut self, offset: u64) -> Self {
        self.request.expected_offset = Some(offset);
        self
    }

    /// Sets its W3C trace context, in place of the call's.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.request.traceparent = traceparent.into();
        self
    }

    fn audience(&mut self) -> &mut proto::Audience {
        self.request.audience.get_or_insert_default()
    }

    /// The request, with an idempotency key if that has an effect.
    pub(crate) fn into_request(self) -> proto::PublishRequest {
        let mut request = self.request;
        // Without a channel, no key can be remembered.
        let keeps = !request.channels.is_empty() || request.audience.is_none();
        if request.idempotency_key.is_empty() && keeps {
            request.idempotency_key = format!("{:032x}", fastrand::u128(..));
        }
        request
    }
}

/// True if the request can be retried without publishing twice.
pub(crate) fn is_repeatable(request: &proto::PublishRequest) -> bool {
    !request.idempotency_key.is_empty()
        && (!request.channels.is_empty() || request.audience.is_none())
}

/// The result of publishing an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id, a UUID of version 7.
    pub id: String,
    /// One result per channel, in the order of the request.
    pub results: Vec<PublishedIn>,
}

/// The result of publishing an event to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedIn {
    /// The channel. Empty if the event went directly to an audience.
    pub channel: String,
    /// Its position. `None` if the channel keeps no history.
    pub position: Option<Position>,
    /// The number of subscriptions to the channel at that moment.
    pub subscribers: u64,
    /// True if an earlier publish had the same idempotency key. Its result is returned.
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
