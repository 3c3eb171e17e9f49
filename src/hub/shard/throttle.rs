//! `min_interval`: at most one event of a key in that time, always the newest.
//!
//! A subscription with an interval has a window. The first event after a quiet time is delivered at
//! once and opens it; what comes within the window is held, of each key only the newest, and is
//! delivered together when the window ends, in the channel's order. So the order holds between keys
//! too. Other subscriptions pay one flag.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::Shard;
use super::batch::{Batch, each};
use crate::event::Event;
use crate::telemetry::DropReason;

/// The most keys that one subscription holds. With more, the window ends early.
const MAX_KEYS: usize = 1024;
/// The most bytes that the windows of a shard hold. Beyond that windows end early, and a connection
/// that has no room for what they held is too slow. Part of the server's memory bound.
pub const THROTTLE_BYTES: usize = 32 * 1024 * 1024;

/// The windows of a shard, by connection slot and topic.
#[derive(Default)]
pub(super) struct Throttles {
    windows: HashMap<(u32, u32), Window>,
    /// When a window with held events ends. Entries of windows that have gone are ignored.
    due: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The bytes of all held events.
    bytes: usize,
}

struct Window {
    interval: u64,
    /// When the window ends, in milliseconds on the shard's clock.
    until: u64,
    held: Vec<Arc<Event>>,
    bytes: usize,
    /// True if `due` has an entry for it.
    is_due: bool,
}

impl Throttles {
    /// Starts a subscription's window. Its interval is in milliseconds.
    pub(super) fn begin(&mut self, slot: u32, topic: u32, interval: u64) {
        let window = Window {
            interval,
            until: 0,
            held: Vec::new(),
            bytes: 0,
            is_due: false,
        };
        self.end(slot, topic);
        self.windows.insert((slot, topic), window);
    }

    /// Forgets a subscription, and what is held for it.
    pub(super) fn end(&mut self, slot: u32, topic: u32) {
        if !self.windows.is_empty()
            && let Some(gone) = self.windows.remove(&(slot, topic))
        {
            self.bytes -= gone.bytes;
        }
    }

    /// Takes what is held for a subscription.
    fn release(&mut self, slot: u32, topic: u32) -> Vec<Arc<Event>> {
        let Some(window) = self.windows.get_mut(&(slot, topic)) else {
            return Vec::new();
        };
        self.bytes -= std::mem::take(&mut window.bytes);
        std::mem::take(&mut window.held)
    }

    /// When the next window ends.
    pub(super) fn next(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes a subscription's events of a batch. Returns those to deliver now, and counts those
    /// that newer ones replace.
    pub(super) fn take(
        &mut self,
        (slot, topic): (u32, u32),
        set: u64,
        batch: &Batch<'_>,
        now: u64,
        most_bytes: usize,
        conflated: &mut u64,
    ) -> u64 {
        let Some(window) = self.windows.get_mut(&(slot, topic)) else {
            return set;
        };
        if now >= window.until && window.held.is_empty() {
            let newest = newest_of_each_key(set, batch);
            *conflated += u64::from((set & !newest).count_ones());
            if newest != 0 {
                window.until = now + window.interval;
            }
            return newest;
        }
        self.bytes -= window.bytes;
        for delivery in each(set).filter_map(|at| batch.delivery(at)) {
            *conflated += u64::from(window.hold(delivery.event()));
        }
        self.bytes += window.bytes;
        let full = window.held.len() > MAX_KEYS || window.bytes > most_bytes;
        if full || self.bytes > THROTTLE_BYTES {
            window.until = now;
            window.is_due = false;
        }
        if !window.is_due && !window.held.is_empty() {
            window.is_due = true;
            self.due.push(Reverse((window.until, slot, topic)));
        }
        0
    }

    /// The next window that has ended, with what it held. It is open again from now on.
    fn ended(&mut self, now: u64) -> Option<(u32, u32, Vec<Arc<Event>>)> {
        loop {
            let Reverse((at, slot, topic)) = *self.due.peek()?;
            if at > now {
                return None;
            }
            self.due.pop();
            let Some(window) = self.windows.get_mut(&(slot, topic)) else {
                continue;
            };
            if window.until > at || window.held.is_empty() {
                continue;
            }
            window.is_due = false;
            window.until = now + window.interval;
            self.bytes -= std::mem::take(&mut window.bytes);
            return Some((slot, topic, std::mem::take(&mut window.held)));
        }
    }

    /// Holds events on, because the connection has no room. What came meanwhile is newer.
    fn put_back(&mut self, slot: u32, topic: u32, events: Vec<Arc<Event>>) -> u64 {
        let Some(window) = self.windows.get_mut(&(slot, topic)) else {
            return 0;
        };
        self.bytes -= window.bytes;
        let newer = std::mem::take(&mut window.held);
        window.held = events;
        window.bytes = window.held.iter().map(|event| event.weight()).sum();
        let conflated = newer
            .iter()
            .map(|event| u64::from(window.hold(event)))
            .sum();
        self.bytes += window.bytes;
        if !window.is_due {
            window.is_due = true;
            self.due.push(Reverse((window.until, slot, topic)));
        }
        conflated
    }
}

impl Window {
    /// Holds an event. True if it replaces an older one of its key.
    fn hold(&mut self, event: &Arc<Event>) -> bool {
        // A pattern has events of several channels.
        let same = |held: &Arc<Event>| key(held) == key(event) && held.channel == event.channel;
        let replaced = self.held.iter().position(same);
        if let Some(at) = replaced {
            self.bytes -= self.held.remove(at).weight();
        }
        self.bytes += event.weight();
        self.held.push(Arc::clone(event));
        replaced.is_some()
    }
}

/// What events replace one another: their key, or without one their type.
fn key(event: &Event) -> &str {
    match &event.key {
        Some(key) => key,
        None => event.event_type.as_str(),
    }
}

/// The events of the set that no later one of it replaces.
fn newest_of_each_key(set: u64, batch: &Batch<'_>) -> u64 {
    if set.count_ones() <= 1 {
        return set;
    }
    let mut newest: HashMap<&str, usize> = HashMap::new();
    for at in each(set) {
        if let Some(event) = batch.event(at) {
            newest.insert(key(event), at);
        }
    }
    newest.into_values().fold(0, |set, at| set | 1 << at)
}

impl Shard {
    /// Delivers what was held in the windows that have ended.
    pub(super) fn end_windows(&mut self) {
        while let Some((slot, topic, events)) = self.throttles.ended(self.time.now) {
            let room = self.settings.outbox_bytes;
            let full = |c: &super::connection::Connection| {
                c.flags.pending_close || c.ending.is_some() || c.outbox.bytes() >= room / 2
            };
            if self.connections.get(slot).is_none_or(full) {
                if self.throttles.bytes > THROTTLE_BYTES {
                    self.too_slow(slot);
                    continue;
                }
                let conflated = self.throttles.put_back(slot, topic, events);
                self.count_conflated(conflated);
                continue;
            }
            self.deliver_held(slot, topic, &events);
        }
    }

    /// Delivers what is held for a subscription that another one replaces: the newer one starts
    /// behind it.
    pub(super) fn release_held(&mut self, slot: u32, topic: u32) {
        let events = self.throttles.release(slot, topic);
        self.deliver_held(slot, topic, &events);
    }

    fn deliver_held(&mut self, slot: u32, topic: u32, events: &[Arc<Event>]) {
        let recovering = self.recovery(slot, topic).map(|recovery| recovery.after);
        for event in events {
            // A subscription in recovery reads from history what comes after this offset.
            let offset = event.position.map_or(0, |position| position.offset);
            if recovering.is_none_or(|after| offset <= after) {
                self.replay_event(slot, topic, event);
            }
        }
    }

    pub(super) fn count_conflated(&self, events: u64) {
        if events > 0 {
            self.hub.metrics().conflated(events);
            self.hub.metrics().dropped(DropReason::Conflated, events);
        }
    }
}
