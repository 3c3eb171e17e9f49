//! One event during its fan-out, shared by the shards.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::dialect_ids::DialectId;
use super::protocol::Protocol;
use super::sync::{AtomicU32, Mutex, OnceLock};
use crate::event::{Event, TraceContext};
use crate::telemetry::FanoutSpan;

/// The number of dialects whose frames have a slot of their own in every event. The most used
/// dialects get the lowest numbers.
pub(super) const NEAR: usize = 7;

/// Slots for the frames of all other dialects, allocated with the first such frame. Dialect numbers
/// are consecutive, so up to this many never collide; of dialects that collide in a slot, all but
/// the first encode frames for themselves.
const FAR: u32 = 32;

/// An event with its encoded frames. Each frame is encoded once, by the first shard that needs it,
/// and shared by every connection of the dialect.
///
/// Every interested shard holds a reference; the span ends when the last one drops it.
pub(super) struct Delivery {
    event: Arc<Event>,
    near: [OnceLock<Bytes>; NEAR],
    far: OnceLock<Box<[OnceLock<FarFrame>]>>,
    verdicts: OnceLock<Box<[OnceLock<Verdict>]>>,
    tally: Tally,
    span: Option<FanoutSpan>,
    /// The frames with `confirm`; `None` if the delivery is not sampled.
    watched: Option<Box<Mutex<AskingFrames>>>,
}

/// A frame with its dialect.
struct FarFrame {
    dialect: DialectId,
    bytes: Bytes,
}

/// The frames with `confirm`, for the few dialects of the sampled connections; `None` for a dialect
/// that has no such form.
type AskingFrames = Vec<(DialectId, Option<Bytes>)>;

/// The verdict of a filter on an event.
pub(super) struct Verdict {
    filter: u64,
    /// `None` if a shard's budget does not suffice to decide.
    pub(super) passes: Option<bool>,
}

/// Slots for verdicts that the shards share. Filter numbers are consecutive, so up to this many
/// filters never collide; of filters that collide in a slot, all but the first are evaluated by
/// each shard.
const VERDICTS: u64 = 64;

/// The counts of an event over all shards.
#[derive(Debug, Default)]
pub(super) struct Tally {
    delivered: AtomicU32,
    filtered: AtomicU32,
    dropped: AtomicU32,
    subscribers: AtomicU32,
}

impl Delivery {
    /// An event to be delivered now, to this many subscriptions.
    #[must_use]
    pub(super) fn new(event: Arc<Event>, subscribers: u64, span: Option<FanoutSpan>) -> Self {
        let tally = Tally::default();
        tally.subscribers.store(
            u32::try_from(subscribers).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        Delivery {
            event,
            near: std::array::from_fn(|_| OnceLock::new()),
            far: OnceLock::new(),
            verdicts: OnceLock::new(),
            tally,
            span,
            watched: None,
        }
    }

    /// Samples its delivery to some connections.
    pub(super) fn watch(&mut self) {
        self.watched = Some(Box::default());
    }

    /// True if its delivery to some connections is sampled.
    #[must_use]
    pub(super) fn is_watched(&self) -> bool {
        self.watched.is_some()
    }

    /// The context of its `fanout` span on this node, if that is recorded.
    #[must_use]
    pub(super) fn trace(&self) -> Option<&TraceContext> {
        self.span.as_ref().map(FanoutSpan::context)
    }

    /// How many subscriptions its channel has, on all shards.
    #[must_use]
    pub(super) fn subscribers(&self) -> u32 {
        self.tally.subscribers.load(Ordering::Relaxed)
    }

    /// The event.
    #[must_use]
    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// The memory that it uses in a queue: the event, and one frame of it, which another shard may
    /// have encoded already.
    #[must_use]
    pub(super) fn weight(&self) -> usize {
        size_of::<Delivery>() + self.event.weight() + self.event.payload_len()
    }

    /// The frame for connections of this protocol.
    #[must_use]
    pub(super) fn frame(&self, protocol: &dyn Protocol) -> Bytes {
        let dialect = protocol.dialect();
        match self.near.get(dialect.place()) {
            Some(frame) => frame.get_or_init(|| protocol.event(&self.event)).clone(),
            None => self.far_frame(dialect, protocol),
        }
    }

    fn far_frame(&self, dialect: DialectId, protocol: &dyn Protocol) -> Bytes {
        let places = self
            .far
            .get_or_init(|| (0..FAR).map(|_| OnceLock::new()).collect());
        let place = usize::try_from(dialect.number() % FAR).unwrap_or(0);
        let frame = places.get(place).map(|place| {
            place.get_or_init(|| FarFrame {
                dialect,
                bytes: protocol.event(&self.event),
            })
        });
        match frame {
            Some(frame) if frame.dialect == dialect => frame.bytes.clone(),
            _ => protocol.event(&self.event),
        }
    }

    /// The frame with `confirm`; `None` if the dialect has none or the delivery is not sampled.
    #[must_use]
    pub(super) fn frame_to_confirm(&self, protocol: &dyn Protocol) -> Option<Bytes> {
        let frames = self.watched.as_ref()?;
        let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
        let dialect = protocol.dialect();
        if let Some((_, frame)) = frames.iter().find(|(of, _)| *of == dialect) {
            return frame.clone();
        }
        let frame = protocol.event_to_confirm(&self.event);
        frames.push((dialect, frame.clone()));
        frame
    }

    /// The verdict of the filter with this number, if a shard has evaluated it.
    #[must_use]
    pub(super) fn verdict(&self, filter: u64) -> Option<&Verdict> {
        let place = usize::try_from(filter % VERDICTS).unwrap_or(0);
        let verdict = self.verdicts.get()?.get(place)?.get()?;
        (verdict.filter == filter).then_some(verdict)
    }

    /// Whether the event passes the filter with this number, evaluated once for all shards.
    #[must_use]
    pub(super) fn passes(&self, filter: u64, ask: impl Fn() -> Option<bool>) -> Option<bool> {
        let verdicts = self
            .verdicts
            .get_or_init(|| (0..VERDICTS).map(|_| OnceLock::new()).collect());
        let place = usize::try_from(filter % VERDICTS).unwrap_or(0);
        let verdict = verdicts.get(place).map(|place| {
            place.get_or_init(|| Verdict {
                filter,
                passes: ask(),
            })
        });
        match verdict {
            Some(verdict) if verdict.filter == filter => verdict.passes,
            _ => ask(),
        }
    }

    /// Adds one shard's counts.
    pub(super) fn count(&self, delivered: u32, filtered: u32, dropped: u32) {
        self.tally.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.tally.filtered.fetch_add(filtered, Ordering::Relaxed);
        self.tally.dropped.fetch_add(dropped, Ordering::Relaxed);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            let read = |count: &AtomicU32| u64::from(count.load(Ordering::Relaxed));
            span.finish(
                read(&self.tally.subscribers),
                read(&self.tally.delivered),
                read(&self.tally.filtered),
                read(&self.tally.dropped),
            );
        }
    }
}
