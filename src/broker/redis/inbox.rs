//! Messages from Redis on their way to the receiver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What a message costs beside its bytes.
const OVERHEAD: usize = 64;

/// A bounded queue. What does not fit is dropped, and noted: positions have to be verified then.
pub(super) struct Inbox {
    most_bytes: usize,
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
    /// A queue of so many bytes. Redis itself disconnects a subscriber that is far behind.
    pub(super) fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Inbox {
            most_bytes,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            received: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    pub(super) fn push(&self, message: Bytes) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + message.len() + OVERHEAD;
        if bytes > self.most_bytes {
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
        let inbox = Inbox::new(4096);
        let message = Bytes::from(vec![0; 1024]);
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
