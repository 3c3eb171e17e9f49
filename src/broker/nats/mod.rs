//! The broker on NATS JetStream, for nodes that serve as one.
//!
//! A channel is a log on one subject, appended by compare-and-append ([`append`]). The servers
//! publish each stored batch again, and nodes subscribe to those messages for the channels that
//! have subscribers ([`receive`]). History is read from the log ([`history`]). Channels without
//! history, and direct events to an audience, are plain messages ([`unlogged`]).

mod append;
mod batch;
mod channel;
mod connect;
mod error;
#[cfg(test)]
pub(in crate::broker) mod fixture;
mod history;
mod interest;
mod keys;
mod line;
mod log;
mod outage;
mod receive;
mod recent;
mod stream;
mod streams;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod unlogged;
mod upkeep;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt as _;

use super::clock::Clock;
use super::{
    Broker, Kept, Page, Range, Receipt, Share, Sink, outlasts_election, without_conditions,
};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, Draft, Namespace, Namespaces};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;
use append::{Appended, Appender, Waiting};
use batch::{Head, Stored};
use channel::Channel;
use error::EngineError;
use history::{Cache, Reading};
use interest::InterestTable;
use keys::Keys;
use line::Line;
use log::Log as _;
use receive::Receiving;
use streams::{StreamDefaults, Streams};
use table::ChannelTable;
use unlogged::Unlogged;

pub use connect::{ConnectError, NatsSettings};

/// The most events and bytes that wait to be appended on this node.
const QUEUE_EVENTS: usize = 20_000;
/// Part of the server's memory bound.
pub const NATS_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// When a publisher that met a full queue may retry.
const RETRY: Duration = Duration::from_secs(1);
/// A subscription stays this long after its last subscriber: pages are loaded again.
const LINGER: Duration = Duration::from_secs(5);
/// After joining, the position is compared once more: interest travels between servers by itself.
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// Pause between attempts to join.
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// How long a read waits for the end of an outage.
const OUTAGE: Duration = Duration::from_secs(1);
/// How often a read begins anew after an outage.
const READ_ATTEMPTS: u32 = 3;
/// The pause between looks of a reader that waits for the receiver.
const BEHIND_PAUSE: Duration = Duration::from_millis(5);
/// How many subjects one read of newest batches names.
const NEWEST: usize = 256;

/// Channels on NATS JetStream.
pub struct Nats {
    shared: Arc<Shared>,
    event_bytes: usize,
}

struct Shared {
    line: Line,
    prefix: String,
    namespaces: Arc<ArcSwap<Namespaces>>,
    streams: Streams,
    channels: ChannelTable,
    interest: Arc<InterestTable>,
    appender: Appender<Line, Delivering>,
    receiving: Arc<Receiving<Line>>,
    reading: Reading<Line>,
    cache: Arc<Cache>,
    keys: Arc<Keys>,
    unlogged: Unlogged,
    clock: Clock,
    metrics: Arc<Metrics>,
    sink: Weak<dyn Sink>,
    runtime: Handle,
    publish_timeout: Duration,
    sweep_interval: Duration,
    queued: Arc<Queued>,
    closing: AtomicBool,
    /// Since when publishing is impossible, in milliseconds. 0: it is possible.
    down_since: AtomicU64,
    probing: AtomicBool,
    verifying: AtomicBool,
    refreshing: AtomicBool,
    /// One look at the streams at a time: it is done once their channels have begun anew.
    looking: tokio::sync::Mutex<()>,
    verified: AtomicU64,
}

/// The number of events and bytes that wait to be appended.
#[derive(Default)]
struct Queued {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// Passes appended and read batches to the receiving side.
struct Delivering {
    receiving: Arc<Receiving<Line>>,
    queued: Arc<Queued>,
    metrics: Arc<Metrics>,
}

impl Appended for Delivering {
    fn appended(&self, channel: &Arc<Channel>, stored: Stored) -> u64 {
        self.receiving.appended(channel, stored)
    }

    fn noticed(&self, channel: &Arc<Channel>, stored: Stored) {
        if !channel.receiver().is_off() {
            self.receiving.arrived(channel, stored);
        }
    }

    fn left_queue(&self, events: usize, bytes: usize) {
        self.queued.events.fetch_sub(events, Ordering::AcqRel);
        let before = self.queued.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.metrics
            .cluster()
            .queue_bytes(before.saturating_sub(bytes));
    }
}

impl Nats {
    /// Connects, checks the servers' features, and creates the streams.
    ///
    /// # Errors
    ///
    /// Names the server or configuration problem.
    pub async fn connect(
        settings: NatsSettings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        Self::with_clock(settings, namespaces, sink, metrics, Clock::default()).await
    }

    pub(in crate::broker) async fn with_clock(
        settings: NatsSettings,
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, ConnectError> {
        let (line, mut events, event_bytes) = connect::connect(&settings).await?;
        let defaults = StreamDefaults {
            prefix: settings.prefix.clone(),
            replicas: settings.replicas,
            max_bytes: settings.max_bytes,
            event_bytes,
        };
        let streams = Streams::new(line.clone(), defaults);
        streams
            .ensure_all(&namespaces.load_full(), clock.now())
            .await
            .map_err(|error| ConnectError::streams(&error))?;
        let runtime = Handle::current();
        let node = fastrand::u64(1..);
        let cache = Arc::new(Cache::new(settings.cache_bytes));
        let log = Arc::new(line.clone());
        let interest = Arc::new(InterestTable::default());
        let receiving = Arc::new(Receiving {
            log: Arc::clone(&log),
            sink: Weak::clone(&sink),
            metrics: Arc::clone(&metrics),
            interest: Arc::clone(&interest),
            cache: Arc::clone(&cache),
            runtime: runtime.clone(),
        });
        let queued = Arc::new(Queued::default());
        let keys = Arc::new(Keys::new(settings.bounds, Arc::clone(&metrics)));
        let shared = Arc::new(Shared {
            prefix: settings.prefix.clone(),
            streams,
            channels: ChannelTable::new(settings.bounds.channels),
            interest,
            appender: Appender {
                log: Arc::clone(&log),
                receiver: Delivering {
                    receiving: Arc::clone(&receiving),
                    queued: Arc::clone(&queued),
                    metrics: Arc::clone(&metrics),
                },
                clock: clock.clone(),
                keys: Arc::clone(&keys),
                batch_bytes: append::batch_bytes(event_bytes),
                node,
            },
            receiving,
            reading: Reading { log },
            cache,
            unlogged: Unlogged::new(
                &line,
                &settings.prefix,
                Arc::clone(&namespaces),
                Weak::clone(&sink),
                Arc::clone(&metrics),
                keys.shares(),
                settings.bounds,
                node,
                &runtime,
            ),
            keys,
            namespaces,
            line,
            clock,
            metrics,
            sink,
            runtime,
            publish_timeout: settings.publish_timeout,
            sweep_interval: settings.sweep,
            queued,
            closing: AtomicBool::new(false),
            down_since: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            verifying: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
            looking: tokio::sync::Mutex::default(),
            verified: AtomicU64::new(0),
        });
        shared
            .follow_direct()
            .await
            .map_err(|error| ConnectError::streams(&error))?;
        let weak = Arc::downgrade(&shared);
        shared.runtime.spawn(async move {
            while let Some(()) = events.recv().await {
                let Some(shared) = weak.upgrade() else { return };
                shared.spawn_refresh();
                shared.verify_soon();
            }
        });
        shared.metrics.cluster().configured();
        shared.metrics.cluster().up(true);
        Ok(Nats {
            shared,
            event_bytes,
        })
    }

    /// The connection to the servers.
    #[must_use]
    pub fn client(&self) -> async_nats::Client {
        self.shared.line.client().clone()
    }

    /// The largest event that the servers take, in bytes.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        self.event_bytes
    }
}

impl Shared {
    fn namespace(&self, channel: &ChannelName) -> Arc<Namespace> {
        Arc::clone(self.namespaces.load().of(channel))
    }

    /// The channel's entry. Its stream is there.
    fn entry(&self, channel: &ChannelName, stream: &Arc<stream::Stream>) -> Result<Arc<Channel>> {
        let now = self.clock.now();
        let made = self.channels.get_or_insert(channel, stream, || {
            Channel::new(&self.prefix, channel.clone(), Arc::clone(stream), now)
        });
        let entry = made.ok_or_else(|| {
            self.metrics.limit_reached("channels");
            Error::exhausted("too many channels (limits.channels)")
        })?;
        entry.touch(now);
        Ok(entry)
    }

    /// The channel's entry, with its stream made if necessary.
    async fn entry_with_stream(
        &self,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
    ) -> Result<Arc<Channel>> {
        let stream = match self.streams.get(channel, namespace) {
            Some(stream) => stream,
            None => self
                .streams
                .ensure(channel, namespace, self.clock.now())
                .await
                .map_err(|error| error.unavailable())?,
        };
        self.entry(channel, &stream)
    }

    fn publish(self: &Arc<Self>, mut draft: Draft) -> MaybeReady<Receipt> {
        if self.closing.load(Ordering::Acquire) {
            return MaybeReady::Ready(Err(Error::unavailable("the server is stopping")));
        }
        let conditions = draft.take_conditions();
        let Some(channel) = draft.channel.clone() else {
            return MaybeReady::Ready(self.unlogged.publish(draft));
        };
        let namespace = self.namespace(&channel);
        let is_kept = namespace.history.size > 0;
        if let Err(refused) = without_conditions(&channel, conditions, is_kept) {
            return MaybeReady::Ready(Err(refused));
        }
        if !is_kept {
            return self.publish_unlogged(&channel, &namespace, draft);
        }
        if !self.line.is_up() {
            let text = "cluster.engine: nats: not connected; the event was not stored";
            return MaybeReady::Ready(Err(Error::unavailable(text).retry_after(RETRY)));
        }
        let Some(stream) = self.streams.get(&channel, &namespace) else {
            let this = Arc::clone(self);
            return MaybeReady::later(async move {
                let entry = this.entry_with_stream(&channel, &namespace).await?;
                this.append(&entry, draft).await
            });
        };
        match self.entry(&channel, &stream) {
            Ok(entry) => self.append(&entry, draft),
            Err(error) => MaybeReady::Ready(Err(error)),
        }
    }

    fn append(self: &Arc<Self>, entry: &Arc<Channel>, draft: Draft) -> MaybeReady<Receipt> {
        let weight = draft.weight();
        let events = self.queued.events.fetch_add(1, Ordering::AcqRel);
        let bytes = self.queued.bytes.fetch_add(weight, Ordering::AcqRel);
        if events >= QUEUE_EVENTS || bytes + weight > NATS_QUEUE_BYTES {
            self.queued.events.fetch_sub(1, Ordering::AcqRel);
            self.queued.bytes.fetch_sub(weight, Ordering::AcqRel);
            self.metrics.limit_reached("cluster_queue");
            let text = "too many events wait for the engine";
            return MaybeReady::Ready(Err(Error::exhausted(text).retry_after(RETRY)));
        }
        let (answer, later) = oneshot::channel();
        let deadline = Instant::now() + self.publish_timeout;
        let waiting = Waiting::new(draft, 0, deadline, answer);
        if entry.writer().push(waiting) {
            self.spawn_append(entry);
        }
        MaybeReady::later(async move {
            later
                .await
                .unwrap_or_else(|_| Err(Error::unavailable("the server is stopping")))
        })
    }

    fn spawn_append(self: &Arc<Self>, entry: &Arc<Channel>) {
        let (this, entry) = (Arc::clone(self), Arc::clone(entry));
        self.runtime
            .spawn(async move { this.appender.run(&entry).await });
    }

    /// Publishes to a channel without history. If its namespace had history once, the first event
    /// without an offset ends all epochs of the namespace, so that an earlier position never appears
    /// to be complete.
    fn publish_unlogged(
        self: &Arc<Self>,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
        draft: Draft,
    ) -> MaybeReady<Receipt> {
        let former = self.streams.former(channel, namespace);
        let Some(stream) = former.filter(|stream| !stream.is_bypassed()) else {
            return MaybeReady::Ready(self.unlogged.publish(draft));
        };
        let this = Arc::clone(self);
        MaybeReady::later(async move {
            let renewed = this.streams.bypass(&stream).await;
            if renewed.map_err(|error| error.unavailable())? {
                for wanted in this.channels.forget_stream(&stream) {
                    this.cache.remove(&wanted);
                }
            }
            this.unlogged.publish(draft)
        })
    }

    /// The head of a channel.
    async fn head(self: &Arc<Self>, entry: &Arc<Channel>) -> Result<Head> {
        let now = self.clock.now();
        if !entry.receiver().is_off() {
            return self.followed_head(entry).await;
        }
        let last = self.line.last(entry).await;
        let head = match last.map_err(|error| error.unavailable())? {
            Some(last) => last.head(),
            None => Self::empty(entry, now),
        };
        Ok(entry.unless_forgotten(head, now))
    }

    /// The head of a channel that has no record.
    fn empty(entry: &Channel, now: u64) -> Head {
        let known = entry.writer().head().filter(|head| head.seq == 0);
        known.unwrap_or_else(|| entry.empty_head(now))
    }

    /// The position up to which this node has delivered; waits until it is known.
    async fn followed_head(&self, entry: &Arc<Channel>) -> Result<Head> {
        let deadline = Instant::now() + self.publish_timeout;
        loop {
            let positioned = entry.positioned.notified();
            tokio::pin!(positioned);
            positioned.as_mut().enable();
            if let Some(head) = entry.receiver().position() {
                return Ok(entry.unless_forgotten(head, self.clock.now()));
            }
            if timeout_at(deadline, positioned).await.is_err() {
                let text = "cluster.engine: nats: the channel's position is not known yet";
                return Err(Error::unavailable(text).retry_after(RETRY));
            }
        }
    }

    /// The head, once this node has delivered what a reader knows already: it may have been behind the
    /// node from which the reader comes.
    async fn head_after(
        self: &Arc<Self>,
        entry: &Arc<Channel>,
        head: Head,
        after: u64,
    ) -> Result<Head> {
        if after <= head.top || entry.receiver().is_off() {
            return Ok(head);
        }
        let last = self.line.last(entry).await;
        let Some(last) = last.map_err(|error| error.unavailable())? else {
            return Ok(head);
        };
        let wanted = last.seq;
        if wanted <= head.seq {
            return Ok(head);
        }
        self.metrics.cluster().late();
        self.receiving.arrived(entry, last);
        let deadline = Instant::now() + self.publish_timeout;
        loop {
            let head = self.head(entry).await?;
            if head.seq >= wanted {
                return Ok(head);
            }
            if Instant::now() >= deadline {
                let text = "cluster.engine: nats: this node is behind";
                return Err(Error::unavailable(text).retry_after(RETRY));
            }
            sleep(BEHIND_PAUSE).await;
        }
    }

    async fn read(self: &Arc<Self>, channel: &ChannelName, range: Range) -> Result<Option<Page>> {
        let namespace = self.namespace(channel);
        if namespace.history.size == 0 {
            return Ok(None);
        }
        // What is read before and after an outage may not belong together.
        for _ in 0..READ_ATTEMPTS {
            if !self.line.outages().is_over_within(OUTAGE).await {
                break;
            }
            let begun = self.line.outages().begun();
            let page = self.read_once(channel, &namespace, range).await;
            if self.line.outages().begun() == begun {
                return page.map(Some);
            }
        }
        let text = "cluster.engine: nats: not connected";
        Err(Error::unavailable(text).retry_after(RETRY))
    }

    async fn read_once(
        self: &Arc<Self>,
        channel: &ChannelName,
        namespace: &Arc<Namespace>,
        range: Range,
    ) -> Result<Page> {
        let entry = self.entry_with_stream(channel, namespace).await?;
        let head = self.head(&entry).await?;
        let head = self.head_after(&entry, head, range.after).await?;
        let now = self.clock.now();
        let page = self
            .reading
            .page(&entry, head, namespace.history, range, now);
        let page = page.await.map_err(|error| error.unavailable())?;
        entry.set_known();
        Ok(page)
    }

    // ---- interest

    fn follow(self: &Arc<Self>, pattern: &ChannelPattern) {
        let is_first = self.interest.add(pattern);
        if let ChannelPattern::Exact(channel) = pattern {
            // Readers from now on wait for the position.
            let namespace = self.namespace(channel);
            if namespace.history.size > 0
                && let Some(stream) = self.streams.get(channel, &namespace)
                && let Ok(entry) = self.entry(channel, &stream)
            {
                entry.add_interest();
                let mut receiver = entry.receiver();
                if receiver.is_off() {
                    receiver.join();
                }
            }
        }
        if is_first {
            let (this, wanted) = (Arc::clone(self), pattern.clone());
            let task = self
                .runtime
                .spawn(async move { this.subscribe(wanted).await });
            self.interest.runs(pattern, task.abort_handle());
        }
    }

    fn unfollow(self: &Arc<Self>, pattern: &ChannelPattern) {
        if let Some(entry) = self.entry_of(pattern) {
            entry.remove_interest();
        }
        let Some(generation) = self.interest.remove(pattern) else {
            return;
        };
        let (this, pattern) = (Arc::clone(self), pattern.clone());
        self.runtime.spawn(async move {
            sleep(LINGER).await;
            if this.interest.end(&pattern, generation)
                && let Some(entry) = this.entry_of(&pattern)
                && !this.interest.is_covered(&entry.name)
            {
                entry.receiver().stop();
                this.cache.remove(&entry);
            }
        });
    }

    fn entry_of(&self, pattern: &ChannelPattern) -> Option<Arc<Channel>> {
        match pattern {
            ChannelPattern::Exact(channel) => self.channels.get(channel),
            ChannelPattern::Namespace(_) | ChannelPattern::All => None,
        }
    }

    /// Subscribes, looks the position up, and receives until the task is aborted.
    async fn subscribe(self: Arc<Self>, pattern: ChannelPattern) {
        let subject = subject::live_of(&self.prefix, &pattern);
        loop {
            let client = self.line.client();
            if let Ok(mut messages) = client.subscribe(subject.clone()).await {
                if let ChannelPattern::Exact(channel) = &pattern {
                    let (this, channel) = (Arc::clone(&self), channel.clone());
                    self.runtime.spawn(async move { this.join(&channel).await });
                }
                while let Some(message) = messages.next().await {
                    self.received(&message);
                }
            }
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            sleep(JOIN_PAUSE).await;
        }
    }

    /// Looks up the head of a channel, now that its live events arrive.
    async fn join(self: &Arc<Self>, channel: &ChannelName) {
        loop {
            let namespace = self.namespace(channel);
            if namespace.history.size == 0 {
                return;
            }
            let entry = self.entry_with_stream(channel, &namespace).await;
            if let Ok(entry) = entry {
                if entry.receiver().position().is_some() {
                    return;
                }
                if entry.receiver().is_off() {
                    entry.receiver().join();
                }
                if let Ok(last) = self.line.last(&entry).await {
                    let now = self.clock.now();
                    let head = match last {
                        Some(last) => last.head(),
                        None => Self::empty(&entry, now),
                    };
                    self.receiving.start(&entry, head);
                    sleep(SECOND_LOOK).await;
                    self.verify(&[entry]).await;
                    return;
                }
            }
            if self.closing.load(Ordering::Acquire) {
                return;
            }
            sleep(JOIN_PAUSE).await;
        }
    }

    /// A live message has arrived.
    fn received(self: &Arc<Self>, message: &async_nats::Message) {
        let Some(channel) = subject::channel_of(&message.subject) else {
            return;
        };
        let Some(seq) = line::header(message, "Nats-Sequence").and_then(|seq| seq.parse().ok())
        else {
            return self.unlogged.received(Some(&channel), message);
        };
        let namespace = self.namespace(&channel);
        let Some(stream) = self.streams.get(&channel, &namespace) else {
            return;
        };
        let Ok(entry) = self.entry(&channel, &stream) else {
            return;
        };
        match Stored::read(&channel, &stream, &entry.subject, seq, &message.payload) {
            Ok(stored) => {
                self.metrics.cluster().received(stored.events.len());
                self.receiving.arrived(&entry, stored);
            }
            Err(why) => {
                tracing::error!(%channel, seq, %why, "a record of the engine is unreadable");
            }
        }
    }

    /// Receives the direct events to an audience.
    async fn follow_direct(self: &Arc<Self>) -> Result<(), EngineError> {
        let subject = subject::direct(&self.prefix);
        let messages = self.line.client().subscribe(subject).await;
        let mut messages = messages.map_err(|_| EngineError::Disconnected)?;
        let weak = Arc::downgrade(self);
        self.runtime.spawn(async move {
            while let Some(message) = messages.next().await {
                let Some(shared) = weak.upgrade() else { return };
                shared.unlogged.received(None, &message);
            }
        });
        Ok(())
    }
}

impl Broker for Nats {
    fn publish(&self, draft: Draft) -> MaybeReady<Receipt> {
        self.shared.publish(draft)
    }

    fn publish_for(&self, _: Share, draft: Draft) -> MaybeReady<Receipt> {
        self.shared.publish(draft)
    }

    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        if self.shared.namespace(channel).history.size == 0 {
            return MaybeReady::ok(None);
        }
        let (shared, channel) = (Arc::clone(&self.shared), channel.clone());
        MaybeReady::later(async move { shared.read(&channel, range).await })
    }

    fn set_interest(&self, pattern: &ChannelPattern, wanted: bool) {
        if wanted {
            self.shared.follow(pattern);
        } else {
            self.shared.unfollow(pattern);
        }
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.shared.namespace(channel).history.size == 0
            || self
                .shared
                .channels
                .get(channel)
                .is_some_and(|entry| entry.is_known())
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        let shared = Arc::clone(&self.shared);
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        MaybeReady::later(async move { shared.list(&prefix, &after, limit).await })
    }

    fn sweep(&self) {
        self.shared.sweep();
    }

    fn is_available(&self) -> bool {
        self.shared.down_since.load(Ordering::Acquire) == 0
    }

    fn is_ready(&self) -> bool {
        !outlasts_election(self.shared.down_since.load(Ordering::Acquire))
    }

    fn close(&self) {
        self.shared.close();
    }
}
