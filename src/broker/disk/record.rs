//! The records on disk: versioned, and verified when read.
//!
//! A record is a version, a checksum (XXH3 over its key and its body) and a protobuf message. The
//! key is part of the checksum, so a record under another key is detected too. Fields are only ever
//! added. A change that older programs cannot read gets a new version.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::store::REVOCATIONS;
use crate::auth::{Fingerprint, Revocation, RevokedSubject};
use crate::event::{
    AcceptedAt, Audience, ChannelName, ConnectionId, Draft, Event, EventType, Headers, Payload,
    Position, Timestamp, TraceContext,
};

/// The version of every written record.
const VERSION: u8 = 1;
/// The size of the header: the version and the checksum.
const HEAD: usize = 9;

/// Why a record is unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
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
pub(super) fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
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
pub(super) fn unseal<M: Message + Default>(key: &[u8], record: &[u8]) -> Result<M, Unreadable> {
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
pub(super) struct EventRecord {
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
}

/// The part of an [`EventRecord`] that retention needs.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MarkRecord {
    /// When it was stored, in milliseconds since 1970, by the store's clock.
    #[prost(uint64, tag = "11")]
    pub(super) at: u64,
    /// The bytes that its channel had received before it.
    #[prost(uint64, tag = "12")]
    pub(super) before: u64,
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
    pub(super) fn new(event: &Event, at: u64, before: u64) -> Self {
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
        }
    }

    /// The event, with its position.
    pub(super) fn event(
        self,
        channel: &ChannelName,
        position: Position,
    ) -> Result<Event, Unreadable> {
        let damaged = |_| Unreadable::Damaged;
        let headers = self.headers.into_iter().map(|pair| (pair.name, pair.value));
        let draft = Draft {
            id: Uuid::from_slice(&self.id).map_err(|_| Unreadable::Damaged)?,
            channel: Some(channel.clone()),
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
            accepted: AcceptedAt::UNKNOWN,
        };
        Ok(Event::new(draft, Some(position)))
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

/// The start and end of a channel.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Numbers {
    /// The newest event's offset. 0 if there was none.
    #[prost(uint64, tag = "1")]
    pub(super) last: u64,
    /// When it was stored, in milliseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub(super) last_at: u64,
    /// The total bytes that the channel has received.
    #[prost(uint64, tag = "3")]
    pub(super) total: u64,
    /// The oldest stored event's offset. `last + 1` if there is none.
    #[prost(uint64, tag = "4")]
    pub(super) first: u64,
    /// When that was stored.
    #[prost(uint64, tag = "5")]
    pub(super) first_at: u64,
    /// The bytes that the channel had received before it.
    #[prost(uint64, tag = "6")]
    pub(super) before: u64,
}

impl Numbers {
    /// The stored bytes.
    pub(super) fn kept(&self) -> u64 {
        self.total.saturating_sub(self.before)
    }
}

/// A channel.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ChannelRecord {
    /// Its number in the keys of its events. Never reused.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Its epoch, combined with the store's era.
    #[prost(fixed64, tag = "2")]
    pub(super) epoch: u64,
    /// Its start and end.
    #[prost(message, required, tag = "3")]
    pub(super) now: Numbers,
    /// Events below this offset have been deleted.
    #[prost(uint64, tag = "4")]
    pub(super) removed: u64,
    /// When it was last published to, or created.
    #[prost(uint64, tag = "5")]
    pub(super) used: u64,
    /// The batch that wrote this. 0 if it never needs to be reverted.
    #[prost(uint64, tag = "6")]
    pub(super) batch: u64,
    /// The state before that batch. None if the batch created it.
    #[prost(message, optional, tag = "7")]
    pub(super) previous: Option<Numbers>,
}

/// An idempotency key with its receipt.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyRecord {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) id: Vec<u8>,
    #[prost(fixed64, tag = "4")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "5")]
    pub(super) offset: u64,
    /// The publisher. Empty if an earlier version wrote it, where keys were not scoped to
    /// publishers.
    #[prost(string, tag = "6")]
    pub(super) publisher: String,
}

/// A revocation of tokens. Its field numbers differ from those of [`Manifest`], which is in the
/// same keyspace: an older program reads it as an empty manifest.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RevocationRecord {
    /// The revoked token, if it is one token.
    #[prost(bytes = "vec", optional, tag = "101")]
    token: Option<Vec<u8>>,
    /// The user whose tokens are revoked.
    #[prost(string, optional, tag = "102")]
    user: Option<String>,
    /// In microseconds since 1970, as is the next.
    #[prost(int64, tag = "103")]
    issued_before: i64,
    #[prost(int64, tag = "104")]
    until: i64,
}

impl RevocationRecord {
    pub(super) fn new(revocation: &Revocation) -> Self {
        let (token, user) = match &revocation.subject {
            RevokedSubject::Token(token) => (Some(token.as_bytes().to_vec()), None),
            RevokedSubject::User(user) => (None, Some(user.to_string())),
        };
        RevocationRecord {
            token,
            user,
            issued_before: revocation.issued_before.as_micros(),
            until: revocation.until.as_micros(),
        }
    }

    /// True if it replaced the other one of the same subject.
    pub(super) fn is_later_than(&self, other: &Self) -> bool {
        let of_token = self.token.is_some() && self.until > other.until;
        of_token || self.issued_before > other.issued_before
    }

    /// Its key: one record per subject.
    pub(super) fn key(&self) -> Vec<u8> {
        let token = self.token.as_deref().map(|token| (b"t", token));
        let user = self.user.as_deref().map(|user| (b"u", user.as_bytes()));
        let (kind, subject) = token.or(user).unwrap_or((b"u", b""));
        [REVOCATIONS, kind, subject].concat()
    }

    pub(super) fn revocation(self) -> Result<Revocation, Unreadable> {
        let subject = match (self.token, self.user) {
            (Some(token), None) => {
                let token = token.try_into().map_err(|_| Unreadable::Damaged)?;
                RevokedSubject::Token(Fingerprint::from_bytes(token))
            }
            (None, Some(user)) => RevokedSubject::User(user.into()),
            _ => return Err(Unreadable::Damaged),
        };
        Ok(Revocation {
            subject,
            issued_before: Timestamp::from_micros(self.issued_before),
            until: Timestamp::from_micros(self.until),
        })
    }
}

/// The state of the whole store, written with every batch.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Manifest {
    /// The number of the batch.
    #[prost(uint64, tag = "1")]
    pub(super) batch: u64,
    /// The number of channels.
    #[prost(uint64, tag = "2")]
    pub(super) channels: u64,
    /// The number of the next new channel.
    #[prost(uint64, tag = "3")]
    pub(super) next_id: u64,
    /// The era, mixed into every epoch. A new era gives every channel a new epoch.
    #[prost(fixed64, tag = "4")]
    pub(super) era: u64,
    /// The number of the previous batch. 0 if an older version wrote it.
    #[prost(uint64, tag = "5")]
    pub(super) previous: u64,
    /// The newest batch that was synced before this one was written.
    #[prost(uint64, tag = "6")]
    pub(super) synced: u64,
    /// A lower bound of the database's sequence number of this batch.
    #[prost(uint64, tag = "7")]
    pub(super) sequence: u64,
    /// The keyspaces that this batch writes to, as a bit set.
    #[prost(uint32, tag = "8")]
    pub(super) touches: u32,
    /// The `sequence` of the last earlier batch that wrote to `meta`, and so on.
    #[prost(uint64, tag = "9")]
    pub(super) meta: u64,
    #[prost(uint64, tag = "10")]
    pub(super) channels_at: u64,
    #[prost(uint64, tag = "11")]
    pub(super) events_at: u64,
    #[prost(uint64, tag = "12")]
    pub(super) keys_at: u64,
    /// When the batch was written, by the store's clock. 0 if an older version wrote it.
    #[prost(uint64, tag = "13")]
    pub(super) at: u64,
}

/// The bits of [`Manifest::touches`].
pub(super) const META: u32 = 1;
pub(super) const CHANNELS: u32 = 2;
pub(super) const EVENTS: u32 = 4;
pub(super) const KEYS: u32 = 8;

impl Manifest {
    /// The manifest of the next batch.
    pub(super) fn next(&self, batch: u64, synced: u64) -> Self {
        let [meta, channels_at, events_at, keys_at] = self.written_at();
        Manifest {
            batch,
            previous: self.batch,
            synced,
            sequence: 0,
            touches: 0,
            meta,
            channels_at,
            events_at,
            keys_at,
            ..*self
        }
    }

    /// For each keyspace, the `sequence` of the last batch up to this one that wrote to it. 0 if
    /// none did.
    pub(super) fn written_at(&self) -> [u64; 4] {
        let at = |bit: u32, before: u64| {
            if self.touches & bit == 0 {
                before
            } else {
                self.sequence
            }
        };
        [
            at(META, self.meta),
            at(CHANNELS, self.channels_at),
            at(EVENTS, self.events_at),
            at(KEYS, self.keys_at),
        ]
    }

    /// The same as of the previous batch.
    pub(super) fn written_before(&self) -> [u64; 4] {
        [self.meta, self.channels_at, self.events_at, self.keys_at]
    }
}
