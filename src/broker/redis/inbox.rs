//! Messages from Redis on their way to the receiver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// The most bytes that wait. Redis itself disconnects a subscriber that is this far behind.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;

/// A bounded queue. What does not fit is dropped, and noted: positions have to be verified then.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    received: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
    overflowed: bool,
}

/// What was taken from the queue.
pub(super) struct Taken {
    pub(super) messages: VecDeque<Bytes>,
    /// True if messages were dropped since the last time.
    pub(super) overflowed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    pub(super) fn push(&self, message: Bytes) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + message.len() + OVERHEAD;
        if bytes > MAX_BYTES {
            waiting.overflowed = true;
            return;
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        waiting.bytes = bytes;
        waiting.messages.push_back(message);
        if waiting.messages.len() == 1 {
            drop(waiting);
            self.arrived.notify_one();
        }
    }

    /// How many messages were added.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Takes all messages that are there.
    pub(super) fn take_now(&self) -> Taken {
        let all = std::mem::take(&mut *self.lock());
        Taken {
            messages: all.messages,
            overflowed: all.overflowed,
        }
    }

    /// Waits until there are messages, and takes all.
    pub(super) async fn take(&self) -> Taken {
        loop {
            let taken = self.take_now();
            if !taken.messages.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_inbox_drops_and_says_so() {
        let inbox = Inbox::default();
        let message = Bytes::from(vec![0; MAX_BYTES / 4]);
        for _ in 0..5 {
            inbox.push(message.clone());
        }
        let taken = inbox.take().await;
        assert_eq!((taken.messages.len(), taken.overflowed), (3, true));
        inbox.push(message);
        let taken = inbox.take().await;
        assert_eq!((taken.messages.len(), taken.overflowed), (1, false));
    }
}
