//! Sets tracing up: the collector, the client that speaks to it, and the sampler.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter as _};
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::environment::{Environment, Target, ratio};
use super::exporter::Exporting;
use super::metrics::Metrics;
use super::spans::Tracing;

/// The part of the configuration that is about traces. The standard environment variables win
/// over it, as the environment does over the file everywhere.
#[derive(Debug, Clone, PartialEq)]
pub struct TracingSettings {
    /// The collector, as `http://host:4317`; without a scheme `http` is meant. Empty: none.
    pub otlp_endpoint: String,
    /// `grpc` or `http/protobuf`.
    pub otlp_protocol: String,
    /// The resource's `service.name`.
    pub service_name: String,
    /// The share of traces begun here that are recorded, 0–1. Where a caller brought a trace, its
    /// decision holds.
    pub sample_ratio: f64,
    /// The share of deliveries within recorded traces that get a span of their own, 0–1.
    pub delivery_spans: f64,
}

impl Default for TracingSettings {
    fn default() -> Self {
        TracingSettings {
            otlp_endpoint: String::new(),
            otlp_protocol: "grpc".to_owned(),
            service_name: "tidings".to_owned(),
            sample_ratio: 1.0,
            delivery_spans: 0.01,
        }
    }
}

/// Why tracing could not be set up. Names the key or variable; holds no header and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingError(String);

impl TracingError {
    pub(super) fn new(place: &str, problem: impl fmt::Display) -> Self {
        TracingError(format!("{place}: {problem}"))
    }
}

impl fmt::Display for TracingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TracingError {}

impl Tracing {
    /// Sets tracing up by the configuration and the environment; off where neither names a
    /// collector, or `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER=none` says so. Never waits for
    /// the collector: it may be started later.
    ///
    /// # Errors
    /// Names the key or variable that can't be used.
    pub fn init(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
    ) -> Result<Tracing, TracingError> {
        Tracing::from_environment(settings, metrics, |name| std::env::var(name).ok())
    }

    fn from_environment(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
        variables: impl Fn(&str) -> Option<String>,
    ) -> Result<Tracing, TracingError> {
        let environment = Environment(variables);
        ratio("telemetry.delivery_spans", settings.delivery_spans)?;
        let Some(target) = environment.target(settings)? else {
            return Ok(Tracing::off());
        };
        let (sampler, parent_based) = environment.sampler(settings)?;
        let resource = environment.resource(settings, &metrics.node);
        let timeout = environment.timeout()?;
        let build = {
            let resource = resource.clone();
            move || {
                let mut exporter = build_exporter(&target, timeout)?;
                exporter.set_resource(&resource);
                Ok(exporter)
            }
        };
        let (queue, exporting) =
            Exporting::start(environment.batching()?, Arc::clone(metrics), build)
                .map_err(|error| TracingError::new("telemetry.otlp_endpoint", error))?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_resource(resource)
            .with_span_processor(queue)
            .build();
        Ok(Tracing::on(
            &provider,
            exporting,
            parent_based,
            settings.delivery_spans,
        ))
    }
}

/// Makes the exporter; within a Tokio runtime, which its client will use. It reads
/// `OTEL_EXPORTER_OTLP_HEADERS` and `…_TRACES_HEADERS` itself.
fn build_exporter(target: &Target, timeout: Duration) -> Result<SpanExporter, String> {
    let secure = target.endpoint.starts_with("https:");
    let exporter = if target.protocol == Protocol::Grpc {
        let mut endpoint = Endpoint::from_shared(target.endpoint.clone())
            .map_err(|error| error.to_string())?
            .connect_timeout(timeout)
            .timeout(timeout);
        if secure {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| error.to_string())?;
        }
        SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .with_timeout(timeout)
            .build()
    } else {
        let http = SpanExporter::builder()
            .with_http()
            .with_protocol(target.protocol)
            .with_endpoint(target.endpoint.clone())
            .with_timeout(timeout);
        if secure {
            let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(provider)
                .map_err(|error| error.to_string())?
                .https_only()
                .enable_http1()
                .build();
            http.with_http_client(HyperClient::new(connector, timeout, None))
                .build()
        } else {
            http.with_http_client(HyperClient::with_default_connector(timeout, None))
                .build()
        }
    };
    exporter.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        pairs: &'static [(&'static str, &'static str)],
    ) -> Environment<impl Fn(&str) -> Option<String>> {
        Environment(|name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn to(endpoint: &str, protocol: &str) -> TracingSettings {
        TracingSettings {
            otlp_endpoint: endpoint.to_owned(),
            otlp_protocol: protocol.to_owned(),
            ..TracingSettings::default()
        }
    }

    fn target(
        settings: &TracingSettings,
        pairs: &'static [(&'static str, &'static str)],
    ) -> Option<(String, Protocol)> {
        let target = environment(pairs).target(settings).unwrap();
        target.map(|target| (target.endpoint, target.protocol))
    }

    #[test]
    fn tracing_is_off_where_nothing_names_a_collector_or_the_environment_says_so() {
        let on = to("http://c:4317", "grpc");
        assert_eq!(
            target(
                &TracingSettings::default(),
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]
            ),
            None
        );
        assert_eq!(target(&on, &[("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(target(&on, &[("OTEL_TRACES_EXPORTER", "none")]), None);
        let metrics = Metrics::new("n");
        let off = Tracing::from_environment(&TracingSettings::default(), &metrics, |_| None);
        assert!(!off.unwrap().enabled());
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_signals_own_over_the_general() {
        let file = to("file:1", "grpc");
        assert_eq!(
            target(&file, &[]),
            Some(("http://file:1".to_owned(), Protocol::Grpc))
        );
        let general = &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:2")];
        assert_eq!(
            target(&file, general),
            Some(("http://general:2".to_owned(), Protocol::Grpc))
        );
        let both = &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:2"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:3/x"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ];
        assert_eq!(
            target(&file, both),
            Some(("http://own:3/x".to_owned(), Protocol::HttpBinary))
        );
    }

    #[test]
    fn over_http_a_general_endpoint_gets_the_path_of_traces() {
        for base in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            let found = target(&to(base, "http/protobuf"), &[]).unwrap().0;
            assert_eq!(found, "http://c:4318/v1/traces", "{base}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_name() {
        let message = |settings: &TracingSettings, pairs| {
            let metrics = Metrics::new("n");
            let variables = environment(pairs).0;
            Tracing::from_environment(settings, &metrics, variables)
                .unwrap_err()
                .to_string()
        };
        let on = to("http://c:4317", "grpc");
        for (settings, expected) in [
            (to("ftp://c", "grpc"), "telemetry.otlp_endpoint: "),
            (to("http://", "grpc"), "telemetry.otlp_endpoint: "),
            (
                to("http://c", "carrier pigeon"),
                "telemetry.otlp_protocol: ",
            ),
            (
                TracingSettings {
                    sample_ratio: 1.5,
                    ..on.clone()
                },
                "telemetry.sample_ratio: ",
            ),
            (
                TracingSettings {
                    delivery_spans: -1.0,
                    ..on.clone()
                },
                "telemetry.delivery_spans: ",
            ),
        ] {
            let error = message(&settings, &[]);
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(
            message(&on, &[("OTEL_TRACES_SAMPLER", "xray")]).starts_with("OTEL_TRACES_SAMPLER: ")
        );
        let pairs = &[
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ];
        assert!(message(&on, pairs).starts_with("OTEL_TRACES_SAMPLER_ARG: "));
        assert!(
            message(&on, &[("OTEL_BSP_MAX_QUEUE_SIZE", "0")])
                .starts_with("OTEL_BSP_MAX_QUEUE_SIZE: ")
        );
        assert!(
            message(&on, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "x")])
                .starts_with("OTEL_EXPORTER_OTLP_TIMEOUT: ")
        );
    }

    #[test]
    fn samplers_are_named_as_the_standard_does() {
        let settings = TracingSettings {
            sample_ratio: 0.25,
            ..TracingSettings::default()
        };
        let sampler = |pairs| {
            let (sampler, parent_based) = environment(pairs).sampler(&settings).unwrap();
            (format!("{sampler:?}"), parent_based)
        };
        assert_eq!(
            sampler(&[]),
            ("ParentBased(TraceIdRatioBased(0.25))".to_owned(), true)
        );
        assert_eq!(
            sampler(&[("OTEL_TRACES_SAMPLER", "always_off")]),
            ("AlwaysOff".to_owned(), false)
        );
        let ratio = &[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ];
        assert_eq!(
            sampler(ratio),
            ("ParentBased(TraceIdRatioBased(0.5))".to_owned(), true)
        );
    }

    #[test]
    fn the_services_name_comes_from_the_environment_first() {
        let settings = TracingSettings {
            service_name: "file".to_owned(),
            ..TracingSettings::default()
        };
        let resource = environment(&[]).resource(&settings, "node-1");
        let value = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(value("service.name").as_deref(), Some("file"));
        assert_eq!(value("service.instance.id").as_deref(), Some("node-1"));
    }

    /// Both clients are built within the exporter's runtime, with nobody listening: that must
    /// neither fail nor wait.
    #[test]
    fn a_collector_that_is_not_there_yet_is_no_error() {
        for (endpoint, protocol) in [
            ("http://127.0.0.1:1", "grpc"),
            ("http://127.0.0.1:1", "http/protobuf"),
            ("https://127.0.0.1:1", "grpc"),
            ("https://127.0.0.1:1", "http/protobuf"),
        ] {
            let metrics = Metrics::new("n");
            let tracing = Tracing::from_environment(&to(endpoint, protocol), &metrics, |_| None);
            let tracing = tracing.unwrap_or_else(|error| panic!("{endpoint} {protocol}: {error}"));
            drop(tracing.authenticate(None));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(tracing.shutdown(Duration::ZERO));
            assert_eq!(metrics.telemetry_dropped.get(), 1, "{endpoint} {protocol}");
        }
    }
}
