//! The spans of events that were published on this node and are not delivered yet.
//!
//! A span does not travel through a broker, which may be another process. So the publisher
//! registers it here, and the hub takes it out when the broker delivers the event.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fanout::FanoutSpan;
use crate::event::TraceContext;

/// The number of buckets, each with a lock.
const BUCKETS: usize = 512;
/// The most spans in one bucket. Span ids are random, so buckets fill evenly.
const BUCKET: usize = 8;
/// How long a span may wait for its event while its space is needed. A publisher that went away
/// before the broker's answer never removes its span.
const PATIENCE: Duration = Duration::from_mins(1);

/// The most memory of spans that wait for their events: a term of the server's worst case. A span
/// with its attributes and links takes about 1 KiB.
pub const OPEN_SPAN_BYTES: usize = BUCKETS * BUCKET * 1024;

/// Names a registered span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFanout {
    trace_id: u128,
    span_id: u64,
}

impl OpenFanout {
    fn of(context: &TraceContext) -> Self {
        OpenFanout {
            trace_id: context.trace_id,
            span_id: context.span_id,
        }
    }
}

/// A bounded table of spans, by the span id that their event carries.
#[derive(Debug)]
pub(super) struct OpenFanouts(Box<[Mutex<Vec<Waiting>>]>);

#[derive(Debug)]
struct Waiting {
    key: OpenFanout,
    since: Instant,
    span: FanoutSpan,
}

impl OpenFanouts {
    pub(super) fn new() -> Self {
        OpenFanouts((0..BUCKETS).map(|_| Mutex::default()).collect())
    }

    /// Registers a span. `None` if there is no space: the span ends.
    pub(super) fn insert(&self, span: FanoutSpan) -> Option<OpenFanout> {
        let key = OpenFanout::of(span.context());
        let since = Instant::now();
        let mut bucket = self.bucket(key.span_id)?;
        if bucket.len() >= BUCKET {
            bucket.retain(|one| since.saturating_duration_since(one.since) < PATIENCE);
        }
        if bucket.len() >= BUCKET {
            return None;
        }
        bucket.push(Waiting { key, since, span });
        Some(key)
    }

    /// Takes the span of an event with this context.
    pub(super) fn take(&self, context: &TraceContext) -> Option<FanoutSpan> {
        self.remove(OpenFanout::of(context))
    }

    /// Takes a registered span.
    pub(super) fn remove(&self, key: OpenFanout) -> Option<FanoutSpan> {
        let mut bucket = self.bucket(key.span_id)?;
        let at = bucket.iter().position(|one| one.key == key)?;
        Some(bucket.swap_remove(at).span)
    }

    /// Changes the span of an event with this context.
    pub(super) fn with<T>(
        &self,
        context: &TraceContext,
        change: impl FnOnce(&mut FanoutSpan) -> T,
    ) -> Option<T> {
        let key = OpenFanout::of(context);
        let mut bucket = self.bucket(key.span_id)?;
        let one = bucket.iter_mut().find(|one| one.key == key)?;
        Some(change(&mut one.span))
    }

    fn bucket(&self, span_id: u64) -> Option<MutexGuard<'_, Vec<Waiting>>> {
        let at = usize::try_from(span_id % 512).ok()?;
        let bucket = self.0.get(at)?;
        Some(bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::spans_tests::{always_on, parent};
    use super::*;

    #[test]
    fn full_bucket_refuses_further_spans() {
        let (tracing, _) = always_on();
        let table = OpenFanouts::new();
        let span = || {
            tracing
                .fanout(None, Uuid::nil(), Some(&parent(true)))
                .unwrap()
        };
        let mut kept = Vec::new();
        let mut refused = 0;
        for _ in 0..2 * BUCKETS * BUCKET {
            match table.insert(span()) {
                Some(key) => kept.push(key),
                None => refused += 1,
            }
        }
        assert!(kept.len() <= BUCKETS * BUCKET && refused > 0);
        assert!(kept.len() > BUCKETS * BUCKET * 9 / 10, "{}", kept.len());
        for key in kept {
            assert!(table.remove(key).is_some());
            assert!(table.remove(key).is_none(), "it is there once");
        }
    }

    #[test]
    fn span_whose_publisher_went_away_gives_its_space_up() {
        let (tracing, _) = always_on();
        let table = OpenFanouts::new();
        let span = tracing
            .fanout(None, Uuid::nil(), Some(&parent(true)))
            .unwrap();
        let context = span.context().clone();
        table.insert(span).unwrap();
        let Some(long_ago) = Instant::now().checked_sub(2 * PATIENCE) else {
            return;
        };
        table.bucket(context.span_id).unwrap()[0].since = long_ago;
        let mut others = 0;
        while others < BUCKET {
            let span = tracing
                .fanout(None, Uuid::nil(), Some(&parent(true)))
                .unwrap();
            if span.context().span_id % 512 == context.span_id % 512 {
                assert!(table.insert(span).is_some());
                others += 1;
            }
        }
        assert!(table.take(&context).is_none());
    }
}
