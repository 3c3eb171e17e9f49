//! What waits for the committer: bounded, and never waited for by those who put it there.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::channel::Channel;
use crate::broker::Receipt;
use crate::error::Result;
use crate::event::{ChannelName, Draft};
use crate::telemetry::FanoutSpan;

/// The most that may wait.
const MAX_OPS: usize = 65_536;
const MAX_BYTES: usize = 64 * 1024 * 1024;
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
    ops: VecDeque<Op>,
    bytes: usize,
    stopped: bool,
}

impl Op {
    fn weight(&self) -> usize {
        match self {
            Op::Publish(publish) => size_of::<Publish>() + publish.draft.payload.data().len(),
            Op::Open(..) | Op::Sweep => size_of::<Op>(),
            #[cfg(test)]
            Op::Settle(_) | Op::Fail(_) => size_of::<Op>(),
        }
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
        waiting.ops.push_back(op);
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
            let Some(op) = waiting.ops.pop_front() else {
                break;
            };
            bytes += op.weight();
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
