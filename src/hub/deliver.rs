//! Events, from the broker to the shards that want them.

use std::sync::{Arc, PoisonError};

use super::Hub;
use crate::broker::Sink;
use crate::event::{ChannelName, Event};
use crate::hub::delivery::Delivery;
use crate::hub::inbox::Inbound;
use crate::telemetry::FanoutSpan;

impl Sink for Hub {
    fn deliver(&self, event: Arc<Event>, mut span: Option<FanoutSpan>) -> u64 {
        if let Some(span) = &mut span {
            span.begin();
        }
        let (shards, subscribers) = match &event.channel {
            Some(channel) => self.routes.find(channel),
            None => (u64::MAX, self.count_addressed(&event)),
        };
        self.metrics.published(&event.event_type);
        if shards == 0 {
            // Whom an earlier event has left asleep does not wait for many that nobody follows.
            self.defer_wake(0, 0);
            return 0;
        }
        let mut delivery = Delivery::new(event, subscribers, span);
        if self.is_watched(&delivery) {
            delivery.watch();
        }
        let delivery = Arc::new(delivery);
        let mut asleep = 0_u64;
        for (index, inbox) in self.inboxes.iter().enumerate() {
            if shards & (1 << index) != 0
                && inbox.push_quietly(Inbound::Event(Arc::clone(&delivery)))
            {
                asleep |= 1 << index;
            }
        }
        let deliveries = if delivery.event().is_for_roles() {
            u64::MAX
        } else {
            subscribers
        };
        self.defer_wake(asleep, deliveries);
        subscribers
    }

    fn is_followed(&self, channel: &ChannelName) -> bool {
        self.routes.subscriptions(channel).is_some()
    }
}

impl Hub {
    /// True for an event whose way to some connections is looked at: each in a recorded trace, and
    /// a share of the others.
    fn is_watched(&self, delivery: &Delivery) -> bool {
        let settings = self.settings.load();
        settings.connections_per_event > 0
            && (delivery.trace().is_some()
                || (settings.confirmations > 0.0 && fastrand::f64() < settings.confirmations))
    }

    /// How many connections a direct event names: those of its users, and those named themselves.
    fn count_addressed(&self, event: &Event) -> u64 {
        let Some(audience) = &event.audience else {
            return 0;
        };
        let per_user = self.per_user.lock().unwrap_or_else(PoisonError::into_inner);
        let users: u32 = audience
            .users
            .iter()
            .filter_map(|user| per_user.get(user))
            .sum();
        u64::from(users) + u64::try_from(audience.connections.len()).unwrap_or(u64::MAX)
    }
}
