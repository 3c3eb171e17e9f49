//! The parts of a delivery, separately, for `benches/parts.rs` to measure. They do only what a
//! shard does; the work between two parts is left out.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::position_lookup::{Viewer, look_up};
use super::subscribe::Join;
use crate::broker::Broker;
use crate::event::{ChannelName, ChannelPattern, Event, Position};
use crate::filter::FilterLimits;
use crate::filter::FilterNumbers;
use crate::filter::{EventFilter, EventView};
use crate::hub::delivery::Delivery;
use crate::hub::filter_budget::{EvalContext, Slice};
use crate::hub::shard::chunk::{Chunk, Frame};
use crate::hub::shard::filter_table::FilterTable;
use crate::hub::shard::outbox::{MAX_SLICES, Outbox, QueuePool};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::ShardMetrics;

/// Events in delivery, on which no filter was evaluated yet.
pub struct Run(Vec<Delivery>);

impl Run {
    /// A batch of these events.
    #[must_use]
    pub fn new(events: &[Arc<Event>]) -> Self {
        let delivery = |event: &Arc<Event>| Delivery::new(Arc::clone(event), 1, None);
        Run(events.iter().map(delivery).collect())
    }
}

/// The filters of a shard.
pub struct Matcher {
    table: FilterTable,
    places: Vec<u32>,
    metrics: ShardMetrics,
    slice: Slice,
    limits: FilterLimits,
    run: u64,
}

impl Matcher {
    /// A shard with these filters.
    #[must_use]
    pub fn new(filters: &[Arc<EventFilter>]) -> Self {
        let mut table = FilterTable::new(Arc::<FilterNumbers>::default());
        let places = filters
            .iter()
            .map(|filter| table.acquire(Some(filter)))
            .collect();
        Matcher {
            table,
            places,
            metrics: ShardMetrics::default(),
            slice: Slice::new(),
            limits: FilterLimits::sample(),
            run: 0,
        }
    }

    /// Evaluates every filter on every event; returns the number of passes.
    pub fn ask(&mut self, run: &Run) -> u32 {
        self.run += 1;
        self.slice.renew();
        let views: Vec<_> = run
            .0
            .iter()
            .map(|delivery| (delivery, EventView::new(delivery.event())))
            .collect();
        let asking = EvalContext {
            slice: &self.slice,
            meter: None,
            limits: &self.limits,
            now_us: 0,
            metrics: &self.metrics,
        };
        let mut passed = 0;
        for place in &self.places {
            let set = self
                .table
                .passes(*place, self.run, u64::MAX, &views, &asking);
            passed += set.map_or(0, u64::count_ones);
        }
        passed
    }
}

/// Frames, as shared by a shard.
pub struct Frames(Vec<Frame>);

impl Frames {
    /// This many events with the same bytes.
    #[must_use]
    pub fn new(bytes: &Bytes, count: u64) -> Self {
        let frame = |offset| Chunk::event(bytes.clone(), offset, 0);
        Frames((1..=count).map(frame).collect())
    }

    /// All of them joined in one buffer.
    #[must_use]
    pub fn joined(&self) -> Frames {
        Frames(vec![Chunk::joined(&self.0)])
    }
}

/// The outbox of one connection.
#[derive(Default)]
pub struct Waiting {
    outbox: Outbox,
    pool: QueuePool,
}

impl Waiting {
    /// Pushes the frames, gathers them for vectored writes, and removes them as written; returns
    /// the number of bytes.
    pub fn pass(&mut self, frames: &Frames) -> usize {
        for frame in &frames.0 {
            self.outbox
                .push(Frame::clone(frame), Some(1), &mut self.pool);
        }
        let mut bytes = 0;
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = self.outbox.slices(&mut slices);
            let written = slices.iter().take(filled).map(|slice| slice.len()).sum();
            self.outbox.advance(written, &mut self.pool);
            bytes += written;
        }
        bytes
    }
}

/// Looks up the start of a subscription; returns the number of events to replay, if the broker has
/// them in memory.
#[must_use]
pub fn count(broker: &Arc<dyn Broker>, channel: &ChannelName, since: Position) -> Option<u64> {
    let join = Join {
        pattern: ChannelPattern::Exact(channel.clone()),
        since: Some(since),
        rewind: None,
        filter: None,
    };
    let viewer = Viewer {
        id: None,
        identity: None,
        filter: None,
        type_roles: Arc::default(),
    };
    let asking = EvalContext {
        slice: &Slice::new(),
        meter: None,
        limits: &FilterLimits::sample(),
        now_us: 0,
        metrics: &ShardMetrics::default(),
    };
    match look_up(broker, channel, &join, viewer, &asking) {
        MaybeReady::Ready(found) => found.ok()?.map(|beginning| beginning.replayed),
        MaybeReady::Pending(_) => None,
    }
}
