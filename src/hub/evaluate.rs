//! Filters: compiled and evaluated off the shards.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Hub;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::fair_queue::{Permit, Share};
use crate::filter::Condition;
use crate::filter::EventFilter;
use crate::hub::evaluator::Verdict;
use crate::hub::filter_budget::Meter;
use crate::maybe_ready::MaybeReady;

/// The longest sleep before the connection is checked again for being open.
const NAP: Duration = Duration::from_millis(250);
/// The most steps for counting a replay, in seconds of a connection's budget.
const COUNTED_SECONDS: u64 = 5;

impl Hub {
    /// The condition of a filter: from the store if it is in use, or else compiled off the shard.
    /// Compilations of one share run one after another.
    pub fn condition(self: &Arc<Self>, source: &str, share: Share) -> MaybeReady<Arc<Condition>> {
        if let Some(known) = self.evaluator.store.find(source) {
            return MaybeReady::ok(known);
        }
        let (hub, source) = (Arc::clone(self), source.to_owned());
        MaybeReady::later(async move {
            let turn = hub.evaluator.compilations.take(share).await;
            let made = hub.clone().elsewhere(turn, move || {
                let limits = &hub.settings().filters;
                hub.evaluator
                    .store
                    .compile(&source, limits)
                    .map_err(|refusal| {
                        if let Some(limit) = refusal.limit {
                            hub.metrics().limit_reached(limit);
                        }
                        refusal.error
                    })
            });
            made.await?
        })
    }

    /// Evaluates a filter on events, as fast as the connection's budget allows. Returns the number
    /// of steps too.
    ///
    /// # Errors
    ///
    /// `unavailable` if the connection no longer exists or the server stops.
    pub(in crate::hub) async fn evaluate(
        self: Arc<Self>,
        filter: Arc<EventFilter>,
        events: Arc<[Arc<Event>]>,
        meter: Weak<Meter>,
    ) -> Result<(Vec<Verdict>, u64)> {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut taken = 0;
        while verdicts.len() < events.len() {
            let gone = || Error::unavailable("the connection is gone");
            let meter = meter.upgrade().ok_or_else(gone)?;
            let _one_at_a_time = meter.turn.lock().await;
            let rate = self.settings().filters.steps_per_second;
            let wait = meter.wait(self.clock_us(), rate);
            if !wait.is_zero() {
                self.metrics().filter_waited();
                tokio::time::sleep(wait.min(NAP)).await;
                continue;
            }
            let (hub, filter) = (Arc::clone(&self), Arc::clone(&filter));
            let (events, from) = (Arc::clone(&events), verdicts.len());
            let turn = self.evaluator.evaluations.take(meter.share()).await;
            let slice = self.clone().elsewhere(turn, move || {
                let rest = events.get(from..).unwrap_or_default();
                let limits = &hub.settings().filters;
                hub.evaluator.slice(&filter, rest, limits, hub.metrics())
            });
            let (made, steps) = slice.await?;
            meter.charge(self.clock_us(), rate, steps);
            taken += steps;
            verdicts.extend(made);
        }
        Ok((verdicts, taken))
    }

    /// The most steps for counting the events of a replay.
    pub(in crate::hub) fn steps_to_count(&self) -> u64 {
        match self.settings().filters.steps_per_second {
            0 => u64::MAX,
            rate => rate.saturating_mul(COUNTED_SECONDS),
        }
    }

    /// Runs blocking work on a blocking thread, with a permit.
    async fn elsewhere<T: Send + 'static>(
        self: Arc<Self>,
        turn: Permit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let done = self.runtime.spawn_blocking(move || {
            let made = work();
            drop(turn);
            made
        });
        done.await
            .map_err(|_| Error::unavailable("the server stops"))
    }
}
