//! Where traces go: the configuration and the standard `OTEL_*` variables, brought together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::exporter::{Batching, Exporting};
use super::metrics::Metrics;
use super::spans::Tracing;

/// How long one export may take, retries included, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says
/// otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

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
    fn new(place: &str, problem: impl fmt::Display) -> Self {
        TracingError(format!("{place}: {problem}"))
    }
}

impl fmt::Display for TracingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TracingError {}

/// A collector and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    endpoint: String,
    protocol: Protocol,
}

/// A variable of the environment; one that is empty counts as not set, as the standard asks.
struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn get(&self, name: &str) -> Option<String> {
        self.0(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of these that is set, with its name.
    fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, String)> {
        names.iter().find_map(|name| self.get(name).map(|value| (*name, value)))
    }

    fn is_off(&self) -> bool {
        self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || self.get("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
    }

    /// The collector; `None` where nothing names one.
    fn target(&self, settings: &TracingSettings) -> Result<Option<Target>, TracingError> {
        if self.is_off() {
            return Ok(None);
        }
        let protocol = self
            .first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])
            .unwrap_or(("telemetry.otlp_protocol", settings.otlp_protocol.clone()));
        let protocol = match protocol.1.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpBinary,
            _ => return Err(TracingError::new(protocol.0, "expected grpc or http/protobuf")),
        };
        let named = settings.otlp_endpoint.trim();
        let configured = (!named.is_empty()).then(|| ("telemetry.otlp_endpoint", named.to_owned()));
        let own = self.first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]);
        let general = self.first(&["OTEL_EXPORTER_OTLP_ENDPOINT"]).or(configured);
        // Only the general endpoint gets the signal's path (OTLP exporter, "Endpoint URLs").
        let (place, endpoint) = match (own, general) {
            (Some(own), _) => own,
            (None, Some((place, base))) => {
                let whole = protocol == Protocol::Grpc || base.ends_with("/v1/traces");
                let path = if whole { "" } else { "/v1/traces" };
                (place, format!("{}{path}", base.trim_end_matches('/')))
            }
            (None, None) => return Ok(None),
        };
        let endpoint =
            if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") };
        let uri: http::Uri = endpoint.parse().map_err(|error| TracingError::new(place, error))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(TracingError::new(place, "expected http://host:port or https://host:port"));
        }
        Ok(Some(Target { endpoint, protocol }))
    }

    /// The head sampler, and whether a parent's decision holds.
    fn sampler(&self, settings: &TracingSettings) -> Result<(Sampler, bool), TracingError> {
        let Some(name) = self.get("OTEL_TRACES_SAMPLER") else {
            let ratio = ratio("telemetry.sample_ratio", settings.sample_ratio)?;
            return Ok((Sampler::ParentBased(Box::new(ratio)), true));
        };
        let from_argument = || {
            let place = "OTEL_TRACES_SAMPLER_ARG";
            let text = self.get(place).unwrap_or_else(|| "1".to_owned());
            let value = text.parse().map_err(|_| TracingError::new(place, "expected 0 to 1"))?;
            ratio(place, value)
        };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let root = match root {
            "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => from_argument()?,
            _ => {
                let expected = "expected always_on, always_off, traceidratio, or one of them after parentbased_";
                return Err(TracingError::new("OTEL_TRACES_SAMPLER", expected));
            }
        };
        Ok(if parent_based { (Sampler::ParentBased(Box::new(root)), true) } else { (root, false) })
    }

    fn batching(&self) -> Result<Batching, TracingError> {
        let number = |name: &str, default: usize| match self.get(name) {
            None => Ok(default),
            Some(text) => {
                let wrong = || TracingError::new(name, "expected a number from 1 to 1000000");
                let value: usize = text.parse().map_err(|_| wrong())?;
                if (1..=1_000_000).contains(&value) { Ok(value) } else { Err(wrong()) }
            }
        };
        let default = Batching::default();
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", default.queue)?;
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.batch)?.min(queue);
        let millis = number("OTEL_BSP_SCHEDULE_DELAY", 1_000)?;
        let delay = u64::try_from(millis).map_or(default.delay, Duration::from_millis);
        Ok(Batching { queue, batch, delay })
    }

    /// How long one export may take.
    fn timeout(&self) -> Result<Duration, TracingError> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let Some((place, text)) = self.first(&names) else { return Ok(TIMEOUT) };
        let millis = text.parse().ok().filter(|millis| (1..=600_000).contains(millis));
        millis
            .map(Duration::from_millis)
            .ok_or_else(|| TracingError::new(place, "expected 1 to 600000 milliseconds"))
    }

    /// Who says it: the name from the environment, else the configured one.
    fn resource(&self, settings: &TracingSettings, node: &str) -> Resource {
        // Reads OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME.
        let mut builder = Resource::builder();
        let attributes = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let sets = |key: &str| {
            attributes.split(',').any(|pair| pair.split('=').next().is_some_and(|k| k.trim() == key))
        };
        if self.get("OTEL_SERVICE_NAME").is_none() && !sets("service.name") {
            builder = builder.with_service_name(settings.service_name.clone());
        }
        for (key, value) in
            [("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", node)]
        {
            if !sets(key) {
                builder = builder.with_attribute(opentelemetry::KeyValue::new(key, value.to_owned()));
            }
        }
        builder.build()
    }
}

fn ratio(place: &str, value: f64) -> Result<Sampler, TracingError> {
    if (0.0..=1.0).contains(&value) {
        Ok(Sampler::TraceIdRatioBased(value))
    } else {
        Err(TracingError::new(place, "expected 0 to 1"))
    }
}

impl Tracing {
    /// Sets tracing up by the configuration and the environment; off where neither names a
    /// collector, or `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER=none` says so. Never waits for
    /// the collector: it may be started later.
    ///
    /// # Errors
    /// Names the key or variable that can't be used.
    pub fn init(settings: &TracingSettings, metrics: &Arc<Metrics>) -> Result<Tracing, TracingError> {
        Tracing::from_environment(settings, metrics, |name| std::env::var(name).ok())
    }

    fn from_environment(
        settings: &TracingSettings,
        metrics: &Arc<Metrics>,
        variables: impl Fn(&str) -> Option<String>,
    ) -> Result<Tracing, TracingError> {
        let environment = Environment(variables);
        ratio("telemetry.delivery_spans", settings.delivery_spans)?;
        let Some(target) = environment.target(settings)? else { return Ok(Tracing::off()) };
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
        Ok(Tracing::on(&provider, exporting, parent_based, settings.delivery_spans))
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
            endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
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
            http.with_http_client(HyperClient::new(connector, timeout, None)).build()
        } else {
            http.with_http_client(HyperClient::with_default_connector(timeout, None)).build()
        }
    };
    exporter.map_err(|error| error.to_string())
}
