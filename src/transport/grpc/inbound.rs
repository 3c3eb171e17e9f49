//! The body of a call, limited before it is buffered.
//!
//! tonic reserves memory for a whole message as soon as its length is known. So the length is read
//! here first, and the bytes are reserved; a compressed message is inflated here, because its true
//! length is only known then.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::inflate::Inflating;
use super::status::status;
use crate::error::{Code, Error, Result};
use crate::session::Reservation;

/// The length of a message's head: a flag, and four bytes for the message's length.
pub(super) const HEAD: usize = 5;
/// How long a message may take to arrive.
const SENDING: Duration = Duration::from_secs(30);
/// The bytes that a stream keeps reserved between its messages, so that small ones need no
/// reservation each.
const KEPT: usize = 8 * 1024;

/// The form of a call's messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The longest message, in bytes.
    pub(super) limit: usize,
    /// Whether there may be several.
    pub(super) streaming: bool,
    /// Whether they may be compressed with gzip.
    pub(super) gzip: bool,
}

/// The body of a call.
pub(super) struct Inbound {
    body: Body,
    shape: Shape,
    state: State,
    reservation: Arc<Mutex<Reservation>>,
    /// Checked data, to be passed on.
    ready: VecDeque<Bytes>,
    failed: Option<Error>,
    /// The deadline for the message that is arriving.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// The position of the body within a message.
enum State {
    /// This many bytes of the head have arrived.
    Head { bytes: [u8; HEAD], count: usize },
    /// This many bytes of the message are still to arrive.
    Message { left: usize },
    /// The same for a compressed message.
    Compressed {
        left: usize,
        inflating: Box<Inflating>,
    },
}

/// How far a part of the body was checked.
#[derive(Default)]
struct Looked {
    at: usize,
    /// How far it was passed on or discarded. Uncompressed data is passed on unchanged.
    passed: usize,
}

/// Between two messages.
const BETWEEN: State = State::Head {
    bytes: [0; HEAD],
    count: 0,
};

/// The error for a message over the limit.
pub(super) fn too_long(limit: usize) -> Error {
    let text = format!("expected a message of at most {limit} bytes");
    Error::new(Code::OutOfRange, text)
}

impl Inbound {
    pub(super) fn new(body: Body, shape: Shape, reservation: Arc<Mutex<Reservation>>) -> Self {
        Inbound {
            body,
            shape,
            state: BETWEEN,
            reservation,
            ready: VecDeque::new(),
            failed: None,
            deadline: None,
        }
    }

    fn is_between(&self) -> bool {
        matches!(self.state, State::Head { count: 0, .. })
    }

    /// Checks received data and prepares what may be passed on.
    fn take(&mut self, data: &Bytes) {
        let mut looked = Looked::default();
        while looked.at < data.len() {
            let step = match self.state {
                State::Head { .. } => self.take_head(data, &mut looked),
                State::Message { .. } => {
                    self.take_message(data, &mut looked);
                    Ok(())
                }
                State::Compressed { .. } => self.take_compressed(data, &mut looked),
            };
            if let Err(error) = step {
                self.failed = Some(error);
                return;
            }
        }
        // The beginning of a head is withheld if the message may be compressed.
        let kept = match self.state {
            State::Head { count, .. } if self.shape.gzip => count.min(data.len()),
            State::Head { .. } | State::Message { .. } | State::Compressed { .. } => 0,
        };
        let end = (data.len() - kept).max(looked.passed);
        self.pass(data.slice(looked.passed..end));
    }

    /// Consumes the available part of a head, and begins its message when the head is complete.
    fn take_head(&mut self, data: &Bytes, looked: &mut Looked) -> Result<()> {
        let State::Head { bytes, count } = &mut self.state else {
            return Ok(());
        };
        let first = looked.at;
        let rest = data.get(first..).unwrap_or_default();
        for (target, byte) in bytes.iter_mut().skip(*count).zip(rest) {
            *target = *byte;
            looked.at += 1;
        }
        *count += looked.at - first;
        if *count < HEAD {
            return Ok(());
        }
        let [flag, length @ ..] = *bytes;
        let ours = self.begin(flag, u32::from_be_bytes(length));
        let compressed = matches!(self.state, State::Compressed { .. });
        if compressed || ours.is_err() {
            self.pass(data.slice(looked.passed..first.max(looked.passed)));
            looked.passed = looked.at;
        } else if self.shape.gzip && looked.at < HEAD {
            // Its beginning arrived earlier, and was withheld.
            self.pass(Bytes::copy_from_slice(&[&[flag][..], &length].concat()));
            looked.passed = looked.at;
        }
        ours
    }

    /// Consumes the available part of a message.
    fn take_message(&mut self, data: &Bytes, looked: &mut Looked) {
        if let State::Message { left } = &mut self.state {
            let new = (data.len() - looked.at).min(*left);
            *left -= new;
            looked.at += new;
            if *left == 0 {
                self.end();
            }
        }
    }

    /// The same for a compressed message.
    fn take_compressed(&mut self, data: &Bytes, looked: &mut Looked) -> Result<()> {
        let State::Compressed { left, inflating } = &mut self.state else {
            return Ok(());
        };
        let rest = data.get(looked.at..).unwrap_or_default();
        let new = rest.get(..*left).unwrap_or(rest);
        *left -= new.len();
        looked.at += new.len();
        looked.passed = looked.at;
        let over = *left == 0;
        inflating.push(new)?;
        self.inflated(over)
    }

    /// A message begins.
    fn begin(&mut self, flag: u8, length: u32) -> Result<()> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Shape {
            limit,
            streaming,
            gzip,
        } = self.shape;
        if length > limit {
            return Err(too_long(limit));
        }
        let compressed = gzip && flag == 1;
        let mut held = self.lock();
        if streaming {
            held.shrink_to(KEPT.max(length));
        }
        if !compressed {
            let wanted = if streaming {
                KEPT.max(length)
            } else {
                held.bytes().saturating_add(length)
            };
            held.grow_to(wanted)?;
        }
        drop(held);
        self.state = if compressed {
            let inflating = Box::new(Inflating::begin(limit, &self.reservation)?);
            State::Compressed {
                left: length,
                inflating,
            }
        } else {
            State::Message { left: length }
        };
        if length == 0 {
            if compressed {
                return self.inflated(true);
            }
            self.end();
        }
        Ok(())
    }

    /// A message is complete.
    fn end(&mut self) {
        self.state = BETWEEN;
        self.deadline = None;
    }

    /// Passes a compressed message on, if it is complete.
    fn inflated(&mut self, over: bool) -> Result<()> {
        if !over {
            return Ok(());
        }
        let state = std::mem::replace(&mut self.state, BETWEEN);
        self.deadline = None;
        if let State::Compressed { inflating, .. } = state {
            self.ready.extend(inflating.finish()?);
        }
        Ok(())
    }

    fn pass(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.ready.push_back(data);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reservation> {
        self.reservation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the deadline while no data arrives.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.shape.streaming && self.is_between() {
            // The data that was passed on is decoded by now.
            self.deadline = None;
            self.lock().shrink_to(KEPT);
            return Poll::Pending;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(SENDING)));
        std::task::ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Error::invalid(
            "the message did not arrive within 30 seconds",
        ))
    }
}

impl hyper::body::Body for Inbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(error) = &this.failed {
                return Poll::Ready(Some(Err(status(error))));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Pending => {
                    this.failed = Some(std::task::ready!(this.wait(cx)));
                }
                Poll::Ready(None) => {
                    this.deadline = None;
                    if this.shape.gzip && !this.is_between() {
                        this.failed = Some(Error::invalid("the message is incomplete"));
                        continue;
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.take(&data),
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty()
            && self.failed.is_none()
            && self.is_between()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.shape.gzip || !self.ready.is_empty() {
            SizeHint::default()
        } else {
            self.body.size_hint()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;
    use tokio::time::Instant;
    use tonic::Code as Grpc;

    use super::*;
    use crate::session::{Bodies, BodyLimits, BodySender};
    use crate::telemetry::Metrics;

    const LIMIT: usize = 20_000;

    fn bodies(each: usize) -> Arc<Bodies> {
        let limits = BodyLimits {
            all: 1 << 20,
            per_user: each,
            per_connection: each,
        };
        Bodies::new(limits, &Metrics::new("test"))
    }

    fn inbound(bodies: &Arc<Bodies>, body: Body, streaming: bool, gzip: bool) -> Inbound {
        let shape = Shape {
            limit: LIMIT,
            streaming,
            gzip,
        };
        let reservation = bodies.reserve(BodySender::user("ann"), None);
        Inbound::new(body, shape, Arc::new(Mutex::new(reservation)))
    }

    fn framed(flag: u8, data: &[u8]) -> Vec<u8> {
        let mut framed = vec![flag];
        framed.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        framed.extend(data);
        framed
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(data).unwrap();
        gzip.finish().unwrap()
    }

    fn in_pieces(bytes: &[u8], piece: usize) -> Body {
        let pieces: Vec<_> = bytes
            .chunks(piece.max(1))
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        Body::from_stream(tokio_stream::iter(pieces))
    }

    /// The complete output, and how it ends.
    async fn all(mut inbound: Inbound) -> (Vec<u8>, Result<(), Status>) {
        let mut out = Vec::new();
        while let Some(frame) = inbound.frame().await {
            match frame {
                Ok(frame) => out.extend_from_slice(&frame.into_data().unwrap()),
                Err(status) => return (out, Err(status)),
            }
        }
        (out, Ok(()))
    }

    async fn refused(bytes: &[u8], gzip: bool) -> Grpc {
        let inbound = inbound(&bodies(1 << 19), in_pieces(bytes, 1000), false, gzip);
        all(inbound).await.1.unwrap_err().code()
    }

    proptest! {
        #[test]
        fn messages_are_complete_for_any_split(
            messages in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(0_u8..4, 0..12_000)), 0..5),
            piece in prop_oneof![1_usize..8, 1_usize..5000],
            streaming in any::<bool>(),
            compressing in any::<bool>(),
        ) {
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for (squeezed, message) in &messages {
                if *squeezed && compressing {
                    sent.extend(framed(1, &gzip(message)));
                } else {
                    sent.extend(framed(0, message));
                }
                expected.extend(framed(0, message));
            }
            let bodies = bodies(1 << 19);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (out, end) = runtime.block_on(async {
                all(inbound(&bodies, in_pieces(&sent, piece), streaming, compressing)).await
            });
            prop_assert!(end.is_ok(), "{end:?}");
            prop_assert_eq!(out, expected);
            prop_assert_eq!(bodies.held(), 0);
        }

        #[test]
        fn arbitrary_bytes_stay_within_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            piece in 1_usize..300,
        ) {
            let bodies = bodies(1 << 19);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let mut sent = vec![1, 0, 0, 7, 0xd0];
            sent.extend(bytes);
            let (out, _) = runtime.block_on(async {
                all(inbound(&bodies, in_pieces(&sent, piece), true, true)).await
            });
            prop_assert!(out.len() <= LIMIT + 4000);
            prop_assert_eq!(bodies.held(), 0);
        }
    }

    #[tokio::test]
    async fn oversized_or_malformed_message_is_refused() {
        assert_eq!(
            refused(&[0, 0, 0, 0x4e, 0x21], false).await,
            Grpc::OutOfRange
        );
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < LIMIT);
        assert_eq!(refused(&framed(1, &bomb), true).await, Grpc::OutOfRange);
        let mut broken = gzip(b"whole");
        broken.truncate(broken.len() - 3);
        assert_eq!(
            refused(&framed(1, &broken), true).await,
            Grpc::InvalidArgument
        );
        assert_eq!(
            refused(&framed(1, b"no gzip"), true).await,
            Grpc::InvalidArgument
        );
        let more = [gzip(b"one"), b"more".to_vec()].concat();
        assert_eq!(
            refused(&framed(1, &more), true).await,
            Grpc::InvalidArgument
        );
        let half = framed(1, &gzip(b"whole"));
        assert_eq!(refused(&half[..12], true).await, Grpc::InvalidArgument);
    }

    #[tokio::test]
    async fn length_is_reserved_before_message_arrives() {
        let bodies = bodies(25_000);
        let begun = |bytes: Vec<u8>| {
            let first = tokio_stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
            Body::from_stream(tokio_stream::StreamExt::chain(
                first,
                tokio_stream::pending(),
            ))
        };
        let head = vec![0, 0, 0, 0x4e, 0x20];
        let mut first = inbound(&bodies, begun(head.clone()), false, false);
        assert_eq!(
            first.frame().await.unwrap().unwrap().into_data().unwrap(),
            head
        );
        assert_eq!(bodies.held(), 20_000);
        let second = inbound(&bodies, begun(head), false, false);
        let refused = all(second).await.1.unwrap_err();
        assert_eq!(refused.code(), Grpc::ResourceExhausted);
        assert!(
            refused.message().contains("limits.body_bytes_per_"),
            "{refused}"
        );
        drop(first);
        assert_eq!(bodies.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_applies_to_messages_not_pauses() {
        let bodies = bodies(1 << 19);
        let began = Instant::now();
        let never = || Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>());
        let late = all(inbound(&bodies, never(), false, false)).await.1;
        assert_eq!(late.unwrap_err().code(), Grpc::InvalidArgument);
        assert_eq!(began.elapsed(), SENDING);
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let pieces = tokio_stream::StreamExt::map(
            tokio_stream::wrappers::ReceiverStream::new(receiver),
            Ok::<_, std::io::Error>,
        );
        let mut stream = inbound(&bodies, Body::from_stream(pieces), true, false);
        let talk = async {
            tokio::time::sleep(SENDING * 3).await;
            sender.try_send(Bytes::from(framed(0, b"whole"))).unwrap();
            tokio::time::sleep(SENDING * 3).await;
            sender
                .try_send(Bytes::from(vec![0, 0, 0, 0, 9, 1]))
                .unwrap();
            Instant::now()
        };
        let listen = async {
            assert!(stream.frame().await.unwrap().is_ok());
            assert!(stream.frame().await.unwrap().is_ok());
            let end = stream.frame().await.unwrap();
            (end.unwrap_err().code(), Instant::now())
        };
        let (last, (code, ended)) = tokio::join!(talk, listen);
        assert_eq!((code, ended - last), (Grpc::InvalidArgument, SENDING));
    }
}
