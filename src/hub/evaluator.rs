//! Evaluates filters off the shards, if they need more than a shard's round allows.
//!
//! Few evaluations run at once. Users take turns, and each evaluation yields after a slice. However
//! much the connections of one user request, another user waits for one slice at most, and shards
//! and publishers do not wait at all. Compilations have a queue of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use crate::event::Event;
use crate::fair_queue::FairQueue;
use crate::filter::FilterLimits;
use crate::filter::FilterStore;
use crate::filter::expression::{Steps, Stop};
use crate::filter::{EventFilter, EventView};
use crate::telemetry::Metrics;

/// Steps of one slice.
const SLICE: u64 = 50_000;
/// The minimum steps per event, also if its verdict is cached or needs no evaluation.
const LEAST: u64 = 4;
/// Verdicts that took fewer steps are not cached: evaluating again is as cheap.
const WORTH_KEEPING: u64 = 64;
/// Cached verdicts, in each of two generations.
const KEPT: usize = 16_384;

/// The verdict of a filter on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes.
    Passes,
    /// It does not pass.
    Kept,
    /// The verdict needs more steps than an evaluation may use (`limits.filter_steps`).
    Costly,
}

/// Compiles and evaluates filters off the shards.
pub(super) struct Evaluator {
    pub(super) store: Arc<FilterStore>,
    /// The queue of evaluations.
    pub(super) evaluations: FairQueue,
    /// The queue of compilations.
    pub(super) compilations: FairQueue,
    known: Mutex<Known>,
}

/// Verdicts by expression and event, the newest in `young`.
#[derive(Default)]
struct Known {
    young: HashMap<(u64, u128), Verdict>,
    old: HashMap<(u64, u128), Verdict>,
}

impl Default for Evaluator {
    fn default() -> Self {
        // A quarter of the machine: the rest is for the shards and the runtime.
        let places = available_parallelism().map_or(1, |cores| (cores.get() / 4).max(1));
        Evaluator {
            store: Arc::default(),
            evaluations: FairQueue::new(places),
            compilations: FairQueue::new(places),
            known: Mutex::default(),
        }
    }
}

impl Evaluator {
    /// Evaluates a filter on events until the slice is used up. Returns the verdicts, at least one
    /// if there is an event, and the steps taken.
    pub(super) fn slice(
        &self,
        filter: &EventFilter,
        events: &[Arc<Event>],
        limits: &FilterLimits,
        metrics: &Metrics,
    ) -> (Vec<Verdict>, u64) {
        let mut verdicts = Vec::new();
        let mut taken = 0;
        for event in events {
            let (verdict, steps) = self.one(filter, event, limits, metrics);
            verdicts.push(verdict);
            taken += steps;
            if taken >= SLICE {
                break;
            }
        }
        metrics.filter_steps(taken);
        (verdicts, taken)
    }

    fn one(
        &self,
        filter: &EventFilter,
        event: &Event,
        limits: &FilterLimits,
        metrics: &Metrics,
    ) -> (Verdict, u64) {
        let Some(condition) = filter.condition().filter(|_| filter.wants(event)) else {
            let wanted = filter.wants(event);
            return (
                if wanted {
                    Verdict::Passes
                } else {
                    Verdict::Kept
                },
                LEAST,
            );
        };
        let key = (condition.serial(), event.id.as_u128());
        if let Some(known) = self.known().get(key) {
            return (known, LEAST);
        }
        let view = EventView::new(event);
        let before = filter.steps_before(&view);
        let steps = Steps::new(limits.steps);
        metrics.filter_evaluated();
        let verdict = match filter.ask(&view, &steps) {
            Ok(true) => Verdict::Passes,
            Ok(false) | Err(Stop::Fault(_)) => Verdict::Kept,
            Err(Stop::Steps) => Verdict::Costly,
        };
        let taken = before + steps.taken() + LEAST;
        // A verdict made under a smaller budget must not outlive it.
        if taken >= WORTH_KEEPING && verdict != Verdict::Costly {
            self.known().keep(key, verdict);
        }
        (verdict, taken)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn get(&self, key: (u64, u128)) -> Option<Verdict> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn keep(&mut self, key: (u64, u128), verdict: Verdict) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::event;

    fn judge(source: &str, events: &[Arc<Event>], steps: u64) -> (Vec<Verdict>, u64, u64) {
        let filter = EventFilter::new([], Some(source)).unwrap().unwrap();
        let limits = FilterLimits {
            steps,
            ..FilterLimits::sample()
        };
        let judge = Evaluator::default();
        let metrics = Metrics::new("judge");
        let (verdicts, taken) = judge.slice(&filter, events, &limits, &metrics);
        let (_, again) = judge.slice(&filter, events, &limits, &metrics);
        (verdicts, taken, again)
    }

    #[test]
    fn cached_verdict_is_not_evaluated_again() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 200].join(","));
        let events = [Arc::new(event("a", data.into_bytes(), ""))];
        let (verdicts, taken, again) = judge("data.list.exists(x, x == 2)", &events, 10_000);
        assert_eq!(verdicts, [Verdict::Kept]);
        assert!(taken > 800 && again == LEAST, "{taken}, then {again}");
    }

    #[test]
    fn evaluation_stops_at_its_budget() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 20_000].join(","));
        let events = [Arc::new(event("a", data.into_bytes(), ""))];
        let (verdicts, taken, _) = judge("data.list.exists(x, x == 2)", &events, 1000);
        assert_eq!(verdicts, [Verdict::Costly]);
        assert!(taken < 1000 + 20_000, "{taken}");
    }

    #[test]
    fn slice_ends_and_leaves_remaining_events() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 20_000].join(","));
        let event = Arc::new(event("a", data.into_bytes(), ""));
        let events = vec![event; 8];
        let (verdicts, ..) = judge("data.list.exists(x, x == 2)", &events, 40_000);
        assert!((1..8).contains(&verdicts.len()), "{}", verdicts.len());
    }
}
