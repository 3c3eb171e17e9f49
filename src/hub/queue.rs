//! The queue through which events and commands reach a shard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::command::ShardCommand;
use super::delivery::Delivery;
use super::sync::{AtomicBool, AtomicUsize, Notify, SegQueue, Waker};

/// One entry of a shard's queue.
pub(super) enum Inbound {
    /// An event to fan out.
    Event(Arc<Delivery>),
    /// Anything else, executed on the shard's own thread.
    Command(Box<ShardCommand>),
}

impl Inbound {
    /// The memory that it uses, in bytes. The memory of a command is bounded by its sender.
    fn weight(&self) -> usize {
        match self {
            Inbound::Event(delivery) => delivery.weight(),
            Inbound::Command(_) => 0,
        }
    }
}

/// The high-water marks of a queue, above which publishers wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct HighWater {
    /// Events and commands.
    pub(super) len: usize,
    /// Bytes of events.
    pub(super) bytes: usize,
}

impl HighWater {
    /// The marks of every shard.
    pub(super) const SHARD: HighWater = HighWater {
        len: 16_384,
        bytes: INBOX_BYTES,
    };
}

/// The most bytes of events queued for a shard: a term of the server's memory bound.
pub const INBOX_BYTES: usize = 32 * 1024 * 1024;

/// One shard's queue. A push takes no lock, and wakes the shard at most once however much is pushed
/// while it sleeps. A push never fails: publishers check [`ShardQueue::is_full`] first and wait.
pub(super) struct ShardQueue {
    queue: SegQueue<Inbound>,
    len: AtomicUsize,
    /// The bytes of the queued events.
    bytes: AtomicUsize,
    /// True while the entries have an owner: a round of the shard will drain them, or the pusher
    /// that changed this from false to true is about to wake the shard.
    awake: AtomicBool,
    waker: Waker,
    high_water: HighWater,
    ready: Notify,
}

impl ShardQueue {
    /// An empty queue that wakes the shard through `waker`, and is full above `high_water`.
    #[must_use]
    pub(super) fn new(waker: Waker, high_water: HighWater) -> Self {
        ShardQueue {
            queue: SegQueue::new(),
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            awake: AtomicBool::new(false),
            waker,
            high_water,
            ready: Notify::new(),
        }
    }

    /// Pushes an entry, and wakes the shard if it sleeps.
    pub(super) fn push(&self, inbound: Inbound) {
        if self.push_deferred(inbound) {
            self.wake();
        }
    }

    /// Pushes an entry. True if the shard sleeps and no other pusher is about to wake it: the
    /// caller must wake it, or run a round in its place
    /// ([`ShardCell::run_or_wake`](super::shard_cell::ShardCell::run_or_wake)).
    #[must_use = "a shard that is not woken keeps sleeping"]
    pub(super) fn push_deferred(&self, inbound: Inbound) -> bool {
        self.len.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(inbound.weight(), Ordering::Relaxed);
        self.queue.push(inbound);
        !self.awake.swap(true, Ordering::SeqCst)
    }

    /// Wakes the shard's thread: its current or its next poll returns.
    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log_wake_failure(&error);
        }
    }

    /// True if publishers should wait.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.len.load(Ordering::Relaxed) >= self.high_water.len
            || self.bytes.load(Ordering::Relaxed) >= self.high_water.bytes
    }

    /// Waits until the queue is below its high-water marks.
    pub(super) async fn ready(&self) {
        loop {
            let notified = self.ready.notified();
            if !self.is_full() {
                return;
            }
            notified.await;
        }
    }

    /// A round is about to drain the queue: entries pushed from now on wake the shard again. This
    /// is a swap, not a store: it must synchronise with every pusher that read `true`, so that the
    /// round sees their entries.
    pub(super) fn begin_round(&self) {
        self.awake.swap(false, Ordering::SeqCst);
    }

    /// Pops the next entry.
    pub(super) fn pop(&self) -> Option<Inbound> {
        let inbound = self.queue.pop()?;
        let weight = inbound.weight();
        let len = self.len.fetch_sub(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_sub(weight, Ordering::Relaxed);
        // Waiting publishers are notified when either count falls to half of its mark: a queue that
        // is full by bytes alone may never pass half of its length.
        let half = self.high_water.bytes / 2;
        let passed = bytes > half && bytes.saturating_sub(weight) <= half;
        if len == self.high_water.len / 2 || passed {
            self.ready.notify_waiters();
        }
        Some(inbound)
    }

    /// True if the queue is empty.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cold]
fn log_wake_failure(error: &io::Error) {
    tracing::error!(%error, "a shard could not be woken");
}
