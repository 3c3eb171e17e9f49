//! Batches: the records of a channel's log, one JetStream message each.
//!
//! A batch holds up to 256 events that were appended together. It names its epoch, the offset of
//! its first event and the sequence of the batch before it, so that a reader can tell a hole, a
//! repeat and the start of a new epoch from the batch alone.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::stream::Stream;
use crate::broker::record::{EventRecord, Unreadable, seal, unseal};
use crate::event::{ChannelName, Event, IdempotencyKey, Position};

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    /// Events of a channel with history.
    Events = 0,
    /// No events: records the channel's head, so that its epoch outlives its events.
    Head = 1,
    /// No events: the channel continues with a new epoch, from offset 1.
    Renumber = 2,
    /// Events of a channel without history. Never in a log.
    Plain = 3,
    /// Events without a channel, for the connections of their audience. Never in a log.
    Direct = 4,
}

/// A batch, as it is stored and sent.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchRecord {
    #[prost(fixed64, tag = "1")]
    epoch: u64,
    /// The offset of the first event; of the next one if there is none.
    #[prost(uint64, tag = "2")]
    first: u64,
    #[prost(enumeration = "Kind", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    events: Vec<EventRecord>,
    /// When it was appended, in milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    at: u64,
    /// The bytes that the channel had received before it.
    #[prost(uint64, tag = "6")]
    total: u64,
    /// The sequence of the channel's batch before it. 0 if there is none.
    #[prost(uint64, tag = "7")]
    previous: u64,
    /// The node that appended it: random for each process.
    #[prost(fixed64, tag = "8")]
    node: u64,
}

impl BatchRecord {
    /// A batch without events.
    pub(super) fn empty(kind: Kind, head: &Head, at: u64, node: u64) -> Self {
        BatchRecord {
            epoch: head.epoch,
            first: head.top + 1,
            kind: kind.into(),
            events: Vec::new(),
            at,
            total: head.total,
            previous: head.seq,
            node,
        }
    }

    /// A batch of events that are in no log.
    pub(super) fn unlogged(kind: Kind, events: Vec<EventRecord>, node: u64) -> Self {
        BatchRecord {
            epoch: 0,
            first: 0,
            kind: kind.into(),
            events,
            at: 0,
            total: 0,
            previous: 0,
            node,
        }
    }

    /// The same with these events.
    pub(super) fn with(mut self, events: Vec<EventRecord>) -> Self {
        self.events = events;
        self
    }

    /// The message to store, bound to its subject.
    pub(super) fn seal(&self, subject: &str) -> Bytes {
        Bytes::from(seal(subject.as_bytes(), self))
    }

    /// Reads a message of this subject.
    pub(super) fn unseal(subject: &str, body: &[u8]) -> Result<Self, Unreadable> {
        unseal(subject.as_bytes(), body)
    }

    /// Its epoch, as it is stored.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it is for.
    pub(super) fn what(&self) -> Kind {
        Kind::try_from(self.kind).unwrap_or(Kind::Head)
    }

    /// The node that sent it.
    pub(super) fn node(&self) -> u64 {
        self.node
    }

    /// Its events.
    pub(super) fn into_events(self) -> Vec<EventRecord> {
        self.events
    }
}

/// The head of a channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The epoch, as it is stored.
    pub(super) epoch: u64,
    /// The newest event's offset.
    pub(super) top: u64,
    /// The sequence of the newest batch. 0 if there is none.
    pub(super) seq: u64,
    /// When that was appended, in milliseconds since 1970.
    pub(super) at: u64,
    /// The bytes that the channel has received in this epoch.
    pub(super) total: u64,
}

/// A batch of a log, read.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) epoch: u64,
    pub(super) first: u64,
    pub(super) kind: Kind,
    pub(super) seq: u64,
    pub(super) previous: u64,
    pub(super) at: u64,
    pub(super) events: Vec<StoredEvent>,
    /// The bytes that the channel had received before it.
    before: u64,
}

/// An event of a [`Stored`] batch.
#[derive(Debug, Clone)]
pub(super) struct StoredEvent {
    pub(super) event: Arc<Event>,
    /// When it was appended, in milliseconds since 1970.
    pub(super) at: u64,
    /// The bytes that its channel had received before it.
    pub(super) before: u64,
    pub(super) key: Option<IdempotencyKey>,
}

impl Stored {
    /// Reads the message of this sequence.
    pub(super) fn read(
        channel: &ChannelName,
        stream: &Stream,
        subject: &str,
        seq: u64,
        body: &[u8],
    ) -> Result<Self, Unreadable> {
        Self::of(channel, stream, BatchRecord::unseal(subject, body)?, seq)
    }

    /// The batch of this sequence.
    pub(super) fn of(
        channel: &ChannelName,
        stream: &Stream,
        batch: BatchRecord,
        seq: u64,
    ) -> Result<Self, Unreadable> {
        let (kind, epoch) = (batch.what(), stream.shown(batch.epoch));
        let mut events = Vec::with_capacity(batch.events.len());
        for (offset, record) in (batch.first..).zip(batch.events) {
            let (at, before, key) = (record.at(), record.before(), record.idempotency());
            let event = record.event(channel, Position { epoch, offset })?;
            events.push(StoredEvent {
                event: Arc::new(event),
                at,
                before,
                key,
            });
        }
        Ok(Stored {
            epoch: batch.epoch,
            first: batch.first,
            kind,
            seq,
            previous: batch.previous,
            at: batch.at,
            events,
            before: batch.total,
        })
    }

    /// The offset of its last event; of the event before it if it has none.
    pub(super) fn last(&self) -> u64 {
        let events = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        self.first.saturating_sub(1).saturating_add(events)
    }

    /// The head of the log after it.
    pub(super) fn head(&self) -> Head {
        let total = self.events.last().map_or(self.before, |last| {
            let weight = u64::try_from(last.event.weight()).unwrap_or(u64::MAX);
            last.before.saturating_add(weight)
        });
        Head {
            epoch: self.epoch,
            top: self.last(),
            seq: self.seq,
            at: self.at,
            total,
        }
    }

    /// Its events' ids with their offsets.
    pub(super) fn ids(&self) -> impl Iterator<Item = (Uuid, u64)> {
        let ids = self.events.iter().map(|stored| stored.event.id);
        ids.zip(self.first..)
    }

    /// The memory that its events take, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.events.iter().map(|stored| stored.event.weight()).sum()
    }
}
