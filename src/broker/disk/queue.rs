//! What waits for the committer: bounded, and never waited for by those who put it there.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::channel::Channel;
use crate::broker::Receipt;
use crate::error::Result;
use crate::event::{ChannelName, Draft, allocated, shared};
use crate::telemetry::FanoutSpan;

/// The most that may wait.
const MAX_OPS: usize = 65_536;
/// The same in bytes: a term of the server's worst case of memory.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most that is committed together.
const BATCH_OPS: usize = 2048;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Where an answer goes.
pub(super) struct Answer<T>(oneshot::Sender<Result<T>>);

impl<T> Answer<T> {
    /// A place for an answer, and where to wait for it.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T>>) {
        let (answer, later) = oneshot::channel();
        (Answer(answer), later)
    }

    /// Answers, if anyone still waits.
    pub(super) fn give(self, answer: Result<T>) {
        drop(self.0.send(answer));
    }
}

/// An event to be published.
pub(super) struct Publish {
    pub(super) channel: ChannelName,
    pub(super) draft: Draft,
    pub(super) span: Option<FanoutSpan>,
    pub(super) answer: Answer<Receipt>,
}

/// Something for the committer to do.
pub(super) enum Op {
    /// Give an event its place.
    Publish(Box<Publish>),
    /// Pass on an event that gets no place, in a channel that is kept on disk.
    Pass(Box<Publish>),
    /// Bring a channel into memory; make it where there is none.
    Open(ChannelName, Answer<Arc<Channel>>),
    /// Let go of what has expired.
    Sweep,
    /// Say when everything before it is done.
    #[cfg(test)]
    Settle(Answer<()>),
    /// Behave as if the device had failed.
    #[cfg(test)]
    Fail(Answer<()>),
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too much waits.
    Full,
    /// The server stops.
    Stopped,
}

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// With the weight of each, summed up once.
    ops: VecDeque<(usize, Op)>,
    bytes: usize,
    stopped: bool,
}

impl Op {
    /// The bytes that it keeps in memory.
    fn weight(&self) -> usize {
        let held = match self {
            Op::Publish(publish) | Op::Pass(publish) => {
                allocated(size_of::<Publish>()) + publish.draft.weight()
            }
            Op::Open(name, _) => shared(name.as_str()),
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

    /// Adds something to do.
    pub(super) fn push(&self, op: Op) -> Result<(), Refused> {
        let weight = op.weight();
        let mut waiting = self.lock();
        if waiting.stopped {
            return Err(Refused::Stopped);
        }
        if waiting.ops.len() >= MAX_OPS || waiting.bytes + weight > MAX_BYTES {
            return Err(Refused::Full);
        }
        waiting.bytes += weight;
        waiting.ops.push_back((weight, op));
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Takes what has gathered, up to a batch. Waits for something to come for so long; `None`
    /// once it has stopped and nothing is left.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Op>> {
        let mut waiting = self.lock();
        if waiting.ops.is_empty() && !waiting.stopped {
            let woken = self.news.wait_timeout(waiting, patience);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.ops.is_empty() && waiting.stopped {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < BATCH_OPS && bytes < BATCH_BYTES {
            let Some((weight, op)) = waiting.ops.pop_front() else {
                break;
            };
            bytes += weight;
            taken.push(op);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        Some(taken)
    }

    /// Takes nothing more; what waits is still done.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.news.notify_all();
    }

    /// Takes nothing more, and drops what waits.
    pub(super) fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.stopped = true;
        waiting.ops.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::contract::draft;
    use crate::event::Audience;

    fn publish(audience: Option<Arc<Audience>>) -> Op {
        let draft = draft("kept:a", 1, None);
        Op::Publish(Box::new(Publish {
            channel: draft.channel.clone().unwrap(),
            draft: Draft { audience, ..draft },
            span: None,
            answer: Answer::new().0,
        }))
    }

    #[test]
    fn an_audience_counts_like_a_payload() {
        let users = (0..1000).map(|_| Arc::from("x".repeat(250))).collect();
        let audience = Arc::new(Audience {
            users,
            ..Audience::default()
        });
        let queue = Queue::default();
        let push = || queue.push(publish(Some(Arc::clone(&audience))));
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
