//! An event before and after it has its place.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::{
    Audience, ChannelName, EventType, Payload, Position, Timestamp, TraceContext, allocated,
};
use crate::error::{Error, Result};

/// Free pairs that travel with an event, in order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<[Pair]>>);

type Pair = (Box<str>, Box<str>);

impl Headers {
    /// The most pairs.
    pub const MAX_PAIRS: usize = 32;
    /// The most bytes in all.
    pub const MAX_BYTES: usize = 8192;

    /// Takes pairs; names are 1 to 128 visible ASCII characters.
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

    /// How much memory they take, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let pairs = self.0.as_deref().unwrap_or_default();
        let texts = pairs
            .iter()
            .map(|(name, value)| allocated(name.len()) + allocated(value.len()));
        allocated(size_of_val(pairs)) + texts.sum::<usize>()
    }
}

/// What makes a repeat of a publish known: a key, and whose it is. The same key of another publisher
/// is another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Who publishes, by a name that stays the same over restarts.
    pub publisher: Arc<str>,
    /// The key.
    pub key: Box<str>,
}

impl IdempotencyKey {
    /// True if it is a service's, by the first letter of the publisher's name: see
    /// [`Identity::publisher`](crate::auth::Identity::publisher).
    #[must_use]
    pub fn is_of_service(&self) -> bool {
        self.publisher.starts_with(['s', 'c'])
    }
}

/// An event that has no place yet.
#[derive(Debug, Clone)]
pub struct Draft {
    /// UUID version 7; one id for all channels of one publish.
    pub id: Uuid,
    /// Where to; `None` goes straight to the audience.
    pub channel: Option<ChannelName>,
    /// What happened.
    pub event_type: EventType,
    /// The data.
    pub payload: Payload,
    /// Free pairs.
    pub headers: Headers,
    /// What it is about, for conflation.
    pub key: Option<Arc<str>>,
    /// Makes a repeat answer the first one's position. A broker takes it out: events have none.
    pub idempotency_key: Option<Arc<IdempotencyKey>>,
    /// For whom.
    pub audience: Option<Arc<Audience>>,
    /// Who published it.
    pub source: Option<Arc<str>>,
    /// When it happened.
    pub time: Timestamp,
    /// The `fanout` span's context, or the publisher's own.
    pub trace: Option<TraceContext>,
    /// When the publish was accepted, to tell how long delivery took.
    pub accepted: Instant,
}

/// An event as it stands in its channel.
#[derive(Debug, Clone)]
pub struct Event {
    /// What was published.
    pub draft: Draft,
    /// Its place; `None` where the channel keeps no history.
    pub position: Option<Position>,
    weight: usize,
}

impl Event {
    /// Gives a draft its place.
    #[must_use]
    pub fn new(draft: Draft, position: Option<Position>) -> Self {
        let weight = draft.weight();
        Event {
            draft,
            position,
            weight,
        }
    }

    /// True for an event without a channel for whoever has one of some roles: each connection is
    /// looked at, however few get it.
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

    /// How much memory it takes, in bytes; summed up once.
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

/// A new event id: UUID version 7 (RFC 9562 §5.7) of this time.
impl Draft {
    /// Makes an id for an event accepted at this time.
    #[must_use]
    pub fn new_id(now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let random = fastrand::u128(..).to_ne_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}
