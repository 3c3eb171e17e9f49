//! Streams: one JetStream stream for each namespace with history.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::subject;
use crate::event::{ChannelName, Epoch, Namespace};

/// The most events of one batch.
pub(super) const BATCH_EVENTS: usize = 256;
/// What a batch may take beyond its largest event, in bytes.
pub(super) const BATCH_EXTRA: usize = 128 * 1024;
/// How long a record stays, at least: longer than idempotency keys live.
const SHORTEST_KEEP: Duration = Duration::from_mins(15);
/// How much longer than a channel's history its last record stays.
const KEEP_EXTRA: Duration = Duration::from_mins(10);

/// How a look at a stream changes what this node knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Its epochs are the same.
    Nothing,
    /// Its records are the same, and their epochs are shown as others.
    Renewed,
    /// It was removed and made again.
    Recreated,
}

/// The stream of a namespace.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its name.
    pub(super) name: String,
    /// The token of its subjects: the namespace, or [`subject::UNDECLARED`].
    pub(super) token: String,
    /// Distinguishes the epochs of this stream from those before it was renewed.
    salt: AtomicU64,
    /// How long a record stays, in milliseconds.
    keep: AtomicU64,
    /// The sequence at which it began. A removed stream that was made again begins at a higher one.
    first_seq: AtomicU64,
    /// True once an event of the namespace was published without an offset, so that the salt was
    /// renewed.
    bypassed: AtomicBool,
}

impl Stream {
    /// A stream with this configuration.
    pub(super) fn new(token: String, config: &StreamConfig) -> Self {
        Stream {
            name: config.name.clone(),
            token,
            salt: AtomicU64::new(config.salt().unwrap_or(0)),
            keep: AtomicU64::new(millis(config.keep())),
            first_seq: AtomicU64::new(config.first_seq),
            bypassed: AtomicBool::new(false),
        }
    }

    /// The epoch that clients see.
    pub(super) fn shown(&self, epoch: u64) -> Epoch {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&epoch.to_le_bytes());
        bytes[8..].copy_from_slice(&self.salt.load(Ordering::Acquire).to_le_bytes());
        Epoch::from_bits(xxh3_64(&bytes).max(1))
    }

    /// The epoch of a channel without a record: the same on every node until the first record is
    /// appended. A record stays for `keep`, so a channel that has emptied is in a later period, and
    /// the epoch that it had is not computed again.
    pub(super) fn computed_epoch(&self, channel: &ChannelName, now: u64) -> u64 {
        let period = now / self.keep().max(1);
        let salt = self.salt.load(Ordering::Acquire);
        xxh3_64(format!("{salt:016x}/{period}/{channel}").as_bytes()) | 1
    }

    /// How long a record stays, in milliseconds.
    pub(super) fn keep(&self) -> u64 {
        self.keep.load(Ordering::Relaxed)
    }

    /// True if a record appended at this time has expired.
    pub(super) fn has_forgotten(&self, at: u64, now: u64) -> bool {
        now.saturating_sub(at) > self.keep()
    }

    /// Takes over the server's values.
    pub(super) fn set(&self, config: &StreamConfig) -> Change {
        self.keep.store(millis(config.keep()), Ordering::Relaxed);
        let first = self.first_seq.swap(config.first_seq, Ordering::AcqRel);
        let salt = config.salt().unwrap_or(0);
        let is_renewed = self.salt.swap(salt, Ordering::AcqRel) != salt;
        if first != config.first_seq {
            Change::Recreated
        } else if is_renewed {
            Change::Renewed
        } else {
            Change::Nothing
        }
    }

    /// True if a record of this sequence was in a stream that was removed since.
    pub(super) fn has_lost(&self, seq: u64) -> bool {
        seq < self.first_seq.load(Ordering::Acquire)
    }

    /// True once an event was published without an offset, and the epochs before it have ended.
    pub(super) fn is_bypassed(&self) -> bool {
        self.bypassed.load(Ordering::Acquire)
    }

    /// Records that the epochs have ended because events are published without offsets.
    pub(super) fn set_bypassed(&self) {
        self.bypassed.store(true, Ordering::Release);
    }

    /// Records that events have offsets again.
    pub(super) fn in_use(&self) {
        if self.bypassed.load(Ordering::Acquire) {
            self.bypassed.store(false, Ordering::Release);
        }
    }
}

/// How long the records of a namespace stay.
pub(super) fn keep_of(namespace: &Namespace) -> Duration {
    namespace
        .history
        .ttl
        .saturating_add(namespace.max_idle)
        .saturating_add(KEEP_EXTRA)
        .max(SHORTEST_KEEP)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where events of a stream are published again, for live delivery.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
struct Republish {
    src: String,
    dest: String,
}

/// The configuration of a stream, as JetStream's API has it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct StreamConfig {
    name: String,
    subjects: Vec<String>,
    retention: String,
    storage: String,
    num_replicas: u8,
    /// Nanoseconds.
    pub(super) max_age: u64,
    pub(super) max_msgs_per_subject: i64,
    max_bytes: i64,
    discard: String,
    max_msg_size: i64,
    allow_direct: bool,
    deny_delete: bool,
    deny_purge: bool,
    duplicate_window: u64,
    #[serde(default)]
    first_seq: u64,
    republish: Option<Republish>,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

const SALT: &str = "tidings.salt";

/// The inputs of a stream's configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) prefix: &'a str,
    pub(super) token: &'a str,
    pub(super) replicas: u8,
    pub(super) max_bytes: u64,
    pub(super) event_bytes: usize,
}

impl StreamConfig {
    /// The configuration of a new stream for a namespace.
    pub(super) fn new(shape: Shape<'_>, namespace: &Namespace, now: u64, salt: u64) -> Self {
        let Shape { prefix, token, .. } = shape;
        let subjects = subject::logs(prefix, token);
        let events = namespace.history.size.max(4000).saturating_add(96);
        let size = shape.event_bytes.saturating_add(BATCH_EXTRA);
        StreamConfig {
            name: stream_name(prefix, token),
            subjects: vec![subjects.clone()],
            retention: "limits".into(),
            storage: "file".into(),
            num_replicas: shape.replicas,
            max_age: u64::try_from(keep_of(namespace).as_nanos()).unwrap_or(0),
            max_msgs_per_subject: i64::try_from(events).unwrap_or(-1),
            max_bytes: match shape.max_bytes {
                0 => -1,
                bytes => i64::try_from(bytes).unwrap_or(-1),
            },
            discard: "old".into(),
            max_msg_size: i64::try_from(size).unwrap_or(-1),
            allow_direct: true,
            deny_delete: true,
            deny_purge: true,
            duplicate_window: 1_000_000_000,
            // Sequences grow even across the removal of a stream, so an old compare value never
            // fits.
            first_seq: now.saturating_mul(1024).max(1),
            republish: Some(Republish {
                src: subjects,
                dest: format!("{prefix}.e.>"),
            }),
            metadata: [
                ("tidings.format".to_owned(), "1".to_owned()),
                (SALT.to_owned(), format!("{salt:016x}")),
            ]
            .into(),
        }
    }

    /// The salt of the stream's epochs.
    pub(super) fn salt(&self) -> Option<u64> {
        u64::from_str_radix(self.metadata.get(SALT)?, 16).ok()
    }

    /// The same with another salt.
    pub(super) fn renewed(mut self, salt: u64) -> Self {
        self.metadata
            .insert(SALT.to_owned(), format!("{salt:016x}"));
        self
    }

    /// This configuration, extended by whatever `wanted` keeps longer or allows more; `None` if it
    /// is wide enough already.
    pub(super) fn widened(&self, wanted: &StreamConfig) -> Option<Self> {
        let mut wide = self.clone();
        wide.max_age = self.max_age.max(wanted.max_age);
        wide.max_msgs_per_subject = self.max_msgs_per_subject.max(wanted.max_msgs_per_subject);
        wide.max_msg_size = self.max_msg_size.max(wanted.max_msg_size);
        wide.max_bytes = wanted.max_bytes;
        wide.num_replicas = wanted.num_replicas;
        (wide != *self).then_some(wide)
    }

    /// The same with as many replicas as the other.
    pub(super) fn with_replicas_of(mut self, other: &Self) -> Self {
        self.num_replicas = other.num_replicas;
        self
    }

    /// How long its records stay.
    pub(super) fn keep(&self) -> Duration {
        Duration::from_nanos(self.max_age)
    }
}

/// The name of the stream of this token.
pub(super) fn stream_name(prefix: &str, token: &str) -> String {
    if token == subject::UNDECLARED {
        return format!("{prefix}_log__other");
    }
    format!("{prefix}_log_{}", subject::stream_part(token))
}
