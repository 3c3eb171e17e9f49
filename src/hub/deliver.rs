//! The publishers' side of the hub: events, from the broker to the queues of the shards.
//!
//! A [`Dispatcher`] knows which shards want a channel and how to reach them. It knows no connection
//! and no broker, so it exists before both: the broker is built with it as its [`Sink`].

use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::command::ShardCommand;
use super::delivery::Delivery;
use super::interest::{InterestTable, MAX_SHARDS};
use super::permits::Permits;
use super::queue::{HighWater, Inbound, ShardQueue};
use super::round::{Cell, WAKE};
use super::settings::Settings;
use crate::broker::Sink;
use crate::event::{ChannelName, Draft, Event, Namespaces};
use crate::telemetry::{Metrics, Tracing};

/// State that publishers share with the shards.
pub(in crate::hub) struct Dispatcher {
    pub(in crate::hub) queues: Box<[Arc<ShardQueue>]>,
    pub(in crate::hub) cells: Box<[Cell]>,
    pub(in crate::hub) routes: InterestTable,
    pub(in crate::hub) settings: Arc<ArcSwap<Settings>>,
    pub(in crate::hub) namespaces: Arc<ArcSwap<Namespaces>>,
    pub(in crate::hub) metrics: Arc<Metrics>,
    pub(in crate::hub) tracing: Arc<Tracing>,
    pub(in crate::hub) permits: Arc<Permits>,
    started: Instant,
}

impl Dispatcher {
    /// A dispatcher for this many shards, and the event queue of each.
    ///
    /// # Errors
    ///
    /// The operating system provides no more event queues.
    pub(in crate::hub) fn new(
        shards: usize,
        settings: Settings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        metrics: Arc<Metrics>,
        tracing: Arc<Tracing>,
    ) -> io::Result<(Self, Vec<mio::Poll>)> {
        let shards = shards.clamp(1, MAX_SHARDS);
        let mut polls = Vec::with_capacity(shards);
        let mut queues = Vec::with_capacity(shards);
        for _ in 0..shards {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), WAKE)?;
            queues.push(Arc::new(ShardQueue::new(waker, HighWater::SHARD)));
            polls.push(poll);
        }
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let permits = Permits::new(Arc::clone(&settings), Arc::clone(&metrics));
        let permits = Arc::new(permits);
        let dispatcher = Dispatcher {
            cells: queues.iter().map(|_| Cell::new()).collect(),
            queues: queues.into(),
            routes: InterestTable::new(),
            settings,
            namespaces,
            metrics,
            tracing,
            permits,
            started: Instant::now(),
        };
        Ok((dispatcher, polls))
    }

    /// Microseconds since the hub was built.
    pub(in crate::hub) fn clock_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits until every shard's queue is below its high-water mark.
    pub(in crate::hub) async fn ready(&self) {
        for queue in &self.queues {
            queue.ready().await;
        }
    }

    /// True if a shard's queue has reached its high-water mark.
    pub(in crate::hub) fn is_full(&self) -> bool {
        self.queues.iter().any(|queue| queue.is_full())
    }

    /// True if the delivery of this event is sampled: always within a recorded trace, and for a
    /// share of the other events.
    fn is_sampled(&self, delivery: &Delivery) -> bool {
        let settings = self.settings.load();
        settings.connections_per_event > 0
            && (delivery.trace().is_some()
                || (settings.confirmations > 0.0 && fastrand::f64() < settings.confirmations))
    }

    /// How many connections a direct event addresses: those of its users, and the named ones.
    fn count_addressed(&self, draft: &Draft) -> u64 {
        let Some(audience) = &draft.audience else {
            return 0;
        };
        let connections = u64::try_from(audience.connections.len()).unwrap_or(u64::MAX);
        self.permits
            .of_users(&audience.users)
            .saturating_add(connections)
    }
}

impl Sink for Dispatcher {
    fn deliver(&self, event: Arc<Event>) -> u64 {
        let span = self.tracing.begin_fanout(&event);
        let (shards, subscribers) = match &event.channel {
            Some(channel) => self.routes.find_for_event(channel),
            None => (u64::MAX, self.count_addressed(&event)),
        };
        self.metrics.published(&event.event_type);
        if shards == 0 {
            // Flush deferred wake-ups even if this event has no interested shard.
            self.defer_wake(0, 0);
            return 0;
        }
        let mut delivery = Delivery::new(event, subscribers, span);
        if self.is_sampled(&delivery) {
            delivery.watch();
        }
        let delivery = Arc::new(delivery);
        let mut asleep = 0_u64;
        for (index, queue) in self.queues.iter().enumerate() {
            if shards & (1 << index) != 0
                && queue.push_deferred(Inbound::Event(Arc::clone(&delivery)))
            {
                asleep |= 1 << index;
            }
        }
        let deliveries = if delivery.event().is_for_roles() {
            // The shard must check every connection.
            u64::MAX
        } else {
            subscribers
        };
        self.defer_wake(asleep, deliveries);
        subscribers
    }

    fn lagged(&self, channel: Option<&ChannelName>) {
        let shards = match channel {
            Some(channel) => self.routes.find(channel).0,
            None => u64::MAX,
        };
        if shards == 0 {
            return;
        }
        let keeps_history =
            |channel: &ChannelName| self.namespaces.load().of(channel).history.size > 0;
        if !channel.is_some_and(keeps_history) {
            // No offset shows what is missing.
            self.metrics.events_may_be_lost();
            tracing::warn!(
                channel = channel.map(tracing::field::display),
                "events of channels without history may have been lost on their way here"
            );
        }
        if channel.is_none_or(keeps_history) {
            for (index, queue) in self.queues.iter().enumerate() {
                if shards & (1 << index) != 0 {
                    let command = ShardCommand::CheckPositions(channel.cloned());
                    queue.push(Inbound::Command(Box::new(command)));
                }
            }
        }
    }

    fn is_followed(&self, channel: &ChannelName) -> bool {
        self.routes.subscriptions(channel).is_some()
    }

    fn subscribers(&self, draft: &Draft) -> u64 {
        match &draft.channel {
            Some(channel) => self.routes.find(channel).1,
            None => self.count_addressed(draft),
        }
    }

    fn is_full(&self) -> bool {
        Dispatcher::is_full(self)
    }
}
