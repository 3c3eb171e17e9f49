//! Streams of readings as server-sent events: a reading again and again, until the server stops or the
//! token is not good any more.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use http::header::ACCEPT;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;

use super::caller::Caller;
use super::sse;
use crate::lifecycle::Lifecycle;

/// After so many readings without news, a comment keeps the connection open.
const QUIET: Duration = Duration::from_secs(15);

/// True if a request asks for a stream.
pub(super) fn asks_for_stream(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|accept| {
        accept
            .to_str()
            .is_ok_and(|accept| accept.contains("text/event-stream"))
    })
}

/// One message of a stream; empty if it can't be written.
pub(super) fn message(name: &str, value: &impl Serialize) -> Bytes {
    let text = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {text}\n\n"))
}

/// A stream of what `next` has to say, asked at this interval.
pub(super) fn stream(
    caller: Caller,
    lifecycle: &Arc<Lifecycle>,
    interval: Duration,
    next: impl FnMut(&Caller) -> Option<Bytes> + Send + Unpin + 'static,
) -> Response {
    let mut every = tokio::time::interval(interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sse::stream(Body::from_stream(Ticks {
        caller,
        lifecycle: Arc::clone(lifecycle),
        every,
        interval,
        quiet: Duration::ZERO,
        next,
        over: false,
    }))
}

struct Ticks<F> {
    caller: Caller,
    lifecycle: Arc<Lifecycle>,
    every: Interval,
    interval: Duration,
    quiet: Duration,
    next: F,
    over: bool,
}

impl<F: FnMut(&Caller) -> Option<Bytes> + Unpin> Stream for Ticks<F> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.over {
                return Poll::Ready(None);
            }
            std::task::ready!(this.every.poll_tick(cx));
            let (code, reason) = if this.lifecycle.departure().is_some() {
                (1012, "the server restarts")
            } else if this.caller.still_good().is_err() {
                (4401, "the token is not good any more")
            } else {
                if let Some(message) = (this.next)(&this.caller) {
                    this.quiet = Duration::ZERO;
                    return Poll::Ready(Some(Ok(message)));
                }
                this.quiet += this.interval;
                if this.quiet >= QUIET {
                    this.quiet = Duration::ZERO;
                    return Poll::Ready(Some(Ok(Bytes::from_static(b": heartbeat\n\n"))));
                }
                continue;
            };
            this.over = true;
            let close = serde_json::json!({ "type": "close", "code": code, "reason": reason });
            return Poll::Ready(Some(Ok(message("close", &close))));
        }
    }
}
