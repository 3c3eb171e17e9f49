//! The bounded queue of the committer. Enqueueing never blocks.
//!
//! Each publisher has a flow. Batches are filled from the flows by deficit round robin in bytes, so
//! a publisher that floods the queue delays only itself. A flow preserves its order. A flow may use
//! as much space as is still free (a dynamic threshold), so there is always space for others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::channel::Channel;
use crate::auth::Revocation;
use crate::broker::{Receipt, Share};
use crate::error::Result;
use crate::event::{ChannelName, Draft, allocated, shared};

/// The most queued operations.
const MAX_OPS: usize = 65_536;
/// The most queued bytes. Part of the server's memory bound.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most operations in one batch.
const BATCH_OPS: usize = 1024;
const BATCH_BYTES: usize = 1024 * 1024;
/// The quantum: what a flow may add to a batch per round.
const QUANTUM: usize = 16 * 1024;

/// The sender of a result.
pub(super) struct Answer<T>(oneshot::Sender<Result<T>>);

impl<T> Answer<T> {
    /// A result channel: its sender and its receiver.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T>>) {
        let (answer, later) = oneshot::channel();
        (Answer(answer), later)
    }

    /// Sends the result, if the receiver still exists.
    pub(super) fn give(self, answer: Result<T>) {
        drop(self.0.send(answer));
    }
}

/// An event to publish.
pub(super) struct Publish {
    pub(super) channel: ChannelName,
    pub(super) draft: Draft,
    pub(super) answer: Answer<Receipt>,
}

/// An operation for the committer.
pub(super) enum Op {
    /// Assign an offset to an event, and store it.
    Publish(Box<Publish>),
    /// Deliver an event without an offset, in a channel that is stored.
    Pass(Box<Publish>),
    /// Load a channel, and create it if necessary.
    Open(ChannelName, Answer<Arc<Channel>>),
    /// Store a revocation.
    Revoke(Box<Revocation>, Answer<()>),
    /// Remove expired revocations.
    RemoveRevocations(Vec<Revocation>),
    /// Remove expired data.
    Sweep,
    /// Report when all previous operations are done.
    #[cfg(test)]
    Settle(Answer<()>),
    /// Simulate a failure of the device.
    #[cfg(test)]
    Fail(Answer<()>),
}

/// Why an operation was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// The server shuts down.
    Stopped,
}

/// The queue of the committer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// The flows that are not empty.
    flows: HashMap<Share, Flow>,
    /// The flows in round-robin order.
    turns: VecDeque<Share>,
    /// Runs once everything else is done.
    #[cfg(test)]
    last: Vec<Op>,
    count: usize,
    bytes: usize,
    stopped: bool,
}

/// The queued operations of one publisher, in order.
#[derive(Default)]
struct Flow {
    /// With the weight of each.
    ops: VecDeque<(usize, Op)>,
    bytes: usize,
    /// The deficit: what it may still add to a batch in this round.
    credit: usize,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        #[cfg(test)]
        if !self.last.is_empty() {
            return false;
        }
        self.count == 0
    }

    fn add(&mut self, share: Share, weight: usize, op: Op) -> Result<(), Refused> {
        let (free, free_bytes) = (MAX_OPS - self.count, MAX_BYTES.saturating_sub(self.bytes));
        let flow = self.flows.entry(share).or_default();
        let is_first = flow.ops.is_empty();
        let fits = free > 0 && weight <= free_bytes;
        let is_fair = is_first || (flow.ops.len() < free && flow.bytes + weight <= free_bytes);
        if !fits || !is_fair {
            if is_first {
                self.flows.remove(&share);
            }
            return Err(Refused::Full);
        }
        flow.ops.push_back((weight, op));
        flow.bytes += weight;
        if is_first {
            self.turns.push_back(share);
        }
        self.count += 1;
        self.bytes += weight;
        Ok(())
    }

    /// The next operation.
    fn next(&mut self) -> Option<(usize, Op)> {
        loop {
            let share = *self.turns.front()?;
            let flow = self.flows.get_mut(&share)?;
            let weight = flow.ops.front()?.0;
            if weight > flow.credit {
                flow.credit += QUANTUM;
                self.turns.rotate_left(1);
                continue;
            }
            let taken = flow.ops.pop_front()?;
            flow.credit -= weight;
            flow.bytes -= weight;
            self.count -= 1;
            self.bytes -= weight;
            if flow.ops.is_empty() {
                self.flows.remove(&share);
                self.turns.pop_front();
            }
            return Some(taken);
        }
    }
}

impl Op {
    /// The memory that it holds, in bytes.
    fn weight(&self) -> usize {
        let held = match self {
            Op::Publish(publish) | Op::Pass(publish) => {
                allocated(size_of::<Publish>()) + publish.draft.weight()
            }
            Op::Open(name, _) => shared(name.as_str()),
            // A user's name has at most 255 bytes.
            Op::Revoke(..) => allocated(size_of::<Revocation>()) + 256,
            Op::RemoveRevocations(ended) => ended.len() * (size_of::<Revocation>() + 256),
            Op::Sweep => 0,
            #[cfg(test)]
            Op::Settle(_) | Op::Fail(_) => 0,
        };
        size_of::<(usize, Op)>() + held
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an operation in the share's flow.
    pub(super) fn push(&self, share: Share, op: Op) -> Result<(), Refused> {
        let weight = op.weight();
        let mut waiting = self.lock();
        if waiting.stopped {
            return Err(Refused::Stopped);
        }
        #[cfg(test)]
        if matches!(op, Op::Settle(_) | Op::Fail(_)) {
            waiting.last.push(op);
            drop(waiting);
            self.news.notify_one();
            return Ok(());
        }
        waiting.add(share, weight, op)?;
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Takes all queued operations, up to a batch. Waits this long for the first one. `None` once
    /// the queue is stopped and empty.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Op>> {
        let mut waiting = self.lock();
        if waiting.is_empty() && !waiting.stopped {
            let woken = self.news.wait_timeout(waiting, patience);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.is_empty() && waiting.stopped {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < BATCH_OPS && bytes < BATCH_BYTES {
            let Some((weight, op)) = waiting.next() else {
                #[cfg(test)]
                taken.append(&mut waiting.last);
                break;
            };
            bytes += weight;
            taken.push(op);
        }
        Some(taken)
    }

    /// Accepts no more operations. Queued ones are still done.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.news.notify_all();
    }

    /// Accepts no more operations, and drops queued ones.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.stopped = true;
        waiting.flows.clear();
        waiting.turns.clear();
        waiting.count = 0;
        waiting.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::contract::draft;
    use crate::event::Audience;

    fn publish(channel: &str, n: usize) -> Op {
        let draft = draft(channel, n, None);
        Op::Publish(Box::new(Publish {
            channel: draft.channel.clone().unwrap(),
            draft,
            answer: Answer::new().0,
        }))
    }

    fn fill(queue: &Queue, share: Share, channel: &str) -> usize {
        let all = 0..MAX_OPS;
        all.take_while(|n| queue.push(share, publish(channel, *n)).is_ok())
            .count()
    }

    fn channels(ops: &[Op]) -> Vec<String> {
        let publishes = ops.iter().map(|op| match op {
            Op::Publish(publish) | Op::Pass(publish) => publish.channel.to_string(),
            Op::Open(..)
            | Op::Revoke(..)
            | Op::RemoveRevocations(_)
            | Op::Sweep
            | Op::Settle(_)
            | Op::Fail(_) => String::new(),
        });
        publishes.collect()
    }

    #[test]
    fn flooding_publisher_leaves_room_for_others() {
        let queue = Queue::default();
        let (flood, other) = (Share::of("flood"), Share::of("other"));
        assert!(fill(&queue, flood, "kept:a") <= MAX_OPS / 2);
        assert_eq!(queue.push(other, publish("kept:b", 0)), Ok(()));
        let first = channels(&queue.take(Duration::ZERO).unwrap());
        assert!(first.contains(&"kept:b".to_owned()), "in the next batch");
        // A third and a fourth have space too.
        let third = fill(&queue, Share::of("third"), "kept:c");
        let fourth = fill(&queue, Share::of("fourth"), "kept:d");
        assert!(third > 1000 && fourth > 1000, "{third} {fourth}");
    }

    #[test]
    fn flow_keeps_order_and_is_taken_once() {
        let queue = Queue::default();
        let shares: Vec<Share> = (0..5).map(|n: u32| Share::of(&n.to_string())).collect();
        let mut expected = vec![Vec::new(); shares.len()];
        for n in 0..4000_usize {
            let flow = (n * n + n / 7) % shares.len();
            let op = publish(&format!("kept:{flow}-{n}"), n);
            queue.push(shares[flow], op).unwrap();
            expected[flow].push(format!("kept:{flow}-{n}"));
        }
        queue.stop();
        let mut found = vec![Vec::new(); shares.len()];
        while let Some(ops) = queue.take(Duration::ZERO) {
            for name in channels(&ops) {
                let flow: usize = name[5..6].parse().unwrap();
                found[flow].push(name);
            }
        }
        assert_eq!(found, expected);
        let left = queue.lock();
        assert_eq!((left.count, left.bytes), (0, 0));
    }

    fn with(audience: Arc<Audience>) -> Op {
        let mut op = publish("kept:a", 1);
        if let Op::Publish(publish) = &mut op {
            publish.draft.audience = Some(audience);
        }
        op
    }

    #[test]
    fn audience_counts_like_payload() {
        let users = (0..1000).map(|_| Arc::from("x".repeat(250))).collect();
        let audience = Arc::new(Audience {
            users,
            ..Audience::default()
        });
        let queue = Queue::default();
        let push = || queue.push(Share::OWN, with(Arc::clone(&audience)));
        let taken = (0..MAX_OPS).take_while(|_| push().is_ok()).count();
        assert!(taken * 250_000 <= MAX_BYTES, "{taken} were taken");
        assert_eq!(push(), Err(Refused::Full));
        let mut left = taken;
        while left > 0 {
            let batch = queue.take(Duration::ZERO).unwrap().len();
            assert!(batch * 250_000 <= BATCH_BYTES + 300_000, "{batch} together");
            left -= batch;
        }
        assert_eq!(queue.lock().bytes, 0);
    }
}
