//! Filters that are asked away from the shards: where there is more to do than a shard has time for.
//!
//! Few evaluations run at once. Users have them in turn, and each evaluation gives its place up after
//! a slice. So however many connections of a user ask for however much, another user waits for a slice
//! of it at most, and the shards and the publishers wait for none. Filters are compiled in places of
//! their own, in turn too.

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

/// Steps after which others have their turn.
const SLICE: u64 = 50_000;
/// The steps of an event whose answer is known, or that needs no evaluation.
const LEAST: u64 = 4;
/// Answers that took fewer steps than this are not kept: to ask again is as cheap.
const WORTH_KEEPING: u64 = 64;
/// Answers that are kept, in each of two generations.
const KEPT: usize = 16_384;

/// What a filter says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes.
    Passes,
    /// It is kept back.
    Kept,
    /// The answer takes more steps than an evaluation may (`limits.filter_steps`).
    Costly,
}

/// What filters are compiled and asked with, away from the shards.
pub(super) struct Evaluator {
    pub(super) store: Arc<FilterStore>,
    /// The turns of evaluations.
    pub(super) evaluations: FairQueue,
    /// The turns of compilations.
    pub(super) compilations: FairQueue,
    known: Mutex<Known>,
}

/// Answers by expression and event, the newest in `young`.
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
    /// Asks about events until a slice is used up; answers the verdicts and the steps taken. There
    /// is one verdict at least where there is an event.
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
        // A budget that is raised later must not meet an answer of before.
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
            ..FilterLimits::default()
        };
        let judge = Evaluator::default();
        let metrics = Metrics::new("judge");
        let (verdicts, taken) = judge.slice(&filter, events, &limits, &metrics);
        let (_, again) = judge.slice(&filter, events, &limits, &metrics);
        (verdicts, taken, again)
    }

    #[test]
    fn what_is_known_of_an_event_is_not_asked_again() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 200].join(","));
        let events = [Arc::new(event("a", data.into_bytes(), ""))];
        let (verdicts, taken, again) = judge("data.list.exists(x, x == 2)", &events, 10_000);
        assert_eq!(verdicts, [Verdict::Kept]);
        assert!(taken > 800 && again == LEAST, "{taken}, then {again}");
    }

    #[test]
    fn an_evaluation_ends_with_its_budget() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 20_000].join(","));
        let events = [Arc::new(event("a", data.into_bytes(), ""))];
        let (verdicts, taken, _) = judge("data.list.exists(x, x == 2)", &events, 1000);
        assert_eq!(verdicts, [Verdict::Costly]);
        assert!(taken < 1000 + 20_000, "{taken}");
    }

    #[test]
    fn a_slice_ends_and_leaves_the_rest() {
        let data = format!("{{\"list\":[{}]}}", vec!["1"; 20_000].join(","));
        let event = Arc::new(event("a", data.into_bytes(), ""));
        let events = vec![event; 8];
        let (verdicts, ..) = judge("data.list.exists(x, x == 2)", &events, 40_000);
        assert!((1..8).contains(&verdicts.len()), "{}", verdicts.len());
    }
}
