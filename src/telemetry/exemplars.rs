//! Trace exemplars of a histogram's buckets.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::histogram::{EXPORTED, exported_bucket};
use crate::event::TraceContext;

/// An observation in a sampled trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exemplar {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) value: Duration,
    pub(super) at: SystemTime,
}

/// The newest exemplar of each exported bucket.
#[derive(Debug)]
pub(super) struct Exemplars([Mutex<Option<Exemplar>>; EXPORTED.len() + 1]);

impl Default for Exemplars {
    fn default() -> Self {
        Exemplars(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Exemplars {
    /// Stores this one, unless another thread holds the bucket's lock: exemplars never block.
    pub(super) fn note(&self, value: Duration, trace: &TraceContext) {
        if let Some(bucket) = self.0.get(exported_bucket(value))
            && let Ok(mut bucket) = bucket.try_lock()
        {
            *bucket = Some(Exemplar {
                trace_id: trace.trace_id,
                span_id: trace.span_id,
                value,
                at: SystemTime::now(),
            });
        }
    }

    /// The exemplar of each bucket, if there is one.
    pub(super) fn read(&self) -> Vec<Option<Exemplar>> {
        let read = |bucket: &Mutex<Option<Exemplar>>| bucket.lock().ok().and_then(|kept| *kept);
        self.0.iter().map(read).collect()
    }
}
