//! Records of events, as stores and engines keep them: versioned, and verified when read.
//!
//! A record is a version, a checksum (XXH3 over its key and its body) and a protobuf message. The
//! key is part of the checksum, so a record under another key is detected too. Fields are only ever
//! added. A change that older programs cannot read gets a new version.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use crate::event::{
    AcceptedAt, Audience, ChannelName, ConnectionId, Draft, Event, EventType, Headers,
    IdempotencyKey, Payload, Position, Timestamp, TraceContext,
};

/// The version of every written record.
const VERSION: u8 = 1;
/// The size of the header: the version and the checksum.
const HEAD: usize = 9;

/// Why a record is unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Unreadable {
    /// Its checksum is wrong, or its contents are invalid.
    Damaged,
    /// A newer program wrote it.
    Newer,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unreadable::Damaged => "the record is damaged",
            Unreadable::Newer => "a newer version of the program wrote the record",
        })
    }
}

/// Encodes a message as the record of `key`.
pub(in crate::broker) fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + message.encoded_len());
    record.push(VERSION);
    record.extend_from_slice(&[0; 8]);
    // Cannot fail: a vector grows as needed.
    message.encode(&mut record).unwrap_or_default();
    let (head, body) = record.split_at_mut(HEAD);
    let sum = checksum(key, body).to_le_bytes();
    if let Some(place) = head.get_mut(1..) {
        place.copy_from_slice(&sum);
    }
    record
}

/// Decodes the message in the record of `key`.
pub(in crate::broker) fn unseal<M: Message + Default>(
    key: &[u8],
    record: &[u8],
) -> Result<M, Unreadable> {
    let (head, body) = record.split_at_checked(HEAD).ok_or(Unreadable::Damaged)?;
    let (version, sum) = head.split_first().ok_or(Unreadable::Damaged)?;
    if *version > VERSION {
        return Err(Unreadable::Newer);
    }
    if *version == 0 || sum != checksum(key, body).to_le_bytes() {
        return Err(Unreadable::Damaged);
    }
    M::decode(body).map_err(|_| Unreadable::Damaged)
}

fn checksum(key: &[u8], body: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(key);
    sum.update(body);
    sum.digest()
}

/// An event of a channel.
#[derive(Clone, PartialEq, Message)]
pub(in crate::broker) struct EventRecord {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    event_type: String,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
    #[prost(string, optional, tag = "4")]
    content_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    headers: Vec<HeaderRecord>,
    #[prost(string, optional, tag = "6")]
    key: Option<String>,
    #[prost(message, optional, tag = "7")]
    audience: Option<AudienceRecord>,
    #[prost(string, optional, tag = "8")]
    source: Option<String>,
    #[prost(int64, tag = "9")]
    time: i64,
    #[prost(message, optional, tag = "10")]
    trace: Option<TraceRecord>,
    #[prost(uint64, tag = "11")]
    at: u64,
    #[prost(uint64, tag = "12")]
    before: u64,
    /// The publisher of the idempotency key. Only engines keep it with the event.
    #[prost(string, optional, tag = "13")]
    publisher: Option<String>,
    #[prost(string, optional, tag = "14")]
    idempotency_key: Option<String>,
    /// When its publish was accepted, in microseconds since 1970. Only engines keep it. 0: not known.
    #[prost(int64, tag = "15")]
    accepted: i64,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderRecord {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct AudienceRecord {
    #[prost(string, repeated, tag = "1")]
    users: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    roles: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    connections: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    except_connections: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceRecord {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(fixed64, tag = "2")]
    span_id: u64,
    #[prost(bool, tag = "3")]
    sampled: bool,
    #[prost(string, optional, tag = "4")]
    state: Option<String>,
}

impl EventRecord {
    /// The record of an event that was stored `at`, after this many bytes of its channel.
    pub(in crate::broker) fn new(event: &Event, at: u64, before: u64) -> Self {
        let header = |(name, value): (&str, &str)| HeaderRecord {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        EventRecord {
            id: event.id.as_bytes().to_vec(),
            event_type: event.event_type.as_str().to_owned(),
            data: event.payload.data().clone(),
            content_type: owned(event.payload.explicit_content_type()),
            headers: event.headers.iter().map(header).collect(),
            key: owned(event.key.as_ref()),
            audience: event.audience.as_deref().map(AudienceRecord::new),
            source: owned(event.source.as_ref()),
            time: event.time.as_micros(),
            trace: event.trace.as_ref().map(TraceRecord::new),
            at,
            before,
            publisher: None,
            idempotency_key: None,
            accepted: 0,
        }
    }

    /// The same for other nodes: with the event's idempotency key, so that every node that reads the
    /// record knows it, and with the time from which they measure latency.
    pub(in crate::broker) fn for_nodes(
        mut self,
        accepted: AcceptedAt,
        key: Option<&IdempotencyKey>,
    ) -> Self {
        self.accepted = accepted.wall().map_or(0, Timestamp::as_micros);
        self.publisher = key.map(|key| key.publisher.to_string());
        self.idempotency_key = key.map(|key| key.key.to_string());
        self
    }

    /// Its idempotency key.
    pub(in crate::broker) fn idempotency(&self) -> Option<IdempotencyKey> {
        Some(IdempotencyKey {
            publisher: self.publisher.as_deref()?.into(),
            key: self.idempotency_key.as_deref()?.into(),
        })
    }

    /// When it was stored, in milliseconds since 1970, by the clock of the node that stored it.
    pub(in crate::broker) fn at(&self) -> u64 {
        self.at
    }

    /// The bytes that its channel had received before it.
    pub(in crate::broker) fn before(&self) -> u64 {
        self.before
    }

    /// The event, with its position.
    pub(in crate::broker) fn event(
        self,
        channel: &ChannelName,
        position: Position,
    ) -> Result<Event, Unreadable> {
        Ok(Event::new(self.draft(Some(channel))?, Some(position)))
    }

    /// The event without a position. A direct event has no channel.
    pub(in crate::broker) fn draft(
        self,
        channel: Option<&ChannelName>,
    ) -> Result<Draft, Unreadable> {
        let damaged = |_| Unreadable::Damaged;
        let headers = self.headers.into_iter().map(|pair| (pair.name, pair.value));
        Ok(Draft {
            id: Uuid::from_slice(&self.id).map_err(|_| Unreadable::Damaged)?,
            channel: channel.cloned(),
            event_type: EventType::new(&self.event_type).map_err(damaged)?,
            payload: Payload::restored(self.data, self.content_type.map(Arc::from)),
            headers: Headers::new(headers).map_err(damaged)?,
            key: self.key.map(Arc::from),
            idempotency_key: None,
            audience: match self.audience {
                Some(audience) => Some(Arc::new(audience.audience()?)),
                None => None,
            },
            source: self.source.map(Arc::from),
            time: Timestamp::from_micros(self.time),
            trace: match self.trace {
                Some(trace) => Some(trace.context()?),
                None => None,
            },
            accepted: match self.accepted {
                0 => AcceptedAt::UNKNOWN,
                micros => AcceptedAt::elsewhere(Timestamp::from_micros(micros)),
            },
        })
    }
}

fn owned(text: Option<&Arc<str>>) -> Option<String> {
    text.map(|text| text.as_ref().to_owned())
}

impl AudienceRecord {
    fn new(audience: &Audience) -> Self {
        let texts = |names: &[Arc<str>]| names.iter().map(|n| n.as_ref().to_owned()).collect();
        let ids = |ids: &[ConnectionId]| ids.iter().map(ToString::to_string).collect();
        AudienceRecord {
            users: texts(&audience.users),
            roles: texts(&audience.roles),
            connections: ids(&audience.connections),
            except_connections: ids(&audience.except_connections),
        }
    }

    fn audience(self) -> Result<Audience, Unreadable> {
        let names = |texts: Vec<String>| texts.into_iter().map(Arc::from).collect();
        let ids = |texts: Vec<String>| {
            let ids = texts.iter().map(|text| text.parse::<ConnectionId>());
            ids.collect::<Result<Vec<_>, _>>()
                .map_err(|_| Unreadable::Damaged)
        };
        Ok(Audience {
            users: names(self.users),
            roles: names(self.roles),
            connections: ids(self.connections)?,
            except_connections: ids(self.except_connections)?,
        })
    }
}

impl TraceRecord {
    fn new(trace: &TraceContext) -> Self {
        TraceRecord {
            trace_id: trace.trace_id.to_be_bytes().to_vec(),
            span_id: trace.span_id,
            sampled: trace.sampled,
            state: owned(trace.state.as_ref()),
        }
    }

    fn context(self) -> Result<TraceContext, Unreadable> {
        let trace_id = self.trace_id.try_into().map_err(|_| Unreadable::Damaged)?;
        Ok(TraceContext {
            trace_id: u128::from_be_bytes(trace_id),
            span_id: self.span_id,
            sampled: self.sampled,
            state: self.state.map(Arc::from),
        })
    }
}
