//! The text format of `/metrics`.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::exemplars::Exemplar;
use super::families::{self, Data, Family, Series};
use super::histogram::HistogramSnapshot;
use super::metrics::Metrics;
use super::span::TraceId;

/// The supported formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' text format 0.0.4, which all scrapers support.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// The format for a request with this `Accept` header: `OpenMetrics` if it is listed.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            TextFormat::OpenMetrics
        } else {
            TextFormat::Prometheus
        }
    }

    /// The `Content-Type` of the response.
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
        let mut writer = Writer {
            text: String::with_capacity(32 * 1024),
            format,
        };
        // Cannot fail: the output is a string.
        match writer.write(&families::read(self)) {
            Ok(()) => writer.text,
            Err(fmt::Error) => String::new(),
        }
    }
}

struct Writer {
    text: String,
    format: TextFormat,
}

impl Writer {
    fn write(&mut self, families: &[Family]) -> fmt::Result {
        for family in families {
            self.family(family)?;
        }
        if self.format == TextFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        Ok(())
    }

    fn family(&mut self, family: &Family) -> fmt::Result {
        let Family { name, help, data } = family;
        match data {
            Data::Counter(series) => {
                self.describe(name, help, "counter")?;
                let mut series = series.iter();
                series.try_for_each(|one| self.series(name, "_total", one))
            }
            Data::Seconds(seconds) => {
                self.describe(name, help, "counter")?;
                writeln!(self.text, "{name}_total {}", Float(*seconds))
            }
            Data::Gauge(series) => {
                self.describe(name, help, "gauge")?;
                series.iter().try_for_each(|Series { label, value }| {
                    let (label, value) = (label.clone(), Float(*value));
                    self.series(name, "", &Series { label, value })
                })
            }
            Data::Histogram(snapshot, exemplars) => {
                self.describe(name, help, "histogram")?;
                self.histogram(name, snapshot, exemplars)
            }
        }
    }

    /// In the older format, the metadata of a counter has the name of its series, which ends in
    /// `_total`.
    fn describe(&mut self, name: &str, help: &str, kind: &str) -> fmt::Result {
        let suffix = match self.format {
            TextFormat::Prometheus if kind == "counter" => "_total",
            TextFormat::Prometheus | TextFormat::OpenMetrics => "",
        };
        writeln!(self.text, "# HELP {name}{suffix} {help}")?;
        writeln!(self.text, "# TYPE {name}{suffix} {kind}")
    }

    fn series<N: fmt::Display>(
        &mut self,
        name: &str,
        suffix: &str,
        series: &Series<N>,
    ) -> fmt::Result {
        let Series { label, value } = series;
        match label {
            Some((label, text)) => {
                let text = Escaped(text);
                writeln!(self.text, "{name}{suffix}{{{label}=\"{text}\"}} {value}")
            }
            None => writeln!(self.text, "{name}{suffix} {value}"),
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        snapshot: &HistogramSnapshot,
        exemplars: &[Option<Exemplar>],
    ) -> fmt::Result {
        let sum = Float(snapshot.sum().as_secs_f64());
        writeln!(self.text, "{name}_sum {sum}")?;
        writeln!(self.text, "{name}_count {}", snapshot.count())?;
        let mut up_to_here = 0;
        for (bucket, (bound, inside)) in snapshot.exported_buckets().into_iter().enumerate() {
            up_to_here += inside;
            let bound = Float(bound);
            write!(self.text, "{name}_bucket{{le=\"{bound}\"}} {up_to_here}")?;
            if let Some(Some(exemplar)) = exemplars.get(bucket) {
                self.exemplar(exemplar)?;
            }
            self.text.push('\n');
        }
        Ok(())
    }

    /// An exemplar of the preceding bucket (`OpenMetrics` 1.0, "Exemplars").
    fn exemplar(&mut self, exemplar: &Exemplar) -> fmt::Result {
        if self.format == TextFormat::Prometheus {
            return Ok(());
        }
        let trace = TraceId(exemplar.trace_id);
        let value = exemplar.value.as_secs_f64();
        let at = exemplar.at.duration_since(SystemTime::UNIX_EPOCH);
        let at = at.unwrap_or(Duration::ZERO).as_secs_f64();
        write!(self.text, " # {{trace_id=\"{trace}\"}} {value} {at:.3}")
    }
}

/// A float that is distinguishable from an integer, as `OpenMetrics` requires for bucket bounds.
struct Float(f64);

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Float(number) = *self;
        if number.is_infinite() {
            return f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" });
        }
        let point = if number.fract() == 0.0 { ".0" } else { "" };
        write!(f, "{number}{point}")
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
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

    /// Series (with labels) and their values. Fails for malformed or repeated lines.
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
    fn documented_metrics_exist_from_the_start() {
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
    fn recorded_values_are_in_the_text() {
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
    fn numbers_and_labels_are_valid_in_both_formats() {
        for (number, text) in [
            (10.0, "10.0"),
            (0.000_05, "0.00005"),
            (11.003, "11.003"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(Float(number).to_string(), text);
        }
        assert_eq!(Escaped("a\\b\"c\nd").to_string(), r#"a\\b\"c\nd"#);
    }

    #[test]
    fn both_formats_have_the_same_series() {
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
    fn every_text_line_has_a_described_metric() {
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
    fn exemplars_are_only_in_openmetrics() {
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
    fn openmetrics_requires_accept_header() {
        let accept =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(TextFormat::accepted(Some(accept)), TextFormat::OpenMetrics);
        assert_eq!(TextFormat::accepted(Some("*/*")), TextFormat::Prometheus);
        assert_eq!(TextFormat::accepted(None), TextFormat::Prometheus);
    }
}
