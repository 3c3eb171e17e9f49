//! `/sse?sample=N`: at most N events a second. What is left out is counted, and the client is told.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;

use super::Frames;
use crate::error::{Error, Result};
use crate::transport::http::query::Query;

/// The period over which events are counted.
const PERIOD: Duration = Duration::from_secs(1);
/// The most events a second that may be asked for.
const MOST: u32 = 10_000;

/// How many events a second pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampler {
    limit: u32,
    passed: u32,
    skipped: u64,
}

impl Sampler {
    /// The sampler that a query asks for.
    ///
    /// # Errors
    /// `invalid_argument` for the field `sample`.
    pub(super) fn parse(query: &Query) -> Result<Option<Self>> {
        match query.number("sample")? {
            None => Ok(None),
            Some(limit @ 1..=MOST) => Ok(Some(Sampler {
                limit,
                passed: 0,
                skipped: 0,
            })),
            Some(_) => Err(Error::field("sample", "expected 1 to 10000")),
        }
    }

    /// Whether a frame passes. Notices always do: only events are left out.
    fn passes(&mut self, frame: &[u8]) -> bool {
        let is_event = frame.starts_with(b"id:") || frame.starts_with(b"data:");
        if !is_event {
            return true;
        }
        if self.passed < self.limit {
            self.passed += 1;
            return true;
        }
        self.skipped += 1;
        false
    }

    /// A period is over: what the client is told, if something was left out.
    fn end_period(&mut self) -> Option<Bytes> {
        self.passed = 0;
        let skipped = std::mem::take(&mut self.skipped);
        (skipped > 0).then(|| {
            let text = format!(
                "event: sampled\ndata: {{\"type\":\"sampled\",\"skipped\":{skipped},\"limit\":{}}}\n\n",
                self.limit
            );
            Bytes::from(text)
        })
    }
}

/// Some of the frames of a stream.
pub(super) struct Sampled {
    frames: Frames,
    sampler: Sampler,
    periods: Interval,
}

impl Sampled {
    pub(super) fn new(frames: Frames, sampler: Sampler) -> Self {
        Sampled {
            frames,
            sampler,
            periods: interval_at(Instant::now() + PERIOD, PERIOD),
        }
    }
}

impl Stream for Sampled {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.periods.poll_tick(cx).is_ready()
                && let Some(notice) = this.sampler.end_period()
            {
                return Poll::Ready(Some(Ok(notice)));
            }
            match std::task::ready!(Pin::new(&mut this.frames).poll_next(cx)) {
                Some(Ok(frame)) if !this.sampler.passes(&frame) => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_limit_are_counted_and_notices_pass() {
        let query = Query::parse("sample=2").unwrap();
        let mut sampler = Sampler::parse(&query).unwrap().unwrap();
        let event = b"id: e/1\ndata: {}\n\n";
        let passed: Vec<bool> = (0..5).map(|_| sampler.passes(event)).collect();
        assert_eq!(passed, [true, true, false, false, false]);
        assert!(sampler.passes(b"event: gap\ndata: {}\n\n"));
        let told = sampler.end_period().unwrap();
        assert!(
            told.starts_with(b"event: sampled\n")
                && told.ends_with(b"\"skipped\":3,\"limit\":2}\n\n")
        );
        assert!(sampler.passes(b"data: {}\n\n") && sampler.end_period().is_none());
    }

    #[test]
    fn sample_that_passes_nothing_is_refused() {
        for text in ["sample=0", "sample=10001", "sample=x"] {
            let query = Query::parse(text).unwrap();
            assert_eq!(
                Sampler::parse(&query).unwrap_err().field_name(),
                Some("sample")
            );
        }
        assert_eq!(Sampler::parse(&Query::default()), Ok(None));
    }
}
