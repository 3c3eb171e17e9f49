//! Confirmations: events that clients were asked to confirm, and their answers.
//!
//! A client can only confirm an event that was sent to it with `confirm`, once, and within a
//! minute. Its times can't lie before the event was sent or after the answer arrived.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::ConnCtx;
use crate::event::{AcceptedAt, ChannelName, ConnectionId, Event, Timestamp, TraceContext};
use crate::telemetry::{Arrival, Confirmation, Delivered, TraceId};

/// The most pending confirmations per shard; beyond it the oldest is dropped.
const MOST: usize = 4096;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How much a client's clock may be ahead of the server's measurement while the client had the
/// event: clocks are corrected, and milliseconds are rounded.
const DRIFT: Duration = Duration::from_secs(1);

/// The data kept about an event that a client was asked to confirm. It excludes the payload,
/// because thousands may be pending for a minute.
pub(super) struct Asked {
    /// When the publish was accepted.
    pub(super) accepted: AcceptedAt,
    /// The parent of the `receive` span.
    pub(super) parent: Option<TraceContext>,
    /// The event's trace; `None` if there will be no `receive` span.
    pub(super) trace: Option<TraceContext>,
    /// When the event was passed to the socket.
    pub(super) written: Instant,
}

/// One event of one channel on one connection.
type Key = (ConnectionId, Uuid, Option<ChannelName>);

/// The pending confirmations.
#[derive(Default)]
pub(super) struct Confirmations {
    waiting: HashMap<Key, Asked>,
    /// The oldest first; answered ones are still in it.
    order: VecDeque<(Instant, Key)>,
}

impl Confirmations {
    /// Records that a client was asked about this event.
    pub(super) fn ask(&mut self, connection: ConnectionId, event: &Event, asked: Asked) {
        self.forget(asked.written);
        while self.order.len() >= MOST {
            self.forget_oldest();
        }
        let key = (connection, event.id, event.channel.clone());
        self.order.push_back((asked.written, key.clone()));
        self.waiting.insert(key, asked);
    }

    /// The pending confirmation of an answer, once.
    fn take(&mut self, key: &Key, now: Instant) -> Option<Asked> {
        self.forget(now);
        self.waiting.remove(key)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((asked, _)) = self.order.front()
            && now.saturating_duration_since(*asked) > PATIENCE
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.waiting.remove(&key);
        }
    }
}

/// A client's confirmation of an event; times are of the client's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The event.
    pub id: Uuid,
    /// Its channel; `None` if it was sent directly.
    pub channel: Option<ChannelName>,
    /// When it arrived.
    pub received_at: Timestamp,
    /// When the client's handler had returned.
    pub handled_at: Timestamp,
    /// When the client sent the confirmation.
    pub sent_at: Timestamp,
}

impl Arrived {
    /// How long the client had the event before its handler returned, and before it confirmed;
    /// `None` if the times decrease.
    fn spent(&self) -> Option<(Duration, Duration)> {
        let between = |from: Timestamp, to: Timestamp| {
            let micros = to.as_micros().checked_sub(from.as_micros())?;
            u64::try_from(micros).ok().map(Duration::from_micros)
        };
        let handling = between(self.received_at, self.handled_at)?;
        let waiting = between(self.handled_at, self.sent_at)?;
        Some((handling, handling.checked_add(waiting)?))
    }
}

/// The times by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moments {
    arrived: Instant,
    handled: Instant,
    confirmed: Instant,
    round_trip: Duration,
}

/// Converts a client's times to the server's clock. Only their differences count, so the client's
/// clock may be wrong. The rest of the time since the event was written is the round trip (as in
/// NTP, RFC 5905 §8), or less, if a Ping has measured less; the answer took half of it.
fn moments(reported: &Arrived, written: Instant, now: Instant, ping: Duration) -> Option<Moments> {
    let (handling, spent) = reported.spent()?;
    let passed = now.saturating_duration_since(written);
    if spent > passed.saturating_add(DRIFT) {
        return None;
    }
    let exchange = passed.saturating_sub(spent);
    let round_trip = if ping.is_zero() {
        exchange
    } else {
        exchange.min(ping)
    };
    let back =
        |from: Instant, by: Duration| from.checked_sub(by).map_or(written, |t| t.max(written));
    let confirmed = back(now, round_trip / 2);
    let arrived = back(confirmed, spent);
    let handled = (arrived + handling).min(confirmed);
    Some(Moments {
        arrived,
        handled,
        confirmed,
        round_trip,
    })
}

impl ConnCtx<'_> {
    /// The client confirms an event. An unsolicited confirmation, or one with impossible times, is
    /// counted and otherwise ignored.
    pub fn confirm(&mut self, confirmed: &Arrived) {
        let outcome = self.note_arrival(confirmed);
        self.hub().metrics().confirmation(outcome);
    }

    fn note_arrival(&mut self, confirmed: &Arrived) -> Confirmation {
        let (connection, slot, now) = (self.id(), self.slot(), Instant::now());
        let shard = self.shard();
        shard.finish_samples();
        let key = (connection, confirmed.id, confirmed.channel.clone());
        let Some(asked) = shard.sampling.confirmations.take(&key, now) else {
            return Confirmation::Unknown;
        };
        let ping = shard.connections.get(slot).map_or(0, |c| c.round_trip_us);
        let ping = Duration::from_micros(ping.into());
        let Some(moments) = moments(confirmed, asked.written, now, ping) else {
            return Confirmation::Implausible;
        };
        let since_handled = now.saturating_duration_since(moments.handled);
        let took = asked.accepted.elapsed();
        let took = took.map(|took| took.saturating_sub(since_handled));
        let trace = asked.trace.as_ref();
        let hub = self.hub();
        if let Some(took) = took {
            hub.metrics().end_to_end_latency(took, trace);
        }
        if let (Some(trace), Some(parent)) = (trace, &asked.parent) {
            let wall = SystemTime::now();
            let at = |then: Instant| wall - now.saturating_duration_since(then);
            let server = Timestamp::from(at(moments.confirmed)).as_millis();
            let arrival = Arrival {
                arrived: at(moments.arrived),
                handled: at(moments.handled),
                clock_offset_ms: confirmed.sent_at.as_millis().saturating_sub(server),
                round_trip: moments.round_trip,
            };
            let what = Delivered {
                channel: confirmed.channel.as_ref(),
                id: confirmed.id,
                connection,
                event: trace,
            };
            hub.tracing().receive(what, arrival, parent);
        }
        let trace_id = trace.map(|trace| tracing::field::display(TraceId(trace.trace_id)));
        tracing::debug!(connection_id = %connection, trace_id, ?took, "an event was confirmed");
        Confirmation::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Times of a clock that is `ahead` of any other, in milliseconds.
    fn reported(ahead: i64, received: i64, handled: i64, sent: i64) -> Arrived {
        let at = |ms: i64| Timestamp::from_micros((ahead + ms) * 1_000);
        Arrived {
            id: Uuid::nil(),
            channel: None,
            received_at: at(received),
            handled_at: at(handled),
            sent_at: at(sent),
        }
    }

    #[test]
    fn client_clock_offset_does_not_matter() {
        let written = Instant::now();
        for ahead in [0, -1_000_000_000_000, 1_000_000_000_000] {
            // 10 ms to the client, 5 ms in the handler, 10 ms back.
            let found = moments(
                &reported(ahead, 0, 5, 5),
                written,
                written + MS * 25,
                Duration::ZERO,
            );
            let expected = Moments {
                arrived: written + MS * 10,
                handled: written + MS * 15,
                confirmed: written + MS * 15,
                round_trip: MS * 20,
            };
            assert_eq!(found, Some(expected), "{ahead}");
        }
    }

    #[test]
    fn shorter_round_trip_of_a_ping_is_used() {
        // 18 ms behind other frames, 1 ms back.
        let written = Instant::now();
        let found = moments(&reported(0, 0, 5, 6), written, written + MS * 25, MS * 2).unwrap();
        assert_eq!(found.confirmed, written + MS * 24);
        assert_eq!(
            (found.arrived, found.handled),
            (written + MS * 18, written + MS * 23)
        );
    }

    #[test]
    fn times_are_clamped_to_the_exchange() {
        let written = Instant::now();
        let now = written + MS * 10;
        // A little more than the total: the clock was corrected meanwhile.
        let found = moments(&reported(0, 0, 500, 600), written, now, Duration::ZERO).unwrap();
        assert_eq!((found.arrived, found.handled), (written, now));
    }

    #[test]
    fn implausible_times_are_refused() {
        let written = Instant::now();
        let now = written + MS * 10;
        for (received, handled, sent) in [(5, 4, 5), (0, 5, 4), (0, 2_000, 2_000), (0, 0, 2_000)] {
            let found = moments(
                &reported(0, received, handled, sent),
                written,
                now,
                Duration::ZERO,
            );
            assert_eq!(found, None, "{received} {handled} {sent}");
        }
        let mut absurd = reported(0, 0, 0, 0);
        absurd.received_at = Timestamp::from_micros(i64::MIN);
        absurd.handled_at = Timestamp::from_micros(i64::MAX);
        absurd.sent_at = absurd.handled_at;
        assert_eq!(moments(&absurd, written, now, Duration::ZERO), None);
    }
}
