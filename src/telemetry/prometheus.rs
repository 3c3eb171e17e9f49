//! `/metrics`, as Prometheus reads it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue};
use prometheus_client::encoding::{MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::families::{self, Data, Family, Series};
use super::metrics::Metrics;
use super::span::TraceId;

/// The forms in which metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' text format 0.0.4, which everything reads.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// The form for a request with this `Accept` header: `OpenMetrics` if it is named.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            TextFormat::OpenMetrics
        } else {
            TextFormat::Prometheus
        }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            TextFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All metrics, as text.
    #[must_use]
    pub fn text(self: &Arc<Self>, format: TextFormat) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Reader(Arc::clone(self))));
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string can't fail; an empty page would be seen as a failed scrape.
        if text::encode(&mut text, &registry).is_err() {
            return String::new();
        }
        match format {
            TextFormat::OpenMetrics => with_exemplars(&text, self),
            TextFormat::Prometheus => classic(&text),
        }
    }
}

/// Reads the counters anew for each scrape.
#[derive(Debug)]
struct Reader(Arc<Metrics>);

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::read(&self.0)
            .iter()
            .try_for_each(|family| encode(&mut encoder, family))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let kind = match family.data {
        Data::Counter(_) | Data::Seconds(_) => MetricType::Counter,
        Data::Gauge(_) => MetricType::Gauge,
        Data::Histogram(..) => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    match &family.data {
        Data::Counter(series) => series.iter().try_for_each(|one| counter(&mut metric, one)),
        Data::Seconds(value) => counter(
            &mut metric,
            &Series {
                label: None,
                value: *value,
            },
        ),
        Data::Gauge(series) => series.iter().try_for_each(|one| gauge(&mut metric, one)),
        Data::Histogram(data, _) => {
            let buckets = data.exported_buckets();
            metric.encode_histogram::<[(&str, &str); 0]>(
                data.sum().as_secs_f64(),
                data.count(),
                &buckets,
                None,
            )
        }
    }
}

fn counter<N>(metric: &mut MetricEncoder<'_>, series: &Series<N>) -> fmt::Result
where
    N: EncodeCounterValue + prometheus_client::encoding::EncodeExemplarValue,
{
    match &series.label {
        Some((name, value)) => metric
            .encode_family(&[(*name, value.as_str())])?
            .encode_counter::<[(&str, &str); 0], N, u64>(&series.value, None),
        None => metric.encode_counter::<[(&str, &str); 0], N, u64>(&series.value, None),
    }
}

fn gauge<N: EncodeGaugeValue>(metric: &mut MetricEncoder<'_>, series: &Series<N>) -> fmt::Result {
    match &series.label {
        Some((name, value)) => metric
            .encode_family(&[(*name, value.as_str())])?
            .encode_gauge(&series.value),
        None => metric.encode_gauge(&series.value),
    }
}

/// Adds to the buckets of the latencies the newest trace that fell into each (`OpenMetrics` 1.0,
/// "Exemplars"). The library keeps exemplars only in histograms of its own.
fn with_exemplars(plain: &str, metrics: &Metrics) -> String {
    let mut left = [
        (
            "tidings_delivery_latency_seconds_bucket{",
            metrics.delivery_exemplars.read().into_iter(),
        ),
        (
            "tidings_end_to_end_latency_seconds_bucket{",
            metrics.end_to_end_exemplars.read().into_iter(),
        ),
    ];
    let mut text = String::with_capacity(plain.len() + 4096);
    for line in plain.lines() {
        text.push_str(line);
        let family = left.iter_mut().find(|(name, _)| line.starts_with(name));
        // The buckets stand in the text in their order.
        if let Some(Some(one)) = family.and_then(|(_, exemplars)| exemplars.next()) {
            let trace = TraceId(one.trace_id);
            let value = one.value.as_secs_f64();
            let at = one.at.duration_since(SystemTime::UNIX_EPOCH);
            let at = at.unwrap_or(Duration::ZERO).as_secs_f64();
            let exemplar = format!(" # {{trace_id=\"{trace}\"}} {value} {at:.3}");
            text.push_str(&exemplar);
        }
        text.push('\n');
    }
    text
}

/// `OpenMetrics` to the older format: there a counter's description bears the `_total` too, and no
/// line marks the end.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 512);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Held back until the next line tells whether it is a counter.
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                text.extend(["# HELP ", name, suffix, " ", words, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if line != "# EOF" {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::error::Code;
    use crate::event::EventType;
    use crate::telemetry::{DropReason, Transport};

    fn busy() -> Arc<Metrics> {
        let metrics = Metrics::new("n");
        metrics.connection_opened(Transport::WebSocket);
        metrics.client_type_changed(None, Some("a \"quoted\\\nname"));
        metrics.published(&EventType::new("project.updated").unwrap());
        metrics.shard(3).delivered(Transport::WebSocket, 2);
        metrics.shard(3).sent(64);
        metrics
            .shard(3)
            .delivery_latency(Duration::from_micros(1_500), 2);
        metrics.delivery_latency(Duration::from_secs(11), 1);
        metrics.dropped(DropReason::DropOldest, 4);
        metrics.error(Code::NotFound);
        metrics.auth_failure("expired");
        metrics.rate_limited("messages_per_second");
        metrics.closed(4411);
        metrics.closed(3999);
        metrics.recovery(true);
        metrics.outbox_bytes(12);
        metrics
    }

    /// Series (with labels) to values; fails where a line is malformed or stands twice.
    fn parse(text: &str) -> HashMap<&str, f64> {
        let mut series = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let old = series.insert(name, value.parse::<f64>().unwrap());
            assert_eq!(old, None, "{line}");
        }
        series
    }

    #[test]
    fn every_promised_metric_is_there_from_the_start_under_its_name() {
        let text = Metrics::new("n").text(TextFormat::Prometheus);
        for (name, kind) in [
            ("tidings_connections", "gauge"),
            ("tidings_subscriptions", "gauge"),
            ("tidings_channels", "gauge"),
            ("tidings_events_published_total", "counter"),
            ("tidings_events_delivered_total", "counter"),
            ("tidings_events_dropped_total", "counter"),
            ("tidings_delivery_latency_seconds", "histogram"),
            ("tidings_outbox_bytes", "gauge"),
            ("tidings_recoveries_total", "counter"),
            ("tidings_closes_total", "counter"),
            ("tidings_errors_total", "counter"),
            ("tidings_auth_failures_total", "counter"),
            ("tidings_rate_limited_total", "counter"),
            ("tidings_publish_commit_seconds", "histogram"),
        ] {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
            assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn what_happened_stands_in_the_text() {
        let text = busy().text(TextFormat::Prometheus);
        let series = parse(&text);
        for (name, value) in [
            ("tidings_connections{transport=\"websocket\"}", 1.0),
            ("tidings_connections{transport=\"sse\"}", 0.0),
            (
                "tidings_clients{client_type=\"a \\\"quoted\\\\\\nname\"}",
                1.0,
            ),
            (
                "tidings_events_published_total{type=\"project.updated\"}",
                1.0,
            ),
            (
                "tidings_events_delivered_total{transport=\"websocket\"}",
                2.0,
            ),
            ("tidings_events_dropped_total{reason=\"drop_oldest\"}", 4.0),
            ("tidings_errors_total{code=\"not_found\"}", 1.0),
            ("tidings_auth_failures_total{reason=\"expired\"}", 1.0),
            ("tidings_rate_limited_total", 1.0),
            (
                "tidings_limit_reached_total{limit=\"messages_per_second\"}",
                1.0,
            ),
            ("tidings_closes_total{code=\"4411\"}", 1.0),
            ("tidings_closes_total{code=\"other\"}", 1.0),
            ("tidings_recoveries_total{recovered=\"true\"}", 1.0),
            ("tidings_outbox_bytes", 12.0),
            ("tidings_delivery_latency_seconds_bucket{le=\"0.001\"}", 0.0),
            (
                "tidings_delivery_latency_seconds_bucket{le=\"0.0015\"}",
                2.0,
            ),
            ("tidings_delivery_latency_seconds_bucket{le=\"10.0\"}", 2.0),
            ("tidings_delivery_latency_seconds_bucket{le=\"+Inf\"}", 3.0),
            ("tidings_delivery_latency_seconds_count", 3.0),
            ("tidings_delivery_latency_seconds_sum", 11.003),
        ] {
            assert_eq!(series.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn both_formats_hold_the_same_series() {
        let metrics = busy();
        let (classic, open) = (
            metrics.text(TextFormat::Prometheus),
            metrics.text(TextFormat::OpenMetrics),
        );
        let names = |text| {
            parse(text)
                .into_keys()
                .map(str::to_owned)
                .collect::<HashSet<_>>()
        };
        assert_eq!(names(&classic), names(&open));
        assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF"));
        assert!(open.contains("# TYPE tidings_errors counter\n"));
    }

    #[test]
    fn every_line_of_the_classic_text_belongs_to_a_described_metric() {
        let text = busy().text(TextFormat::Prometheus);
        let described: HashSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for series in parse(&text).keys() {
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            assert!(
                described.contains(name) || base.is_some_and(|base| described.contains(base)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_latency_leads_to_its_trace_in_openmetrics_only() {
        let metrics = busy();
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = crate::event::TraceContext::parse(header, "").unwrap();
        metrics.delivery_exemplar(Duration::from_micros(1_500), &trace);
        metrics.end_to_end_latency(Duration::from_mins(1), Some(&trace));
        let open = metrics.text(TextFormat::OpenMetrics);
        let line = |start: &str| {
            let found = open.lines().find(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("{start}"))
        };
        let exemplar = " # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} ";
        let bucket = line("tidings_delivery_latency_seconds_bucket{le=\"0.0015\"} 2");
        assert!(bucket.contains(&format!("{exemplar}0.0015 ")), "{bucket}");
        let bucket = line("tidings_end_to_end_latency_seconds_bucket{le=\"+Inf\"} 1");
        assert!(bucket.contains(&format!("{exemplar}60 ")), "{bucket}");
        assert_eq!(open.matches(exemplar).count(), 2);
        assert!(!metrics.text(TextFormat::Prometheus).contains("trace_id"));
    }

    #[test]
    fn openmetrics_is_given_to_those_who_name_it() {
        let accept =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(TextFormat::accepted(Some(accept)), TextFormat::OpenMetrics);
        assert_eq!(TextFormat::accepted(Some("*/*")), TextFormat::Prometheus);
        assert_eq!(TextFormat::accepted(None), TextFormat::Prometheus);
    }
}
