//! The distinct filters of a shard. Each is evaluated once per event however many subscriptions
//! share it, and the verdict is shared with the other shards.

use std::collections::HashMap;
use std::sync::Arc;

use super::slab::Slab;
use crate::filter::FilterNumbers;
use crate::filter::{EventFilter, EventView, FilterKey};
use crate::hub::delivery::Delivery;
use crate::hub::filter_budget::EvalContext;

/// No filter.
pub(super) const NO_FILTER: u32 = u32::MAX;

/// Distinct filters with how many subscriptions use each.
pub(super) struct FilterTable {
    filters: Slab<Shared>,
    places: HashMap<FilterKey, u32>,
    numbers: Arc<FilterNumbers>,
}

struct Shared {
    filter: Arc<EventFilter>,
    /// The same on every shard.
    number: u64,
    uses: u32,
    /// The batch for which `evaluated` and `passes` hold.
    batch: u64,
    /// The events of the batch on which it was evaluated.
    evaluated: u64,
    passes: u64,
    /// Data of this many bytes exceeded the budget: not tried on the shard again.
    heavy: usize,
}

impl FilterTable {
    /// No filters.
    pub(super) fn new(numbers: Arc<FilterNumbers>) -> Self {
        FilterTable {
            filters: Slab::new(),
            places: HashMap::new(),
            numbers,
        }
    }

    /// The slot of a filter, with one more use.
    pub(super) fn acquire(&mut self, filter: Option<&Arc<EventFilter>>) -> u32 {
        let Some(filter) = filter else {
            return NO_FILTER;
        };
        if let Some(&place) = self.places.get(filter.key()) {
            if let Some(shared) = self.filters.get_mut(place) {
                shared.uses += 1;
            }
            return place;
        }
        let shared = Shared {
            filter: Arc::clone(filter),
            number: self.numbers.acquire(filter.key()),
            uses: 1,
            batch: 0,
            evaluated: 0,
            passes: 0,
            heavy: usize::MAX,
        };
        let place = self.filters.insert(shared);
        self.places.insert(filter.key().clone(), place);
        place
    }

    /// One fewer use.
    pub(super) fn release(&mut self, place: u32) {
        let Some(shared) = self.filters.get_mut(place) else {
            return;
        };
        shared.uses -= 1;
        if shared.uses == 0
            && let Some(shared) = self.filters.remove(place)
        {
            self.places.remove(shared.filter.key());
            self.numbers.release(shared.filter.key());
        }
    }

    /// The filter in a slot.
    #[must_use]
    pub(super) fn get(&self, place: u32) -> Option<&Arc<EventFilter>> {
        self.filters.get(place).map(|shared| &shared.filter)
    }

    /// Which of the `wanted` events of a batch pass, as a bit set, evaluated once for the batch's
    /// number. `None` if the budget does not suffice.
    pub(super) fn passes(
        &mut self,
        place: u32,
        batch: u64,
        wanted: u64,
        events: &[(&Delivery, EventView<'_>)],
        asking: &EvalContext<'_>,
    ) -> Option<u64> {
        let Some(shared) = self.filters.get_mut(place) else {
            return Some(wanted);
        };
        if shared.batch != batch {
            (shared.batch, shared.evaluated, shared.passes) = (batch, 0, 0);
        }
        if wanted & !shared.evaluated != 0 {
            shared.evaluate(wanted, events, asking)?;
        }
        Some(shared.passes & wanted)
    }
}

impl Shared {
    /// Evaluates the wanted events that were not evaluated yet. `None` if the budget does not
    /// suffice: the next subscriber may have some left, and continues from there.
    fn evaluate(
        &mut self,
        wanted: u64,
        events: &[(&Delivery, EventView<'_>)],
        asking: &EvalContext<'_>,
    ) -> Option<()> {
        for ((delivery, view), at) in events.iter().zip(0_u32..) {
            let bit = 1 << at;
            if wanted & !self.evaluated & bit == 0 {
                continue;
            }
            let yes = self.evaluate_one(delivery, view, asking)?;
            self.evaluated |= bit;
            self.passes |= u64::from(yes) << at;
        }
        Some(())
    }

    fn evaluate_one(
        &mut self,
        delivery: &Delivery,
        view: &EventView<'_>,
        asking: &EvalContext<'_>,
    ) -> Option<bool> {
        let known = delivery.verdict(self.number).map(|known| known.passes);
        if let Some(Some(passes)) = known {
            return Some(passes);
        }
        if asking.cannot_wait() {
            return asking.ask(&self.filter, view);
        }
        let bytes = view.event().payload.data().len();
        if known.is_some() || bytes >= self.heavy || asking.is_over() {
            return self.filter.answer_for_nothing(view.event());
        }
        let yes = delivery.passes(self.number, || asking.ask(&self.filter, view));
        if yes.is_none() && !asking.is_over() {
            self.heavy = bytes;
        }
        yes
    }
}
