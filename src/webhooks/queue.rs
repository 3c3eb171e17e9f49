//! The queue of one webhook: events in order, bounded in bytes, and dead letters beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::event;
use super::store::{Entry, Space, Store, Write};
use crate::error::Result;
use crate::event::Timestamp;
use crate::telemetry::WebhookMetrics;

/// What an entry costs besides its value.
const OVERHEAD: usize = 64;
/// How many entries are read or moved at a time.
const PAGE: usize = 1000;
/// How many bytes of entries.
const PAGE_BYTES: usize = 1024 * 1024;
/// The length of the prefix of a queue's keys.
const PREFIX: usize = 8;

/// The limits of a queue, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) dead_bytes: usize,
}

/// What a queue holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) queued: u64,
    pub(super) bytes: u64,
    pub(super) dead: u64,
    pub(super) dead_bytes: u64,
    /// Since the server started.
    pub(super) dropped: u64,
    /// The number of the newest entry.
    newest: u64,
    /// No entry before this number is left, so that a read need not pass over removed ones.
    from: u64,
    /// Events that were dropped since the last entry.
    gap: Option<Gap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    count: u64,
    from: Timestamp,
    to: Timestamp,
}

/// The queue of one webhook.
pub(super) struct Queue {
    /// Derived from the URL, so that a restart with another order of webhooks finds it.
    prefix: [u8; PREFIX],
    limits: Limits,
    store: Arc<Store>,
    metrics: Arc<WebhookMetrics>,
    level: Mutex<Level>,
    /// The application has refused everything (410): nothing is queued.
    stopped: AtomicBool,
    filled: Notify,
    emptied: Notify,
}

/// The time at which an entry was queued, as the number in its key: microseconds since 1970.
pub(super) fn queued_at(key: &[u8]) -> Timestamp {
    let number = key.last_chunk().map_or(0, |last| u64::from_be_bytes(*last));
    Timestamp::from_micros(i64::try_from(number).unwrap_or(i64::MAX))
}

fn cost(value: &Bytes) -> u64 {
    u64::try_from(value.len() + OVERHEAD).unwrap_or(u64::MAX)
}

fn now_micros() -> u64 {
    u64::try_from(Timestamp::now().as_micros()).unwrap_or(0)
}

impl Queue {
    /// Opens the queue of a URL, and counts what it holds.
    pub(super) fn open(
        url: &str,
        limits: Limits,
        store: Arc<Store>,
        metrics: Arc<WebhookMetrics>,
    ) -> Result<Self> {
        let queue = Queue {
            prefix: xxh3_64(url.as_bytes()).to_be_bytes(),
            limits,
            store,
            metrics,
            level: Mutex::default(),
            stopped: AtomicBool::new(false),
            filled: Notify::new(),
            emptied: Notify::new(),
        };
        let mut level = Level::default();
        queue.count(Space::Queue, |key, value| {
            if level.queued == 0 {
                level.from = number_of(key);
            }
            level.queued += 1;
            level.bytes += cost(value);
            level.newest = level.newest.max(number_of(key));
        })?;
        queue.count(Space::Dead, |_, value| {
            level.dead += 1;
            level.dead_bytes += cost(value);
        })?;
        *queue.locked() = level;
        queue.show(&level);
        queue.filled.notify_one();
        Ok(queue)
    }

    fn count(&self, space: Space, mut each: impl FnMut(&[u8], &Bytes)) -> Result<()> {
        let mut from = self.key(0);
        loop {
            let page = self.page(space, &from, PAGE, PAGE_BYTES)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from.clone_from(last);
            from.push(0);
            page.iter().for_each(|(key, value)| each(key, value));
        }
    }

    fn locked(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, number: u64) -> Vec<u8> {
        [self.prefix, number.to_be_bytes()].concat()
    }

    fn page(&self, space: Space, from: &[u8], limit: usize, bytes: usize) -> Result<Vec<Entry>> {
        let end = end_of(self.prefix);
        self.store.range(
            space,
            from,
            end.as_ref().map(<[u8; PREFIX]>::as_slice),
            limit,
            bytes,
        )
    }

    fn show(&self, level: &Level) {
        self.metrics.level(level.queued, level.bytes, level.dead);
        let oldest = (level.queued > 0).then_some(level.from);
        self.metrics.oldest(oldest);
    }

    /// What it holds.
    pub(super) fn level(&self) -> Level {
        *self.locked()
    }

    /// How long its oldest entry has waited.
    pub(super) fn lag(&self) -> Duration {
        let level = self.level();
        match level.queued {
            0 => Duration::ZERO,
            _ => Duration::from_micros(now_micros().saturating_sub(level.from)),
        }
    }

    /// Whether nothing is queued, since [`Queue::stop`].
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether dropped events have still to be reported.
    pub(super) fn has_gap(&self) -> bool {
        self.locked().gap.is_some()
    }

    /// Adds an event to the changes that the caller commits, under the store's writer lock. If the
    /// queue is full, the event is dropped: this is counted, logged once, and reported to the
    /// application by an event of its own when there is room again.
    pub(super) fn add(&self, value: &Bytes, at: Timestamp, source: &str, writes: &mut Vec<Write>) {
        let mut level = self.locked();
        if self.is_stopped() {
            level.dropped += 1;
            self.metrics.dropped(1);
            return;
        }
        self.fill_gap(&mut level, source, writes);
        if level.gap.is_none() && self.fits(&level, cost(value)) {
            self.put(&mut level, value.clone(), writes);
        } else {
            self.drop_one(&mut level, at);
        }
        self.show(&level);
    }

    /// Adds the event that reports dropped ones, if there is room again.
    pub(super) fn report_gap(&self, source: &str, writes: &mut Vec<Write>) {
        let mut level = self.locked();
        self.fill_gap(&mut level, source, writes);
        self.show(&level);
    }

    fn fill_gap(&self, level: &mut Level, source: &str, writes: &mut Vec<Write>) {
        // A tenth must be free, so that a full queue does not alternate between events and reports.
        let tenth = self.most() / 10;
        if let Some(gap) = level.gap
            && self.fits(level, tenth)
        {
            level.gap = None;
            let report = event::dropped(source, gap.count, gap.from, gap.to);
            self.put(level, report, writes);
        }
    }

    fn most(&self) -> u64 {
        u64::try_from(self.limits.bytes).unwrap_or(u64::MAX)
    }

    fn fits(&self, level: &Level, bytes: u64) -> bool {
        level.bytes.saturating_add(bytes) <= self.most()
    }

    fn put(&self, level: &mut Level, value: Bytes, writes: &mut Vec<Write>) {
        level.newest = now_micros().max(level.newest + 1);
        if level.queued == 0 {
            level.from = level.newest;
        }
        level.queued += 1;
        level.bytes += cost(&value);
        writes.push(Write {
            space: Space::Queue,
            key: self.key(level.newest),
            value: Some(value),
        });
    }

    fn drop_one(&self, level: &mut Level, at: Timestamp) {
        level.dropped += 1;
        self.metrics.dropped(1);
        match &mut level.gap {
            Some(gap) => {
                gap.count += 1;
                gap.to = at;
            }
            None => {
                let webhook = self.metrics.url();
                tracing::error!(
                    webhook,
                    "the queue of a webhook is full: events are dropped"
                );
                level.gap = Some(Gap {
                    count: 1,
                    from: at,
                    to: at,
                });
            }
        }
    }

    /// Added events are written.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits for events.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Waits until it is empty.
    pub(super) async fn emptied(&self) {
        while self.level().queued > 0 {
            self.emptied.notified().await;
        }
    }

    /// The oldest entries.
    pub(super) fn head(&self, limit: usize, bytes: usize) -> Result<Vec<Entry>> {
        let from = self.level().from;
        let head = self.page(Space::Queue, &self.key(from), limit, bytes)?;
        if let Some((first, _)) = head.first() {
            let mut level = self.locked();
            level.from = level.from.max(number_of(first));
            self.show(&level);
        }
        Ok(head)
    }

    /// Removes entries from its head.
    pub(super) fn remove(&self, entries: &[Entry]) -> Result<()> {
        let writes = entries.iter().map(|(key, _)| gone(Space::Queue, key));
        self.store.commit(&writes.collect::<Vec<_>>(), false)?;
        self.removed(entries);
        Ok(())
    }

    fn removed(&self, entries: &[Entry]) {
        let mut level = self.locked();
        for (key, value) in entries {
            level.queued = level.queued.saturating_sub(1);
            level.bytes = level.bytes.saturating_sub(cost(value));
            level.from = level.from.max(number_of(key) + 1);
        }
        self.show(&level);
        if level.queued == 0 {
            self.emptied.notify_one();
        }
    }

    /// Makes entries of its head dead letters. The oldest dead letters are dropped if there are too
    /// many.
    pub(super) fn bury(&self, entries: &[Entry]) -> Result<()> {
        let mut writes: Vec<Write> = Vec::with_capacity(entries.len() * 2);
        for (key, value) in entries {
            writes.push(gone(Space::Queue, key));
            writes.push(Write {
                space: Space::Dead,
                key: key.clone(),
                value: Some(value.clone()),
            });
        }
        self.store.commit(&writes, true)?;
        self.removed(entries);
        let most = u64::try_from(self.limits.dead_bytes).unwrap_or(u64::MAX);
        let excess = {
            let mut level = self.locked();
            level.dead += u64::try_from(entries.len()).unwrap_or(0);
            level.dead_bytes += entries.iter().map(|(_, value)| cost(value)).sum::<u64>();
            self.show(&level);
            level.dead_bytes.saturating_sub(most)
        };
        self.metrics.died(entries.len());
        self.forget_dead(excess)
    }

    /// Drops the oldest dead letters, of at least so many bytes.
    fn forget_dead(&self, mut excess: u64) -> Result<()> {
        while excess > 0 {
            let page = self.page(Space::Dead, &self.key(0), PAGE, PAGE_BYTES)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut gone_ones = Vec::new();
            for (key, value) in &page {
                if excess == 0 {
                    break;
                }
                excess = excess.saturating_sub(cost(value));
                gone_ones.push((key.clone(), value.clone()));
            }
            let writes = gone_ones.iter().map(|(key, _)| gone(Space::Dead, key));
            self.store.commit(&writes.collect::<Vec<_>>(), false)?;
            let mut level = self.locked();
            Self::no_longer_dead(&mut level, &gone_ones);
            let count = u64::try_from(gone_ones.len()).unwrap_or(0);
            level.dropped += count;
            self.metrics.dropped(count);
            self.show(&level);
        }
        Ok(())
    }

    fn no_longer_dead(level: &mut Level, entries: &[Entry]) {
        for (_, value) in entries {
            level.dead = level.dead.saturating_sub(1);
            level.dead_bytes = level.dead_bytes.saturating_sub(cost(value));
        }
    }

    /// Queues its dead letters again, behind everything else, as far as there is room. Returns how
    /// many.
    pub(super) fn resend(&self) -> Result<u64> {
        self.stopped.store(false, Ordering::Relaxed);
        let mut resent = 0;
        loop {
            let _writer = self.store.writer();
            let page = self.page(Space::Dead, &self.key(0), PAGE, PAGE_BYTES)?;
            let (mut writes, mut moved) = (Vec::new(), Vec::new());
            {
                let mut level = self.locked();
                for (key, value) in page {
                    if !self.fits(&level, cost(&value)) {
                        break;
                    }
                    self.put(&mut level, value.clone(), &mut writes);
                    writes.push(gone(Space::Dead, &key));
                    moved.push((key, value));
                }
            }
            if moved.is_empty() {
                return Ok(resent);
            }
            if let Err(error) = self.store.commit(&writes, true) {
                self.removed_unwritten(&moved);
                return Err(error);
            }
            let mut level = self.locked();
            Self::no_longer_dead(&mut level, &moved);
            self.show(&level);
            drop(level);
            resent += u64::try_from(moved.len()).unwrap_or(0);
            self.wake();
        }
    }

    fn removed_unwritten(&self, entries: &[Entry]) {
        let mut level = self.locked();
        for (_, value) in entries {
            level.queued = level.queued.saturating_sub(1);
            level.bytes = level.bytes.saturating_sub(cost(value));
        }
    }

    /// The application wants nothing more: the queue becomes dead letters, and nothing is queued
    /// until [`Queue::resend`].
    pub(super) fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        loop {
            let page = self.head(PAGE, PAGE_BYTES)?;
            if page.is_empty() {
                return Ok(());
            }
            self.bury(&page)?;
        }
    }
}

fn number_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |last| u64::from_be_bytes(*last))
}

fn gone(space: Space, key: &[u8]) -> Write {
    Write {
        space,
        key: key.to_vec(),
        value: None,
    }
}

/// The first key behind those with this prefix; `None` if there can be none.
fn end_of(prefix: [u8; PREFIX]) -> Option<[u8; PREFIX]> {
    let next = u64::from_be_bytes(prefix).checked_add(1)?;
    Some(next.to_be_bytes())
}

/// Removes the entries of URLs that are no longer configured.
pub(super) fn forget_others(store: &Store, known: &[Arc<Queue>]) -> Result<()> {
    let mut forgotten = 0_u64;
    for space in [Space::Queue, Space::Dead] {
        let mut from = Vec::new();
        loop {
            let page = store.range(space, &from, None, PAGE, PAGE_BYTES)?;
            let Some(prefix) = page.first().and_then(|(key, _)| key.first_chunk().copied()) else {
                break;
            };
            if known.iter().any(|queue| queue.prefix == prefix) {
                match end_of(prefix) {
                    Some(end) => from = end.to_vec(),
                    None => break,
                }
                continue;
            }
            let others = page.iter().filter(|(key, _)| key.starts_with(&prefix));
            let writes: Vec<Write> = others.map(|(key, _)| gone(space, key)).collect();
            forgotten += u64::try_from(writes.len()).unwrap_or(0);
            store.commit(&writes, false)?;
        }
    }
    if forgotten > 0 {
        tracing::warn!(
            events = forgotten,
            "queued events of webhooks that are no longer configured were removed"
        );
    }
    Ok(())
}
