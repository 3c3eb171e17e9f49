//! A batch: consecutive events of one channel, delivered together.
//!
//! A set of a batch's events is a 64-bit mask, so set operations select the events of a connection:
//! those that pass a filter, those that it has already, those that come from history. Subscribers
//! that get the same set share one buffer.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::may_see;
use crate::event::{ConnectionId, Event, Position};
use crate::filter::EventView;
use crate::hub::Hub;
use crate::hub::delivery::{Delivery, NEAR};
use crate::hub::dialect_ids::DialectId;
use crate::hub::filter_budget::EvalContext;
use crate::hub::protocol::Protocol;
use crate::hub::shard::chunk::{Chunk, Frame};
use crate::hub::shard::connection::Connection;
use crate::hub::shard::filter_table::{FilterTable, NO_FILTER};

/// The most events in a batch: a set of them is a 64-bit mask.
pub(super) const MAX_BATCH: usize = 64;
/// The most bytes of data in a batch of several events, because joined frames are copied once.
const MAX_BYTES: usize = 64 * 1024;
/// The most distinct subsets of a batch that are joined; further ones are sent event by event.
const MAX_PARTS: usize = 16;

/// Events that are being batched.
#[derive(Default)]
pub(super) struct PendingBatch {
    deliveries: Vec<Arc<Delivery>>,
    bytes: usize,
}

impl PendingBatch {
    /// True if the event may join the batch: it is the next one of the same channel.
    pub(super) fn takes(&self, next: &Delivery) -> bool {
        let Some(last) = self.deliveries.last() else {
            return true;
        };
        let (last, next) = (last.event(), next.event());
        let follows = match (last.position, next.position) {
            (None, None) => true,
            (Some(last), Some(next)) => last.epoch == next.epoch && last.offset + 1 == next.offset,
            _ => false,
        };
        follows
            && next.channel.is_some()
            && self.deliveries.len() < MAX_BATCH
            && self.bytes + next.payload.data().len() <= MAX_BYTES
            && last.channel == next.channel
    }

    /// Adds an event that [`PendingBatch::takes`].
    pub(super) fn push(&mut self, next: Arc<Delivery>) {
        self.bytes += next.event().payload.data().len();
        self.deliveries.push(next);
    }

    /// Takes the events, to be delivered.
    pub(super) fn take(&mut self) -> Vec<Arc<Delivery>> {
        self.bytes = 0;
        std::mem::take(&mut self.deliveries)
    }

    /// Returns the memory for reuse.
    pub(super) fn give_back(&mut self, mut deliveries: Vec<Arc<Delivery>>) {
        deliveries.clear();
        self.deliveries = deliveries;
    }
}

/// The batches of a round.
#[derive(Default)]
pub(super) struct Batches {
    /// Events that are delivered together.
    pub(super) gathered: PendingBatch,
    /// Counts batches, so that a connection knows which events it has already.
    pub(super) number: u64,
    /// The events of this round, with how many connections of the shard each went to.
    pub(super) delivered: Vec<(Arc<Delivery>, u32)>,
}

/// The events of a set, from the first to the last.
pub(super) fn each(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (set != 0).then(|| usize::try_from(set.trailing_zeros()).unwrap_or(0))?;
        set &= set - 1;
        Some(at)
    })
}

/// The number of events in a set.
pub(super) fn count(set: u64) -> u32 {
    set.count_ones()
}

/// A batch being delivered, with cached intermediate results.
pub(super) struct Batch<'d> {
    deliveries: &'d [Arc<Delivery>],
    number: u64,
    shard: u16,
    all: u64,
    /// The events that are not visible to everyone.
    guarded: u64,
    /// The events whose delivery is sampled.
    watched: u64,
    roles: Vec<Option<Arc<[Arc<str>]>>>,
    views: OnceCell<Vec<(&'d Delivery, EventView<'d>)>>,
    /// The whole batch in each of the first dialects.
    whole: [Option<Frame>; NEAR],
    /// The whole batch in each further dialect of the shard's connections: hardly more than a few.
    whole_far: Vec<(DialectId, Frame)>,
    /// Subsets of it, by dialect and set.
    parts: HashMap<(DialectId, u64), Frame>,
    /// Its events one by one.
    singles: Vec<[Option<Frame>; NEAR]>,
    /// Its events one by one in further dialects.
    singles_far: HashMap<(DialectId, usize), Frame>,
}

impl<'d> Batch<'d> {
    /// A batch of these events, with their visibility.
    pub(super) fn new(deliveries: &'d [Arc<Delivery>], number: u64, shard: u16, hub: &Hub) -> Self {
        let all = u64::MAX >> (64 - deliveries.len().clamp(1, MAX_BATCH));
        let mut batch = Batch {
            deliveries,
            number,
            shard,
            all,
            guarded: 0,
            watched: 0,
            roles: Vec::new(),
            views: OnceCell::new(),
            whole: [const { None }; NEAR],
            whole_far: Vec::new(),
            parts: HashMap::new(),
            singles: Vec::new(),
            singles_far: HashMap::new(),
        };
        for (at, delivery) in deliveries.iter().enumerate() {
            if delivery.is_watched() {
                batch.watched |= 1 << at;
            }
            let roles = hub.type_roles(&delivery.event().event_type);
            if roles.is_some() || delivery.event().audience.is_some() {
                batch.guarded |= 1 << at;
                batch.roles.resize(at, None);
                batch.roles.push(roles);
            }
        }
        batch
    }

    /// The set of all its events.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// Distinguishes it from every other batch of the shard.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// One of its events.
    pub(super) fn event(&self, at: usize) -> Option<&'d Event> {
        self.deliveries.get(at).map(|delivery| &**delivery.event())
    }

    /// The events whose delivery is sampled.
    pub(super) fn watched(&self) -> u64 {
        self.watched
    }

    /// The delivery of one of its events.
    pub(super) fn delivery(&self, at: usize) -> Option<&'d Arc<Delivery>> {
        self.deliveries.get(at)
    }

    /// Its start position; `None` if its channel keeps no history.
    pub(super) fn start(&self) -> Option<Position> {
        self.event(0)?.position
    }

    /// The events after an offset.
    pub(super) fn behind(&self, offset: u64) -> u64 {
        let Some(start) = self.start() else { return 0 };
        let known = offset.saturating_add(1).saturating_sub(start.offset);
        match u32::try_from(known) {
            Ok(known) => self.all & u64::MAX.checked_shl(known).unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// The events that a connection may see: by their audience, and by the roles of their types.
    #[inline]
    pub(super) fn visible(&self, slot: u32, connection: &Connection) -> u64 {
        let mut visible = self.all;
        for at in each(self.guarded) {
            let roles = self.roles.get(at).and_then(Option::as_deref);
            let id = ConnectionId::new(self.shard, slot, connection.nonce);
            let identity = connection.identity.as_deref();
            let seen = |event| may_see(event, roles, identity, Some(id));
            if !self.event(at).is_some_and(seen) {
                visible &= !(1 << at);
            }
        }
        visible
    }

    /// Which of the visible events pass the filter; `None` if the budget does not suffice. The
    /// filter is evaluated on no other event: its cost, and the notices about it, would reveal
    /// something about events that the connection may not see.
    pub(super) fn passing(
        &self,
        visible: u64,
        filter: u32,
        filters: &mut FilterTable,
        asking: &EvalContext<'_>,
    ) -> Option<u64> {
        if filter == NO_FILTER || visible == 0 {
            return Some(visible);
        }
        let views = self.views.get_or_init(|| {
            let view =
                |delivery: &'d Arc<Delivery>| (&**delivery, EventView::new(delivery.event()));
            self.deliveries.iter().map(view).collect()
        });
        filters.passes(filter, self.number, visible, views, asking)
    }

    /// The joined frame of these events, if [`Batch::joined`] has already built it.
    #[inline]
    pub(super) fn made(&self, dialect: DialectId, set: u64) -> Option<&Frame> {
        if set == self.all {
            self.whole(dialect)
        } else {
            self.parts.get(&(dialect, set))
        }
    }

    /// These events joined in one buffer; `None` if they must be sent one by one.
    #[inline]
    pub(super) fn joined(
        &mut self,
        dialect: DialectId,
        protocol: &Arc<dyn Protocol>,
        set: u64,
    ) -> Option<Frame> {
        if set == self.all
            && let Some(frame) = self.whole(dialect)
        {
            return Some(Arc::clone(frame));
        }
        self.join(dialect, protocol, set)
    }

    #[inline]
    fn whole(&self, dialect: DialectId) -> Option<&Frame> {
        if let Some(near) = self.whole.get(dialect.place()) {
            return near.as_ref();
        }
        let mut far = self.whole_far.iter();
        far.find(|(of, _)| *of == dialect).map(|(_, frame)| frame)
    }

    fn join(
        &mut self,
        dialect: DialectId,
        protocol: &Arc<dyn Protocol>,
        set: u64,
    ) -> Option<Frame> {
        if count(set) == 1 {
            let at = each(set).next()?;
            return self.single(dialect, protocol, at);
        }
        if !protocol.frames_join() {
            return None;
        }
        if let Some(frame) = self.parts.get(&(dialect, set)) {
            return Some(Arc::clone(frame));
        }
        if set != self.all && self.parts.len() >= MAX_PARTS {
            return None;
        }
        let frames: Option<Vec<Frame>> = each(set)
            .map(|at| self.single(dialect, protocol, at))
            .collect();
        let frame = Chunk::joined(&frames?);
        if set == self.all {
            self.keep_whole(dialect, &frame);
        } else {
            self.parts.insert((dialect, set), Arc::clone(&frame));
        }
        Some(frame)
    }

    /// One event by itself, with a request to confirm it; `None` if it is not sampled or the
    /// dialect has no such request.
    pub(super) fn asking(&self, protocol: &Arc<dyn Protocol>, at: usize) -> Option<Frame> {
        let delivery = self.deliveries.get(at)?;
        let bytes = delivery.frame_to_confirm(&**protocol)?;
        Some(chunk(delivery.event(), bytes))
    }

    fn keep_whole(&mut self, dialect: DialectId, frame: &Frame) {
        match self.whole.get_mut(dialect.place()) {
            Some(near) => *near = Some(Arc::clone(frame)),
            None => self.whole_far.push((dialect, Arc::clone(frame))),
        }
    }

    /// One event by itself.
    pub(super) fn single(
        &mut self,
        dialect: DialectId,
        protocol: &Arc<dyn Protocol>,
        at: usize,
    ) -> Option<Frame> {
        let delivery = self.deliveries.get(at)?;
        let make = || chunk(delivery.event(), delivery.frame(&**protocol));
        if self.deliveries.len() == 1 {
            if let Some(frame) = self.whole(dialect) {
                return Some(Arc::clone(frame));
            }
            let frame = make();
            self.keep_whole(dialect, &frame);
            return Some(frame);
        }
        if dialect.place() >= NEAR {
            let frame = self.singles_far.entry((dialect, at));
            return Some(Arc::clone(frame.or_insert_with(make)));
        }
        if self.singles.is_empty() {
            let none = || [const { None }; NEAR];
            self.singles.resize_with(self.deliveries.len(), none);
        }
        let place = self.singles.get_mut(at)?.get_mut(dialect.place())?;
        Some(Arc::clone(place.get_or_insert_with(make)))
    }
}

/// One event by itself, in these bytes.
pub(super) fn chunk(event: &Event, bytes: Bytes) -> Frame {
    let offset = event.position.map_or(0, |position| position.offset);
    let key = event.key.as_deref().map_or(0, hash_key);
    Chunk::event(bytes, offset, key)
}

fn hash_key(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    hasher.finish().max(1)
}
