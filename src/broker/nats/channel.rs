//! One channel on this node: its writer, its receiver, and the part of it that is in memory.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::append::Writer;
use super::history::Window;
use super::receive::Receiver;
use super::stream::Stream;
use super::subject;
use crate::event::ChannelName;

/// A channel with history, on this node.
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) stream: Arc<Stream>,
    /// The subject of its log.
    pub(super) subject: String,
    writer: Mutex<Writer>,
    receiver: Mutex<Receiver>,
    window: Mutex<Window>,
    /// Reads of one channel come one after the other, so that the first fills the cache for all.
    pub(super) reading: tokio::sync::Mutex<()>,
    /// Wakes those who wait until the receiver has a position.
    pub(super) positioned: tokio::sync::Notify,
    /// True once its epoch was returned to a client.
    known: AtomicBool,
    /// How many shards have subscribers of exactly this channel.
    interest: AtomicU32,
    /// When it was last used, in milliseconds.
    used: AtomicU64,
}

impl Channel {
    /// A channel of which nothing is known yet.
    pub(super) fn new(prefix: &str, name: ChannelName, stream: Arc<Stream>, now: u64) -> Self {
        Channel {
            subject: subject::log(prefix, &stream.token, &name),
            name,
            stream,
            writer: Mutex::default(),
            receiver: Mutex::default(),
            window: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            positioned: tokio::sync::Notify::new(),
            known: AtomicBool::new(false),
            interest: AtomicU32::new(0),
            used: AtomicU64::new(now),
        }
    }

    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that its epoch was returned to a client.
    pub(super) fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// True if its epoch was returned to a client.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Notes that it is used now.
    pub(super) fn touch(&self, now: u64) {
        self.used.fetch_max(now, Ordering::Relaxed);
    }

    /// When it was last used, in milliseconds.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds the interest of a shard; true if it is the first.
    pub(super) fn add_interest(&self) -> bool {
        self.interest.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Removes the interest of a shard; true if it was the last.
    pub(super) fn remove_interest(&self) -> bool {
        let before = self
            .interest
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        before == Ok(1)
    }

    /// True while a shard of this node has subscribers of exactly this channel.
    pub(super) fn is_wanted(&self) -> bool {
        self.interest.load(Ordering::Acquire) > 0
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
