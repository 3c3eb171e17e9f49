//! Deferred filters: if the budget of a round does not suffice, the subscription enters recovery
//! and its filter is evaluated off the shard.
//!
//! Events that arrive meanwhile are held back, up to the limit of an outbox. If the channel keeps
//! history, the rest is read from there. If it keeps none, or the subscription is to a pattern, the
//! subscription ends.

use std::sync::Arc;

use super::batch::{Batch, each};
use super::fanout::subscribed_once;
use super::held_back::overtaken;
use super::{Shard, SubscriptionRef};
use crate::error::{Error, Result};
use crate::event::{Event, Position};
use crate::filter::{EventFilter, EventView};
use crate::hub::command::ShardCommand;
use crate::hub::evaluator::Verdict;
use crate::hub::filter_budget::Meter;
use crate::hub::protocol::Notice;

/// Events of one evaluation off the shard.
const AT_ONCE: usize = 128;

/// Events on which a filter is evaluated off the shard.
pub(in crate::hub) struct FilterBatch {
    filter: Arc<EventFilter>,
    events: Arc<[Arc<Event>]>,
}

impl Shard {
    /// Defers the filter of a subscription: it could not be evaluated on the `live` events of a
    /// batch. The other `fresh` events are not visible to the connection.
    pub(super) fn defer_filter(
        &mut self,
        slot: u32,
        topic: u32,
        topics: [Option<u32>; 3],
        batch: &Batch<'_>,
        [fresh, live]: [u64; 2],
    ) {
        let Some(connection) = self.connections.get(slot).filter(|_| live != 0) else {
            return;
        };
        let was_live = self.is_live(slot, topic);
        if !subscribed_once(connection, topics) {
            // Its other subscriptions stay live and would overtake this one.
            let rate = self.settings.filters.steps_per_second;
            let meter = connection.meter();
            let (limit, error) = if meter.is_some_and(|m| m.is_spent(self.budget.now_us, rate)) {
                ("filter_steps_per_second", too_much())
            } else {
                ("filter_overlap", overtaken())
            };
            self.hub.metrics().limit_reached(limit);
            return self.end_subscription(slot, topic, &error);
        }
        if was_live {
            self.hub.metrics().filter_deferred();
        }
        let position = self.topics.get(topic).and_then(|topic| topic.position);
        let first = each(live).next().and_then(|at| batch.event(at)?.position);
        if let (Some(_), Some(first)) = (position, first) {
            let offset = first.offset.saturating_sub(1);
            if was_live && self.begin_recovery(slot, topic, Position { offset, ..first }) {
                self.set_live(slot, topic, false);
                if let Some(recovery) = self.recovery(slot, topic) {
                    recovery.kept = Some(0);
                }
                self.keep_behind(slot, topic, batch, fresh, live);
            }
        } else {
            self.hold_back(slot, topic, batch, live);
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            self.recovery.schedule(slot, connection);
        }
    }

    /// Evaluates the filter on waiting events within the budget; false if it does not suffice for
    /// one.
    pub(super) fn evaluate_here(&mut self, slot: u32, topic: u32) -> bool {
        let Some(filter) = self.filter_of_subscription(slot, topic) else {
            return true;
        };
        let meter = self.connections.get(slot).and_then(|c| c.meter()).cloned();
        let Some(mut waiting) = self
            .recovery(slot, topic)
            .map(|recovery| std::mem::take(&mut recovery.waiting))
        else {
            return true;
        };
        let limits = &self.settings.filters;
        let asking = self.budget.asking(meter.as_deref(), limits, &self.metrics);
        let mut asked = false;
        for waiting in &mut waiting {
            if waiting.verdict.is_none() {
                let Some(passes) = asking.ask(&filter, &EventView::new(&waiting.event)) else {
                    break;
                };
                waiting.verdict = Some(if passes {
                    Verdict::Passes
                } else {
                    Verdict::Kept
                });
            }
            asked = true;
        }
        if let Some(recovery) = self.recovery(slot, topic) {
            recovery.waiting = waiting;
        }
        asked
    }

    /// Starts an evaluation of the filter on waiting events off the shard.
    pub(super) fn evaluate_off_shard(&mut self, slot: u32, topic: u32) {
        let Some(filter) = self.filter_of_subscription(slot, topic) else {
            return;
        };
        let Some(meter) = self.connections.get_mut(slot).map(meter_of) else {
            return;
        };
        let Some(recovery) = self.recovery(slot, topic) else {
            return;
        };
        let unasked = recovery.waiting.iter().take_while(|w| w.verdict.is_none());
        let events: Arc<[Arc<Event>]> = unasked
            .take(AT_ONCE)
            .map(|waiting| Arc::clone(&waiting.event))
            .collect();
        let Some(subscription) = self.begin_reading(slot, topic) else {
            return;
        };
        let hub = Arc::clone(&self.hub);
        let batch = FilterBatch {
            filter: Arc::clone(&filter),
            events: Arc::clone(&events),
        };
        let meter = Arc::downgrade(&meter);
        self.send_later(async move {
            let verdicts = hub.evaluate(filter, events, meter).await;
            ShardCommand::FilterVerdicts {
                subscription,
                batch,
                verdicts: verdicts.map(|(verdicts, _)| verdicts),
            }
        });
    }

    /// The filter was evaluated off the shard.
    pub(super) fn filter_verdicts(
        &mut self,
        subscription: SubscriptionRef,
        batch: &FilterBatch,
        verdicts: Result<Vec<Verdict>>,
    ) {
        let Some(slot) = self.connections.find(subscription.connection) else {
            return;
        };
        if self.end_reading(slot, subscription) {
            self.take_verdicts(slot, subscription.topic, batch, verdicts);
        }
        // The connection's other subscriptions waited for this page, even if it is useless now.
        self.advance_recoveries(slot);
    }

    fn take_verdicts(
        &mut self,
        slot: u32,
        topic: u32,
        batch: &FilterBatch,
        verdicts: Result<Vec<Verdict>>,
    ) {
        let is_same = |filter: &Arc<EventFilter>| filter.key() == batch.filter.key();
        let still = self.filter_of_subscription(slot, topic);
        match verdicts {
            Ok(verdicts) if still.as_ref().is_some_and(is_same) => {
                let Some(recovery) = self.recovery(slot, topic) else {
                    return;
                };
                // The waiting events may be different by now, after a change of the epoch.
                let answered = batch.events.iter().zip(verdicts);
                for (waiting, (event, verdict)) in recovery.waiting.iter_mut().zip(answered) {
                    if Arc::ptr_eq(&waiting.event, event) {
                        waiting.verdict = Some(verdict);
                    }
                }
            }
            // The subscription has another filter by now, which is evaluated instead.
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a filter could not be evaluated");
                self.end_subscription(slot, topic, &error);
            }
        }
    }

    fn filter_of_subscription(&self, slot: u32, topic: u32) -> Option<Arc<EventFilter>> {
        let place = self.filter_of(slot, topic)?;
        self.filters.get(place).cloned()
    }

    /// The filter exceeds `limits.filter_steps` on an event: the client is notified of the gap.
    pub(super) fn notify_costly(&mut self, slot: u32, topic: u32, event: &Event) {
        self.hub.metrics().limit_reached("filter_steps");
        if let Some(position) = event.position
            && self.topics.get(topic).is_some_and(|t| t.position.is_some())
        {
            let offset = position.offset;
            return self.notify_gap(slot, topic, offset, offset, "filter_steps");
        }
        let text = "the filter takes too many steps for an event (limits.filter_steps)";
        self.end_subscription(slot, topic, &Error::exhausted(text));
    }

    /// Ends a subscription with an error.
    pub(super) fn end_subscription(&mut self, slot: u32, topic: u32, error: &Error) {
        let Some(channel) = self.topics.get(topic).map(|t| t.pattern.to_string()) else {
            return;
        };
        self.leave_topic(slot, topic);
        self.hub.metrics().error(error.code());
        let channel = &channel;
        self.notify(slot, &Notice::Unsubscribed { channel, error });
    }
}

/// The meter of a connection's filters.
pub(super) fn meter_of(connection: &mut crate::hub::shard::connection::Connection) -> Arc<Meter> {
    Arc::clone(connection.cold().meter.get_or_insert_default())
}

fn too_much() -> Error {
    Error::exhausted(
        "the filters of this connection take too many steps (limits.filter_steps_per_second)",
    )
}
