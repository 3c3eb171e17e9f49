//! A fair queue for scarce work, such as disk reads and filter evaluations. It bounds the number of
//! concurrent permits and shares them fairly between users.
//!
//! Each share has its own FIFO queue, and the queues are served round-robin. One share holds at
//! most half of all permits. Hence, a waiter is delayed by at most one permit of each other share,
//! as long as permits are held only briefly.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::auth::Identity;

/// The unit of fairness. Requests of one identity share one queue, so they delay each other before
/// they delay other identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(u64);

impl Share {
    /// The share of the server's own work.
    pub const OWN: Share = Share(0);

    /// The share of an account.
    #[must_use]
    pub fn of(account: &str) -> Self {
        // The hash is keyed at random, so that no client can pick a name that collides with another
        // share.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Share(HASHER.hash_one(account))
    }

    /// The share of an identity. All requests without an identity have one share.
    #[must_use]
    pub fn of_identity(identity: Option<&Identity>) -> Self {
        identity.map_or_else(
            || Share::of("\0"),
            |identity| Share::of(&identity.account()),
        )
    }
}

/// A queue of permits. Clones share its state.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// The most permits that one share may hold.
    most_each: usize,
    queues: HashMap<Share, ShareQueue>,
    /// Shares with waiters, in round-robin order.
    order: VecDeque<Share>,
}

#[derive(Debug, Default)]
struct ShareQueue {
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// A permit, released on drop.
#[derive(Debug)]
pub struct Permit {
    queue: FairQueue,
    share: Share,
    is_released: bool,
}

impl FairQueue {
    /// A queue of `count` permits.
    #[must_use]
    pub fn new(count: usize) -> Self {
        FairQueue(Arc::new(Mutex::new(State {
            free: count,
            most_each: (count / 2).max(1),
            queues: HashMap::new(),
            order: VecDeque::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit.
    pub async fn take(&self, share: Share) -> Permit {
        let granted = {
            let (give, granted) = oneshot::channel();
            let mut state = self.lock();
            let of_share = state.queues.entry(share).or_default();
            of_share.waiting.push_back(give);
            if of_share.waiting.len() == 1 {
                state.order.push_back(share);
            }
            granted
        };
        self.grant();
        granted
            .await
            .unwrap_or_else(|_| unreachable!("every queued sender is granted a permit"))
    }

    /// Grants free permits to waiters.
    fn grant(&self) {
        loop {
            let next = self.lock().next();
            let Some((share, give)) = next else { return };
            let permit = Permit {
                queue: self.clone(),
                share,
                is_released: false,
            };
            // The waiter was cancelled: take the permit back.
            if let Err(mut permit) = give.send(permit) {
                permit.is_released = true;
                self.lock().give_back(share);
            }
        }
    }
}

impl State {
    fn give_back(&mut self, share: Share) {
        self.free += 1;
        if let Some(of_share) = self.queues.get_mut(&share) {
            of_share.taken = of_share.taken.saturating_sub(1);
            if of_share.taken == 0 && of_share.waiting.is_empty() {
                self.queues.remove(&share);
            }
        }
    }

    /// The next waiter that may be granted a permit.
    fn next(&mut self) -> Option<(Share, oneshot::Sender<Permit>)> {
        if self.free == 0 {
            return None;
        }
        for _ in 0..self.order.len() {
            let share = self.order.pop_front()?;
            let of_share = self.queues.get_mut(&share)?;
            if of_share.taken >= self.most_each {
                self.order.push_back(share);
                continue;
            }
            let give = of_share.waiting.pop_front()?;
            of_share.taken += 1;
            self.free -= 1;
            if !of_share.waiting.is_empty() {
                self.order.push_back(share);
            }
            return Some((share, give));
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_released {
            self.queue.lock().give_back(self.share);
            self.queue.grant();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future<Output = Permit>>(future: Pin<&mut F>) -> Option<Permit> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn share_is_limited_to_half_and_served_round_robin() {
        let queue = FairQueue::new(4);
        let (flood, other) = (Share::of("flood"), Share::of("other"));
        let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(queue.take(flood))).collect();
        let mut held: Vec<Permit> = waiting
            .iter_mut()
            .filter_map(|f| poll(f.as_mut()))
            .collect();
        assert_eq!(held.len(), 2, "half of them");
        let mut one = pin!(queue.take(other));
        let another = poll(one.as_mut()).expect("at once");
        drop(another);
        // Each released permit admits one more waiter.
        held.pop();
        let next = waiting.iter_mut().skip(2);
        held.extend(next.filter_map(|f| poll(f.as_mut())));
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn cancelled_waiter_leaves_no_permit() {
        let queue = FairQueue::new(2);
        let share = Share::of("a");
        let mut first = pin!(queue.take(share));
        let held = poll(first.as_mut()).unwrap();
        {
            let mut second = pin!(queue.take(share));
            assert!(poll(second.as_mut()).is_none());
        }
        drop(held);
        let mut third = pin!(queue.take(share));
        drop(poll(third.as_mut()).expect("it is free again"));
        assert!(queue.lock().queues.is_empty());
        assert_eq!(queue.lock().free, 2);
    }
}
