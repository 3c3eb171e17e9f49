//! The types of `src/hub/sync.rs`, over loom.
//!
//! Loom has no queue, no waker of a poll, no `Notify` and no `OnceLock`. These replacements
//! keep the promises of their documentation.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use loom::sync::Condvar;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
pub(super) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};

/// Hashes alike in every run of a model.
pub(super) type RandomState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// A queue of any length.
pub(super) struct SegQueue<T>(Mutex<VecDeque<T>>);

impl<T> SegQueue<T> {
    pub(super) fn new() -> Self {
        SegQueue(Mutex::new(VecDeque::new()))
    }

    pub(super) fn push(&self, value: T) {
        self.0.lock().unwrap().push_back(value);
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.0.lock().unwrap().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// Ends the wait of a poll: the current one, or else the next.
#[derive(Clone)]
pub(super) struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    pub(super) fn new() -> Self {
        Waker(Arc::new((Mutex::new(false), Condvar::new())))
    }

    pub(super) fn wake(&self) -> std::io::Result<()> {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
        Ok(())
    }

    /// The poll's wait.
    pub(super) fn wait(&self) {
        let mut woken = self.0.0.lock().unwrap();
        while !*woken {
            woken = self.0.1.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Notifies every future that was created before the call, whether or not it is polled already.
pub(super) struct Notify(Mutex<NotifyState>);

#[derive(Default)]
struct NotifyState {
    calls: usize,
    waiting: Vec<std::task::Waker>,
}

impl Notify {
    pub(super) fn new() -> Self {
        Notify(Mutex::new(NotifyState::default()))
    }

    pub(super) fn notified(&self) -> impl Future<Output = ()> + '_ {
        let seen = self.0.lock().unwrap().calls;
        Notified { notify: self, seen }
    }

    pub(super) fn notify_waiters(&self) {
        let mut notified = self.0.lock().unwrap();
        notified.calls += 1;
        let waiting = std::mem::take(&mut notified.waiting);
        drop(notified);
        for waker in waiting {
            waker.wake();
        }
    }
}

struct Notified<'n> {
    notify: &'n Notify,
    seen: usize,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut notified = self.notify.0.lock().unwrap();
        if notified.calls != self.seen {
            return Poll::Ready(());
        }
        notified.waiting.push(cx.waker().clone());
        Poll::Pending
    }
}

/// Is set once; concurrent callers wait for it. The value is leaked.
pub(super) struct OnceLock<T: 'static>(Mutex<Option<&'static T>>);

impl<T> OnceLock<T> {
    pub(super) fn new() -> Self {
        OnceLock(Mutex::new(None))
    }

    pub(super) fn get(&self) -> Option<&T> {
        *self.0.lock().unwrap()
    }

    pub(super) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let mut value = self.0.lock().unwrap();
        value.get_or_insert_with(|| Box::leak(Box::new(make())))
    }
}

impl<T> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnceLock")
    }
}
