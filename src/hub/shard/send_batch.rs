//! Batched sends: frames to many sockets in one system call where `io_uring` is available, or else
//! one by one.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use tidings_uring::{Sends, Short};

use super::connections::Connections;
use crate::hub::shard::chunk::Frame;

/// The most sends in one system call; chosen by measurement.
const MOST: u16 = 512;
/// Up to this many sends are cheaper one by one.
const SMALL_ROUND_SUBSCRIBERS: usize = 3;

/// A batch of sends. Its sockets must not be written otherwise before [`SendBatch::submit`].
pub(super) struct SendBatch {
    ring: Option<Sends>,
    waiting: Vec<Waiting>,
    /// The frames to send; mostly it is one frame for all.
    frames: Vec<Frame>,
    short: Vec<Short>,
}

#[derive(Clone, Copy)]
struct Waiting {
    slot: u32,
    /// Its index among the frames.
    frame: usize,
    channel: Option<u32>,
}

/// The outcome of one send.
pub(super) struct Sent<'f> {
    pub(super) slot: u32,
    pub(super) frame: &'f Frame,
    /// The slot of its channel, if its events may be removed from an outbox again.
    pub(super) channel: Option<u32>,
    /// How many bytes were sent.
    pub(super) bytes: usize,
}

impl SendBatch {
    /// With `io_uring` if it is requested and available.
    pub(super) fn new(io_uring: bool) -> Self {
        let ring = io_uring.then(|| Sends::new(MOST));
        let ring = ring.and_then(|ring| {
            ring.inspect_err(|error| {
                tracing::info!(%error, "io_uring is not available: each send is a system call");
            })
            .ok()
        });
        SendBatch {
            ring,
            waiting: Vec::with_capacity(usize::from(MOST)),
            frames: Vec::new(),
            short: Vec::new(),
        }
    }

    /// True if the batch must be submitted before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= usize::from(MOST)
    }

    /// Adds a send: all of a frame, to a connection with a plain socket.
    pub(super) fn add(&mut self, slot: u32, frame: &Frame, channel: Option<u32>) {
        if !self
            .frames
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, frame))
        {
            self.frames.push(Arc::clone(frame));
        }
        let frame = self.frames.len() - 1;
        self.waiting.push(Waiting {
            slot,
            frame,
            channel,
        });
    }

    /// Sends the batch, and reports the outcome of each send.
    pub(super) fn submit(
        &mut self,
        connections: &mut Connections,
        mut report: impl FnMut(&mut Connections, Sent<'_>),
    ) {
        if self.waiting.is_empty() {
            return;
        }
        let given = self.send(connections);
        let SendBatch {
            waiting,
            frames,
            short,
            ..
        } = self;
        let mut short = short.drain(..).peekable();
        for (index, waited) in waiting.drain(..).enumerate() {
            let Some(frame) = frames.get(waited.frame) else {
                continue;
            };
            // The next write of the rest reports the reason.
            let bytes = match short.next_if(|short| short.index == index) {
                Some(short) => short.sent.unwrap_or(0),
                None if index < given => frame.len(),
                None => 0,
            };
            report(
                connections,
                Sent {
                    slot: waited.slot,
                    frame,
                    channel: waited.channel,
                    bytes,
                },
            );
        }
        frames.clear();
    }

    /// Submits sends and returns how many were tried; those that were not completed in full are in
    /// `short`, in order.
    fn send(&mut self, connections: &Connections) -> usize {
        let SendBatch {
            ring,
            waiting,
            frames,
            short,
        } = self;
        // Stops at a connection without a socket, so that indices match the waiting sends.
        let sends = waiting.iter().map_while(|waiting| {
            let socket = connections.get(waiting.slot)?.link.plain()?;
            let frame = frames.get(waiting.frame)?;
            Some((socket, frame))
        });
        match ring {
            Some(ring)
                if waiting.len() > SMALL_ROUND_SUBSCRIBERS && waiting.len() <= ring.most() =>
            {
                let sends = sends.map(|(socket, frame)| (socket.as_fd(), &**frame.bytes()));
                let given = ring.send(sends, |one| short.push(one));
                short.sort_unstable_by_key(|short| short.index);
                if ring.most() == 0 {
                    tracing::warn!("io_uring has failed: each send is a system call now");
                }
                given
            }
            _ => {
                let mut given = 0;
                for (index, (mut socket, frame)) in sends.enumerate() {
                    let sent = socket.write(frame.bytes());
                    if !matches!(sent, Ok(sent) if sent == frame.len()) {
                        short.push(Short { index, sent });
                    }
                    given += 1;
                }
                given
            }
        }
    }
}
