//! Every metric by its public name. `/metrics` and OTLP are both generated from this list.

use std::time::{Duration, SystemTime};

use super::cluster::ClusterMetrics;
use super::exemplars::{Exemplar, Exemplars};
use super::histogram::HistogramSnapshot;
use super::history::Evicted;
use super::labels::{Confirmation, DropReason, Stalled, Transport};
use super::metrics::{CLOSE_CODES, Metrics};
use super::names::{Counter, OTHER};
use super::{process, source_families, webhooks};
use crate::error::Code;

/// One metric with all of its series.
#[derive(Debug)]
pub(super) struct Family {
    /// Without the suffix `_total`, which counters get in the text format.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) data: Data,
}

/// The label of a series and its value.
#[derive(Debug, PartialEq)]
pub(super) struct Series<N> {
    /// At most one label, so that the number of series stays linear.
    pub(super) label: Option<(&'static str, String)>,
    pub(super) value: N,
}

#[derive(Debug)]
pub(super) enum Data {
    /// Monotonic.
    Counter(Vec<Series<u64>>),
    /// Monotonic, in seconds.
    Seconds(f64),
    /// Not monotonic.
    Gauge(Vec<Series<f64>>),
    /// Durations, in seconds in the output.
    Histogram(HistogramSnapshot, Vec<Option<Exemplar>>),
}

pub(super) fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family {
        name,
        help,
        data: Data::Counter(vec![Series { label: None, value }]),
    }
}

pub(super) fn counters(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    series: impl IntoIterator<Item = (impl Into<String>, u64)>,
) -> Family {
    let series = series.into_iter();
    let series = series.map(|(text, value)| Series {
        label: Some((label, text.into())),
        value,
    });
    Family {
        name,
        help,
        data: Data::Counter(series.collect()),
    }
}

pub(super) fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family {
        name,
        help,
        data: Data::Gauge(vec![Series { label: None, value }]),
    }
}

pub(super) fn gauges(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    series: impl IntoIterator<Item = (impl Into<String>, f64)>,
) -> Family {
    let series = series.into_iter();
    let series = series.map(|(text, value)| Series {
        label: Some((label, text.into())),
        value,
    });
    Family {
        name,
        help,
        data: Data::Gauge(series.collect()),
    }
}

pub(super) fn histogram(name: &'static str, help: &'static str, data: HistogramSnapshot) -> Family {
    Family {
        name,
        help,
        data: Data::Histogram(data, Vec::new()),
    }
}

impl Family {
    /// A histogram with exemplars for some of its buckets.
    fn with(mut self, exemplars: &Exemplars) -> Self {
        if let Data::Histogram(_, own) = &mut self.data {
            *own = exemplars.read();
        }
        self
    }
}

/// The value of a gauge, exact up to 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "no gauge here comes near 2^53"
)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

/// All metrics now, in the order of output.
pub(super) fn read(metrics: &Metrics) -> Vec<Family> {
    let mut families = Vec::from(clients(metrics));
    families.extend(events(metrics));
    families.extend(history(metrics));
    families.extend(filters(metrics));
    families.extend(store(metrics));
    if metrics.cluster().is_configured() {
        families.extend(cluster(metrics.cluster()));
    }
    if metrics.hooks().is_configured() {
        families.extend(metrics.hooks().families());
    }
    families.extend(source_families::read(metrics.sources()));
    families.extend(webhooks::families(metrics.webhooks()));
    families.extend(troubles(metrics));
    families.extend(keys(metrics));
    families.extend(process_itself(metrics));
    families
}

fn clients(metrics: &Metrics) -> [Family; 10] {
    let by_transport = Transport::ALL.map(|transport| {
        (
            transport.as_str(),
            float(transport.pick(&metrics.connections).level()),
        )
    });
    let by_type = metrics.client_types.all();
    let by_type = by_type.into_iter().map(|(name, n)| (name, float(n)));
    let closes = CLOSE_CODES
        .iter()
        .zip(&metrics.closes)
        .filter(|(_, count)| count.get() > 0);
    let closes = closes.map(|(code, count)| (code.to_string(), count.get()));
    let closes = closes.chain([(OTHER.to_owned(), metrics.other_closes.get())]);
    let recoveries = [
        ("true", metrics.recovered.get()),
        ("false", metrics.not_recovered.get()),
    ];
    [
        gauges(
            "tidings_connections",
            "Connected clients",
            "transport",
            by_transport,
        ),
        gauges(
            "tidings_clients",
            "Connected clients by the type with which they registered",
            "client_type",
            by_type,
        ),
        gauge(
            "tidings_polling_sessions",
            "Socket.IO clients that poll, and ended sessions whose client is not yet informed",
            float(metrics.polling_sessions.level()),
        ),
        counter(
            "tidings_transport_upgrades",
            "Socket.IO clients that upgraded from polling to a WebSocket",
            metrics.transport_upgrades.get(),
        ),
        gauge(
            "tidings_connections_peak",
            "Highest number of connected clients at the same time",
            float(metrics.connections_peak.level()),
        ),
        counter(
            "tidings_connections_opened",
            "Clients that connected",
            metrics.connections_total.get(),
        ),
        counters(
            "tidings_closes",
            "Connections closed, by close code",
            "code",
            closes,
        ),
        gauge(
            "tidings_subscriptions",
            "Subscriptions: connections times channels",
            float(metrics.subscriptions.level()),
        ),
        gauge(
            "tidings_channels",
            "Channels that exist",
            float(metrics.channels.level()),
        ),
        counters(
            "tidings_recoveries",
            "Resumed subscriptions, by whether every missed event was replayed",
            "recovered",
            recoveries,
        ),
    ]
}

fn filters(metrics: &Metrics) -> [Family; 3] {
    let sums = metrics.deliveries();
    [
        counter(
            "tidings_filter_evaluations",
            "Evaluations of a filter for an event: one for all subscriptions with it",
            sums.filter_evaluations,
        ),
        counter(
            "tidings_filter_steps",
            "Steps that filters took: a measure of their CPU time",
            sums.filter_steps,
        ),
        counter(
            "tidings_filters_deferred",
            "Times that a shard had no budget for a filter, so that another thread evaluated it",
            metrics.filters_deferred.get(),
        ),
    ]
}

fn events(metrics: &Metrics) -> [Family; 16] {
    let sums = metrics.deliveries();
    let published = metrics.published.all();
    let delivered = Transport::ALL
        .iter()
        .zip(sums.delivered)
        .map(|(t, n)| (t.as_str(), n));
    let dropped =
        DropReason::ALL.map(|reason| (reason.as_str(), reason.pick(&metrics.dropped).get()));
    let outbox = u64::try_from(sums.outbox_bytes).unwrap_or(0);
    [
        counters(
            "tidings_events_published",
            "Events accepted, by type",
            "type",
            published,
        ),
        counters(
            "tidings_events_delivered",
            "Events delivered to connections",
            "transport",
            delivered,
        ),
        counters(
            "tidings_events_dropped",
            "Events that did not reach a subscriber they were meant for",
            "reason",
            dropped,
        ),
        counter(
            "tidings_events_replayed",
            "Events sent from history",
            metrics.replayed.get(),
        ),
        counter(
            "tidings_events_filtered",
            "Events not sent to subscribers because of filters, roles or audiences",
            sums.filtered,
        ),
        counter(
            "tidings_events_conflated",
            "Events replaced by newer ones with the same key",
            metrics.conflated.get(),
        ),
        counter(
            "tidings_received_bytes",
            "Bytes from clients",
            metrics.bytes_in.get(),
        ),
        counter("tidings_sent_bytes", "Bytes to clients", sums.bytes_out),
        counter(
            "tidings_helped_rounds",
            "Times that a publisher delivered events itself because the shard's thread slept",
            sums.helped,
        ),
        gauge(
            "tidings_outbox_bytes",
            "Bytes queued for slow connections",
            float(outbox),
        ),
        histogram(
            "tidings_delivery_latency_seconds",
            "From the accepted publish until the bytes are handed to the socket",
            sums.latency,
        )
        .with(&metrics.delivery_exemplars),
        histogram(
            "tidings_publish_commit_seconds",
            "From the publish until the event has its offset, durable if required",
            metrics.publish_commit.snapshot(),
        ),
        histogram(
            "tidings_end_to_end_latency_seconds",
            "From the accepted publish until a page's handler has returned, where pages confirm",
            metrics.end_to_end.snapshot(),
        )
        .with(&metrics.end_to_end_exemplars),
        counter(
            "tidings_confirmations_asked",
            "Deliveries that a page was asked to confirm",
            metrics.confirmations_asked.get(),
        ),
        counters(
            "tidings_confirmations",
            "Confirmations of deliveries that pages sent, by outcome",
            "outcome",
            Confirmation::ALL.map(|c| (c.as_str(), c.pick(&metrics.confirmations).get())),
        ),
        counter(
            "tidings_cluster_lost",
            "Times that events without history may have been lost between nodes",
            metrics.lost_reports.get(),
        ),
    ]
}

fn history(metrics: &Metrics) -> [Family; 2] {
    let history = &metrics.history;
    let evicted = Evicted::ALL
        .iter()
        .zip(&history.evicted)
        .map(|(reason, count)| (reason.as_str(), count.get()));
    [
        gauge(
            "tidings_history_memory_bytes",
            "Memory used by channels and their events, for history in memory",
            float(history.bytes.level()),
        ),
        counters(
            "tidings_history_evicted",
            "Events that history in memory evicted, by reason",
            "reason",
            evicted,
        ),
    ]
}

fn store(metrics: &Metrics) -> [Family; 6] {
    let store = &metrics.store;
    [
        gauge(
            "tidings_store_available",
            "Whether the store can write: 1, or 0 while it can't",
            if store.unavailable.get() == 0 {
                1.0
            } else {
                0.0
            },
        ),
        counter(
            "tidings_store_failures",
            "Times that the store became unable to write",
            store.failures.get(),
        ),
        counter(
            "tidings_store_commits",
            "Batches written to disk",
            store.commits.get(),
        ),
        counter(
            "tidings_store_events",
            "Events in batches written to disk",
            store.events.get(),
        ),
        counter(
            "tidings_store_damaged",
            "Records on disk found damaged or missing",
            store.damaged.get(),
        ),
        gauge(
            "tidings_store_kept_bytes",
            "Bytes of events kept on disk",
            float(store.kept.level()),
        ),
    ]
}

fn troubles(metrics: &Metrics) -> [Family; 14] {
    let errors = Code::ALL
        .iter()
        .zip(&metrics.errors)
        .map(|(code, n)| (code.as_str(), n.get()));
    let refused = metrics.auth_failures.read(Counter::get, |_| true);
    let limits = metrics.limits_reached.read(Counter::get, |_| true);
    let reloads = ["taken", "refused"]
        .into_iter()
        .zip(metrics.reloads.iter().map(Counter::get));
    [
        counters("tidings_errors", "Errors sent to clients", "code", errors),
        counters(
            "tidings_auth_failures",
            "Tokens and certificates refused",
            "reason",
            refused,
        ),
        counter(
            "tidings_rate_limited",
            "Requests refused because they exceeded a rate limit",
            metrics.rate_limited.get(),
        ),
        counters(
            "tidings_limit_reached",
            "Refusals by a configured limit",
            "limit",
            limits,
        ),
        counter(
            "tidings_slow_consumers",
            "Times that an outbox was full",
            metrics.slow_consumers.get(),
        ),
        counter(
            "tidings_telemetry_dropped",
            "Spans that could not be exported, or that the collector rejected",
            metrics.telemetry_dropped.get(),
        ),
        counter(
            "tidings_audit_dropped",
            "Records of the audit log that could not be written",
            metrics.audit_dropped.get(),
        ),
        counter(
            "tidings_accept_errors",
            "Connections for which the operating system provided no socket",
            metrics.accept_errors.get(),
        ),
        counters(
            "tidings_reloads",
            "Reloads of the configuration, by outcome",
            "outcome",
            reloads,
        ),
        counters(
            "tidings_stalls",
            "Times that a part of the server did not run for a second or more",
            "part",
            Stalled::ALL.map(|part| (part.as_str(), part.pick(&metrics.stalls).get())),
        ),
        gauge(
            "tidings_revocations",
            "Revocations of tokens and users that are kept",
            float(metrics.revocations.level()),
        ),
        counter(
            "tidings_history_purged",
            "Events that were purged from history",
            metrics.purged.get(),
        ),
        gauge(
            "tidings_cursors",
            "Cursors of durable subscriptions that are kept",
            float(metrics.cursors.level()),
        ),
        gauge(
            "tidings_idempotency_keys",
            "Idempotency keys that are kept",
            float(metrics.idempotency_keys.level()),
        ),
    ]
}

fn cluster(cluster: &ClusterMetrics) -> [Family; 10] {
    [
        gauge(
            "tidings_cluster_up",
            "Whether the engine answered the last probe",
            float(cluster.up.level()),
        ),
        gauge(
            "tidings_cluster_nodes",
            "Live nodes, this one included",
            float(cluster.nodes.level()),
        ),
        gauge(
            "tidings_cluster_channels",
            "Channels whose state this node holds",
            float(cluster.channels.level()),
        ),
        gauge(
            "tidings_cluster_queue_bytes",
            "Bytes of events that wait to be appended to the engine",
            float(cluster.queue_bytes.level()),
        ),
        counter(
            "tidings_cluster_events_received",
            "Events that came from the engine",
            cluster.received.get(),
        ),
        counter(
            "tidings_cluster_events_sent",
            "Events that went to the engine",
            cluster.sent.get(),
        ),
        counter(
            "tidings_cluster_holes_filled",
            "Missing parts of channels that were read from their logs",
            cluster.holes.get(),
        ),
        counter(
            "tidings_cluster_late",
            "Lost last events of channels, found by comparing positions",
            cluster.late.get(),
        ),
        counter(
            "tidings_cluster_conflicts",
            "Appends that another node's append preceded",
            cluster.conflicts.get(),
        ),
        histogram(
            "tidings_cluster_round_trip_seconds",
            "Time that the engine took to answer a probe",
            cluster.round_trip.snapshot(),
        ),
    ]
}

fn keys(metrics: &Metrics) -> [Family; 2] {
    let keys = &metrics.keys;
    [
        counters(
            "tidings_jwks_fetches",
            "Fetches of the JWK set behind auth.jwks_url, by outcome",
            "outcome",
            [
                ("fetched", keys.fetched.get()),
                ("failed", keys.failed.get()),
            ],
        ),
        counter(
            "tidings_tokens_not_judged",
            "Tokens neither accepted nor refused because their key could not be fetched",
            keys.not_judged.get(),
        ),
    ]
}

fn process_itself(metrics: &Metrics) -> Vec<Family> {
    let started = metrics
        .started_at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let version = [(env!("CARGO_PKG_VERSION"), 1.0)];
    let mut families = vec![
        gauges(
            "tidings_build_info",
            "The running version; always 1",
            "version",
            version,
        ),
        gauge(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            started.as_secs_f64(),
        ),
    ];
    let usage = process::figures();
    let resident = usage.resident_bytes.map(|bytes| {
        gauge(
            "process_resident_memory_bytes",
            "Memory in use by the process",
            float(bytes),
        )
    });
    let files = process::open_files()
        .map(|files| gauge("process_open_fds", "Open file descriptors", float(files)));
    let cpu = usage.cpu.map(|cpu| Family {
        name: "process_cpu_seconds",
        help: "Processor time used by the process",
        data: Data::Seconds(cpu.as_secs_f64()),
    });
    families.extend([resident, files, cpu].into_iter().flatten());
    families
}
