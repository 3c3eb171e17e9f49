//! Metrics over OTLP: the contents of `/metrics`, exported at an interval. The SDK's instruments do
//! not support histograms that are collected elsewhere, so the messages are built here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proto::number_data_point::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::exemplars::Exemplar;
use super::exporter::deadline;
use super::families::{self, Data, Family, Series};
use super::histogram::HistogramSnapshot;
use super::metrics::Metrics;
use super::otlp_http::Post;
use super::otlp_spans::reason;

/// The transport of requests.
#[derive(Debug)]
pub(super) enum Client {
    Grpc {
        client: MetricsServiceClient<Channel>,
        /// From `OTEL_EXPORTER_OTLP_HEADERS`. May contain secrets, so it is never logged.
        headers: HeaderMap,
    },
    Http(Post),
}

/// What is exported, where, and at which interval.
#[derive(Debug)]
pub(super) struct MetricsExport {
    pub(super) metrics: Arc<Metrics>,
    pub(super) resource: Resource,
    pub(super) client: Client,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

/// Why a request failed, and whether the failure is permanent.
struct Failure {
    problem: String,
    for_good: bool,
}

impl MetricsExport {
    /// Exports at each interval, and once more when told to stop. Gives up if the collector does
    /// not support metrics.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<Option<Instant>>) {
        let mut failing = false;
        loop {
            let stop = tokio::select! {
                () = tokio::time::sleep(self.interval) => false,
                _ = stopping.changed() => true,
            };
            let request = request(&self.metrics, &self.resource, SystemTime::now());
            let limit = self.timeout;
            let sent = tokio::select! {
                sent = tokio::time::timeout(limit, self.send(request)) => sent,
                () = deadline(stopping.clone()) => return,
            };
            let timed_out = || Failure {
                problem: "no answer in time".to_owned(),
                for_good: false,
            };
            match sent.unwrap_or_else(|_| Err(timed_out())) {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("metrics are exported again");
                    }
                }
                Err(failure) if failure.for_good => {
                    tracing::warn!(
                        error = failure.problem,
                        "the collector does not accept metrics; none are sent"
                    );
                    return;
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(error = failure.problem, "metrics can't be exported");
                    }
                }
            }
            if stop {
                return;
            }
        }
    }

    async fn send(&mut self, message: ExportMetricsServiceRequest) -> Result<(), Failure> {
        let sent = match &mut self.client {
            Client::Grpc { client, headers } => {
                let mut request = tonic::Request::new(message);
                *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
                client.export(request).await.map(drop)
            }
            Client::Http(post) => post.export(&message).await.map(drop),
        };
        sent.map_err(|status| Failure {
            for_good: status.code() == tonic::Code::Unimplemented,
            problem: reason(&status),
        })
    }
}

/// All metrics now, as one request.
fn request(metrics: &Metrics, resource: &Resource, now: SystemTime) -> ExportMetricsServiceRequest {
    let times = Times {
        start: nanos(metrics.started_at),
        now: nanos(now),
    };
    let scope = InstrumentationScope {
        name: "tidings".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let families = families::read(metrics);
    let scope_metrics = proto::ScopeMetrics {
        scope: Some(scope),
        metrics: families
            .iter()
            .map(|family| metric(family, times))
            .collect(),
        schema_url: String::new(),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![proto::ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![scope_metrics],
            schema_url: String::new(),
        }],
    }
}

/// The start of counting and the time of collection, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

fn nanos(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A family with its Prometheus name, so that both exports result in the same series.
fn metric(family: &Family, times: Times) -> proto::Metric {
    let int = |value: &u64| Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX));
    let (suffix, data) = match &family.data {
        Data::Counter(series) => ("_total", sum(points(series, times, int))),
        Data::Seconds(value) => {
            let series = [Series {
                label: None,
                value: *value,
            }];
            (
                "_total",
                sum(points(&series, times, |value| Value::AsDouble(*value))),
            )
        }
        Data::Gauge(series) => {
            let data_points = points(series, times, |value| Value::AsDouble(*value));
            ("", proto::metric::Data::Gauge(proto::Gauge { data_points }))
        }
        Data::Histogram(snapshot, exemplars) => (
            "",
            proto::metric::Data::Histogram(histogram(snapshot, exemplars, times)),
        ),
    };
    // Prometheus appends the unit as a suffix, unless the name has it; the unit "1" of a gauge
    // becomes `_ratio`. Without a unit, the name stays unchanged.
    let unit = if family.name.ends_with("_seconds") {
        "s"
    } else if family.name.ends_with("_bytes") {
        "By"
    } else {
        ""
    };
    proto::Metric {
        name: format!("{}{suffix}", family.name),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn sum(data_points: Vec<proto::NumberDataPoint>) -> proto::metric::Data {
    proto::metric::Data::Sum(proto::Sum {
        data_points,
        aggregation_temporality: proto::AggregationTemporality::Cumulative.into(),
        is_monotonic: true,
    })
}

fn points<N>(
    series: &[Series<N>],
    times: Times,
    value: impl Fn(&N) -> Value,
) -> Vec<proto::NumberDataPoint> {
    let point = |one: &Series<N>| proto::NumberDataPoint {
        attributes: one
            .label
            .iter()
            .map(|(key, text)| attribute(key, text))
            .collect(),
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(value(&one.value)),
        ..proto::NumberDataPoint::default()
    };
    series.iter().map(point).collect()
}

fn attribute(key: &str, text: &str) -> KeyValue {
    let value = AnyValue {
        value: Some(Any::StringValue(text.to_owned())),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
        ..KeyValue::default()
    }
}

fn exemplar(one: &Exemplar) -> proto::Exemplar {
    proto::Exemplar {
        time_unix_nano: nanos(one.at),
        trace_id: one.trace_id.to_be_bytes().into(),
        span_id: one.span_id.to_be_bytes().into(),
        value: Some(proto::exemplar::Value::AsDouble(one.value.as_secs_f64())),
        ..proto::Exemplar::default()
    }
}

fn histogram(
    snapshot: &HistogramSnapshot,
    exemplars: &[Option<Exemplar>],
    times: Times,
) -> proto::Histogram {
    let buckets = snapshot.exported_buckets();
    let (mut bounds, counts): (Vec<f64>, Vec<u64>) = buckets.into_iter().unzip();
    // The last bucket has no explicit bound in OTLP.
    bounds.pop();
    let point = proto::HistogramDataPoint {
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        count: counts.iter().sum(),
        sum: Some(snapshot.sum().as_secs_f64()),
        bucket_counts: counts,
        explicit_bounds: bounds,
        exemplars: exemplars.iter().flatten().map(exemplar).collect(),
        max: (snapshot.count() > 0).then(|| snapshot.max().as_secs_f64()),
        ..proto::HistogramDataPoint::default()
    };
    proto::Histogram {
        data_points: vec![point],
        aggregation_temporality: proto::AggregationTemporality::Cumulative.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Transport;

    fn sent(metrics: &Metrics) -> Vec<proto::Metric> {
        let mut request = request(metrics, &Resource::default(), SystemTime::now());
        request
            .resource_metrics
            .remove(0)
            .scope_metrics
            .remove(0)
            .metrics
    }

    fn data(metrics: &[proto::Metric], name: &str) -> proto::metric::Data {
        metrics
            .iter()
            .find(|metric| metric.name == name)
            .unwrap()
            .data
            .clone()
            .unwrap()
    }

    #[test]
    fn metrics_are_exported_with_otlp_names() {
        let metrics = Metrics::new("n");
        metrics.connection_opened(Transport::Sse);
        metrics.shard(0).delivered(Transport::Sse, 5);
        let sent = sent(&metrics);
        let proto::metric::Data::Sum(sum) = data(&sent, "tidings_events_delivered_total") else {
            panic!("not a sum")
        };
        assert!(sum.is_monotonic);
        let point = &sum.data_points[2];
        assert_eq!(point.attributes, [attribute("transport", "sse")]);
        assert_eq!(point.value, Some(Value::AsInt(5)));
        assert!(point.start_time_unix_nano <= point.time_unix_nano);
        let proto::metric::Data::Gauge(gauge) = data(&sent, "tidings_connections") else {
            panic!("not a gauge")
        };
        assert_eq!(gauge.data_points[2].value, Some(Value::AsDouble(1.0)));
    }

    /// The name that Prometheus gives to a metric received over OTLP (OpenTelemetry's "Prometheus
    /// and `OpenMetrics` Compatibility").
    fn in_prometheus(metric: &proto::Metric) -> String {
        let mut words: Vec<&str> = metric.name.split('_').collect();
        let (gauge, counter) = match &metric.data {
            Some(proto::metric::Data::Gauge(_)) => (true, false),
            Some(proto::metric::Data::Sum(sum)) => (false, sum.is_monotonic),
            _ => (false, false),
        };
        let suffix = match metric.unit.as_str() {
            "" => None,
            "1" => gauge.then_some("ratio"),
            "s" => Some("seconds"),
            "By" => Some("bytes"),
            unit => panic!("{unit} of {}", metric.name),
        };
        if counter {
            words.retain(|word| *word != "total");
        }
        if let Some(suffix) = suffix.filter(|suffix| !words.contains(suffix)) {
            words.push(suffix);
        }
        if counter {
            words.push("total");
        }
        words.join("_")
    }

    #[test]
    fn prometheus_keeps_metric_names_over_otlp() {
        let metrics = Metrics::new("n");
        drop(metrics.webhook("http://app/"));
        let home = metrics.text(crate::telemetry::TextFormat::Prometheus);
        let rules = [
            include_str!("../../deploy/prometheus/alerts.yml"),
            include_str!("../../deploy/prometheus/rules.yml"),
        ];
        let sent = sent(&metrics);
        let names: Vec<String> = sent.iter().map(in_prometheus).collect();
        for name in &names {
            assert!(home.contains(&format!("# TYPE {name} ")), "{name}");
        }
        // The metrics used by the alerts are among them.
        let word = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':';
        for asked in rules.iter().flat_map(|text| text.split(word)) {
            if asked.starts_with("tidings_") {
                let asked = asked.trim_end_matches("_bucket");
                assert!(names.iter().any(|name| name == asked), "{asked}");
            }
        }
    }

    #[test]
    fn histogram_has_one_more_bucket_than_bounds() {
        let metrics = Metrics::new("n");
        metrics.delivery_latency(Duration::from_secs(20), 2);
        metrics.delivery_latency(Duration::from_millis(1), 3);
        let sent = sent(&metrics);
        let proto::metric::Data::Histogram(histogram) =
            data(&sent, "tidings_delivery_latency_seconds")
        else {
            panic!("not a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!((point.count, point.bucket_counts.last()), (5, Some(&2)));
        assert_eq!((point.sum, point.max), (Some(40.003), Some(20.0)));
        assert_eq!(point.exemplars.len(), 0);
    }

    #[test]
    fn exemplar_has_trace_id() {
        let metrics = Metrics::new("n");
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = crate::event::TraceContext::parse(header, "").unwrap();
        metrics.end_to_end_latency(Duration::from_millis(30), Some(&trace));
        let sent = sent(&metrics);
        let proto::metric::Data::Histogram(histogram) =
            data(&sent, "tidings_end_to_end_latency_seconds")
        else {
            panic!("not a histogram")
        };
        let [exemplar] = &*histogram.data_points[0].exemplars else {
            panic!("not one exemplar")
        };
        assert_eq!(exemplar.trace_id, trace.trace_id.to_be_bytes());
        assert_eq!(exemplar.span_id, trace.span_id.to_be_bytes());
        assert_eq!(exemplar.value, Some(proto::exemplar::Value::AsDouble(0.03)));
    }
}
