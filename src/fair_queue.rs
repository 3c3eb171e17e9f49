//! FairQueue at what is scarce, such as reads of the disk and evaluations of filters: so many at a time,
//! shared out fairly among users.
//!
//! Whoever waits, waits in the of_share of its share; queues come in turn. Nobody has more than half of
//! all turns at a time. So another never waits for more than one turn of each, where a turn is short.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::auth::Identity;

/// Whose share of something scarce a request uses: requests of one identity wait for one another
/// before anybody else waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(u64);

impl Share {
    /// The server's own.
    pub const OWN: Share = Share(0);

    /// The share of an account.
    #[must_use]
    pub fn of(account: &str) -> Self {
        // Random, so that nobody can choose a name with the share of another.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Share(HASHER.hash_one(account))
    }

    /// The share of an identity; all that have none yet have one together.
    #[must_use]
    pub fn of_identity(identity: Option<&Identity>) -> Self {
        identity.map_or_else(
            || Share::of("\0"),
            |identity| Share::of(&identity.account()),
        )
    }
}

/// FairQueue to be taken.
#[derive(Debug, Clone)]
pub struct FairQueue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// The most that one share may have at a time.
    most_each: usize,
    queues: HashMap<Share, ShareQueue>,
    /// The queues in which somebody waits, the next one first.
    order: VecDeque<Share>,
}

#[derive(Debug, Default)]
struct ShareQueue {
    taken: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// A turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Permit {
    queue: FairQueue,
    share: Share,
    is_over: bool,
}

impl FairQueue {
    /// So many at a time.
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

    /// Waits for a turn.
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
            .unwrap_or_else(|_| unreachable!("a of_share gives every turn that it owes"))
    }

    /// Gives out what is free.
    fn grant(&self) {
        loop {
            let next = self.lock().next();
            let Some((share, give)) = next else { return };
            let turn = Permit {
                queue: self.clone(),
                share,
                is_over: false,
            };
            // Whoever gave up waiting needs no turn.
            if let Err(mut turn) = give.send(turn) {
                turn.is_over = true;
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

    /// Who is next, if anybody may be.
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
        if !self.is_over {
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
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn nobody_has_more_than_half_and_lanes_come_in_turn() {
        let queue = FairQueue::new(4);
        let (flood, other) = (Share::of("flood"), Share::of("other"));
        let mut asked: Vec<_> = (0..40).map(|_| Box::pin(queue.take(flood))).collect();
        let mut held: Vec<Permit> = asked.iter_mut().filter_map(|f| poll(f.as_mut())).collect();
        assert_eq!(held.len(), 2, "half of them");
        let mut one = pin!(queue.take(other));
        let another = poll(one.as_mut()).expect("at once");
        drop(another);
        // Each turn that ends makes room for one more.
        held.pop();
        let next = asked.iter_mut().skip(2);
        held.extend(next.filter_map(|f| poll(f.as_mut())));
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn whoever_gives_up_waiting_keeps_no_turn() {
        let queue = FairQueue::new(2);
        let who = Share::of("a");
        let mut first = pin!(queue.take(who));
        let held = poll(first.as_mut()).unwrap();
        {
            let mut second = pin!(queue.take(who));
            assert!(poll(second.as_mut()).is_none());
        }
        drop(held);
        let mut third = pin!(queue.take(who));
        drop(poll(third.as_mut()).expect("it is free again"));
        assert!(queue.lock().queues.is_empty());
        assert_eq!(queue.lock().free, 2);
    }
}
