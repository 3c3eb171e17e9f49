//! Samples deliveries to a few random connections. They get their frame in turn like all others, so
//! the measured latencies are representative.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::confirmations::{Asked, Confirmations};
use crate::event::ConnectionId;
use crate::hub::Hub;
use crate::hub::delivery::Delivery;
use crate::telemetry::{Delivered, Transport};

/// The delivery of an event to a sampled connection.
pub(super) struct Sample {
    pub(super) connection: ConnectionId,
    pub(super) transport: Transport,
    pub(super) delivery: Arc<Delivery>,
    /// The client was asked to confirm it.
    pub(super) asked: bool,
    pub(super) put: Instant,
    /// When it was passed to the socket, if that is known already.
    pub(super) written: Option<Instant>,
}

/// Random indices in a list of subscribers, in order.
pub(super) struct DeliverySampler {
    /// The last one first.
    places: Vec<usize>,
}

impl DeliverySampler {
    /// No samples.
    pub(super) const NONE: DeliverySampler = DeliverySampler { places: Vec::new() };

    /// Samples some of the `here` subscribers on this shard, out of `everywhere` on all shards: a
    /// proportional part of `most`, randomly rounded.
    pub(super) fn choose(here: usize, everywhere: u32, most: usize) -> Self {
        let everywhere = usize::try_from(everywhere).unwrap_or(usize::MAX).max(here);
        let product = most.saturating_mul(here);
        let (Some(whole), Some(rest)) = (
            product.checked_div(everywhere),
            product.checked_rem(everywhere),
        ) else {
            return Self::NONE;
        };
        let count = whole + usize::from(fastrand::usize(..everywhere) < rest);
        let mut places = fastrand::choose_multiple(0..here, count.min(here));
        places.sort_unstable_by(|a, b| b.cmp(a));
        DeliverySampler { places }
    }

    /// The next index, `usize::MAX` after the last.
    pub(super) fn next(&mut self) -> usize {
        self.places.pop().unwrap_or(usize::MAX)
    }
}

/// The deliveries whose latency is measured, one by one.
#[derive(Default)]
pub(super) struct Sampling {
    /// Events that are being written.
    pub(super) samples: Vec<Sample>,
    /// Written events that clients were asked to confirm.
    pub(super) confirmations: Confirmations,
}

impl Sampling {
    /// Everything is written: records the samples of this round. `most` is the number of sampled
    /// connections of an event.
    pub(super) fn finish(&mut self, hub: &Hub, most: usize) {
        if self.samples.is_empty() {
            return;
        }
        let (now, wall) = (Instant::now(), SystemTime::now());
        // Computed backwards, because the wall clock may be set and the monotonic clock can't.
        let at = |then: Instant| wall - now.saturating_duration_since(then);
        let mut samples = std::mem::take(&mut self.samples);
        for sample in samples.drain(..) {
            let event = sample.delivery.event();
            let written = sample.written.unwrap_or(now);
            let mut parent = sample.delivery.trace().cloned();
            if let Some(trace) = sample.delivery.trace()
                && gets_span(hub, most, sample.delivery.subscribers())
            {
                let what = Delivered {
                    channel: event.channel.as_ref(),
                    id: event.id,
                    connection: sample.connection,
                    event: trace,
                };
                let (put, written) = (at(sample.put), at(written));
                parent = hub.tracing().deliver(what, sample.transport, put, written);
            }
            if sample.asked {
                hub.metrics().confirmation_asked();
                let asked = Asked {
                    accepted: event.accepted,
                    parent,
                    trace: sample.delivery.trace().cloned(),
                    written,
                };
                self.confirmations.ask(sample.connection, event, asked);
            }
        }
        self.samples = samples;
    }
}

/// Whether a sampled delivery gets a span: with a probability such that the configured share of all
/// deliveries gets one.
fn gets_span(hub: &Hub, most: usize, subscribers: u32) -> bool {
    let share = hub.tracing().delivery_spans();
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let sampled = subscribers.min(most).max(1);
    fastrand::f64() * f64::from(sampled) < share * f64::from(subscribers.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mut sampler: DeliverySampler) -> Vec<usize> {
        let next = || Some(sampler.next()).filter(|place| *place != usize::MAX);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn few_subscribers_are_all_sampled() {
        assert_eq!(places(DeliverySampler::choose(3, 3, 8)), [0, 1, 2]);
        assert_eq!(places(DeliverySampler::choose(0, 0, 8)), [0_usize; 0]);
        assert_eq!(places(DeliverySampler::choose(3, 3, 0)), [0_usize; 0]);
    }

    #[test]
    fn many_subscribers_are_sampled_uniformly_in_order() {
        let mut seen = [0; 100];
        for _ in 0..1_000 {
            let chosen = places(DeliverySampler::choose(100, 100, 8));
            assert_eq!(chosen.len(), 8);
            assert!(chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
            for place in chosen {
                seen[place] += 1;
            }
        }
        assert!(
            seen.iter().all(|times| (20..200).contains(times)),
            "{seen:?}"
        );
    }

    #[test]
    fn shards_share_samples_by_their_subscribers() {
        let total: usize = (0..10_000)
            .map(|_| places(DeliverySampler::choose(100, 1_000, 8)).len())
            .sum();
        assert!((7_500..8_500).contains(&total), "{total}");
    }
}
