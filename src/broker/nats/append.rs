//! Appending: events of one channel, in order, each exactly once.
//!
//! Any node may append. A batch names the sequence of the batch before it, and the server refuses
//! it if another one was appended meanwhile (compare-and-append). So offsets are dense, and the
//! server decides between nodes that append at the same time. While one append is under way, the
//! events that arrive wait and are appended together.
//!
//! An append without an answer leaves it open whether the batch is in the log. Then every batch
//! behind the last one that is known is read from the leader, and each event found there is
//! answered. Looking at the newest batch only would miss an event that another node's batch
//! follows. An append that is carried out late cannot do harm: its compare value fits no more, or
//! the batch was found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::batch::{BatchRecord, Head, Kind, Stored};
use super::channel::Channel;
use super::error::EngineError;
use super::keys::Keys;
use super::log::{AppendError, Log};
use super::recent::{Found, Recent};
use super::stream::{BATCH_EVENTS, BATCH_EXTRA};
use crate::broker::Receipt;
use crate::broker::clock::Clock;
use crate::broker::keys::{KEY_TTL, ScopedKey};
use crate::broker::record::EventRecord;
use crate::error::{Error, Result};
use crate::event::{Draft, Event, IdempotencyKey, Position};

/// The most bytes of events in one batch. A larger event goes alone.
const BATCH_BYTES: usize = 256 * 1024;

/// The same where an event has at most this many bytes: a batch must fit into a message of the
/// stream.
pub(super) fn batch_bytes(event_bytes: usize) -> usize {
    BATCH_BYTES.min(event_bytes.saturating_add(BATCH_EXTRA / 2))
}

/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often a server that still clears its mark is asked again at once.
const BUSY_ATTEMPTS: u32 = 3;
/// Batches per read of a log.
const PAGE: usize = 128;
/// How far the clocks of nodes and servers may differ.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// When a publisher may retry.
const RETRY: Duration = Duration::from_secs(1);

/// An event that waits to be appended.
pub(super) struct Waiting {
    draft: Draft,
    key: Option<Arc<IdempotencyKey>>,
    /// Another node may have appended it, behind this sequence. 0: nobody else has it.
    base: u64,
    deadline: Instant,
    /// True once it was in an append without an answer.
    unclear: bool,
    answer: oneshot::Sender<Result<Receipt>>,
    weight: usize,
}

impl Waiting {
    /// An event, without its idempotency key, and where its receipt goes.
    pub(super) fn new(
        mut draft: Draft,
        base: u64,
        deadline: Instant,
        answer: oneshot::Sender<Result<Receipt>>,
    ) -> Self {
        // With its key, as it was counted.
        let weight = draft.weight();
        let key = draft.idempotency_key.take();
        Waiting {
            weight,
            draft,
            key,
            base,
            deadline,
            unclear: false,
            answer,
        }
    }

    fn refuse(self, error: Error) {
        // The publisher may have gone.
        drop(self.answer.send(Err(error)));
    }

    fn too_late(self, why: &str) {
        let outcome = if self.unclear {
            "its outcome is not known: it may still be delivered; \
             repeat it with an idempotency key"
        } else {
            "it was not stored"
        };
        let text = format!("cluster.engine: nats: {why} within the publish timeout; {outcome}");
        self.refuse(Error::unavailable(text).retry_after(RETRY));
    }
}

/// The appending side of a channel.
#[derive(Default)]
pub(super) struct Writer {
    queue: VecDeque<Waiting>,
    busy: bool,
    /// The last known head of the log.
    head: Option<Head>,
    recent: Recent,
    /// Every idempotency key that was appended since this time, in milliseconds, is known.
    keys_since: u64,
    wants_head: bool,
    wants_renumber: bool,
}

impl Writer {
    /// Adds an event; true if the caller must start [`Appender::run`].
    pub(super) fn push(&mut self, waiting: Waiting) -> bool {
        self.queue.push_back(waiting);
        !std::mem::replace(&mut self.busy, true)
    }

    /// Requests a batch that records the channel's head; true if the caller must start
    /// [`Appender::run`].
    pub(super) fn want_head(&mut self) -> bool {
        self.wants_head = true;
        !std::mem::replace(&mut self.busy, true)
    }

    /// Asks for a new epoch; true as with [`Writer::want_head`].
    pub(super) fn want_renumber(&mut self) -> bool {
        self.wants_renumber = true;
        !std::mem::replace(&mut self.busy, true)
    }

    /// True if every idempotency key that is still valid is known.
    fn knows_keys(&self, now: u64) -> bool {
        self.keys_since <= now.saturating_sub(key_ttl())
    }

    /// The stream was removed and made again. An event whose fate is open may be anywhere in it, so
    /// it is read from its beginning before the next append.
    pub(super) fn restart(&mut self, empty: Head) {
        if self.head.is_some() {
            self.head = Some(empty);
            self.recent.restart(0);
            self.keys_since = 0;
        }
    }

    /// True if nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        !self.busy && self.queue.is_empty()
    }

    /// The last known head of the log.
    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// Notes a batch: the state moves on, and events that wait and are in it leave the queue.
    fn note(&mut self, stored: &Stored, now: u64) -> Vec<(Waiting, Found)> {
        let epoch = stored.epoch;
        for (id, offset) in stored.ids() {
            self.recent
                .note(id, Found { epoch, offset }, stored.seq, now);
        }
        self.recent.trim(now);
        let mut answered = Vec::new();
        if self.queue.is_empty() || stored.events.is_empty() {
            return answered;
        }
        let mut rest = VecDeque::with_capacity(self.queue.len());
        for waiting in self.queue.drain(..) {
            match stored.ids().find(|(id, _)| *id == waiting.draft.id) {
                Some((_, offset)) => answered.push((waiting, Found { epoch, offset })),
                None => rest.push_back(waiting),
            }
        }
        self.queue = rest;
        answered
    }
}

/// Receives the batches that were appended.
pub(super) trait Appended: Send + Sync + 'static {
    /// This node has appended a batch. Returns the number of subscriptions that each event has on
    /// this node.
    fn appended(&self, channel: &Arc<Channel>, stored: Stored) -> u64;

    /// A batch was read that this node may not have received.
    fn noticed(&self, channel: &Arc<Channel>, stored: Stored);

    /// These bytes and events have left the queue.
    fn left_queue(&self, events: usize, bytes: usize);
}

/// Appends to channels.
pub(super) struct Appender<L, A> {
    pub(super) log: Arc<L>,
    pub(super) receiver: A,
    pub(super) clock: Clock,
    pub(super) keys: Arc<Keys>,
    /// The most bytes of events in one batch, as the streams take them.
    pub(super) batch_bytes: usize,
    /// Random for each process.
    pub(super) node: u64,
}

impl<L: Log, A: Appended> Appender<L, A> {
    /// Appends the queued events of the channel until the queue is empty.
    pub(super) async fn run(&self, channel: &Arc<Channel>) {
        let mut pause = FIRST_PAUSE;
        let mut doubt = false;
        let mut why = String::from("no answer");
        loop {
            let done = self.step(channel, &mut doubt).await;
            match done {
                Ok(true) => return,
                Ok(false) => pause = FIRST_PAUSE,
                Err(failure) => {
                    doubt = true;
                    if let Some(failure) = failure {
                        why = failure.to_string();
                        let jitter = pause.mul_f64(fastrand::f64());
                        sleep(pause / 2 + jitter).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    } else {
                        sleep(pause.mul_f64(fastrand::f64() / 2.0)).await;
                    }
                }
            }
            self.expire(channel, &why);
        }
    }

    /// One step: read where in doubt, then append one batch. `Ok(true)` if nothing waits;
    /// `Err(None)` after a conflict.
    async fn step(
        &self,
        channel: &Arc<Channel>,
        doubt: &mut bool,
    ) -> Result<bool, Option<EngineError>> {
        if !self.log.is_current() {
            return Err(Some(EngineError::Disconnected));
        }
        if *doubt || channel.writer().head.is_none() {
            self.learn(channel).await?;
            *doubt = false;
        }
        self.find_forwarded(channel).await?;
        self.learn_keys(channel).await?;
        let Some(batch) = self.next_batch(channel) else {
            return Ok(true);
        };
        if batch.is_empty_round {
            return Ok(false);
        }
        self.append(channel, batch).await?;
        Ok(false)
    }

    async fn append(&self, channel: &Arc<Channel>, batch: Next) -> Result<(), Option<EngineError>> {
        let Next {
            head, record, ids, ..
        } = batch;
        let body = record.seal(&channel.subject);
        let mut attempts = 0;
        let result = loop {
            match self.log.append(channel, head.seq, body.clone()).await {
                Err(AppendError::Busy) if attempts < BUSY_ATTEMPTS => {
                    attempts += 1;
                    sleep(Duration::from_millis(1)).await;
                }
                result => break result,
            }
        };
        match result {
            Ok(_) if !self.log.is_current() => {
                // The stream may have been made again meanwhile: its epochs are not known yet.
                Self::mark_unclear(channel, &ids);
                Err(None)
            }
            Ok(seq) => {
                self.settle(channel, record, seq, &ids);
                Ok(())
            }
            Err(AppendError::Conflict | AppendError::Busy) => {
                Self::mark_unclear(channel, &ids);
                Err(None)
            }
            Err(AppendError::Unclear) => {
                Self::mark_unclear(channel, &ids);
                Err(Some(EngineError::Timeout))
            }
            Err(AppendError::NoLeader) => {
                Self::mark_unclear(channel, &ids);
                Err(Some(EngineError::NoResponders))
            }
            Err(AppendError::Exhausted(why)) => {
                self.refuse(channel, &ids, || {
                    let text = format!("cluster.engine: nats has no space: {why}");
                    Error::exhausted(text).retry_after(RETRY)
                });
                Ok(())
            }
            Err(AppendError::TooLarge(why)) => {
                self.refuse(channel, &ids, || {
                    Error::field("data", format!("too large for the engine: {why}"))
                });
                Ok(())
            }
        }
    }

    /// The next batch. `None` if nothing waits: the channel is no longer busy then.
    fn next_batch(&self, channel: &Arc<Channel>) -> Option<Next> {
        let now = self.clock.now();
        let mut guard = channel.writer();
        let writer = &mut *guard;
        let Some(mut head) = writer.head else {
            // Another round reads it.
            return Some(Next::nothing());
        };
        let keeps = writer.wants_head && writer.queue.is_empty();
        if !keeps {
            head = channel.unless_forgotten(head, now);
        }
        if std::mem::take(&mut writer.wants_renumber) {
            head = Head {
                epoch: fastrand::u64(1..),
                top: 0,
                total: 0,
                ..head
            };
            return Some(Next::alone(Kind::Renumber, head, now, self.node));
        }
        if writer.queue.is_empty() {
            if std::mem::take(&mut writer.wants_head) {
                return Some(Next::alone(Kind::Head, head, now, self.node));
            }
            writer.busy = false;
            return None;
        }
        let Picked {
            events,
            answered,
            ids,
        } = self.pick(channel, writer, head, now);
        drop(guard);
        self.answer(answered);
        if events.is_empty() {
            return Some(Next::nothing());
        }
        let record = BatchRecord::empty(Kind::Events, &head, now, self.node).with(events);
        Some(Next {
            head,
            record,
            ids,
            is_empty_round: false,
        })
    }

    /// Takes from the front of the queue what goes into one batch.
    fn pick(&self, channel: &Arc<Channel>, writer: &mut Writer, head: Head, now: u64) -> Picked {
        let mut picked = Picked::default();
        let (mut bytes, mut before) = (0_usize, head.total);
        let mut keys: Vec<ScopedKey> = Vec::new();
        let mut index = 0;
        while let Some(waiting) = writer.queue.get(index) {
            if waiting.base > 0 || picked.events.len() >= BATCH_EVENTS {
                break;
            }
            if index > 0 && bytes + waiting.weight > self.batch_bytes {
                break;
            }
            if let Some(key) = &waiting.key {
                let scoped = ScopedKey::new(&channel.name, key);
                if head.seq > 0 && !writer.knows_keys(now) {
                    break;
                }
                if keys.contains(&scoped) {
                    // The first one is in this batch: the repeat is answered in the next round.
                    break;
                }
                if let Some(answer) = self.keys.answer(&scoped, now) {
                    if let Some(waiting) = writer.queue.remove(index) {
                        picked.answered.push((waiting, answer));
                    }
                    continue;
                }
                keys.push(scoped);
            }
            bytes += waiting.weight;
            let event = Event::new(waiting.draft.clone(), None);
            let record = EventRecord::new(&event, now, before)
                .for_nodes(event.accepted, waiting.key.as_deref());
            before = before.saturating_add(u64::try_from(waiting.weight).unwrap_or(u64::MAX));
            picked.events.push(record);
            picked.ids.push(waiting.draft.id);
            index += 1;
        }
        picked
    }

    /// A batch of this node has been appended.
    fn settle(&self, channel: &Arc<Channel>, record: BatchRecord, seq: u64, ids: &[Uuid]) {
        let now = self.clock.now();
        let epoch = channel.stream.shown(record.epoch());
        let Ok(stored) = Stored::of(&channel.name, &channel.stream, record, seq) else {
            // The node wrote it itself; it reads it back from the log if that ever fails.
            return channel.writer().head = None;
        };
        channel.stream.in_use();
        channel.touch(now);
        channel.set_known();
        let mut guard = channel.writer();
        guard.head = Some(stored.head());
        let answered = guard.note(&stored, now);
        drop(guard);
        debug_assert_eq!(answered.len(), ids.len(), "each event answers once");
        let subscribers = self.receiver.appended(channel, stored);
        let mut bytes = 0;
        let count = answered.len();
        for (waiting, found) in answered {
            bytes += waiting.weight;
            let receipt = Receipt {
                id: waiting.draft.id,
                position: Some(Position {
                    epoch,
                    offset: found.offset,
                }),
                subscribers,
                duplicate: false,
            };
            self.keep_key(channel, &waiting, receipt, now);
            drop(waiting.answer.send(Ok(receipt)));
        }
        self.receiver.left_queue(count, bytes);
    }

    fn keep_key(&self, channel: &Channel, waiting: &Waiting, receipt: Receipt, now: u64) {
        if let Some(key) = &waiting.key {
            self.keys
                .insert(&ScopedKey::new(&channel.name, key), receipt, now);
        }
    }

    /// Brings the state to the end of the log, and answers events that are in it.
    async fn learn(&self, channel: &Arc<Channel>) -> Result<(), EngineError> {
        let known = channel.writer().head;
        let Some(known) = known else {
            let last = self.log.last(channel).await?;
            self.adopt(channel, last);
            return Ok(());
        };
        let mut at = known.seq;
        loop {
            if let Some(stored) = self.log.next(channel, at + 1).await? {
                at = stored.seq;
                self.learned(channel, stored);
                continue;
            }
            // Nothing newer. If the newest batch is not the one that is known, the log has changed.
            match self.log.last(channel).await? {
                // Appended between the two reads. The state stays: an event whose fate is open may be
                // in any batch behind it, not just in the newest.
                Some(last) if last.seq > at => {}
                Some(last) if last.seq < at => {
                    Self::went_back(channel, &last);
                    return Ok(());
                }
                Some(_) => return Ok(()),
                None => {
                    self.emptied(channel);
                    return Ok(());
                }
            }
        }
    }

    /// Starts from the newest batch of the log.
    fn adopt(&self, channel: &Arc<Channel>, last: Option<Stored>) {
        let now = self.clock.now();
        let Some(last) = last else {
            let mut guard = channel.writer();
            guard.recent.restart(0);
            guard.keys_since = 0;
            guard.head = Some(channel.empty_head(now));
            return;
        };
        let mut guard = channel.writer();
        guard.recent.restart(last.seq.saturating_sub(1));
        guard.keys_since = now;
        drop(guard);
        self.learned(channel, last);
    }

    /// The log has no batch of the channel although one is known: it was removed, or has expired.
    fn emptied(&self, channel: &Arc<Channel>) {
        let now = self.clock.now();
        let mut guard = channel.writer();
        let expired = guard
            .head
            .is_none_or(|head| head.seq == 0 || channel.stream.has_forgotten(head.at, now));
        // The salt of a stream that was made again is another one.
        let expired = expired
            || guard
                .head
                .is_some_and(|head| channel.stream.has_lost(head.seq));
        let epoch = if expired {
            channel.stream.computed_epoch(&channel.name, now)
        } else {
            // The computed epoch could be the one that was removed.
            fastrand::u64(1..)
        };
        guard.head = Some(Head::empty(epoch, now));
    }

    /// The log's newest batch is older than one that is known. Offsets would be assigned twice, so
    /// the channel continues with a new epoch.
    fn went_back(channel: &Channel, last: &Stored) {
        let mut guard = channel.writer();
        guard.recent.restart(last.seq);
        guard.head = Some(last.head());
        guard.wants_renumber = true;
    }

    /// A batch was read.
    fn learned(&self, channel: &Arc<Channel>, stored: Stored) {
        let now = self.clock.now();
        let epoch = channel.stream.shown(stored.epoch);
        let mut guard = channel.writer();
        guard.head = Some(stored.head());
        guard.wants_head = false;
        let answered = guard.note(&stored, now);
        drop(guard);
        self.note_keys(channel, &stored);
        self.answer_found(epoch, answered);
        self.receiver.noticed(channel, stored);
    }

    /// Keeps the idempotency keys of a batch that was read.
    fn note_keys(&self, channel: &Channel, stored: &Stored) {
        let now = self.clock.now();
        for event in &stored.events {
            let Some(key) = &event.key else { continue };
            if now.saturating_sub(event.at) > key_ttl() {
                continue;
            }
            let receipt = Receipt {
                id: event.event.id,
                position: event.event.position,
                subscribers: 0,
                duplicate: false,
            };
            let key = ScopedKey::new(&channel.name, key);
            self.keys.insert(&key, receipt, event.at);
        }
    }

    /// Reads the keys of the last five minutes, if an event with a key waits and they are not
    /// known.
    async fn learn_keys(&self, channel: &Arc<Channel>) -> Result<(), EngineError> {
        let now = self.clock.now();
        let until = {
            let guard = channel.writer();
            let mut next = guard.queue.iter().take(BATCH_EVENTS);
            let seq = guard.head.map_or(0, |head| head.seq);
            if seq == 0 || guard.knows_keys(now) || next.all(|waiting| waiting.key.is_none()) {
                return Ok(());
            }
            seq
        };
        let mut page = self
            .log
            .page_since(channel, KEY_TTL + CLOCK_SKEW, PAGE)
            .await?;
        while let Some(last) = page.last() {
            let from = last.seq + 1;
            for stored in &page {
                self.note_keys(channel, stored);
            }
            if from > until {
                break;
            }
            page = self.log.page(channel, from, PAGE).await?;
        }
        channel.writer().keys_since = now.saturating_sub(key_ttl());
        Ok(())
    }

    /// Looks for events that another node may have appended, behind the sequence that they name.
    async fn find_forwarded(&self, channel: &Arc<Channel>) -> Result<(), EngineError> {
        let Some(mut from) = self.open_base(channel) else {
            return Ok(());
        };
        while let Some(stored) = self.log.next(channel, from + 1).await? {
            from = stored.seq;
            let known = channel.writer().head.map_or(0, |head| head.seq);
            if stored.seq > known {
                self.learned(channel, stored);
                continue;
            }
            let now = self.clock.now();
            let epoch = channel.stream.shown(stored.epoch);
            let answered = channel.writer().note(&stored, now);
            self.answer_found(epoch, answered);
        }
        for waiting in &mut channel.writer().queue {
            waiting.base = 0;
        }
        Ok(())
    }

    /// The lowest base of the events for which the recent ids don't decide; answers the others.
    fn open_base(&self, channel: &Arc<Channel>) -> Option<u64> {
        let mut guard = channel.writer();
        let writer = &mut *guard;
        let mut open: Option<u64> = None;
        let mut answered = Vec::new();
        let mut rest = VecDeque::with_capacity(writer.queue.len());
        if writer.queue.iter().all(|waiting| waiting.base == 0) {
            return None;
        }
        for mut waiting in writer.queue.drain(..) {
            if waiting.base > 0 {
                if let Some(found) = writer.recent.find(waiting.draft.id) {
                    answered.push((waiting, found));
                    continue;
                }
                if writer.recent.covers(waiting.base) {
                    waiting.base = 0;
                } else {
                    open = Some(open.map_or(waiting.base, |base| base.min(waiting.base)));
                }
            }
            rest.push_back(waiting);
        }
        writer.queue = rest;
        drop(guard);
        for (waiting, found) in answered {
            let epoch = channel.stream.shown(found.epoch);
            self.answer_found(epoch, vec![(waiting, found)]);
        }
        open
    }

    fn answer_found(&self, epoch: crate::event::Epoch, answered: Vec<(Waiting, Found)>) {
        let answers = answered.into_iter().map(|(waiting, found)| {
            let receipt = Receipt {
                id: waiting.draft.id,
                position: Some(Position {
                    epoch,
                    offset: found.offset,
                }),
                subscribers: 0,
                duplicate: false,
            };
            (waiting, Ok(receipt))
        });
        self.answer(answers.collect());
    }

    fn answer(&self, answers: Vec<(Waiting, Result<Receipt>)>) {
        let (mut bytes, count) = (0, answers.len());
        for (waiting, answer) in answers {
            bytes += waiting.weight;
            drop(waiting.answer.send(answer));
        }
        self.receiver.left_queue(count, bytes);
    }

    fn mark_unclear(channel: &Channel, ids: &[Uuid]) {
        for waiting in &mut channel.writer().queue {
            waiting.unclear |= ids.contains(&waiting.draft.id);
        }
    }

    fn refuse(&self, channel: &Channel, ids: &[Uuid], error: impl Fn() -> Error) {
        let mut guard = channel.writer();
        let (refused, rest) = guard
            .queue
            .drain(..)
            .partition::<Vec<_>, _>(|waiting| ids.contains(&waiting.draft.id));
        guard.queue = rest.into();
        drop(guard);
        let answers = refused.into_iter().map(|waiting| (waiting, Err(error())));
        self.answer(answers.collect());
    }

    /// Refuses events whose deadline has passed.
    fn expire(&self, channel: &Channel, why: &str) {
        let now = Instant::now();
        let mut guard = channel.writer();
        if guard.queue.iter().all(|waiting| waiting.deadline > now) {
            return;
        }
        let (late, rest) = guard
            .queue
            .drain(..)
            .partition::<Vec<_>, _>(|waiting| waiting.deadline <= now);
        guard.queue = rest.into();
        drop(guard);
        let bytes = late.iter().map(|waiting| waiting.weight).sum();
        self.receiver.left_queue(late.len(), bytes);
        for waiting in late {
            waiting.too_late(why);
        }
    }
}

/// The next append.
struct Next {
    head: Head,
    record: BatchRecord,
    ids: Vec<Uuid>,
    /// True if the round had nothing to append but is not over.
    is_empty_round: bool,
}

impl Next {
    fn nothing() -> Self {
        Next {
            is_empty_round: true,
            ..Next::alone(Kind::Head, Head::empty(0, 0), 0, 0)
        }
    }

    fn alone(kind: Kind, head: Head, now: u64, node: u64) -> Self {
        Next {
            record: BatchRecord::empty(kind, &head, now, node),
            head,
            ids: Vec::new(),
            is_empty_round: false,
        }
    }
}

/// What was taken from the queue for one batch.
#[derive(Default)]
struct Picked {
    events: Vec<EventRecord>,
    answered: Vec<(Waiting, Result<Receipt>)>,
    ids: Vec<Uuid>,
}

fn key_ttl() -> u64 {
    u64::try_from(KEY_TTL.as_millis()).unwrap_or(u64::MAX)
}
