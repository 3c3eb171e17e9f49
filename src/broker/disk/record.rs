//! The records on disk.

use prost::Message;

use super::store::REVOCATIONS;
use crate::auth::{Fingerprint, Revocation, RevokedSubject};
use crate::event::Timestamp;

pub(super) use crate::broker::record::{EventRecord, Unreadable, seal, unseal};

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
pub(in crate::broker) struct RevocationRecord {
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
    pub(in crate::broker) fn new(revocation: &Revocation) -> Self {
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

    pub(in crate::broker) fn revocation(self) -> Result<Revocation, Unreadable> {
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
