//! The server's metrics, counted as things happen.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::client_types::ClientTypes;
use super::cluster::ClusterMetrics;
use super::event_types::EventTypes;
use super::exemplars::Exemplars;
use super::histogram::Histogram;
use super::history::HistoryMetrics;
use super::hooks::HookMetrics;
use super::keys::KeyMetrics;
use super::labels::{Confirmation, DropReason, Stalled, Transport};
use super::names::{Counter, Gauge, Names};
use super::shard::{Deliveries, ShardMetrics};
use super::sources::SourcesMetrics;
use super::stats_history::StatsHistory;
use super::store::StoreMetrics;
use super::webhooks::{WebhookMetrics, WebhooksMetrics};
use crate::error::Code;
use crate::event::{AcceptedAt, EventType, TraceContext};

/// The most undeclared event types that are counted by name.
const MAX_EVENT_TYPES: usize = 1000;
/// An undeclared type without events for this long loses its label.
const TURNOVER: Duration = Duration::from_mins(5);
/// The most reasons or limits that are counted by name. All of them are defined in this program.
const MAX_STATIC_NAMES: usize = 64;
/// The number of shards with their own counters. Further ones share them.
const MAX_SHARDS: usize = 256;
/// The close codes that are counted by number. Clients may send thousands of others, which are
/// counted as "other".
pub(super) const CLOSE_CODES: [u16; 18] = [
    1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4410,
    4411, 4429,
];

/// The metrics of the process. Each method records one kind of occurrence. All are thread-safe,
/// allocate nothing for known names, and never wait for a reader.
#[derive(Debug)]
pub struct Metrics {
    pub(super) node: Arc<str>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(super) connections: [Gauge; Transport::COUNT],
    pub(super) connections_now: Gauge,
    pub(super) connections_peak: Gauge,
    pub(super) connections_total: Counter,
    pub(super) client_types: ClientTypes,
    pub(super) polling_sessions: Gauge,
    pub(super) transport_upgrades: Counter,
    pub(super) subscriptions: Gauge,
    pub(super) channels: Gauge,
    pub(super) published: EventTypes,
    turned_over: Mutex<Instant>,
    pub(super) bytes_in: Counter,
    pub(super) replayed: Counter,
    pub(super) dropped: [Counter; DropReason::ALL.len()],
    pub(super) conflated: Counter,
    pub(super) filters_deferred: Counter,
    pub(super) errors: [Counter; 10],
    pub(super) closes: [Counter; CLOSE_CODES.len()],
    pub(super) other_closes: Counter,
    pub(super) auth_failures: Names<Counter>,
    pub(super) rate_limited: Counter,
    pub(super) limits_reached: Names<Counter>,
    pub(super) slow_consumers: Counter,
    pub(super) recovered: Counter,
    pub(super) not_recovered: Counter,
    pub(super) telemetry_dropped: Counter,
    pub(super) audit_dropped: Counter,
    pub(super) accept_errors: Counter,
    pub(super) reloads: [Counter; 2],
    pub(super) stalls: [Counter; 2],
    pub(super) lost_reports: Counter,
    pub(super) revocations: Gauge,
    pub(super) cursors: Gauge,
    pub(super) purged: Counter,
    pub(super) keys: KeyMetrics,
    pub(super) idempotency_keys: Gauge,
    pub(super) publish_commit: Histogram,
    pub(super) end_to_end: Histogram,
    pub(super) delivery_exemplars: Exemplars,
    pub(super) end_to_end_exemplars: Exemplars,
    pub(super) confirmations_asked: Counter,
    pub(super) confirmations: [Counter; 3],
    pub(super) store: StoreMetrics,
    pub(super) cluster: ClusterMetrics,
    sources: SourcesMetrics,
    webhooks: WebhooksMetrics,
    pub(super) history: HistoryMetrics,
    pub(super) hooks: HookMetrics,
    pub(super) recent: StatsHistory,
    /// For threads other than shards.
    shared: ShardMetrics,
    shards: RwLock<Vec<Arc<ShardMetrics>>>,
}

impl Metrics {
    /// Starts counting, with the name of this node.
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Metrics {
            node: node.into(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            connections: Default::default(),
            connections_now: Gauge::default(),
            connections_peak: Gauge::default(),
            connections_total: Counter::default(),
            client_types: ClientTypes::default(),
            polling_sessions: Gauge::default(),
            transport_upgrades: Counter::default(),
            subscriptions: Gauge::default(),
            channels: Gauge::default(),
            published: EventTypes::new(MAX_EVENT_TYPES),
            turned_over: Mutex::new(Instant::now()),
            bytes_in: Counter::default(),
            replayed: Counter::default(),
            dropped: Default::default(),
            conflated: Counter::default(),
            filters_deferred: Counter::default(),
            errors: Default::default(),
            closes: Default::default(),
            other_closes: Counter::default(),
            auth_failures: Names::new(MAX_STATIC_NAMES),
            rate_limited: Counter::default(),
            limits_reached: Names::new(MAX_STATIC_NAMES),
            slow_consumers: Counter::default(),
            recovered: Counter::default(),
            not_recovered: Counter::default(),
            telemetry_dropped: Counter::default(),
            audit_dropped: Counter::default(),
            accept_errors: Counter::default(),
            reloads: Default::default(),
            stalls: Default::default(),
            lost_reports: Counter::default(),
            revocations: Gauge::default(),
            cursors: Gauge::default(),
            purged: Counter::default(),
            keys: KeyMetrics::default(),
            idempotency_keys: Gauge::default(),
            publish_commit: Histogram::default(),
            end_to_end: Histogram::default(),
            delivery_exemplars: Exemplars::default(),
            end_to_end_exemplars: Exemplars::default(),
            confirmations_asked: Counter::default(),
            confirmations: Default::default(),
            store: StoreMetrics::default(),
            cluster: ClusterMetrics::default(),
            sources: SourcesMetrics::default(),
            webhooks: WebhooksMetrics::default(),
            history: HistoryMetrics::default(),
            hooks: HookMetrics::default(),
            recent: StatsHistory::default(),
            shared: ShardMetrics::default(),
            shards: RwLock::default(),
        })
    }

    /// The counters of shard `i`, for its thread only. Returns the same ones for the same number.
    /// Shards from 256 on share those of lower ones.
    #[must_use]
    pub fn shard(&self, i: usize) -> Arc<ShardMetrics> {
        let i = i % MAX_SHARDS;
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        if shards.len() <= i {
            shards.resize_with(i + 1, Arc::default);
        }
        shards.get(i).cloned().unwrap_or_default()
    }

    /// A client connected. Its client type is "unknown" until [`Metrics::client_type_changed`].
    pub fn connection_opened(&self, transport: Transport) {
        transport.pick(&self.connections).add(1);
        self.connections_total.add(1);
        let now = self.connections_now.add(1);
        self.connections_peak.raise(now);
        self.client_types.add(None);
    }

    /// A connection closed with this close code (0 if its transport has none), and its last client
    /// type (`None` if never registered).
    pub fn connection_closed(
        &self,
        transport: Transport,
        close_code: u16,
        client_type: Option<&str>,
    ) {
        transport.pick(&self.connections).add(-1);
        self.connections_now.add(-1);
        self.client_types.remove(client_type);
        self.closed(close_code);
    }

    /// A connection registered its client type. `None` means "unknown".
    pub fn client_type_changed(&self, from: Option<&str>, to: Option<&str>) {
        self.client_types.remove(from);
        self.client_types.add(to);
    }

    /// This many subscriptions began.
    pub fn subscriptions_added(&self, n: usize) {
        self.subscriptions.add(signed(n));
    }

    /// This many subscriptions ended.
    pub fn subscriptions_removed(&self, n: usize) {
        self.subscriptions.add(-signed(n));
    }

    /// Channels were created (positive) or removed (negative).
    pub fn channels_changed(&self, delta: i64) {
        self.channels.add(delta);
    }

    /// An event was accepted.
    pub fn published(&self, event_type: &EventType) {
        self.published.count(event_type.as_str());
    }

    /// Sets the declared event types. Each has its own label, whatever else is published.
    pub fn declare_types<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.published.declare(names);
    }

    /// Releases the labels of undeclared event types that are no longer published, and samples the
    /// statistics. Called about once per second.
    pub fn sweep(&self) {
        self.sample(Instant::now());
        let mut turned_over = self
            .turned_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if turned_over.elapsed() >= TURNOVER {
            *turned_over = Instant::now();
            drop(turned_over);
            self.published.turn_over();
        }
    }

    /// Bytes were received from clients.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.add(bytes);
    }

    /// Events were replayed from history.
    pub fn replayed(&self, n: u64) {
        self.replayed.add(n);
    }

    /// Events did not reach a subscriber that they were meant for.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        reason.pick(&self.dropped).add(n);
    }

    /// Events were replaced by newer ones of the same key.
    pub fn conflated(&self, n: u64) {
        self.conflated.add(n);
    }

    /// Events were withheld from subscribers by a filter, a role or an audience.
    pub fn filtered(&self, n: u64) {
        self.shared.filtered(n);
    }

    /// A filter was evaluated off the shards.
    pub fn filter_evaluated(&self) {
        self.shared.filter_evaluated();
    }

    /// Filters took this many steps off the shards.
    pub fn filter_steps(&self, steps: u64) {
        self.shared.filter_steps(steps);
    }

    /// A shard exhausted its budget for filters, so a subscription is evaluated off the shard.
    pub fn filter_deferred(&self) {
        self.filters_deferred.add(1);
    }

    /// The filters of a connection are paused until its budget is refilled.
    pub fn filter_waited(&self) {
        self.limit_reached("filter_steps_per_second");
    }

    /// An error was sent to a client.
    pub fn error(&self, code: Code) {
        if let Some(counter) = self.errors.get(code.index()) {
            counter.add(1);
        }
    }

    /// A token or certificate was refused.
    pub fn auth_failure(&self, reason: &'static str) {
        self.auth_failures.of(reason).add(1);
    }

    /// A rate limit was exceeded. Also counts as [`Metrics::limit_reached`].
    pub fn rate_limited(&self, what: &'static str) {
        self.rate_limited.add(1);
        self.limit_reached(what);
    }

    /// A configured limit refused something. `name` is its key.
    pub fn limit_reached(&self, name: &'static str) {
        self.limits_reached.of(name).add(1);
    }

    /// The number of polling Socket.IO clients, including those that have not yet fetched their
    /// disconnect.
    pub fn polling_sessions(&self, now: usize) {
        self.polling_sessions
            .set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// A Socket.IO client upgraded from polling to a WebSocket.
    pub fn transport_upgraded(&self) {
        self.transport_upgrades.add(1);
    }

    /// A connection's outbox was full.
    pub fn slow_consumer(&self) {
        self.slow_consumers.add(1);
    }

    /// A connection was closed with this code without having been counted as opened. Others are
    /// counted by [`Metrics::connection_closed`].
    pub fn closed(&self, code: u16) {
        if code == 0 {
            return;
        }
        let known = CLOSE_CODES
            .iter()
            .zip(&self.closes)
            .find(|(known, _)| **known == code);
        known
            .map_or(&self.other_closes, |(_, counter)| counter)
            .add(1);
    }

    /// Closed connections by close code; only codes that occurred. Code 0 stands for all codes that
    /// are not counted by number.
    #[must_use]
    pub fn closes(&self) -> Vec<(u16, u64)> {
        let known = CLOSE_CODES.iter().zip(&self.closes);
        let all = known.chain(std::iter::once((&0, &self.other_closes)));
        all.map(|(code, count)| (*code, count.get()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// How often each limit refused something, by key; only limits that did.
    #[must_use]
    pub fn limits_reached(&self) -> Vec<(String, u64)> {
        self.limits_reached.read(Counter::get, |count| *count > 0)
    }

    /// When the counters began.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Bytes that the history in memory takes.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.history.bytes.level()
    }

    /// The current levels that limits bound: revocations, and idempotency keys.
    #[must_use]
    pub fn levels(&self) -> (u64, u64) {
        (self.revocations.level(), self.idempotency_keys.level())
    }

    /// A subscription that requested resuming was recovered (or told to reload).
    pub fn recovery(&self, recovered: bool) {
        if recovered {
            &self.recovered
        } else {
            &self.not_recovered
        }
        .add(1);
    }

    /// The bytes in outboxes changed by this many.
    pub fn outbox_bytes(&self, delta: i64) {
        self.shared.outbox_bytes(delta);
    }

    /// An event took this long to get its position, including durability if its channel requires
    /// that.
    pub fn publish_commit(&self, accepted: AcceptedAt) {
        if let Some(took) = accepted.elapsed() {
            self.publish_commit.record(took);
        }
    }

    /// Events of channels without history may have been lost between nodes.
    pub fn events_may_be_lost(&self) {
        self.lost_reports.add(1);
    }

    /// This many deliveries took this long from the accepted publish to the socket.
    pub fn delivery_latency(&self, latency: Duration, deliveries: u64) {
        self.shared.delivery_latency(latency, deliveries);
    }

    /// A client was asked to confirm an event.
    pub fn confirmation_asked(&self) {
        self.confirmations_asked.add(1);
    }

    /// A client confirmed the receipt of an event.
    pub fn confirmation(&self, outcome: Confirmation) {
        outcome.pick(&self.confirmations).add(1);
    }

    /// A delivery in a sampled trace took this long. It is counted individually.
    pub fn delivery_exemplar(&self, latency: Duration, trace: &TraceContext) {
        self.delivery_exemplars.note(latency, trace);
    }

    /// An event took this long from the accepted publish until a page's handler returned. `trace`
    /// is its sampled trace, if there is one.
    pub fn end_to_end_latency(&self, latency: Duration, trace: Option<&TraceContext>) {
        self.end_to_end.record(latency);
        if let Some(trace) = trace {
            self.end_to_end_exemplars.note(latency, trace);
        }
    }

    /// Metrics of the sources.
    #[must_use]
    pub fn sources(&self) -> &SourcesMetrics {
        &self.sources
    }

    /// Metrics of all webhooks.
    pub(super) fn webhooks(&self) -> &WebhooksMetrics {
        &self.webhooks
    }

    /// Metrics of a new webhook with this URL.
    #[must_use]
    pub fn webhook(&self, url: &str) -> Arc<WebhookMetrics> {
        self.webhooks.webhook(url)
    }

    /// The queue of edges for webhooks was full.
    pub fn webhook_edge_lost(&self) {
        self.webhooks.edges_lost.add(1);
    }

    /// Metrics of the nodes and their engine.
    #[must_use]
    pub fn cluster(&self) -> &ClusterMetrics {
        &self.cluster
    }

    /// Metrics of the store on disk.
    pub fn store(&self) -> &StoreMetrics {
        &self.store
    }

    /// Metrics of history in memory.
    #[must_use]
    pub fn history(&self) -> &HistoryMetrics {
        &self.history
    }

    /// Metrics of hooks.
    #[must_use]
    pub fn hooks(&self) -> &HookMetrics {
        &self.hooks
    }

    /// Spans were dropped because they could not be exported.
    pub fn telemetry_dropped(&self, n: u64) {
        self.telemetry_dropped.add(n);
    }

    /// Records of the audit log were dropped because they could not be written.
    pub fn audit_dropped(&self, n: u64) {
        self.audit_dropped.add(n);
    }

    /// `accept` failed on a listener.
    pub fn accept_error(&self) {
        self.accept_errors.add(1);
    }

    /// The configuration was reloaded, or a reload was refused.
    pub fn reloaded(&self, taken: bool) {
        let [taken_over, refused] = &self.reloads;
        if taken { taken_over } else { refused }.add(1);
    }

    /// A part of the server stalled for a second or more.
    pub fn stalled(&self, what: Stalled) {
        what.pick(&self.stalls).add(1);
    }

    /// The current number of idempotency keys.
    pub fn idempotency_keys(&self, now: usize) {
        self.idempotency_keys.set(signed(now));
    }

    /// Counts events that were purged.
    pub fn purged(&self, events: u64) {
        self.purged.add(events);
    }

    /// The current number of cursors of durable subscriptions.
    pub fn cursors(&self, now: usize) {
        self.cursors.set(signed(now));
    }

    /// The current number of connections.
    #[must_use]
    pub fn connections_now(&self) -> u64 {
        self.connections_now.level()
    }

    /// The current number of revocations.
    pub fn revocations(&self, now: usize) {
        self.revocations.set(signed(now));
    }

    /// The sum over the shards.
    pub(super) fn deliveries(&self) -> Deliveries {
        let mut sum = Deliveries::default();
        sum.add(&self.shared);
        let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
        shards.iter().for_each(|shard| sum.add(shard));
        sum
    }
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
