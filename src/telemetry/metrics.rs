//! What happened, counted as it happens.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::exemplars::Exemplars;
use super::histogram::Histogram;
use super::labels::{Confirmation, DropReason, Transport};
use super::names::{Counter, Gauge, Names};
use super::shard::{Deliveries, ShardMetrics};
use super::store::StoreMetrics;
use crate::error::Code;
use crate::event::{EventType, TraceContext};

/// How many event types are counted by name.
const MAX_EVENT_TYPES: usize = 1000;
/// How many client types are counted by name.
const MAX_CLIENT_TYPES: usize = 100;
/// How many reasons or limits are counted by name; all are written in this program.
const MAX_STATIC_NAMES: usize = 64;
/// How many shards have counters of their own; more share them.
const MAX_SHARDS: usize = 256;
/// The client type of a connection that gave none.
const UNKNOWN_CLIENT: &str = "unknown";
/// The close codes that are counted by number. A client may send any of 4,000; the rest is "other".
pub(super) const CLOSE_CODES: [u16; 18] = [
    1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4410,
    4411, 4429,
];

/// The process's metrics. Each method is one thing that can happen; all are safe to call from any
/// thread, allocate nothing for a name that was seen before, and never wait for a reader.
#[derive(Debug)]
pub struct Metrics {
    pub(super) node: String,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(super) connections: [Gauge; Transport::COUNT],
    pub(super) connections_now: Gauge,
    pub(super) connections_peak: Gauge,
    pub(super) connections_total: Counter,
    pub(super) client_types: Names<Gauge>,
    pub(super) polling_sessions: Gauge,
    pub(super) transport_upgrades: Counter,
    pub(super) subscriptions: Gauge,
    pub(super) channels: Gauge,
    pub(super) published: Names<Counter>,
    pub(super) bytes_in: Counter,
    pub(super) replayed: Counter,
    pub(super) dropped: [Counter; 6],
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
    pub(super) revocations: Gauge,
    pub(super) publish_commit: Histogram,
    pub(super) end_to_end: Histogram,
    pub(super) delivery_exemplars: Exemplars,
    pub(super) end_to_end_exemplars: Exemplars,
    pub(super) confirmations_asked: Counter,
    pub(super) confirmations: [Counter; 3],
    pub(super) store: StoreMetrics,
    /// For those that have no shard.
    shared: ShardMetrics,
    shards: RwLock<Vec<Arc<ShardMetrics>>>,
}

impl Metrics {
    /// Starts counting, in the name of this node.
    #[must_use]
    pub fn new(node: impl Into<String>) -> Arc<Self> {
        Arc::new(Metrics {
            node: node.into(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            connections: Default::default(),
            connections_now: Gauge::default(),
            connections_peak: Gauge::default(),
            connections_total: Counter::default(),
            client_types: Names::new(MAX_CLIENT_TYPES),
            polling_sessions: Gauge::default(),
            transport_upgrades: Counter::default(),
            subscriptions: Gauge::default(),
            channels: Gauge::default(),
            published: Names::new(MAX_EVENT_TYPES),
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
            revocations: Gauge::default(),
            publish_commit: Histogram::default(),
            end_to_end: Histogram::default(),
            delivery_exemplars: Exemplars::default(),
            end_to_end_exemplars: Exemplars::default(),
            confirmations_asked: Counter::default(),
            confirmations: Default::default(),
            store: StoreMetrics::default(),
            shared: ShardMetrics::default(),
            shards: RwLock::default(),
        })
    }

    /// The own counters of shard `i`, for its thread to keep; the same for every call with the
    /// same number. Shards from 256 on share those of the lower ones.
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
        self.client_types.of(UNKNOWN_CLIENT).add(1);
    }

    /// A connection ended with this close code (0 where its transport has none), and its last
    /// client type, `None` if it never gave one.
    pub fn connection_closed(
        &self,
        transport: Transport,
        close_code: u16,
        client_type: Option<&str>,
    ) {
        transport.pick(&self.connections).add(-1);
        self.connections_now.add(-1);
        self.client_types
            .of(client_type.unwrap_or(UNKNOWN_CLIENT))
            .add(-1);
        self.closed(close_code);
    }

    /// A connection said what it is. `None` stands for "unknown".
    pub fn client_type_changed(&self, from: Option<&str>, to: Option<&str>) {
        self.client_types.of(from.unwrap_or(UNKNOWN_CLIENT)).add(-1);
        self.client_types.of(to.unwrap_or(UNKNOWN_CLIENT)).add(1);
    }

    /// So many subscriptions began.
    pub fn subscriptions_added(&self, n: usize) {
        self.subscriptions.add(signed(n));
    }

    /// So many subscriptions ended.
    pub fn subscriptions_removed(&self, n: usize) {
        self.subscriptions.add(-signed(n));
    }

    /// Channels were made (positive) or forgotten (negative).
    pub fn channels_changed(&self, delta: i64) {
        self.channels.add(delta);
    }

    /// An event was accepted.
    pub fn published(&self, event_type: &EventType) {
        self.published.of(event_type.as_str()).add(1);
    }

    /// The counter behind [`Metrics::published`], for whoever publishes one type often.
    #[must_use]
    pub fn type_counter(&self, event_type: &EventType) -> Arc<Counter> {
        self.published.of(event_type.as_str())
    }

    /// Bytes came in from clients.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.add(bytes);
    }

    /// Events were sent from history.
    pub fn replayed(&self, n: u64) {
        self.replayed.add(n);
    }

    /// Events did not reach a subscriber that they were meant for.
    pub fn dropped(&self, reason: DropReason, n: u64) {
        reason.pick(&self.dropped).add(n);
    }

    /// Events gave way to newer ones of the same key.
    pub fn conflated(&self, n: u64) {
        self.conflated.add(n);
    }

    /// Events were kept from subscribers by a filter, a role or an audience.
    pub fn filtered(&self, n: u64) {
        self.shared.filtered(n);
    }

    /// A filter was asked about an event, away from the shards.
    pub fn filter_evaluated(&self) {
        self.shared.filter_evaluated();
    }

    /// Filters took so many steps, away from the shards.
    pub fn filter_steps(&self, steps: u64) {
        self.shared.filter_steps(steps);
    }

    /// A shard had no time to ask a filter, so that its subscription goes on elsewhere.
    pub fn filter_deferred(&self) {
        self.filters_deferred.add(1);
    }

    /// The filters of a connection wait until its budget has filled again.
    pub fn filter_waited(&self) {
        self.limit_reached("filter_steps_per_second");
    }

    /// A client was told of an error.
    pub fn error(&self, code: Code) {
        if let Some(counter) = self.errors.get(code.index()) {
            counter.add(1);
        }
    }

    /// A token or certificate was refused.
    pub fn auth_failure(&self, reason: &'static str) {
        self.auth_failures.of(reason).add(1);
    }

    /// Somebody was too fast; counts as [`Metrics::limit_reached`] too.
    pub fn rate_limited(&self, what: &'static str) {
        self.rate_limited.add(1);
        self.limit_reached(what);
    }

    /// A configured limit refused something; `name` is its key.
    pub fn limit_reached(&self, name: &'static str) {
        self.limits_reached.of(name).add(1);
    }

    /// So many Socket.IO clients poll, or have to learn still that they are gone.
    pub fn polling_sessions(&self, now: usize) {
        self.polling_sessions
            .set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// A Socket.IO client has gone from polling to a WebSocket.
    pub fn transport_upgraded(&self) {
        self.transport_upgrades.add(1);
    }

    /// A connection's outbox was full.
    pub fn slow_consumer(&self) {
        self.slow_consumers.add(1);
    }

    /// A connection was closed with this code without having counted as opened; those that did
    /// are counted by [`Metrics::connection_closed`].
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

    /// A subscription that asked to resume was served (or told to reload).
    pub fn recovery(&self, recovered: bool) {
        if recovered {
            &self.recovered
        } else {
            &self.not_recovered
        }
        .add(1);
    }

    /// What waits in outboxes grew or shrank by this many bytes.
    pub fn outbox_bytes(&self, delta: i64) {
        self.shared.outbox_bytes(delta);
    }

    /// An event took this long to get its place, durably if its channel asks for that.
    pub fn publish_commit(&self, took: Duration) {
        self.publish_commit.record(took);
    }

    /// So many deliveries took this long from the accepted publish to the socket.
    pub fn delivery_latency(&self, latency: Duration, deliveries: u64) {
        self.shared.delivery_latency(latency, deliveries);
    }

    /// A client was asked to confirm an event.
    pub fn confirmation_asked(&self) {
        self.confirmations_asked.add(1);
    }

    /// A client said that an event has arrived.
    pub fn confirmation(&self, outcome: Confirmation) {
        outcome.pick(&self.confirmations).add(1);
    }

    /// A delivery in a recorded trace took this long; it is counted by itself.
    pub fn delivery_exemplar(&self, latency: Duration, trace: &TraceContext) {
        self.delivery_exemplars.note(latency, trace);
    }

    /// An event took this long from its accepted publish until a page's handler had returned;
    /// `trace` is its recorded trace, if it has one.
    pub fn end_to_end_latency(&self, latency: Duration, trace: Option<&TraceContext>) {
        self.end_to_end.record(latency);
        if let Some(trace) = trace {
            self.end_to_end_exemplars.note(latency, trace);
        }
    }

    /// What is counted of the store on disk.
    #[must_use]
    pub fn store(&self) -> &StoreMetrics {
        &self.store
    }

    /// Spans could not be exported and were thrown away.
    pub fn telemetry_dropped(&self, n: u64) {
        self.telemetry_dropped.add(n);
    }

    /// Records of the audit log could not be written and were thrown away.
    pub fn audit_dropped(&self, n: u64) {
        self.audit_dropped.add(n);
    }

    /// The operating system gave no socket for a connection that had come.
    pub fn accept_error(&self) {
        self.accept_errors.add(1);
    }

    /// The configuration was read again, and taken over or refused.
    pub fn reloaded(&self, taken: bool) {
        let [taken_over, refused] = &self.reloads;
        if taken { taken_over } else { refused }.add(1);
    }

    /// So many revocations are kept now.
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
