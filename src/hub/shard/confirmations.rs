//! Confirmations: events that clients were asked to confirm, and their answers.
//!
//! A client can only tell of an event that was sent to it with the question, once, and within a
//! minute; and nothing that it says can lie before the event was sent or after the answer came.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use super::ConnCtx;
use crate::event::{AcceptedAt, ChannelName, ConnectionId, Event, Timestamp, TraceContext};
use crate::telemetry::{Arrival, Confirmation, Delivered, TraceId};

/// The most questions that wait for an answer, on each shard; beyond it the oldest is forgotten.
const MOST: usize = 4096;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// By how much a client's clock may have run ahead while it had the event: clocks are set right,
/// and milliseconds are rounded.
const DRIFT: Duration = Duration::from_secs(1);

/// What is kept of an event that a client was asked to confirm: not its payload, for thousands may
/// wait, and nobody says for how long after the last one.
pub(super) struct Asked {
    /// When the publish was accepted.
    pub(super) accepted: AcceptedAt,
    /// What `receive` is a child of.
    pub(super) parent: Option<TraceContext>,
    /// The event's trace; `None` where there will be no `receive` at all.
    pub(super) trace: Option<TraceContext>,
    /// When the event was handed to the socket.
    pub(super) written: Instant,
}

/// One event of one channel, as one connection has it.
type Key = (ConnectionId, Uuid, Option<ChannelName>);

/// The questions that wait for an answer.
#[derive(Default)]
pub(super) struct Confirmations {
    waiting: HashMap<Key, Asked>,
    /// The oldest first; those answered are still among them.
    order: VecDeque<(Instant, Key)>,
}

impl Confirmations {
    /// Remembers a question about this event.
    pub(super) fn ask(&mut self, connection: ConnectionId, event: &Event, asked: Asked) {
        self.forget(asked.written);
        while self.order.len() >= MOST {
            self.forget_oldest();
        }
        let key = (connection, event.id, event.channel.clone());
        self.order.push_back((asked.written, key.clone()));
        self.waiting.insert(key, asked);
    }

    /// The question to an answer, once.
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

/// A client's word that an event has arrived; times are of the client's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The event.
    pub id: Uuid,
    /// Its channel; `None` where it came straight.
    pub channel: Option<ChannelName>,
    /// When it arrived.
    pub received_at: Timestamp,
    /// When the client's handler had returned.
    pub handled_at: Timestamp,
    /// When the client said so.
    pub sent_at: Timestamp,
}

impl Arrived {
    /// How long the client had the event before its handler returned, and before it said so;
    /// `None` where the times run backwards.
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

/// When things happened, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moments {
    arrived: Instant,
    handled: Instant,
    said: Instant,
    round_trip: Duration,
}

/// Brings a client's times to the server's clock: only what lies between them counts, so it does
/// not matter how wrong that clock is. What is left of the time since the event was written is the
/// round trip (as in NTP, RFC 5905 §8), or less, if a Ping has shown so; the answer took half of it.
fn moments(told: &Arrived, written: Instant, now: Instant, ping: Duration) -> Option<Moments> {
    let (handling, spent) = told.spent()?;
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
    let said = back(now, round_trip / 2);
    let arrived = back(said, spent);
    let handled = (arrived + handling).min(said);
    Some(Moments {
        arrived,
        handled,
        said,
        round_trip,
    })
}

impl ConnCtx<'_> {
    /// The client says that an event has arrived. Counted where it was not asked to, or its times
    /// can't be; nothing else comes of it then.
    pub fn confirm(&mut self, said: &Arrived) {
        let outcome = self.note_arrival(said);
        self.hub().metrics().confirmation(outcome);
    }

    fn note_arrival(&mut self, said: &Arrived) -> Confirmation {
        let (connection, slot, now) = (self.id(), self.slot(), Instant::now());
        let shard = self.shard();
        shard.finish_samples();
        let key = (connection, said.id, said.channel.clone());
        let Some(asked) = shard.sampling.confirmations.take(&key, now) else {
            return Confirmation::Unknown;
        };
        let ping = shard.connections.get(slot).map_or(0, |c| c.round_trip_us);
        let ping = Duration::from_micros(ping.into());
        let Some(moments) = moments(said, asked.written, now, ping) else {
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
            let server = Timestamp::from(at(moments.said)).as_millis();
            let arrival = Arrival {
                arrived: at(moments.arrived),
                handled: at(moments.handled),
                clock_offset_ms: said.sent_at.as_millis().saturating_sub(server),
                round_trip: moments.round_trip,
            };
            let what = Delivered {
                channel: said.channel.as_ref(),
                id: said.id,
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
    fn told(ahead: i64, received: i64, handled: i64, sent: i64) -> Arrived {
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
            // 10 ms on its way, 5 ms in the handler, 10 ms back.
            let found = moments(
                &told(ahead, 0, 5, 5),
                written,
                written + MS * 25,
                Duration::ZERO,
            );
            let expected = Moments {
                arrived: written + MS * 10,
                handled: written + MS * 15,
                said: written + MS * 15,
                round_trip: MS * 20,
            };
            assert_eq!(found, Some(expected), "{ahead}");
        }
    }

    #[test]
    fn shorter_round_trip_of_a_ping_is_used() {
        // 18 ms in the way of other frames, 1 ms back.
        let written = Instant::now();
        let found = moments(&told(0, 0, 5, 6), written, written + MS * 25, MS * 2).unwrap();
        assert_eq!(found.said, written + MS * 24);
        assert_eq!(
            (found.arrived, found.handled),
            (written + MS * 18, written + MS * 23)
        );
    }

    #[test]
    fn times_are_clamped_to_the_exchange() {
        let written = Instant::now();
        let now = written + MS * 10;
        // A little more than there was: the clock was set right meanwhile.
        let found = moments(&told(0, 0, 500, 600), written, now, Duration::ZERO).unwrap();
        assert_eq!((found.arrived, found.handled), (written, now));
    }

    #[test]
    fn implausible_times_are_refused() {
        let written = Instant::now();
        let now = written + MS * 10;
        for (received, handled, sent) in [(5, 4, 5), (0, 5, 4), (0, 2_000, 2_000), (0, 0, 2_000)] {
            let found = moments(
                &told(0, received, handled, sent),
                written,
                now,
                Duration::ZERO,
            );
            assert_eq!(found, None, "{received} {handled} {sent}");
        }
        let mut absurd = told(0, 0, 0, 0);
        absurd.received_at = Timestamp::from_micros(i64::MIN);
        absurd.handled_at = Timestamp::from_micros(i64::MAX);
        absurd.sent_at = absurd.handled_at;
        assert_eq!(moments(&absurd, written, now, Duration::ZERO), None);
    }
}
