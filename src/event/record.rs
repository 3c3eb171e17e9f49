//! Events: as a draft without an offset, and as stored with one.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    AcceptedAt, Audience, ChannelName, EventType, Payload, Position, Timestamp, TraceContext,
    allocated,
};
use crate::error::{Error, Result};

/// Header pairs of an event, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<[Pair]>>);

type Pair = (Box<str>, Box<str>);

impl Headers {
    /// The most pairs.
    pub const MAX_PAIRS: usize = 32;
    /// The most bytes in total.
    pub const MAX_BYTES: usize = 8192;

    /// Takes pairs. Names are 1 to 128 visible ASCII characters.
    ///
    /// # Errors
    /// `invalid_argument` for the field `headers`.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut pairs: Vec<Pair> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        if pairs.is_empty() {
            return Ok(Headers(None));
        }
        let bytes: usize = pairs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if pairs.len() > Self::MAX_PAIRS || bytes > Self::MAX_BYTES {
            return Err(Error::field(
                "headers",
                "expected at most 32 pairs and 8192 bytes in all",
            ));
        }
        let visible = |name: &str| {
            (1..=128).contains(&name.len()) && name.bytes().all(|b| (0x21..0x7f).contains(&b))
        };
        if !pairs.iter().all(|(name, _)| visible(name)) {
            return Err(Error::field(
                "headers",
                "expected names of 1 to 128 visible ASCII characters",
            ));
        }
        pairs.sort();
        Ok(Headers(Some(pairs.into())))
    }

    /// The pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .flat_map(|pairs| pairs.iter())
            .map(|(name, value)| (&**name, &**value))
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The memory that they take, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let pairs = self.0.as_deref().unwrap_or_default();
        let texts = pairs
            .iter()
            .map(|(name, value)| allocated(name.len()) + allocated(value.len()));
        allocated(size_of_val(pairs)) + texts.sum::<usize>()
    }
}

/// Identifies repeats of a publish. The key is scoped to its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The publisher, by a name that is stable across restarts.
    pub publisher: Arc<str>,
    /// The key.
    pub key: Box<str>,
}

impl IdempotencyKey {
    /// True if the publisher is a service. The first letter of its name says so: see
    /// [`Identity::publisher`](crate::auth::Identity::publisher).
    #[must_use]
    pub fn is_of_service(&self) -> bool {
        self.publisher.starts_with(['s', 'c'])
    }
}

/// An event without an offset.
#[derive(Debug, Clone)]
pub struct Draft {
    /// UUID version 7, the same in all channels of one publish.
    pub id: Uuid,
    /// The target channel. `None` delivers directly to the audience.
    pub channel: Option<ChannelName>,
    /// The event type.
    pub event_type: EventType,
    /// The data.
    pub payload: Payload,
    /// Free pairs.
    pub headers: Headers,
    /// The conflation key.
    pub key: Option<Arc<str>>,
    /// Makes a repeated publish return the position of the first. The broker removes it: stored
    /// events have none.
    pub idempotency_key: Option<Arc<IdempotencyKey>>,
    /// The audience.
    pub audience: Option<Arc<Audience>>,
    /// The publisher.
    pub source: Option<Arc<str>>,
    /// When the event happened.
    pub time: Timestamp,
    /// The context of the publishing node's `fanout` span, or the publisher's own.
    pub trace: Option<TraceContext>,
    /// When the publish was accepted, for measuring delivery latency.
    pub accepted: AcceptedAt,
}

/// An event as it is stored in its channel.
#[derive(Debug, Clone)]
pub struct Event {
    /// The published draft.
    pub draft: Draft,
    /// Its position. `None` if the channel keeps no history.
    pub position: Option<Position>,
    weight: usize,
}

impl Event {
    /// Assigns a position to a draft.
    #[must_use]
    pub fn new(draft: Draft, position: Option<Position>) -> Self {
        let weight = draft.weight();
        Event {
            draft,
            position,
            weight,
        }
    }

    /// True if the event has no channel and is addressed by role. Such an event is matched against
    /// every connection.
    #[must_use]
    pub fn is_for_roles(&self) -> bool {
        let audience = self.audience.as_ref();
        self.channel.is_none() && audience.is_some_and(|audience| !audience.roles.is_empty())
    }

    /// The length of its data, in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload.data().len()
    }

    /// The memory that it takes, in bytes. Computed once.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl std::ops::Deref for Event {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.draft
    }
}

/// A new event id: UUID version 7 (RFC 9562 §5.7) of the current time.
impl Draft {
    /// An id for an event accepted at this time.
    #[must_use]
    pub fn new_id(now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let random = fastrand::u128(..).to_ne_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}
