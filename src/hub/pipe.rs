//! A pipe: a connection whose frames are written by another task, for gRPC streams, SSE and long
//! polling.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio_stream::Stream;

use super::sync::{Mutex, MutexGuard};
use crate::error::CloseCode;
use crate::event::ConnectionId;

/// Bytes that a pipe buffers beyond one frame, like a socket's send buffer.
const WINDOW: usize = 64 * 1024;

/// The shard's end: like a socket, it takes frames until it is full.
#[derive(Clone)]
pub struct Pipe(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The shard has more frames and waits for a notification of room.
    wanted: bool,
    ended: Option<(CloseCode, String)>,
    reader: Option<Waker>,
    gone: bool,
}

impl Pipe {
    /// A pipe, as its two ends. The reading end notifies its owner when it makes room or is dropped.
    #[must_use]
    pub fn new() -> (Pipe, Shareable) {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
        });
        (Pipe(Arc::clone(&shared)), Shareable(shared))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers frames from `next` until the pipe is full or there are no more; returns their bytes.
    /// The reader is woken once.
    pub fn write(&self, mut next: impl FnMut() -> Option<Bytes>) -> usize {
        let mut state = self.lock();
        let mut taken = 0;
        state.wanted = false;
        while !state.gone {
            if state.bytes >= WINDOW {
                state.wanted = true;
                break;
            }
            let Some(frame) = next() else { break };
            taken += frame.len();
            state.bytes += frame.len();
            state.frames.push_back(frame);
        }
        let reader = if taken > 0 { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        taken
    }

    /// Takes back the frames that the task has not read. It gets no more frames, and dropping it
    /// closes nothing from now on.
    pub(super) fn detach(&self) -> VecDeque<Bytes> {
        let mut state = self.lock();
        state.gone = true;
        state.bytes = 0;
        let left = std::mem::take(&mut state.frames);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        left
    }

    /// Ends the stream after what is already in it.
    pub fn end(&self, code: CloseCode, reason: &str) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.ended = Some((code, reason.to_owned()));
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// What the reading end of a pipe notifies: the hub.
pub trait PipeOwner: Send + Sync {
    /// The reader of a connection's pipe has made room.
    fn pipe_drained(&self, connection: ConnectionId);

    /// The reader of a connection's pipe has gone.
    fn pipe_closed(&self, connection: ConnectionId);
}

/// The reading end before the connection has its id.
pub struct Shareable(Arc<Shared>);

impl Shareable {
    /// The reading end of this connection.
    #[must_use]
    pub fn reader(self, owner: Arc<impl PipeOwner + 'static>, id: ConnectionId) -> PipeReader {
        PipeReader {
            shared: self.0,
            owner,
            id,
        }
    }
}

/// The task's end: a stream of frames, then of the reason why it ended. Dropping it closes the
/// connection.
pub struct PipeReader {
    shared: Arc<Shared>,
    owner: Arc<dyn PipeOwner>,
    id: ConnectionId,
}

/// An item read from a pipe.
#[derive(Debug)]
pub enum Piped {
    /// Bytes of one message.
    Frame(Bytes),
    /// The connection has ended; nothing comes after.
    End(CloseCode, String),
}

impl PipeReader {
    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The next item, if it is buffered.
    pub fn try_next(&mut self) -> Option<Piped> {
        let nobody = &mut Context::from_waker(Waker::noop());
        match Pin::new(self).poll_next(nobody) {
            Poll::Ready(piped) => piped,
            Poll::Pending => None,
        }
    }

    /// True if the connection has ended: buffered frames are still read, and nothing after them.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.shared.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        state.gone || state.ended.is_some()
    }
}

impl Stream for PipeReader {
    type Item = Piped;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piped>> {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len();
            let pipe_drained = state.wanted && state.bytes <= WINDOW / 2;
            if pipe_drained {
                state.wanted = false;
            }
            drop(state);
            if pipe_drained {
                self.owner.pipe_drained(self.id);
            }
            return Poll::Ready(Some(Piped::Frame(frame)));
        }
        if state.gone {
            return Poll::Ready(None);
        }
        if let Some((code, reason)) = state.ended.take() {
            state.gone = true;
            return Poll::Ready(Some(Piped::End(code, reason)));
        }
        match &state.reader {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let over = std::mem::replace(&mut state.gone, true);
        state.frames.clear();
        drop(state);
        if !over {
            self.owner.pipe_closed(self.id);
        }
    }
}
