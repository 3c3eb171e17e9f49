//! A stall timeout for HTTP/2 streams: the reader must consume its response.
//!
//! Each stream has its own flow-control window, which the reader opens at will (RFC 9113 §5.2). If
//! the window stays closed, a response waits for as long as the connection lives, and pings keep
//! that alive. Neither hyper nor the body notices, because the body is not polled while the window
//! is closed. Hence, the stream's task keeps the time.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::clock::RunTimer;
use crate::net::timeout_io::READ_TIMEOUT;
use crate::telemetry::Metrics;

/// The size of one piece, in bytes. An unread piece stays in memory after the stream's end, until
/// the connection closes.
const PIECE: usize = 16 * 1024;

tokio::task_local! {
    /// The deadline by which the reader of this task's stream must consume more. `None` if nothing
    /// waits for it.
    static UNTIL: Cell<Option<Instant>>;
}

/// Executes the streams of HTTP/2 connections. Resets a stream whose reader consumes nothing of a
/// [`PacedBody`] for 30 s.
#[derive(Clone)]
pub(crate) struct StallTimeoutExecutor {
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
}

impl StallTimeoutExecutor {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        StallTimeoutExecutor {
            tasks: TaskTracker::new(),
            metrics: Arc::clone(metrics),
        }
    }
}

impl<F> Executor<F> for StallTimeoutExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let watched = Watched {
            stream: Box::pin(stream),
            timer: None,
            metrics: Arc::clone(&self.metrics),
        };
        self.tasks.spawn(UNTIL.scope(Cell::new(None), watched));
    }
}

/// A stream and its timeout.
struct Watched<F> {
    stream: Pin<Box<F>>,
    /// The timer, with the deadline that it was set to.
    timer: Option<(Instant, RunTimer)>,
    metrics: Arc<Metrics>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(until) = UNTIL.with(Cell::get) else {
            this.timer = None;
            return Poll::Pending;
        };
        let left = until.saturating_duration_since(Instant::now());
        let (set_for, timer) = this
            .timer
            .get_or_insert_with(|| (until, RunTimer::new(left)));
        if *set_for != until {
            *set_for = until;
            timer.restart(left);
        }
        if Pin::new(timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Dropping the stream resets it.
        this.metrics.limit_reached("unread_answers");
        Poll::Ready(())
    }
}

/// A response body that is sent in pieces. Each must be consumed within the timeout.
pub(crate) struct PacedBody {
    body: Body,
    /// Data of the body that was not yielded yet.
    rest: Bytes,
}

impl PacedBody {
    pub(crate) fn new(body: Body) -> Self {
        PacedBody {
            body,
            rest: Bytes::new(),
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE);
        tick(Some(Instant::now() + READ_TIMEOUT));
        Frame::data(self.rest.split_to(length))
    }
}

/// Sets the deadline for this task's stream. HTTP/1 has a timeout of its own.
fn tick(until: Option<Instant>) {
    if UNTIL.try_with(|cell| cell.set(until)).is_err() {
        tracing::trace!("not an HTTP/2 stream");
    }
}

impl hyper::body::Body for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        // Being polled again means that the previous piece was consumed.
        tick(None);
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(data) => {
                    this.rest = data;
                    this.piece()
                }
                Err(trailers) => trailers,
            })),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (u64::try_from(self.rest.len()), self.body.size_hint());
        let rest = rest.unwrap_or(u64::MAX);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn body_is_sent_in_pieces_and_complete() {
        let text = vec![7; PIECE * 2 + 5];
        let mut answer = PacedBody::new(Body::from(text.clone()));
        assert_eq!(
            hyper::body::Body::size_hint(&answer).exact(),
            u64::try_from(text.len()).ok()
        );
        let (mut all, mut pieces) = (Vec::new(), Vec::new());
        while let Some(frame) = answer.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            pieces.push(data.len());
            all.extend_from_slice(&data);
        }
        assert_eq!(pieces, [PIECE, PIECE, 5]);
        assert_eq!(all, text);
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_reader_resets_stream() {
        let metrics = Metrics::new("test");
        let streams = StallTimeoutExecutor::new(&metrics);
        let began = Instant::now();
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        streams.execute(async move {
            let _gone = gone;
            let mut answer = PacedBody::new(Body::from("all there is"));
            answer.frame().await;
            std::future::pending::<()>().await;
        });
        assert!(is_gone.await.is_err(), "let go of");
        assert_eq!(began.elapsed(), READ_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_handler_does_not_reset_stream() {
        let streams = StallTimeoutExecutor::new(&Metrics::new("test"));
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        streams.execute(async move {
            tokio::time::sleep(READ_TIMEOUT * 2).await;
            let mut answer = PacedBody::new(Body::from("late"));
            answer.frame().await;
            // Consumed, and there is no more.
            assert!(answer.frame().await.is_none());
            tokio::time::sleep(READ_TIMEOUT * 2).await;
            ended.send(()).unwrap();
        });
        has_ended.await.unwrap();
    }
}
