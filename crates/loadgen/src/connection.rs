//! One subscriber: a socket, its state, and the events that it has received.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use tidings_websocket::client::frame::{self, ServerFrame};
use tidings_websocket::client::handshake::{self, MAX_HEAD_BYTES};
use tidings_websocket::frame::Opcode;

use crate::subscriber::Subscriber;
use crate::tally::Tally;

/// The size of one read; at least the longest frame.
pub(super) const READ_BYTES: usize = 256 << 10;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Upgrading,
    Subscribing,
    Ready,
}

/// One subscriber.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) state: State,
    /// Its number within the run.
    pub(super) number: usize,
    /// Its channel, and the events that it has received.
    pub(super) subscriber: Subscriber,
    /// When it was opened.
    pub(super) started: u64,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing that the swarm must handle.
    Goes,
    /// The handshake is answered: subscribe.
    Upgraded,
    /// The subscription is confirmed.
    Subscribed,
    /// The connection has ended; with the close code, if there was one, and the reason.
    Over(Option<u16>, String),
}

/// What may remain in the socket after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The socket reported that it is empty.
    Nothing,
    /// It returned less than was requested.
    ProbablyNothing,
    /// It returned as much as was requested.
    Maybe,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        number: usize,
        subscriber: Subscriber,
        started: u64,
    ) -> Self {
        Self {
            stream,
            state: State::Connecting,
            number,
            subscriber,
            started,
            partial: Vec::new(),
        }
    }

    /// Sends a small message. If a socket can't take it, the server does not read.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.write(bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(io::Error::other("the server does not read")),
            Err(error) => Err(error),
        }
    }

    /// Reads once into `buffer` and handles every whole frame.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>, tally: &mut Tally) -> (Outcome, Left) {
        let kept = self.partial.len();
        if buffer.len() < kept + READ_BYTES {
            buffer.resize(kept + READ_BYTES, 0);
        }
        let Some((front, space)) = buffer.split_at_mut_checked(kept) else {
            return (
                Outcome::Over(None, "no space to read".to_owned()),
                Left::Nothing,
            );
        };
        let count = match self.stream.read(space) {
            Ok(0) => {
                return (
                    Outcome::Over(None, "closed by the server".to_owned()),
                    Left::Nothing,
                );
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Outcome::Goes, Left::Nothing);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return (Outcome::Goes, Left::Maybe);
            }
            Err(error) => return (Outcome::Over(None, error.to_string()), Left::Nothing),
        };
        front.copy_from_slice(&self.partial);
        self.partial.clear();
        let left = if count == space.len() {
            Left::Maybe
        } else {
            Left::ProbablyNothing
        };
        let input = buffer.get(..kept + count).unwrap_or_default();
        if self.state == State::Upgrading {
            return (self.read_head(input, tally), left);
        }
        (self.read_frames(input, tally), left)
    }

    fn read_head(&mut self, input: &[u8], tally: &mut Tally) -> Outcome {
        let Some((head, rest)) = handshake::split(input) else {
            if input.len() > MAX_HEAD_BYTES {
                return Outcome::Over(None, "an endless answer to the handshake".to_owned());
            }
            self.partial.extend_from_slice(input);
            return Outcome::Goes;
        };
        if let Err(reason) = handshake::check(head) {
            return Outcome::Over(None, reason);
        }
        // Frames may follow the response in the same segment.
        match self.read_frames(rest, tally) {
            Outcome::Goes | Outcome::Subscribed | Outcome::Upgraded => Outcome::Upgraded,
            over @ Outcome::Over(..) => over,
        }
    }

    fn read_frames(&mut self, mut input: &[u8], tally: &mut Tally) -> Outcome {
        let mut outcome = Outcome::Goes;
        let now = super::clock::now();
        let mut events = 0;
        loop {
            match frame::next(input) {
                Ok(Some(ServerFrame {
                    opcode,
                    payload,
                    rest,
                })) => {
                    input = rest;
                    if self.subscriber.take(payload, payload.len(), now, tally) {
                        events += 1;
                        continue;
                    }
                    match self.take_control(opcode, payload, tally) {
                        Outcome::Goes => {}
                        other @ (Outcome::Upgraded | Outcome::Subscribed | Outcome::Over(..)) => {
                            outcome = other;
                        }
                    }
                    if matches!(outcome, Outcome::Over(..)) {
                        break;
                    }
                }
                Ok(None) => {
                    self.partial.extend_from_slice(input);
                    break;
                }
                Err(error) => {
                    outcome = Outcome::Over(None, error.to_string());
                    break;
                }
            }
        }
        tally.arrived(events, now);
        outcome
    }

    fn take_control(&mut self, opcode: Opcode, payload: &[u8], tally: &mut Tally) -> Outcome {
        match opcode {
            Opcode::Ping => match self.send(&frame::client_frame(Opcode::Pong, payload)) {
                Ok(()) => Outcome::Goes,
                Err(error) => Outcome::Over(None, error.to_string()),
            },
            Opcode::Close => {
                let code = payload
                    .first_chunk()
                    .map(|bytes| u16::from_be_bytes(*bytes));
                let reason = payload.get(2..).unwrap_or_default();
                Outcome::Over(code, String::from_utf8_lossy(reason).into_owned())
            }
            Opcode::Text => self.take_message(payload, tally),
            Opcode::Binary | Opcode::Pong | Opcode::Continuation => Outcome::Goes,
        }
    }

    fn take_message(&mut self, payload: &[u8], tally: &mut Tally) -> Outcome {
        let of_type = |name: &[u8]| {
            payload
                .strip_prefix(b"{\"type\":\"")
                .is_some_and(|rest| rest.starts_with(name))
        };
        if of_type(b"subscribed\"") {
            let refusal = b"\"errors\":[{";
            if payload
                .windows(refusal.len())
                .any(|window| window == refusal)
            {
                return Outcome::Over(None, excerpt(payload));
            }
            return Outcome::Subscribed;
        }
        if of_type(b"gap\"") {
            tally.gaps += 1;
            tally.sample(excerpt(payload));
        } else if of_type(b"error\"") {
            tally.errors += 1;
            tally.sample(excerpt(payload));
            if self.state == State::Subscribing {
                return Outcome::Over(None, excerpt(payload));
            }
        }
        Outcome::Goes
    }
}

/// The beginning of a message, for error messages.
pub(super) fn excerpt(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload.get(..200).unwrap_or(payload)).into_owned()
}
