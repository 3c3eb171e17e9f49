//! Budgets of filter evaluation: of a connection over time, and of a shard per round.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::auth::Identity;
use crate::fair_queue::Share;
use crate::filter::FilterLimits;
use crate::filter::expression::{Steps, Stop};
use crate::filter::{EventFilter, EventView};
use crate::telemetry::ShardMetrics;

/// The steps of a shard per round, for filters and replays: about a millisecond.
const ROUND: u64 = 50_000;
/// The most steps of one evaluation on a shard's thread; a longer one runs off the shard.
const AT_ONCE: u64 = 5_000;
/// The most data that is parsed on a shard's thread, in bytes.
const PARSED_AT_ONCE: usize = 64 << 10;

/// A connection's budget of steps, as a token bucket that holds one second's worth (virtual
/// scheduling): taking steps moves the time at which more may be taken.
#[derive(Debug)]
pub(super) struct Meter {
    /// The share in whose queue its evaluations off the shard wait.
    share: Share,
    /// In microseconds of [`Hub::clock_us`](super::Hub::clock_us).
    next: AtomicU64,
    /// Serialises the evaluations off the shard, so that a connection with many filters gets no
    /// more turns than one with a single filter.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// The meter of a connection, created for its user together with its first filter.
#[derive(Debug, Default)]
pub(super) struct MeterSlot {
    meter: Option<Arc<Meter>>,
    /// The connection's identity, until there is a meter.
    identity: Option<Arc<Identity>>,
}

impl MeterSlot {
    /// The meter, if there is one.
    pub(super) fn get(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    /// The meter, created if there is none.
    pub(super) fn get_or_insert_default(&mut self) -> &Arc<Meter> {
        let identity = &mut self.identity;
        self.meter.get_or_insert_with(|| {
            let identity = identity.take();
            Arc::new(Meter::new(Share::of_identity(identity.as_deref())))
        })
    }

    /// Records the identity for which a meter would be created.
    pub(super) fn is_for(&mut self, identity: Option<&Arc<Identity>>) {
        if self.meter.is_none() {
            self.identity = identity.cloned();
        }
    }
}

impl Meter {
    /// A meter whose evaluations wait in the queue of this share.
    pub(super) fn new(share: Share) -> Self {
        Meter {
            share,
            next: AtomicU64::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The share in whose queue its evaluations wait.
    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// Records that steps were taken.
    pub(super) fn charge(&self, now_us: u64, rate: u64, steps: u64) {
        if rate == 0 {
            return;
        }
        let cost = steps.saturating_mul(1_000_000) / rate;
        let charge = |next: u64| Some(next.max(now_us).saturating_add(cost));
        let charged = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
        debug_assert!(charged.is_ok(), "the function always has an answer");
    }

    /// The time until more steps may be taken.
    pub(super) fn wait(&self, now_us: u64, rate: u64) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        let allowed = now_us.saturating_add(1_000_000);
        let next = self.next.load(Ordering::Relaxed);
        Duration::from_micros(next.saturating_sub(allowed))
    }

    /// True if no more steps may be taken now.
    pub(super) fn is_spent(&self, now_us: u64, rate: u64) -> bool {
        !self.wait(now_us, rate).is_zero()
    }
}

/// The steps of a round reserved for filters that cannot be deferred, because other subscriptions
/// of their connections to the same channel would overtake them. One evaluation may take all of
/// them.
const OVERLAPS: u64 = 50_000;

/// The rest of a shard's budget for the round. Once it is used up, filters are evaluated off the
/// shard, and replays continue in the next round, after sockets and timers.
#[derive(Debug)]
pub(super) struct Slice {
    left: Cell<u64>,
    /// The budget per round.
    whole: u64,
    /// The most steps of one evaluation.
    at_once: u64,
    /// The most data that is parsed for one evaluation, in bytes.
    parsed_at_once: usize,
}

impl Slice {
    pub(super) fn new() -> Self {
        Slice {
            left: Cell::new(ROUND),
            whole: ROUND,
            at_once: AT_ONCE,
            parsed_at_once: PARSED_AT_ONCE,
        }
    }

    /// The steps reserved for filters that cannot be deferred.
    pub(super) fn for_overlaps() -> Self {
        Slice {
            left: Cell::new(OVERLAPS),
            whole: OVERLAPS,
            at_once: OVERLAPS,
            parsed_at_once: usize::MAX,
        }
    }

    /// A new round begins.
    pub(super) fn renew(&self) {
        self.left.set(self.whole);
    }

    /// Takes steps.
    pub(super) fn take(&self, steps: u64) {
        self.left.set(self.left.get().saturating_sub(steps));
    }

    /// True if the budget is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }
}

/// An evaluation on a shard's thread, with the budgets that it uses.
pub(super) struct EvalContext<'a> {
    pub(super) slice: &'a Slice,
    pub(super) meter: Option<&'a Meter>,
    pub(super) limits: &'a FilterLimits,
    pub(super) now_us: u64,
    pub(super) metrics: &'a ShardMetrics,
}

impl EvalContext<'_> {
    /// Whether the event passes; `None` if the budget does not suffice to decide.
    pub(super) fn ask(&self, filter: &EventFilter, view: &EventView<'_>) -> Option<bool> {
        if filter.condition().is_none() || !filter.wants(view.event()) {
            return Some(filter.wants(view.event()));
        }
        let before = filter.steps_before(view);
        let slice = self.slice;
        let parsed = view.event().payload.data().len();
        if self.is_over() || (before > 0 && parsed > slice.parsed_at_once) {
            return None;
        }
        if self.cannot_wait() && before >= slice.left.get() {
            return None;
        }
        let left = slice.left.get().saturating_sub(before);
        let steps = Steps::new(left.min(slice.at_once).min(self.limits.steps));
        let answer = filter.ask(view, &steps);
        self.metrics.filter_evaluated();
        self.charge(before + steps.taken());
        match answer {
            Ok(passes) => Some(passes),
            Err(Stop::Fault(_)) => Some(false),
            Err(Stop::Steps) => None,
        }
    }

    /// True if the budget of the connection or of the round is used up.
    pub(super) fn is_over(&self) -> bool {
        let rate = self.limits.steps_per_second;
        let is_spent = |meter: &Meter| meter.is_spent(self.now_us, rate);
        self.slice.is_used_up() || self.meter.is_some_and(is_spent)
    }

    /// True if the evaluation cannot be deferred.
    pub(super) fn cannot_wait(&self) -> bool {
        self.slice.parsed_at_once == usize::MAX
    }

    fn charge(&self, steps: u64) {
        self.slice.take(steps);
        self.metrics.filter_steps(steps);
        if let Some(meter) = self.meter {
            meter.charge(self.now_us, self.limits.steps_per_second, steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_holds_one_second_of_steps_and_refills() {
        let meter = Meter::new(Share::OWN);
        let (rate, now) = (1000, 5_000_000);
        meter.charge(now, rate, 1000);
        assert!(meter.wait(now, rate).is_zero());
        meter.charge(now, rate, 500);
        assert_eq!(meter.wait(now, rate), Duration::from_millis(500));
        assert!(meter.wait(now + 500_000, rate).is_zero());
        // Unused steps are not saved for longer than a second.
        meter.charge(now + 60_000_000, rate, 1001);
        assert!(!meter.wait(now + 60_000_000, rate).is_zero());
        assert!(meter.wait(now, 0).is_zero(), "no limit");
    }
}
