//! The parts of a delivery, one by one, for `benches/parts.rs` to measure. Nothing is done here
//! that a shard does not do; what it does between two parts is left out.

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

/// Events on their way: no filter has been asked about them yet.
pub struct Run(Vec<Delivery>);

impl Run {
    /// A run of these events.
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

    /// Asks every filter about every event; answers how often one let an event through.
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

/// Frames as a shard hands them around.
pub struct Frames(Vec<Frame>);

impl Frames {
    /// So many events with the same bytes.
    #[must_use]
    pub fn new(bytes: &Bytes, count: u64) -> Self {
        let frame = |offset| Chunk::event(bytes.clone(), offset, 0);
        Frames((1..=count).map(frame).collect())
    }

    /// All of them in one piece.
    #[must_use]
    pub fn joined(&self) -> Frames {
        Frames(vec![Chunk::joined(&self.0)])
    }
}

/// What waits for one connection.
#[derive(Default)]
pub struct Waiting {
    outbox: Outbox,
    pool: QueuePool,
}

impl Waiting {
    /// Puts the frames in, gathers them for vectored writes, and takes them out as written;
    /// answers how many bytes there were.
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

/// Looks up what a subscription begins with; answers how many events it would be replayed, where
/// the broker has them at hand.
#[must_use]
pub fn count(broker: &Arc<dyn Broker>, channel: &ChannelName, since: Position) -> Option<u64> {
    let join = Join {
        pattern: ChannelPattern::Exact(channel.clone()),
        since: Some(since),
        rewind: None,
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
