//! The budget of filters and replays per round.

use crate::filter::FilterLimits;
use crate::hub::filter_budget::{EvalContext, Meter, Slice};
use crate::telemetry::ShardMetrics;

/// The rest of a round's budget.
pub(super) struct Budget {
    /// For filters and replays.
    pub(super) slice: Slice,
    /// For filters that cannot be deferred.
    pub(super) overlaps: Slice,
    /// Microseconds on the clock of the hub, read once in each round.
    pub(super) now_us: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Budget {
            slice: Slice::new(),
            overlaps: Slice::for_overlaps(),
            now_us: 0,
        }
    }

    /// A new round begins.
    pub(super) fn renew(&self) {
        self.slice.renew();
        self.overlaps.renew();
    }

    /// Evaluations of a connection's filters within this budget.
    pub(super) fn asking<'a>(
        &'a self,
        meter: Option<&'a Meter>,
        limits: &'a FilterLimits,
        metrics: &'a ShardMetrics,
    ) -> EvalContext<'a> {
        EvalContext {
            slice: &self.slice,
            meter,
            limits,
            now_us: self.now_us,
            metrics,
        }
    }
}
